//! How plans are written: the TOML that [`parse`](crate::parse::parse) reads.

use std::fmt::{self, Write as _};
use std::time::Duration;

use squall_sim::broker::SyncInterval;

use super::{On, Plan, Role};
use crate::fault::{Directions, FaultKind, signed};

/// The TOML that [`parse`](crate::parse::parse) reads.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "scenario = {:?}", self.scenario)?;
        if let Some(specimen) = &self.specimen {
            writeln!(f, "specimen = {specimen:?}")?;
        }
        writeln!(f, "seed = {}", self.seed)?;
        writeln!(f, "duration = {}", time(self.duration))?;
        writeln!(f, "settle = {}", time(self.settle))?;
        writeln!(f, "\n[world]")?;
        if self.world.on == On::Nats {
            writeln!(f, "on = \"nats\"")?;
        }
        writeln!(f, "server = \"{}\"", self.world.server)?;
        writeln!(f, "latency = {}", time(self.world.latency.base))?;
        writeln!(f, "jitter = {}", time(self.world.latency.jitter))?;
        if let Some(markers) = self.world.delete_markers {
            writeln!(f, "delete-markers = {}", time(markers))?;
        }
        if self.world.is_cluster() {
            writeln!(f, "servers = {}", self.world.servers)?;
            writeln!(f, "replicas = {}", self.world.replicas)?;
        }
        match self.world.sync_interval {
            SyncInterval::Always => writeln!(f, "sync-interval = \"always\"")?,
            every if every == SyncInterval::default() => {}
            SyncInterval::Every(interval) => writeln!(f, "sync-interval = {}", time(interval))?,
        }
        if let Some(auth) = self.auth {
            writeln!(f, "\n[auth]")?;
            writeln!(f, "life = {}", time(auth.life))?;
            writeln!(f, "takes = {}", time(auth.takes))?;
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

/// A duration as plans write it.
pub(super) fn time(duration: Duration) -> String {
    format!("\"{}\"", humantime::format_duration(duration))
}

/// A text as TOML writes it.
fn text(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}
