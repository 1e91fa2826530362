//! The coordinator: gives out the parts of a hunt, and counts what comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{
    AckPolicy, ConsumerConfig, ConsumerError, JetStream as _, Purge, ReadStart, ReadStreamError,
    Reader, ReaderEvent, Sequence, StoreError, StoreOptions, StoredMessage, Stream as _,
    StreamError, WatchError,
};
use squall_core::{Clock as _, Env, Instant};

use super::hall::{Hall, StreamOf, after, is_queue, refused};
use super::words::{
    Announcement, FOUND, FOUND_SUBJECTS, HUNTS_SUBJECT, Part, Report, WORKERS, done, done_subject,
    read, work, work_subject, written,
};
use super::{FleetError, off_thread};
use crate::history::value_hash;
use crate::hunt::{Book, Fleet, identity};

/// A worker that has said nothing about its part for so long is taken for dead.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(10);
/// A coordinator that has not renewed its announcement for so long is.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// How often it does.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long to wait for a report before looking at the time.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Parts that are given out and not done, for each worker and at least.
const PARTS_AHEAD: u64 = 4;
const PARTS_AHEAD_MIN: u64 = 32;
/// A worker from which nothing came for so long is none any more.
const WORKER_SEEN: Duration = Duration::from_secs(60);

/// Between two looks at a server that is behind.
const BEHIND: Duration = Duration::from_millis(100);

/// What a coordinator tells while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// So many jobs more are counted, of which so many runs did not pass.
    Counted {
        /// Jobs.
        jobs: u64,
        /// Runs.
        not_passed: u64,
    },
    /// Nobody has done anything yet.
    NoWorkers,
}

/// Hunts with a fleet: everything that the book's settings say, from where the book is.
///
/// # Errors
/// If the hunt cannot go on. What was counted is kept, and whoever resumes it takes up the fleet's work where it is.
pub async fn coordinate<E: Env>(
    env: &E,
    servers: Vec<String>,
    book: &Arc<Book>,
    fleet: &Fleet,
    told: impl Fn(Told),
) -> Result<(), FleetError> {
    let hall = Hall::enter(env, servers, "coordinator").await?;
    let mut coordinator = Coordinator::begin(&hall, book, fleet, told).await?;
    coordinator.hunt().await?;
    coordinator.end().await
}

struct Coordinator<'a, E: Env, F> {
    hall: &'a Hall<E>,
    book: &'a Arc<Book>,
    fleet: &'a Fleet,
    told: F,
    work: StreamOf<E>,
    done: StreamOf<E>,
    reports: Reader,
    /// The announcement, as it was stored last.
    announced: Sequence,
    renewed: Instant,
    /// Parts that were given out.
    parts: u64,
    /// When something last came from each worker.
    workers: BTreeMap<String, Instant>,
    /// What each part came to, by its first job: it must come to the same again.
    results: BTreeMap<u64, u64>,
    began: Instant,
    has_told: bool,
}

impl<'a, E: Env, F: Fn(Told)> Coordinator<'a, E, F> {
    async fn begin(
        hall: &'a Hall<E>,
        book: &'a Arc<Book>,
        fleet: &'a Fleet,
        told: F,
    ) -> Result<Self, FleetError> {
        let id = &fleet.id;
        let hunts = hall.hunts().await?;
        let mut last = Sequence::NONE;
        if let Some((announcement, message)) = hall.announced().await? {
            last = message.sequence;
            if announcement.id != *id && announcement.settings.is_some() {
                let asked = hall.insist(
                    "the hunt under way",
                    |_: &ReadStreamError| true,
                    async || hunts.info().await,
                );
                if asked.await?.now.since(message.time) < DEAD_AFTER {
                    return Err(FleetError::Busy {
                        id: announcement.id,
                    });
                }
                // Its coordinator is dead. Whoever resumes it begins with other streams.
                remove(hall, &announcement.id).await?;
            }
        }
        hall.stream(FOUND, FOUND_SUBJECTS, |config| {
            config.max_messages_per_subject = 1
        })
        .await?;
        let work = hall.stream(&work(id), &work_subject(id), is_queue).await?;
        let done = hall.stream(&done(id), &done_subject(id), |_| {}).await?;
        let queue = ConsumerConfig {
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: -1,
            ..ConsumerConfig::durable(WORKERS)
        };
        hall.insist("a consumer", may_pass, async || {
            work.create_consumer(&queue).await
        })
        .await?;
        // Announced last: whoever sees it finds everything in its place.
        let announced = announce(hall, book, id, last).await?;
        let count = async |stream: &StreamOf<E>| {
            let asked = hall.insist(
                "a stream",
                |_: &ReadStreamError| true,
                async || stream.info().await,
            );
            asked.await.map(|info| info.last_sequence)
        };
        let parts = count(&work).await?.0;
        if count(&done).await?.0 < book.reports_read() {
            // Streams that were removed and made again: all reports are to come.
            book.read_reports_again();
        }
        let start = ReadStart::Sequence(Sequence(book.reports_read() + 1));
        let reading = hall.insist(
            "the reports",
            |_: &WatchError| true,
            async || done.read(&[], start).await,
        );
        let reports = reading.await?;
        let now = hall.now();
        Ok(Self {
            hall,
            book,
            fleet,
            told,
            work,
            done,
            reports,
            announced,
            renewed: now,
            parts,
            workers: BTreeMap::new(),
            results: BTreeMap::new(),
            began: now,
            has_told: false,
        })
    }

    async fn hunt(&mut self) -> Result<(), FleetError> {
        while !self.is_done() {
            self.give_out().await?;
            let look = self.hall.now() + LOOK_EVERY;
            let event = tokio::select! {
                biased;
                event = self.reports.next() => Some(event),
                () = self.hall.env.clock().sleep_until(look) => None,
            };
            match event {
                Some(Some(ReaderEvent::Message(message))) => self.count(message).await?,
                Some(
                    Some(ReaderEvent::Resumed {
                        same_stream: false, ..
                    })
                    | None,
                ) => {
                    let id = self.fleet.id.clone();
                    return Err(FleetError::Gone { id });
                }
                // Servers go and come back, and the reader goes on where it was.
                Some(Some(
                    ReaderEvent::Interrupted(_)
                    | ReaderEvent::Resumed { .. }
                    | ReaderEvent::CaughtUp,
                ))
                | None => {}
            }
            self.renew().await?;
        }
        Ok(())
    }

    /// Everything that was given out is counted, and nothing more is to be given out.
    fn is_done(&self) -> bool {
        let counted = self.book.next();
        match self.book.jobs().total() {
            Some(total) => counted >= total,
            None => self.book.is_over() && counted >= self.parts * self.fleet.part,
        }
    }

    /// Keeps the queue filled, and no more than that: a hunt that time bounds must end soon after its time.
    async fn give_out(&mut self) -> Result<(), FleetError> {
        let size = self.fleet.part;
        let ahead = PARTS_AHEAD_MIN.max(PARTS_AHEAD * self.workers.len() as u64);
        let subject = work_subject(&self.fleet.id);
        while !self.book.is_over() && self.parts < self.book.next() / size + ahead {
            let first = self.parts * size;
            let jobs = match self.book.jobs().total() {
                Some(total) if first >= total => return Ok(()),
                Some(total) => size.min(total - first),
                None => size,
            };
            let body = written(&Part { first, jobs }, "a part")?;
            // The queue's own sequence numbers the parts: none can be given out twice, also by one who dies in between.
            let options = after(Sequence(self.parts));
            match self.hall.store("a part", &subject, body, &options).await {
                Ok(_) => self.parts += 1,
                // Stored at an attempt whose answer was lost.
                Err(StoreError::WrongLastSequence { actual }) => self.parts = actual.0,
                Err(error) => return Err(refused("a part")(error)),
            }
        }
        Ok(())
    }

    async fn count(&mut self, message: StoredMessage) -> Result<(), FleetError> {
        let report: Report = read(&message.payload, "the report of a part")?;
        let Report {
            part,
            worker,
            sweep,
        } = report;
        self.workers.insert(worker, self.hall.now());
        self.has_told = true;
        let result = value_hash(&written(&sweep, "the report of a part")?);
        if *self.results.entry(part.first).or_insert(result) != result {
            return Err(FleetError::TwoRuns {
                first: part.first,
                last: part.first + part.jobs - 1,
            });
        }
        let not_passed = sweep.failures() + sweep.inconclusive();
        let book = Arc::clone(self.book);
        let sequence = message.sequence.0;
        let counting = off_thread("a report", move || {
            book.count_report(sequence, part.first, part.jobs, sweep)
        });
        if counting.await?? {
            (self.told)(Told::Counted {
                jobs: part.jobs,
                not_passed,
            });
        }
        Ok(())
    }

    /// Now and then: says that the hunt is alive, and lets go what is counted and kept.
    async fn renew(&mut self) -> Result<(), FleetError> {
        let now = self.hall.now();
        if now.since(self.renewed) < RENEW_EVERY {
            return Ok(());
        }
        if !self.has_told && now.since(self.began) >= RENEW_EVERY {
            self.has_told = true;
            (self.told)(Told::NoWorkers);
        }
        self.workers
            .retain(|_, seen| now.since(*seen) < WORKER_SEEN);
        self.announced = announce(self.hall, self.book, &self.fleet.id, self.announced).await?;
        self.book.close()?;
        let read = Purge {
            below: Some(Sequence(self.book.reports_read() + 1)),
            ..Purge::default()
        };
        // What is not purged now is purged the next time.
        if let Err(error) = self.done.purge(read).await {
            tracing::debug!(%error, "reports that were read are still there");
        }
        self.renewed = self.hall.now();
        Ok(())
    }

    /// The hunt is over: what was found stays, all else goes.
    async fn end(self) -> Result<(), FleetError> {
        self.book.close()?;
        let over = Announcement {
            id: self.fleet.id.clone(),
            squall: identity().to_owned(),
            settings: None,
        };
        let body = written(&over, "the announcement of a hunt")?;
        let options = StoreOptions::default();
        let stored = self
            .hall
            .store("the end", HUNTS_SUBJECT, body, &options)
            .await;
        stored.map_err(refused("the end of the hunt"))?;
        tracing::debug!(
            parts = self.parts,
            queue = self.work.name(),
            "the hunt is over"
        );
        remove(self.hall, &self.fleet.id).await
    }
}

/// Says that a hunt is under way, after the announcement that was read or made last.
async fn announce<E: Env>(
    hall: &Hall<E>,
    book: &Book,
    id: &str,
    last: Sequence,
) -> Result<Sequence, FleetError> {
    let announcement = Announcement {
        id: id.to_owned(),
        squall: identity().to_owned(),
        settings: Some(book.settings().clone()),
    };
    let body = written(&announcement, "the announcement of a hunt")?;
    let options = after(last);
    match hall
        .store("the announcement", HUNTS_SUBJECT, body, &options)
        .await
    {
        Ok(ack) => Ok(ack.sequence),
        Err(StoreError::WrongLastSequence { actual }) => loop {
            // Ours, at an attempt whose answer was lost, or that of another hunt. Any server may answer a read, and
            // some are behind.
            match hall.announced().await? {
                Some((now, message)) if message.sequence >= actual => {
                    return match now.settings {
                        _ if now.id == id => Ok(message.sequence),
                        Some(_) => Err(FleetError::Busy { id: now.id }),
                        None => Err(FleetError::Gone { id: id.to_owned() }),
                    };
                }
                _ => hall.pause(BEHIND).await,
            }
        },
        Err(error) => Err(refused("the announcement of the hunt")(error)),
    }
}

/// Deletes the streams of a hunt.
async fn remove<E: Env>(hall: &Hall<E>, id: &str) -> Result<(), FleetError> {
    for stream in [work(id), done(id)] {
        let may_pass =
            |error: &StreamError| matches!(error, StreamError::TimedOut | StreamError::Unavailable);
        let removed = hall.insist("a stream", may_pass, async || {
            match hall.connection.delete_stream(&stream).await {
                Err(StreamError::NotFound) => Ok(()),
                removed => removed,
            }
        });
        removed.await?;
    }
    Ok(())
}

fn may_pass(error: &ConsumerError) -> bool {
    match error {
        ConsumerError::InvalidName(_) | ConsumerError::Closed => false,
        ConsumerError::Rejected(error) => error.code >= 500,
        ConsumerError::NoStream
        | ConsumerError::NotFound
        | ConsumerError::Unavailable
        | ConsumerError::TimedOut => true,
    }
}
