//! A worker: takes parts of whatever hunt is under way in its fleet, does them, and reports.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use squall_core::transport::{
    Ack, Delivered, Pull, PullConsumer, PullEvent, Sequence, StoreError, StoreOptions, Stream as _,
};
use squall_core::{Clock as _, Env};
use squall_reports::sweep::Sweep;

use super::coordinator::ACK_WAIT;
use super::hall::{Hall, refused};
use super::words::{
    Announcement, Found, Part, Report, WORKERS, done_subject, found_subject, read, work, written,
};
use super::{FleetError, off_thread};
use crate::hunt::{Jobs, identity, reproduce};
use crate::invariants::Verdict;
use crate::run::Run;

/// How long a pull waits; then the worker looks whether its hunt is still under way.
const PULL: Duration = Duration::from_secs(4);
/// How often a worker that has nothing to do looks for a hunt.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// One part at a time: what is taken and not begun would wait for nothing if the worker dies.
const ONE: NonZeroU32 = NonZeroU32::MIN;

/// How a worker works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Working {
    /// Parts at a time.
    pub threads: usize,
    /// Ends with the hunt, instead of waiting for the next.
    pub once: bool,
}

/// Works for a fleet; tells what it does in sentences. Returns only if it works [`once`](Working::once).
///
/// # Errors
/// If the fleet cannot be reached, or its hunt is one of another squall.
pub async fn work_for<E: Env>(
    env: &E,
    servers: Vec<String>,
    working: Working,
    told: impl Fn(&str),
) -> Result<(), FleetError> {
    let hall = Hall::enter(env, servers, "worker").await?;
    let name = format!("{:08x}", env.rng("worker").next_u64() >> 32);
    told("waiting for a hunt");
    loop {
        let announced = hall.announced().await?;
        let seen = announced
            .as_ref()
            .map_or(Sequence::NONE, |(_, message)| message.sequence);
        let announced = announced.map(|(announcement, _)| hunt(announcement));
        let Some((hunt, jobs)) = announced.transpose()?.flatten() else {
            hall.pause(LOOK_EVERY).await;
            continue;
        };
        told(&format!("hunt {}: at work", hunt.id));
        let worker = Worker {
            hall: &hall,
            hunt: &hunt,
            seen,
            jobs: Arc::new(jobs),
        };
        let threads = (0..working.threads.max(1)).map(|thread| {
            let name = format!("{name}.{thread}");
            worker.work(name)
        });
        let parts: u64 = try_join_all(threads).await?.iter().sum();
        told(&format!(
            "hunt {}: over; {parts} parts were done here",
            hunt.id
        ));
        if working.once {
            return Ok(());
        }
    }
}

/// The hunt, if it is under way and one of this squall.
fn hunt(announcement: Announcement) -> Result<Option<(Announcement, Jobs)>, FleetError> {
    let Some(settings) = &announcement.settings else {
        return Ok(None);
    };
    if announcement.squall != identity() {
        return Err(FleetError::OtherSquall {
            theirs: announcement.squall,
            ours: identity().to_owned(),
        });
    }
    let jobs = Jobs::try_from(settings)?;
    Ok(Some((announcement, jobs)))
}

struct Worker<'a, E: Env> {
    hall: &'a Hall<E>,
    hunt: &'a Announcement,
    /// Where it was seen announced.
    seen: Sequence,
    jobs: Arc<Jobs>,
}

impl<E: Env> Worker<'_, E> {
    /// Does one part after the other until the hunt is over; says how many.
    async fn work(&self, name: String) -> Result<u64, FleetError> {
        let mut parts = 0;
        let stream = self.hall.known(&work(&self.hunt.id))?;
        let consumer = stream
            .consumer(WORKERS)
            .map_err(|error| FleetError::Refused {
                what: "the queue",
                reason: error.to_string(),
            })?;
        let wish = Pull {
            batch: ONE,
            expires: Some(PULL),
            heartbeat: Some(PULL / 4),
        };
        loop {
            let delivered = match consumer.pull(wish).await {
                Ok(mut pulled) => match pulled.next().await {
                    Some(PullEvent::Message(delivered)) => Some(delivered),
                    Some(PullEvent::Ended(_)) | None => None,
                },
                Err(_) => None,
            };
            let is_done = match &delivered {
                Some(delivered) => self.part(&consumer, delivered, &name).await?,
                None => false,
            };
            parts += u64::from(is_done);
            if !is_done {
                // Nothing to do, or nobody there to ask, or the hunt is over: the announcement says which.
                if !self.is_under_way().await? {
                    return Ok(parts);
                }
                self.hall.pause(Duration::from_millis(100)).await;
            }
        }
    }

    /// Whether the hunt goes on, as far as anybody knows: servers that are just starting know of nothing, and any
    /// server may answer, also one that is behind.
    async fn is_under_way(&self) -> Result<bool, FleetError> {
        let announced = self.hall.announced().await?;
        Ok(announced.is_none_or(|(now, message)| {
            let is_ours = now.id == self.hunt.id && now.settings.is_some();
            message.sequence < self.seen || is_ours
        }))
    }

    /// Does a part, and stores what came out before it says that it is done; `false` if the hunt ended meanwhile.
    async fn part(
        &self,
        consumer: &impl PullConsumer,
        delivered: &Delivered,
        name: &str,
    ) -> Result<bool, FleetError> {
        let part: Part = read(&delivered.message.payload, "a part")?;
        let jobs = Arc::clone(&self.jobs);
        let mut done = Box::pin(off_thread("a part", move || run(&jobs, part)));
        let (sweep, found) = loop {
            let soon = self.hall.now() + ACK_WAIT / 4;
            tokio::select! {
                biased;
                done = &mut done => break done?,
                () = self.hall.env.clock().sleep_until(soon) => {
                    // One that gets lost is followed by others; and a part that is given out again is noticed.
                    if let Err(error) = consumer.ack(delivered, Ack::InProgress).await {
                        tracing::debug!(%error, "a sign of life was not sent");
                    }
                }
            }
        };
        for found in found {
            let body = written(&found, "a finding")?;
            let subject = found_subject(&self.hunt.id, &found);
            // One for each subject is kept: what is stored again takes its own place.
            let options = StoreOptions::default();
            let stored = self.hall.store("a finding", &subject, body, &options);
            stored.await.map_err(refused("a finding"))?;
        }
        let report = Report {
            part,
            worker: name.to_owned(),
            sweep,
        };
        let body = written(&report, "the report of a part")?;
        let options = StoreOptions {
            // This delivery's: a retry is stored once, and another worker's report of the same part shows.
            message_id: Some(format!("{}.{name}.{}", part.first, delivered.deliveries)),
            ..StoreOptions::default()
        };
        let subject = done_subject(&self.hunt.id);
        loop {
            let body = body.clone();
            let stored = self
                .hall
                .store_within(LOOK_EVERY, "a report", &subject, body, &options);
            match stored.await {
                Ok(_) => break,
                // Nobody there, or no such stream any more: the announcement says which.
                Err(StoreError::NoStream | StoreError::TimedOut) => {
                    if !self.is_under_way().await? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(refused("a report")(error)),
            }
        }
        // Where this is not heard the part is given out again, and noticed when its report is.
        if let Err(error) = consumer.ack_confirmed(delivered, Ack::Done).await {
            tracing::debug!(%error, first = part.first, "that a part is done was not heard");
        }
        Ok(true)
    }
}

fn run(jobs: &Jobs, part: Part) -> (Sweep, Vec<Found>) {
    let mut sweep = Sweep::default();
    let mut all = Vec::new();
    for (_, job) in jobs.range(part.first..part.first + part.jobs) {
        let (run, counted) = job.run();
        sweep.merge(counted);
        all.extend(found(&run));
    }
    (sweep, all)
}

fn found(run: &Run) -> Option<Found> {
    let told = match &run.verdict {
        Verdict::Pass => return None,
        Verdict::Inconclusive(why) => vec![format!("undecided: {why}")],
        Verdict::Fail(violations) => violations.iter().map(ToString::to_string).collect(),
    };
    let (scenario, seed) = (run.plan.scenario.clone(), run.plan.seed);
    Some(Found {
        reproduce: reproduce(&scenario, seed),
        scenario,
        seed,
        told,
        plan: run.plan.to_string(),
    })
}
