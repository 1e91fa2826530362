//! `half-open-deafness`: a watcher on a link that swallows bytes believes that nothing happens.
//!
//! A firewall forgets the flow, a NAT box reboots: what is sent is swallowed, and nobody resets anything. A watch that only
//! listens cannot tell that from a quiet day. The defaults of client libraries find it after minutes (three pings of a minute
//! each), or never where pings were turned off for the sake of a battery.
//!
//! Right: ask for signs of life on the scale on which silence matters, and tell the watcher when they fail to come.
//! [`squall_core::transport::ConnectOptions`] has `ping_interval` and `watch_heartbeat` for it.

use super::Flaw;

pub(super) const NAME: &str = "half-open-deafness";
/// What is wrong with the session.
pub(super) const FLAW: Flaw = Flaw::NoSignsOfLife;
