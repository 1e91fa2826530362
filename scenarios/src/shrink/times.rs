//! The times of a plan: shorter, earlier, rounder.
//!
//! A round time weighs less than a shorter one: `5s` says more than `4s 387ms`. So a time is tried at the shortest round
//! ones first, and then at itself with fewer and fewer digits left out.

use std::time::Duration;

use super::Shrunk;
use super::steps::with;
use crate::fault::{Fault, FaultKind};
use crate::plan::Plan;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Times that are as round as can be.
const ROUND: [Duration; 14] = [
    millis(10),
    millis(20),
    millis(50),
    millis(100),
    millis(200),
    millis(500),
    millis(1_000),
    millis(2_000),
    millis(5_000),
    millis(10_000),
    millis(30_000),
    millis(60_000),
    millis(300_000),
    millis(600_000),
];

/// Finds a time in a plan, if it is still there.
type Get = Box<dyn Fn(&mut Plan) -> Option<&mut Duration>>;

/// One of the times of a plan, and the shortest that it may become: shorter ones are not clearer, or mean something else.
struct Time {
    get: Get,
    shortest: Duration,
}

fn time(shortest: Duration, get: impl Fn(&mut Plan) -> Option<&mut Duration> + 'static) -> Time {
    let get = Box::new(get);
    Time { get, shortest }
}

/// All that are there.
fn times(plan: &Plan) -> Vec<Time> {
    let mut times = vec![time(millis(1_000), |plan| Some(&mut plan.duration))];
    for n in 0..plan.faults.len() {
        times.push(time(Duration::ZERO, move |plan| {
            Some(&mut plan.faults[n].at)
        }));
        times.push(time(millis(100), move |plan| {
            Some(&mut plan.faults[n].lasts)
        }));
        times.push(time(millis(10), move |plan| {
            match &mut plan.faults[n].kind {
                FaultKind::Delay(by) | FaultKind::AuthSlow(by) => Some(by),
                _ => None,
            }
        }));
    }
    for n in 0..plan.foreign.len() {
        times.push(time(Duration::ZERO, move |plan| {
            Some(&mut plan.foreign[n].at)
        }));
    }
    for n in 0..plan.agents.len() {
        times.push(time(Duration::ZERO, move |plan| {
            Some(&mut plan.agents[n].start)
        }));
        times.push(time(millis(500), move |plan| {
            Some(&mut plan.agents[n].interval)
        }));
        times.push(time(millis(500), move |plan| {
            plan.agents[n].who_every.as_mut()
        }));
        times.push(time(millis(500), move |plan| plan.agents[n].close.as_mut()));
        times.push(time(millis(1_000), move |plan| {
            plan.agents[n].lock.as_mut().map(|lock| &mut lock.ttl)
        }));
        times.push(time(millis(500), move |plan| {
            plan.agents[n].lock.as_mut().map(|lock| &mut lock.holds)
        }));
        times.push(time(millis(1_000), move |plan| {
            plan.agents[n].state.as_mut().map(|state| &mut state.life)
        }));
        times.push(time(millis(10), move |plan| {
            plan.agents[n].state.as_mut().map(|state| &mut state.dwells)
        }));
        times.push(time(millis(500), move |plan| {
            plan.agents[n].chat.as_mut().map(|chat| &mut chat.retention)
        }));
        times.push(time(millis(10), move |plan| {
            plan.agents[n].chat.as_mut().map(|chat| &mut chat.dwells)
        }));
    }
    times.push(time(millis(10), |plan| Some(&mut plan.world.latency.base)));
    times.push(time(millis(10), |plan| {
        Some(&mut plan.world.latency.jitter)
    }));
    times.push(time(millis(1_000), |plan| {
        plan.world.delete_markers.as_mut()
    }));
    times.push(time(millis(10), |plan| {
        Some(&mut plan.auth.as_mut()?.takes)
    }));
    times
}

/// How many digits people would read, and then how long it is altogether.
pub(super) fn weight(plan: &Plan) -> (u32, u128) {
    let mut read = plan.clone();
    let times = times(plan);
    let times = times
        .iter()
        .filter_map(|time| (time.get)(&mut read).copied());
    let signed = plan.faults.iter().filter_map(|fault| match fault.kind {
        FaultKind::Jump(by) | FaultKind::AuthSkew(by) | FaultKind::Drift(by) => {
            Some(Duration::from_nanos(by.unsigned_abs()))
        }
        _ => None,
    });
    let settle = digits(plan.settle);
    times.chain(signed).fold((settle, 0), |(read, long), time| {
        (read + digits(time), long + time.as_nanos())
    })
}

/// Digits of a time in seconds, but for the zeros at both ends.
fn digits(time: Duration) -> u32 {
    let mut nanos = time.as_nanos();
    while nanos > 0 && nanos.is_multiple_of(10) {
        nanos /= 10;
    }
    nanos.checked_ilog10().map_or(0, |last| last + 1)
}

/// The same with so few digits, rounded down and up.
fn rounded(nanos: u64, digits: u32) -> Option<[u64; 2]> {
    let all = nanos.checked_ilog10()? + 1;
    let unit = 10_u64.checked_pow(all.checked_sub(digits)?)?;
    let down = nanos - nanos % unit;
    Some([down, down.saturating_add(unit)])
}

/// What a time might be instead, the simplest first.
fn simpler(time: Duration, shortest: Duration) -> Vec<Duration> {
    let zero = shortest.is_zero().then_some(Duration::ZERO);
    let round = ROUND.into_iter().filter(|round| *round < time);
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let rounder = (1..digits(time)).filter_map(|digits| rounded(nanos, digits));
    let rounder = rounder.flatten().map(Duration::from_nanos);
    let floor = shortest.min(time);
    let all = zero.into_iter().chain(round).chain(rounder);
    all.filter(|time| *time >= floor).collect()
}

/// A plan cannot be shorter than what happens in it.
fn needed(plan: &Plan) -> Duration {
    let agents = plan.agents.iter().flat_map(|agent| {
        [Some(agent.start), agent.close, agent.who_every]
            .into_iter()
            .flatten()
    });
    let faults = plan.faults.iter().map(Fault::ends);
    let foreign = plan.foreign.iter().map(|write| write.at);
    let last = agents.chain(faults).chain(foreign).max();
    last.unwrap_or_default().max(millis(1_000))
}

/// Without what happens after the violation: its faults are taken away, or mended at the end, which is a little later.
pub(super) fn the_end(
    Shrunk {
        plan, violation, ..
    }: &Shrunk,
) -> Vec<Plan> {
    let broken = Duration::from_secs(violation.at.elapsed().as_secs());
    [1, 5, 20]
        .map(|later| broken + Duration::from_secs(later))
        .into_iter()
        .filter(|end| *end < plan.duration)
        .map(|end| with(plan, |plan| end_at(plan, end)))
        .collect()
}

fn end_at(plan: &mut Plan, end: Duration) {
    plan.duration = end;
    plan.faults.retain(|fault| fault.at < end);
    for fault in &mut plan.faults {
        fault.lasts = fault.lasts.min(end - fault.at);
    }
    plan.foreign.retain(|write| write.at <= end);
    for agent in &mut plan.agents {
        agent.start = agent.start.min(end);
        agent.close = agent.close.filter(|close| *close <= end);
        agent.who_every = agent.who_every.filter(|every| *every <= end);
    }
}

/// With times that are shorter, earlier or rounder: some together, then each by itself.
pub(super) fn all(Shrunk { plan, .. }: &Shrunk) -> Vec<Plan> {
    let mut simplest = vec![with(plan, |plan| plan.duration = needed(plan))];
    simplest.extend(sooner(plan));
    let mut read = plan.clone();
    for Time { get, shortest } in times(plan) {
        let Some(time) = get(&mut read).copied() else {
            continue;
        };
        simplest.extend(simpler(time, shortest).into_iter().map(|time| {
            with(plan, |plan| {
                if let Some(found) = get(plan) {
                    *found = time;
                }
            })
        }));
    }
    simplest.extend(figures(plan));
    simplest
}

/// With everything that is done from one fault on done earlier: what is between it and the one before is made shorter.
fn sooner(plan: &Plan) -> Vec<Plan> {
    let mut sooner = Vec::new();
    let mut before = Duration::ZERO;
    for (number, fault) in plan.faults.iter().enumerate() {
        let gap = fault.at.saturating_sub(before);
        for shorter in simpler(gap, Duration::ZERO) {
            let Some(by) = gap.checked_sub(shorter) else {
                continue;
            };
            sooner.push(with(plan, |plan| {
                for fault in &mut plan.faults[number..] {
                    fault.at = fault.at.saturating_sub(by);
                }
                plan.duration = plan.duration.saturating_sub(by).max(needed(plan));
            }));
        }
        before = fault.at;
    }
    sooner
}

/// With rounder figures: how far clocks are off, and how fast they run; and a bound that is no narrower than it was.
fn figures(plan: &Plan) -> Vec<Plan> {
    let mut rounder = Vec::new();
    for (number, fault) in plan.faults.iter().enumerate() {
        let (FaultKind::Jump(by) | FaultKind::AuthSkew(by) | FaultKind::Drift(by)) = fault.kind
        else {
            continue;
        };
        let all = (1..=2).filter_map(|digits| rounded(by.unsigned_abs(), digits));
        for figure in all.flatten() {
            let Ok(figure) = i64::try_from(figure).map(|figure| figure * by.signum()) else {
                continue;
            };
            rounder.push(with(plan, |plan| match &mut plan.faults[number].kind {
                FaultKind::Jump(by) | FaultKind::AuthSkew(by) | FaultKind::Drift(by) => {
                    *by = figure
                }
                _ => {}
            }));
        }
    }
    let settle = u64::try_from(plan.settle.as_nanos()).unwrap_or(u64::MAX);
    let longer = (1..=2).filter_map(|digits| rounded(settle, digits));
    rounder.extend(
        longer.map(|[_, longer]| with(plan, |plan| plan.settle = Duration::from_nanos(longer))),
    );
    rounder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_as_many_digits_as_people_read() {
        let read = [0, 1, 500, 1_000, 90_000, 60_000, 4_387].map(|time| digits(millis(time)));
        assert_eq!(read, [0, 1, 1, 1, 1, 1, 4]);
    }

    #[test]
    fn a_time_is_tried_at_round_ones_and_at_itself_with_fewer_digits() {
        let tried = simpler(millis(4_387), millis(1_000));
        let expected = [1_000, 2_000, 4_000, 5_000, 4_300, 4_400, 4_380, 4_390];
        assert_eq!(tried, expected.map(millis));
    }
}
