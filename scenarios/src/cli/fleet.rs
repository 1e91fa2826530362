//! `squall chaos --fleet` and `squall worker`: the two ends of a hunt on many machines.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use squall_core::nats::NatsEnv;

use super::progress::Progress;
use super::{Unusable, cores};
use crate::fleet::{self, FleetError, Told, Working, work_for};
use crate::hunt::{Book, Fleet};

/// Where to work, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// The server of the fleet, or those of one cluster.
    #[arg(long, required = true, value_name = "URL", value_delimiter = ',')]
    fleet: Vec<String>,
    /// Threads; all cores, if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Ends with the hunt, instead of waiting for the next.
    #[arg(long)]
    once: bool,
}

impl From<FleetError> for Unusable {
    fn from(error: FleetError) -> Self {
        Self(error.to_string())
    }
}

/// A name for a hunt that no other has.
pub(super) fn some_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let process = u128::from(std::process::id());
    format!("{:x}", now.unwrap_or_default().as_micros() << 8 ^ process)
}

fn runtime() -> Result<tokio::runtime::Runtime, Unusable> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.map_err(|error| Unusable(format!("no threads: {error}")))
}

/// The environment of this process: what it draws must differ from that of others.
fn env() -> NatsEnv {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = u64::from(now.unwrap_or_default().subsec_nanos());
    NatsEnv::new(seed << 32 | u64::from(std::process::id()))
}

/// Gives out a hunt, and counts what comes back.
pub(super) fn coordinate(
    book: &Arc<Book>,
    fleet: &Fleet,
    progress: &Progress,
) -> Result<(), Unusable> {
    let servers = fleet.servers.clone();
    let told = |told| match told {
        Told::Counted { jobs, not_passed } => {
            progress.step(jobs.saturating_sub(not_passed), true);
            (0..not_passed).for_each(|_| progress.step(1, false));
        }
        Told::NoWorkers => progress.say(&format!(
            "nobody works for this hunt yet: squall worker --fleet {}",
            servers.join(",")
        )),
    };
    let coordinated = async { fleet::coordinate(&env(), servers.clone(), book, fleet, told).await };
    Ok(runtime()?.block_on(coordinated)?)
}

/// Works for a fleet.
pub(super) fn work(wanted: &Wanted) -> Result<ExitCode, Unusable> {
    if wanted.jobs == Some(0) {
        return Err(Unusable("--jobs must be at least 1".to_owned()));
    }
    let working = Working {
        threads: wanted.jobs.unwrap_or_else(cores),
        once: wanted.once,
    };
    let told = |sentence: &str| eprintln!("{sentence}");
    let worked = async { work_for(&env(), wanted.fleet.clone(), working, told).await };
    runtime()?.block_on(worked)?;
    Ok(ExitCode::SUCCESS)
}
