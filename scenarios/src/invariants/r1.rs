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
use squall_core::transport::ConnectOptions;

use super::facts::{Called, Ended, Facts, without};
use super::{Findings, seconds};
use crate::history::{Call, What, lock, state};

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
        let until = called.ended.map_or(life.ended, |(at, _)| at);
        if until.since(called.invoked) <= bound {
            continue;
        }
        let running = without((called.invoked, until), life.frozen.clone());
        let taken: Duration = running.iter().map(|(from, to)| to.since(*from)).sum();
        // A call that was cancelled has no end either: it counts only where its caller still waits at the end.
        let is_waiting =
            called.ended.is_some() || matches!(called.call, Call::Close { .. } | Call::Open { .. });
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

/// How a call of an agent failed before this time, if it did. Conditional writes are refused in the best of worlds.
fn failed_in_calm<'a>(called: &Called<'a>, until: Instant) -> Option<(Instant, &'a str)> {
    let (at, ended) = called.ended?;
    let is_write = matches!(called.call, Call::Write { .. });
    // That others hold a lock, or have written with a higher token, too.
    let is_lock = matches!(called.call, Call::Lock(_) | Call::State(_));
    match ended {
        Ended::Conflict(_) if is_lock => None,
        // That its time is over, too, and then it may end in the middle of something.
        Ended::Unknown(_) if is_lock && waited_out(called, at) => None,
        Ended::Refused(error) | Ended::Conflict(error) | Ended::Unknown(error)
            if at < until && !is_write =>
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
    }
}
