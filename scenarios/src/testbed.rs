//! What a scenario runs on: simulated or real, behind one trait.

use std::sync::Arc;

use squall_core::files::Files;
use squall_core::jwt::KeyPair;
use squall_core::{Env, Instant, UnixTime};

use crate::authority::Authority;
use crate::fault::{Fault, Member};
use crate::history::Record;

/// The servers' addresses as this host knows them. Hosts of different agents begin with different servers.
pub(crate) fn addresses(
    agents: &[String],
    host: &str,
    servers: usize,
    address: impl Fn(Member) -> String,
) -> Vec<String> {
    let first = agents.iter().position(|agent| agent == host).unwrap_or(0);
    let in_turn = (0..servers).map(|place| Member((first + place) % servers));
    in_turn.map(address).collect()
}

/// Where processes run, servers serve and faults are done.
///
/// One for each run. Times are true time since its start.
pub trait Testbed: Clone + Send + Sync + 'static {
    /// What a process on it sees.
    type Env: Env;
    /// The keys of this world.
    type Key: KeyPair;

    /// True time.
    fn now(&self) -> Instant;

    /// The right wall time: that of servers, and of whoever issues credentials where nothing is done to it.
    fn wall(&self) -> UnixTime;

    /// Who issues credentials, where the servers ask for them.
    fn authority(&self) -> Option<&Authority<Self::Key>>;

    /// Waits in true time.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send;

    /// Starts a process on the host of this name (made at its first use): its surroundings, and the addresses of the
    /// servers as that host reaches them.
    fn start(&self, host: &str, process: &Arc<str>) -> (Self::Env, Vec<String>);

    /// Kills a process: its memory is gone, its kernel closes its connections.
    fn crash(&self, process: &Arc<str>);

    /// Begins a fault other than a crash or an overlap, which are the runner's; `process` is the target's latest one.
    ///
    /// # Errors
    /// One sentence, where it could not be done.
    fn begin(
        &self,
        fault: &Fault,
        process: Option<&Arc<str>>,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Mends it; called with the same fault and process, once.
    ///
    /// # Errors
    /// One sentence, where it could not be done.
    fn end(
        &self,
        fault: &Fault,
        process: Option<&Arc<str>>,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// How often faults of this kind have changed anything so far.
    fn bites(&self, fault: &Fault) -> u64;

    /// Tasks alive in a process, where that can be told.
    fn tasks(&self, process: &Arc<str>) -> Option<u32>;

    /// The disk of this host, where the world has one that can fail.
    fn files(&self, _host: &str) -> Option<Arc<dyn Files>> {
        None
    }

    /// The servers' own truth since the last call, in order, where it has not gone into the history by itself.
    fn take_truth(&self) -> Vec<Record> {
        Vec::new()
    }
}
