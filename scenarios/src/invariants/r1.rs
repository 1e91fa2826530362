//! R1 robust: no panic, nothing left running, every call returns within its bound, and none fails for no reason.
//!
//! For no reason means: before anything was done to the world. A read that fails then was denied by what other programs
//! keep in the same bucket, and nobody may be. Once the first fault has begun nothing is said: what it broke may take as
//! long as reconnects, time-outs and buffers do, and a refusal is then the honest answer. The same goes for plans whose
//! links are so slow that answers miss their time-outs.
//!
//! Bounds are those the core declares, with room for what the plan does to links and crystals; time in which the process
//! stands still does not count.

use std::time::Duration;

use squall_core::Instant;
use squall_core::chat::Config;
use squall_core::transport::ConnectOptions;

use super::chats::ChatWatch;
use super::facts::{Called, Ended, Facts, without};
use super::{Findings, seconds};
use crate::history::chat::Told;
use crate::history::{Call, Reply, What, chat, lock, state};

/// A process that has closed everything may still run its own main task.
const TASKS_LEFT_MAX: u32 = 1;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for record in &facts.milestones {
        match &record.what {
            What::Panicked { message } => {
                findings.add(record.at, [], format!("a task panicked: {message}"));
            }
            What::End { tasks } => {
                for (process, left) in tasks {
                    if *left > TASKS_LEFT_MAX {
                        let text =
                            format!("{process} closed everything and {left} tasks go on running");
                        findings.add(record.at, [process.clone()], text);
                    }
                }
            }
            _ => {}
        }
    }
    consumers(facts, findings);
    let first_fault = facts
        .milestones
        .iter()
        .find_map(|record| match record.what {
            What::Fault { .. } => Some(record.at),
            _ => None,
        });
    let bounds = Bounds::default();
    let latency = facts.plan.world.latency;
    let is_slow = latency.base + latency.jitter > ConnectOptions::default().ack_timeout / 20;
    let calm_until = match first_fault {
        _ if is_slow => Instant::ZERO,
        Some(at) => at,
        None => facts.end,
    };
    // Then everybody is told to leave, and what was under way is cut short.
    let settled = facts
        .milestones
        .iter()
        .find(|record| matches!(record.what, What::Settled | What::Unsettled { .. }))
        .map_or(facts.end, |record| record.at);
    for called in facts.questionable() {
        // By far the most, and clear without looking further: reads and writes that succeeded within the shortest bound.
        if let (Some(_), Some((at, Ended::Ok(_)))) = (called.key, called.ended)
            && at.since(called.invoked) <= bounds.request
        {
            continue;
        }
        let Some(life) = called.life.and_then(|life| facts.lives.get(life)) else {
            continue;
        };
        let leaves = life
            .open
            .map_or_else(|| life.ended.min(settled), |(_, closed)| closed);
        let closes = facts.chats.closes_after(called.process, called.invoked);
        let leaves = closes.map_or(leaves, |closes| leaves.min(closes));
        if let Some((at, error)) = failed_in_calm(called, calm_until.min(leaves))
            && !is_closed(facts, called)
        {
            let text = format!(
                "{} called {} at {}, and it failed although nothing had been done to anybody: {error}",
                called.process,
                name(called.call),
                seconds(called.invoked),
            );
            findings.add(at, [called.process.clone()], text);
        }
        let bound = bounds.of(facts, called.call);
        let bound = bound + facts.slack(bound);
        // Who leaves its chat does not wait for what it had asked of it.
        let waits = closes.map_or(life.ended, |closes| closes.min(life.ended));
        let until = called.ended.map_or(waits, |(at, _)| at);
        if until.since(called.invoked) <= bound {
            continue;
        }
        let running = without((called.invoked, until), life.frozen.clone());
        let taken: Duration = running.iter().map(|(from, to)| to.since(*from)).sum();
        // A call that was cancelled has no end either: it counts only where its caller still waits at the end.
        let is_waiting = called.ended.is_some()
            || matches!(
                called.call,
                Call::Close { .. } | Call::Open { .. } | Call::Chat(_)
            );
        if taken > bound && is_waiting {
            let text = format!(
                "{} called {} at {}, and after {:.3}s it had not returned; its bound is {:.3}s",
                called.process,
                name(called.call),
                seconds(called.invoked),
                taken.as_secs_f64(),
                bound.as_secs_f64(),
            );
            findings.add(until, [called.process.clone()], text);
        }
    }
}

/// What watches and scans leave behind at the server goes when it has not been used for so long, or a little later.
const LINGER: Duration = Duration::from_secs(40);

/// A stream has as many consumers as there are watches and scans, and were until a while ago.
fn consumers(facts: &Facts<'_>, findings: &mut Findings) {
    let asked = facts.calls.iter().filter(|_| facts.plan.has_chat());
    for called in asked {
        let Some((at, Ended::Ok(Reply::Chat(chat::Reply::Consumers { count })))) = called.ended
        else {
            continue;
        };
        let since = at - LINGER - facts.slack(LINGER);
        let watches = facts.chats.watches.iter();
        let watches = watches.filter(|watch| watch.from <= at && watch.until >= since);
        // Each interruption may leave one behind, and so may what was begun and could not be.
        let interrupted = |watch: &ChatWatch<'_>| {
            let tells = watch
                .tells
                .iter()
                .filter(|(told, _)| (since..=at).contains(told));
            let is_interrupted = |told: &Told| matches!(told, Told::Interrupted { .. });
            1 + tells.filter(|(_, told)| is_interrupted(told)).count()
        };
        let of_watches: usize = watches.map(interrupted).sum();
        let begun = facts.calls.iter().filter(|called| {
            let is_scan = matches!(called.call, Call::Chat(chat::Call::Scan { .. }));
            let is_watch = matches!(called.call, Call::Chat(chat::Call::Watch { .. }));
            let failed = !matches!(called.ended, Some((_, Ended::Ok(_))));
            let ended = called.ended.map_or(facts.end, |(at, _)| at);
            (is_scan || (is_watch && failed)) && called.invoked <= at && ended >= since
        });
        let most = of_watches + begun.count();
        if *count > most as u64 {
            let text = format!(
                "{} found {count} consumers at {}, and all watches and scans had at most {most}",
                called.process,
                seconds(at),
            );
            findings.add(at, [called.process.clone()], text);
        }
    }
}

/// How a call of an agent failed before this time, if it did. Conditional writes are refused in the best of worlds.
fn failed_in_calm<'a>(called: &Called<'a>, until: Instant) -> Option<(Instant, &'a str)> {
    let (at, ended) = called.ended?;
    // Nor can it be known beforehand whether a name collides, or who is there to be asked.
    let may_fail = matches!(
        called.call,
        Call::Write { .. }
            | Call::Chat(
                chat::Call::Thread { .. } | chat::Call::Ask { .. } | chat::Call::Consumers
            )
    );
    // That others hold a lock, or have written with a higher token, too.
    let is_lock = matches!(called.call, Call::Lock(_) | Call::State(_));
    match ended {
        Ended::Conflict(_) if is_lock => None,
        // That its time is over, too, and then it may end in the middle of something.
        Ended::Unknown(_) if is_lock && waited_out(called, at) => None,
        Ended::Refused(error) | Ended::Conflict(error) | Ended::Unknown(error)
            if at < until && !may_fail =>
        {
            Some((at, error))
        }
        _ => None,
    }
}

/// Whether a call that waits for a lock has waited for as long as it was told to.
fn waited_out(called: &Called<'_>, at: Instant) -> bool {
    match called.call {
        Call::Lock(lock::Call::Acquire {
            waits: Some(waits), ..
        }) => at.since(called.invoked) >= *waits,
        _ => false,
    }
}

/// Whether the store that this was asked of was closed meanwhile.
fn is_closed(facts: &Facts<'_>, called: &Called<'_>) -> bool {
    let Some((at, _)) = called.ended else {
        return false;
    };
    facts.calls.iter().any(|other| {
        let is_close = matches!(other.call, Call::State(state::Call::Close));
        let is_meanwhile = (called.invoked..=at).contains(&other.invoked);
        is_close && is_meanwhile && other.process == called.process
    })
}

/// For so long a write to a store tries to come between those of others.
const CONTENDED: Duration = Duration::from_secs(10);

/// The time-outs that bounds are made of.
struct Bounds {
    connect: Duration,
    request: Duration,
    ack: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let options = ConnectOptions::default();
        Self {
            connect: options.connect_timeout,
            request: options.request_timeout,
            ack: options.ack_timeout,
        }
    }
}

impl Bounds {
    /// How long something with a lock may take.
    fn of_lock(&self, call: &lock::Call) -> Duration {
        let round = self.ack + self.request;
        match call {
            // A look, a write and another look; then there is more to it only for who waits.
            lock::Call::Acquire { waits, .. } => waits.unwrap_or(round + self.request),
            // A write that is under way is waited for; a look before and after one's own.
            lock::Call::Refresh { .. } | lock::Call::Unlock { .. } => round * 3,
            // As often as others come in between.
            lock::Call::Effect { .. } => round * 4,
        }
    }

    /// How long something with a store may take.
    fn of_state(&self, call: &state::Call) -> Duration {
        match call {
            state::Call::Close => Duration::from_secs(1),
            // It is described, created and described again, by others too.
            state::Call::Open => self.request * 4,
            // A value whose life is over is read again; so are those that take its place.
            state::Call::Get { .. } => self.request * 4,
            state::Call::Keys => self.request * 6,
            state::Call::Watch => self.request,
            // As often as others come in between.
            state::Call::Put { .. } | state::Call::Delete { .. } => {
                CONTENDED + self.request * 2 + self.ack
            }
        }
    }

    /// How long something with a chat may take.
    fn of_chat(&self, call: &chat::Call) -> Duration {
        let config = Config::new("p", "a", Duration::ZERO);
        match call {
            // Attaching to the stream reads, creates and reads; it may be contended.
            chat::Call::Open { .. } => self.request * 8,
            chat::Call::Thread { .. } | chat::Call::Ask { .. } => self.request,
            chat::Call::Send { .. } => config.send_timeout,
            // Three looks at the stream, and a reader, which takes two requests.
            chat::Call::Watch { .. } => self.request * 5,
            chat::Call::Scan { .. } => config.scan_timeout,
            chat::Call::Consumers | chat::Call::Close => Duration::from_secs(1),
        }
    }

    /// How long a call may take by its own documentation.
    fn of(&self, facts: &Facts<'_>, call: &Call) -> Duration {
        match call {
            // Each server is tried.
            Call::Connect | Call::Dial => self.connect * facts.plan.world.servers as u32,
            // Attaching to the bucket reads, changes and reads; claiming reads and writes; both may be contended.
            Call::Open { .. } => self.request * 8,
            Call::Close { agent } => facts.interval(agent),
            Call::Watch => self.request * 2,
            Call::Who | Call::Present { .. } | Call::Read { .. } => self.request,
            Call::Write { .. } => self.ack + self.request,
            Call::Follow => self.request * 2,
            Call::Flush => self.request,
            Call::Lock(call) => self.of_lock(call),
            Call::State(call) => self.of_state(call),
            Call::Chat(call) => self.of_chat(call),
            // One that takes longer is given up. What depends on it says after a while that it goes on trying.
            Call::Exchange { .. } => facts.plan.session().exchange_timeout,
            Call::LogIn { .. } => facts.plan.session().login_timeout,
            // Closing waits for nobody, and neither does a disk.
            Call::LogOut | Call::Save { .. } | Call::Load { .. } => Duration::ZERO,
        }
    }
}

pub(super) const fn name(call: &Call) -> &'static str {
    match call {
        Call::Connect => "connect",
        Call::Open { .. } => "open",
        Call::Close { .. } => "close",
        Call::Watch => "watch",
        Call::Who => "who",
        Call::Present { .. } => "present",
        Call::Write { .. } => "a write",
        Call::Read { .. } => "a read",
        Call::Follow => "follow",
        Call::Flush => "flush",
        Call::Exchange { .. } => "an exchange",
        Call::Dial => "dial",
        Call::LogIn { .. } => "log in",
        Call::LogOut => "log out",
        Call::Save { .. } => "save",
        Call::Load { .. } => "load",
        Call::Lock(call) => call.name(),
        Call::State(call) => call.name(),
        Call::Chat(call) => call.name(),
    }
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    #[test]
    fn consumers_do_not_pile_up() {
        let mut tale = Tale::of_chat("alice/1");
        tale.watches("alice/1", 1).watches("alice/1", 2);
        tale.at(10).consumers("alice/1", 2);
        assert_eq!(tale.told_by("R1"), [""; 0]);
        tale.at(20).consumers("alice/1", 3);
        assert_eq!(tale.told_by("R1").len(), 1);
    }
}
