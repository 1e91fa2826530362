//! How plans are written: the TOML that [`parse`](crate::parse::parse) reads. What is as usual goes without saying.

use std::fmt::{self, Write as _};
use std::time::Duration;

use squall_sim::broker::SyncInterval;

use super::{AuthPlan, On, Plan, Role, SETTLE, WorldPlan};
use crate::fault::{Directions, FaultKind, signed};

/// The TOML that [`parse`](crate::parse::parse) reads.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "scenario = {:?}", self.scenario)?;
        if let Some(specimen) = &self.specimen {
            writeln!(f, "specimen = {specimen:?}")?;
        }
        if let Some(expect) = &self.expect {
            writeln!(f, "expect = {:?}", expect.name())?;
        }
        writeln!(f, "seed = {}", self.seed)?;
        writeln!(f, "duration = {}", time(self.duration))?;
        if self.settle != SETTLE {
            writeln!(f, "settle = {}", time(self.settle))?;
        }
        if self.world != WorldPlan::default() {
            write!(f, "\n[world]\n{}", self.world)?;
        }
        if let Some(auth) = self.auth {
            writeln!(f, "\n[auth]")?;
            writeln!(f, "life = {}", time(auth.life))?;
            if auth.takes != AuthPlan::new(auth.life).takes {
                writeln!(f, "takes = {}", time(auth.takes))?;
            }
            if auth.skew != 0 {
                writeln!(f, "skew = {:?}", signed(auth.skew))?;
            }
        }
        for agent in &self.agents {
            writeln!(f, "\n[[agent]]")?;
            writeln!(f, "name = {:?}", agent.name)?;
            if agent.role != Role::default() {
                writeln!(f, "role = {:?}", agent.role.name())?;
            }
            writeln!(f, "interval = {}", time(agent.interval))?;
            if agent.start > Duration::ZERO {
                writeln!(f, "start = {}", time(agent.start))?;
            }
            if !agent.watch {
                writeln!(f, "watch = false")?;
            }
            if let Some(every) = agent.who_every {
                writeln!(f, "who-every = {}", time(every))?;
            }
            if let Some(close) = agent.close {
                writeln!(f, "close = {}", time(close))?;
            }
            if let Some(max) = agent.reconnects_max {
                writeln!(f, "reconnects-max = {max}")?;
            }
            if let Some(lock) = &agent.lock {
                writeln!(f, "lock = {lock}")?;
            }
            if let Some(state) = &agent.state {
                writeln!(f, "state = {state}")?;
            }
            if let Some(chat) = &agent.chat {
                writeln!(f, "chat = {chat}")?;
            }
        }
        for write in &self.foreign {
            writeln!(f, "\n[[foreign]]")?;
            writeln!(f, "at = {}", time(write.at))?;
            writeln!(f, "key = {}", text(&write.key))?;
            writeln!(f, "value = {}", text(&write.value))?;
        }
        for fault in &self.faults {
            let mut line = format!("kind = {:?}", fault.kind.name());
            match fault.kind {
                FaultKind::Partition(ways) | FaultKind::Blackhole(ways)
                    if ways != Directions::Both =>
                {
                    write!(line, "\ndirection = {:?}", ways.name())?;
                }
                FaultKind::RoutePartition(other) => write!(line, "\npeer = \"{other}\"")?,
                FaultKind::Delay(by) | FaultKind::AuthSlow(by) => {
                    write!(line, "\nby = {}", time(by))?;
                }
                FaultKind::Jump(nanos) | FaultKind::AuthSkew(nanos) => {
                    write!(line, "\nby = {:?}", signed(nanos))?
                }
                FaultKind::Drift(ppm) => write!(line, "\nppm = {ppm}")?,
                FaultKind::IoError(steps) if steps > 0 => write!(line, "\nafter = {steps}")?,
                _ => {}
            }
            writeln!(f, "\n[[fault]]")?;
            writeln!(f, "at = {}", time(fault.at))?;
            if fault.lasts > Duration::ZERO {
                writeln!(f, "for = {}", time(fault.lasts))?;
            }
            writeln!(f, "target = {:?}", fault.target)?;
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// What is unlike the usual world, a line each.
impl fmt::Display for WorldPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        if self.on == On::Nats {
            writeln!(f, "on = \"nats\"")?;
        }
        if self.server != usual.server {
            writeln!(f, "server = \"{}\"", self.server)?;
        }
        if self.latency.base != usual.latency.base {
            writeln!(f, "latency = {}", time(self.latency.base))?;
        }
        if self.latency.jitter != usual.latency.jitter {
            writeln!(f, "jitter = {}", time(self.latency.jitter))?;
        }
        if let Some(markers) = self.delete_markers {
            writeln!(f, "delete-markers = {}", time(markers))?;
        }
        if self.is_cluster() {
            writeln!(f, "servers = {}", self.servers)?;
            writeln!(f, "replicas = {}", self.replicas)?;
        }
        match self.sync_interval {
            SyncInterval::Always => writeln!(f, "sync-interval = \"always\"")?,
            every if every == usual.sync_interval => {}
            SyncInterval::Every(interval) => writeln!(f, "sync-interval = {}", time(interval))?,
        }
        self.priorities
            .map_or(Ok(()), |changes| writeln!(f, "priorities = {changes}"))
    }
}

/// A duration as plans write it.
pub(super) fn time(duration: Duration) -> String {
    format!("\"{}\"", humantime::format_duration(duration))
}

/// A text as TOML writes it.
pub(super) fn text(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}
