//! The servers' own truth, on real ones: an observer at each, with a connection of its own, follows the stream of a bucket
//! from its first revision on, and after the run each record is given to whoever wrote it. There are as many observers as
//! servers because one of them sees nothing while its server, or that of its consumer, is cut off or gone; and where
//! servers ask for credentials there is one in each account, with a login that has no end and that nothing is done to. In
//! a cluster there are two at each server. One is quick to look for another consumer where its own may be gone. The other
//! clings to what it has: what waits at a server that is cut off is stored the moment it is back, and may be overwritten
//! before anybody has looked again.
//!
//! A record is dated by the server itself when it stores it: on one machine that is true time, and it does not matter
//! how late the observer hears of it. A bucket keeps only the latest record of a key, so one that is overwritten before
//! the observer has read it is never seen. But revisions have no holes, so it is known that it was there; what its
//! writer was answered tells the rest. That a record ages out is not told at all (see `Facts::removal`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use squall_core::nats::NatsEnv;
use squall_core::transport::{
    ConnectOptions, ConnectionEvent, Credentials, CredentialsCell, KvEntry, Operation, Revision,
    WatchEvent, WatchStart,
};
use squall_core::{Bucket, Connection, Env, Instant, Transport, UnixTime};

use crate::authority::ACCOUNTS;
use crate::history::{Call, Commit, History, Record, Reply, What, value_hash};
use crate::parse::BUCKET;
use crate::plan::{Plan, Role};
use crate::recorded::says;
use crate::roles::{lock, user};

/// How often the observer asks whether the server is there.
const POLL: Duration = Duration::from_millis(5);
/// How often it asks for a bucket that is not: much sooner than a record is overwritten.
const POLL_BUCKET: Duration = Duration::from_millis(25);
/// How long it waits for an answer. While a stream of a cluster is being made, or has no leader, a question may never be
/// answered: with the usual patience an observer would be blind for so long, and with it all others, which ask at once.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// How often the consumer of a quick one is to show a sign of life: where that goes with its server, the next one must
/// come soon.
const QUICK: Duration = Duration::from_millis(250);
/// The same of one that clings to it: longer than any run.
const CLINGING: Duration = Duration::from_secs(24 * 3600);
/// How long it may take to have heard of the last record.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// The wall clock may have been set by so much while a run went on, before nothing can be said of it.
const CLOCK_STEP_MAX: Duration = Duration::from_millis(20);

/// Both clocks are read so often at once: whoever is put aside between the two has read no moment, but two.
const CLOCK_READS: usize = 5;

/// True time: the monotonic clock since the start, and the wall clock then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    monotonic: std::time::Instant,
    wall: UnixTime,
}

impl Epoch {
    pub(super) fn new() -> Self {
        let (monotonic, wall) = clocks();
        Self { monotonic, wall }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::ZERO + self.monotonic.elapsed()
    }

    pub(super) fn due(&self, at: Instant) -> tokio::time::Instant {
        (self.monotonic + at.elapsed()).into()
    }

    fn of(&self, wall: UnixTime) -> Instant {
        Instant::ZERO + wall.since(self.wall)
    }

    /// Whether the wall clock was set since the start: then the server's dates are not true time.
    pub(super) fn is_broken(&self) -> bool {
        let (monotonic, now) = clocks();
        let there = self.wall + monotonic.duration_since(self.monotonic);
        now.since(there).max(there.since(now)) > CLOCK_STEP_MAX
    }
}

/// What both clocks say at one moment: of several readings the one that took least.
fn clocks() -> (std::time::Instant, UnixTime) {
    let read = || {
        let monotonic = std::time::Instant::now();
        let wall = wall();
        (monotonic.elapsed(), monotonic, wall)
    };
    let reads = (1..CLOCK_READS).map(|_| read());
    let (_, monotonic, wall) = reads.fold(read(), |best, read| best.min(read));
    (monotonic, wall)
}

pub(super) fn wall() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::EPOCH + since.unwrap_or_default()
}

/// Waits until a second of the wall clock begins, as simulated worlds do with one: what is issued ends in whole seconds.
pub(super) async fn next_second() {
    const SECOND: i64 = 1_000_000_000;
    let left = SECOND - wall().as_nanos().rem_euclid(SECOND);
    tokio::time::sleep(Duration::from_nanos(left.unsigned_abs())).await;
}

/// A bucket of an account: what has revisions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) account: &'static str,
    pub(super) bucket: &'static str,
}

impl Place {
    /// All that agents of a plan may write to.
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let accounts = if plan.auth.is_some() { 2 } else { 1 };
        let in_use = |role| plan.agents.iter().any(|agent| agent.role == role);
        let buckets = [
            (in_use(Role::Presence), BUCKET),
            (in_use(Role::User), user::BUCKET),
            (in_use(Role::Lock) || in_use(Role::State), lock::BUCKET),
        ];
        let buckets = buckets.iter().filter(|(is_in_use, _)| *is_in_use);
        let places = buckets.flat_map(|(_, bucket)| {
            let accounts = ACCOUNTS[..accounts].iter();
            accounts.map(|account| Self { account, bucket })
        });
        places.collect()
    }

    /// Where a key is that somebody wrote: users say in their keys which account it is, others have but one.
    fn of(bucket: &str, key: &str) -> Self {
        let first = ACCOUNTS[0];
        if bucket != user::BUCKET {
            let bucket = if bucket == lock::BUCKET {
                lock::BUCKET
            } else {
                BUCKET
            };
            return Self {
                account: first,
                bucket,
            };
        }
        let named = user::account_of(key);
        let mut accounts = ACCOUNTS.into_iter();
        let account = accounts.find(|account| Some(*account) == named);
        Self {
            account: account.unwrap_or(first),
            bucket: user::BUCKET,
        }
    }
}

/// What an observer observes, from where, as whom.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) place: Place,
    pub(super) urls: Vec<String>,
    pub(super) credentials: Option<Credentials>,
    /// After twice as long without a sign of life it looks for another consumer.
    heartbeat: Duration,
}

impl Post {
    /// All at these servers, of which each observer knows the others, too.
    pub(super) fn all(
        place: Place,
        urls: &[String],
        credentials: Option<&Credentials>,
    ) -> Vec<Self> {
        let heartbeats = match urls {
            [_] => &[QUICK][..],
            _ => &[QUICK, CLINGING],
        };
        let posts = (0..urls.len()).flat_map(|server| {
            let mut urls = urls.to_vec();
            urls.rotate_left(server);
            heartbeats.iter().map(move |heartbeat| Self {
                place,
                urls: urls.clone(),
                credentials: credentials.cloned(),
                heartbeat: *heartbeat,
            })
        });
        posts.collect()
    }
}

/// What the observers have seen.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<BTreeMap<(Place, Revision), KvEntry>>);

impl Seen {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(Place, Revision), KvEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self, place: Place) -> Revision {
        let all = self.all();
        let mut of = all.range((place, Revision::NONE)..=(place, Revision(u64::MAX)));
        of.next_back()
            .map_or(Revision::NONE, |((_, revision), _)| *revision)
    }

    /// All that was seen so far, as records; whose they are is not known yet.
    pub(super) fn take(&self, epoch: &Epoch) -> Vec<Record> {
        let seen = std::mem::take(&mut *self.all());
        seen.into_iter()
            .map(|((place, _), record)| {
                let (incarnation, ttl) = says(&record);
                let commit = Commit {
                    bucket: place.bucket.into(),
                    value: value_hash(&record.value),
                    revision: record.revision,
                    operation: record.operation,
                    by: None,
                    incarnation,
                    ttl,
                    key: record.key,
                };
                Record {
                    at: epoch.of(record.created),
                    what: What::Committed(commit),
                }
            })
            .collect()
    }
}

/// Follows a bucket for ever. A connection that is lost is not waited for but made anew: clients wait ever longer.
pub(super) async fn observe(post: Post, seen: Arc<Seen>) {
    let mut newest = Revision::NONE;
    loop {
        // Whatever has failed is tried again; what was missed is found by its revision.
        let _over = observe_once(&post, &seen, &mut newest).await;
        tokio::time::sleep(POLL).await;
    }
}

async fn connect(post: &Post) -> Option<impl Connection + use<>> {
    let options = ConnectOptions {
        name: "observer".to_owned(),
        servers: post.urls.clone(),
        credentials: post.credentials.clone().map(CredentialsCell::filled),
        request_timeout: ANSWER_MAX,
        watch_heartbeat: post.heartbeat,
        ..ConnectOptions::default()
    };
    NatsEnv::new(0).transport().connect(options).await.ok()
}

async fn observe_once(post: &Post, seen: &Seen, newest: &mut Revision) -> Option<()> {
    let connection = connect(post).await?;
    let mut events = connection.events();
    let bucket = connection.bucket(post.place.bucket).ok()?;
    let mut watch = loop {
        let start = WatchStart::Revision(newest.next());
        if let Ok(watch) = bucket.watch(">", start).await {
            break watch;
        }
        if connection.state() != squall_core::transport::ConnectionState::Connected {
            return None;
        }
        tokio::time::sleep(POLL_BUCKET).await;
    };
    loop {
        tokio::select! {
            biased;
            event = watch.next() => match event? {
                WatchEvent::Entry(entry) => {
                    *newest = entry.revision;
                    seen.all().insert((post.place, entry.revision), entry);
                }
                // Left to itself, it would wait longer after each failure.
                WatchEvent::Interrupted(_) => return None,
                WatchEvent::SnapshotEnd | WatchEvent::Resumed { .. } => {}
            },
            event = events.next() => if matches!(event?, ConnectionEvent::Disconnected(_)) {
                return None;
            },
        }
    }
}

/// Waits until the observers have heard of all that there is.
pub(super) async fn catch_up(posts: &[Post], seen: &Seen) {
    let caught_up = async {
        for post in posts {
            // Where there is no bucket nobody has written.
            let Some(connection) = connect(post).await else {
                continue;
            };
            let Ok(bucket) = connection.bucket(post.place.bucket) else {
                continue;
            };
            let Ok(info) = bucket.info().await else {
                continue;
            };
            while seen.newest(post.place) < info.last_revision {
                tokio::time::sleep(POLL).await;
            }
        }
    };
    // What is missing then is found to be missing.
    let _late = tokio::time::timeout(CATCH_UP_MAX, caught_up).await;
}

/// A write as its process knows it.
struct Written<'a> {
    process: &'a Arc<str>,
    place: Place,
    key: &'a Arc<str>,
    operation: Operation,
    expected: Option<Revision>,
    value: u64,
    invoked: Instant,
    /// When it was acknowledged, and under which revision.
    stored: Option<(Instant, Revision)>,
    is_refused: bool,
    /// When it was refused because another record was there.
    beaten: Option<Instant>,
}

/// Gives every record to its writer, and adds those that were overwritten unseen but acknowledged: they were there when
/// somebody was first told so. Returns the history, and the revisions of which nothing is known.
pub(super) fn attribute(history: History) -> (History, Vec<(Place, Revision)>) {
    let writes = writes(&history);
    let by_value: BTreeMap<(&str, u64), &Arc<str>> = writes
        .values()
        .filter(|write| write.operation.is_put())
        .map(|write| ((&**write.key, write.value), write.process))
        .collect();
    let by_revision: BTreeMap<(Place, Revision), &Written<'_>> = writes
        .values()
        .filter_map(|write| Some(((write.place, write.stored?.1), write)))
        .collect();

    let mut commits: BTreeMap<(Place, Revision), (Instant, Commit)> = BTreeMap::new();
    for record in &history.0 {
        if let What::Committed(commit) = &record.what {
            let place = Place::of(&commit.bucket, &commit.key);
            commits.insert((place, commit.revision), (record.at, commit.clone()));
        }
    }
    let mut unseen = BTreeSet::new();
    for ((place, revision), write) in &by_revision {
        commits.entry((*place, *revision)).or_insert_with(|| {
            unseen.insert((*place, *revision));
            let at = write.stored.map_or(Instant::ZERO, |(at, _)| at);
            let commit = Commit {
                bucket: place.bucket.into(),
                key: write.key.clone(),
                revision: *revision,
                operation: write.operation,
                by: None,
                incarnation: None,
                ttl: None,
                value: write.value,
            };
            (at, commit)
        });
    }
    // The last record of each key so far, over which a deletion of unknown outcome was made.
    let mut latest: BTreeMap<Arc<str>, Revision> = BTreeMap::new();
    let reads = reads(&history);
    for (number, (at, commit)) in &mut commits {
        let before = latest.insert(commit.key.clone(), number.1);
        if unseen.contains(number)
            && let Some(write) = by_revision.get(number)
        {
            let read = reads.get(number).copied();
            let beats = |other: &&Written<'_>| {
                *other.key == commit.key && other.expected == Some(before.unwrap_or(Revision::NONE))
            };
            // Who was refused before it was asked for met none: what was there had aged out.
            let beaten = writes
                .values()
                .filter(beats)
                .filter_map(|other| other.beaten)
                .filter(|told| *told >= write.invoked);
            *at = beaten.chain(read).chain([*at]).min().unwrap_or(*at);
        }
        let deletes = |write: &&Written<'_>| {
            let names = *write.key == commit.key && write.operation == commit.operation;
            names && !write.is_refused && write.stored.is_none() && write.expected == before
        };
        commit.by = match commit.operation {
            Operation::Expire => None,
            Operation::Put => by_value
                .get(&(&*commit.key, commit.value))
                .copied()
                .cloned(),
            Operation::Delete | Operation::Purge => by_revision
                .get(number)
                .copied()
                .or_else(|| writes.values().find(deletes))
                .map(|write| write.process.clone()),
        };
    }
    let mut unknown = Vec::new();
    let mut expected: BTreeMap<Place, Revision> = BTreeMap::new();
    for (place, revision) in commits.keys() {
        let next = expected.entry(*place).or_insert(Revision(1));
        unknown.extend((next.0..revision.0).map(|missing| (*place, Revision(missing))));
        *next = revision.next();
    }

    // An acknowledgement comes after its record, perhaps after the next one's: revisions give the order.
    let mut dated: Vec<Record> = Vec::new();
    let mut before: BTreeMap<Place, Instant> = BTreeMap::new();
    for ((place, _), (at, commit)) in commits.into_iter().rev() {
        let next = before.entry(place).or_insert(Instant::FAR_FUTURE);
        *next = at.min(*next);
        dated.push(Record {
            at: *next,
            what: What::Committed(commit),
        });
    }
    dated.reverse();
    let others = history.0.into_iter();
    dated.extend(others.filter(|record| !matches!(record.what, What::Committed(_))));
    dated.sort_by_key(|record| record.at);
    (History(dated), unknown)
}

/// When somebody was first told of each revision that was read.
fn reads(history: &History) -> BTreeMap<(Place, Revision), Instant> {
    let mut asked = BTreeMap::new();
    let mut told = BTreeMap::new();
    for record in &history.0 {
        match &record.what {
            What::Invoke {
                id,
                call: Call::Read { bucket, key },
                ..
            } => {
                asked.insert(*id, Place::of(bucket, key));
            }
            What::Ok {
                id,
                reply: Reply::Read {
                    revision: Some(revision),
                },
            } => {
                if let Some(place) = asked.get(id) {
                    told.entry((*place, *revision)).or_insert(record.at);
                }
            }
            _ => {}
        }
    }
    told
}

fn writes(history: &History) -> BTreeMap<u64, Written<'_>> {
    let mut writes: BTreeMap<u64, Written<'_>> = BTreeMap::new();
    for record in &history.0 {
        match &record.what {
            What::Invoke {
                id,
                process,
                call:
                    Call::Write {
                        bucket,
                        key,
                        operation,
                        expected,
                        value,
                    },
            } => {
                let write = Written {
                    process,
                    place: Place::of(bucket, key),
                    key,
                    operation: *operation,
                    expected: *expected,
                    value: *value,
                    invoked: record.at,
                    stored: None,
                    is_refused: false,
                    beaten: None,
                };
                writes.insert(*id, write);
            }
            What::Ok {
                id,
                reply: Reply::Stored { revision },
            } => {
                if let Some(write) = writes.get_mut(id) {
                    write.stored = Some((record.at, *revision));
                }
            }
            What::Refused { id, conflict, .. } => {
                if let Some(write) = writes.get_mut(id) {
                    write.is_refused = true;
                    write.beaten = conflict.then_some(record.at);
                }
            }
            _ => {}
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use squall_core::transport::Outcome;

    use super::*;
    use crate::history::Recorder;
    use crate::parse::BUCKET;

    fn write(operation: Operation, expected: u64, value: u64) -> Call {
        Call::Write {
            bucket: BUCKET.into(),
            key: "k".into(),
            operation,
            expected: Some(Revision(expected)),
            value,
        }
    }

    fn committed(at: u64, revision: u64, operation: Operation, value: u64) -> Record {
        let what = What::Committed(Commit {
            bucket: BUCKET.into(),
            key: "k".into(),
            revision: Revision(revision),
            operation,
            by: None,
            incarnation: None,
            ttl: None,
            value,
        });
        Record {
            at: Instant::from_nanos(at),
            what,
        }
    }

    /// The second of three records was overwritten before it was seen, and the fourth is nobody's: the server's own.
    #[test]
    fn records_are_given_to_their_writers_and_gaps_are_filled() {
        let now = Arc::new(Mutex::new(0));
        let clock = Arc::clone(&now);
        let recorder = Recorder::new(move || {
            let mut now = clock.lock().unwrap_or_else(PoisonError::into_inner);
            *now += 10;
            Instant::from_nanos(*now)
        });
        let (a, b): (Arc<str>, Arc<str>) = ("a/1".into(), "b/1".into());
        let stored = |revision| Reply::Stored {
            revision: Revision(revision),
        };
        let first = recorder.invoke(&a, write(Operation::Put, 0, 1));
        recorder.ended(first, Ok(stored(1)));
        let second = recorder.invoke(&a, write(Operation::Put, 1, 2));
        let third = recorder.invoke(&b, write(Operation::Delete, 2, 0));
        recorder.ended(third, Err((Outcome::Unknown, "no answer".to_owned())));
        recorder.ended(second, Ok(stored(2)));
        let mut records = vec![
            committed(15, 1, Operation::Put, 1),
            committed(45, 3, Operation::Delete, 0),
            committed(90, 5, Operation::Expire, 0),
        ];
        records.extend(recorder.take());
        let (history, unknown) = attribute(History(records));
        assert_eq!(unknown, [(Place::of(BUCKET, "k"), Revision(4))]);
        let commits = history.0.iter().filter_map(|record| match &record.what {
            What::Committed(commit) => Some((
                record.at.as_nanos(),
                commit.revision.0,
                commit.by.as_deref(),
            )),
            _ => None,
        });
        let expected = [
            (15, 1, Some("a/1")),
            (45, 2, Some("a/1")),
            (45, 3, Some("b/1")),
            (90, 5, None),
        ];
        assert_eq!(commits.collect::<Vec<_>>(), expected);
        assert!(history.0.is_sorted_by_key(|record| record.at));
    }

    /// Its writer hears of it last: who was refused because of it and who read it know that it was there.
    #[test]
    fn what_nobody_saw_was_there_when_somebody_was_told_of_it() {
        let at = |nanos, what| Record {
            at: Instant::from_nanos(nanos),
            what,
        };
        let invoke = |id, process: &str, call| What::Invoke {
            id,
            process: process.into(),
            call,
        };
        let read = Call::Read {
            bucket: BUCKET.into(),
            key: "k".into(),
        };
        let stored = What::Ok {
            id: 1,
            reply: Reply::Stored {
                revision: Revision(2),
            },
        };
        let was_read = What::Ok {
            id: 3,
            reply: Reply::Read {
                revision: Some(Revision(2)),
            },
        };
        let refused = What::Refused {
            id: 2,
            error: "another".to_owned(),
            conflict: true,
        };
        let dated = |told: &[(u64, &What)]| {
            let mut records = vec![
                committed(10, 1, Operation::Put, 1),
                at(20, invoke(1, "a/1", write(Operation::Put, 1, 2))),
                at(20, invoke(2, "b/1", write(Operation::Put, 1, 3))),
                at(20, invoke(3, "c/1", read.clone())),
            ];
            records.extend(told.iter().map(|(nanos, what)| at(*nanos, (*what).clone())));
            let (history, _) = attribute(History(records));
            let second = history.0.iter().find(
                |record| matches!(&record.what, What::Committed(commit) if commit.revision.0 == 2),
            );
            second.map(|record| record.at.as_nanos())
        };
        assert_eq!(dated(&[(50, &stored)]), Some(50));
        assert_eq!(dated(&[(40, &was_read), (50, &stored)]), Some(40));
        assert_eq!(
            dated(&[(30, &refused), (40, &was_read), (50, &stored)]),
            Some(30)
        );
    }

    /// A renewal is refused because the record has aged out, which no server tells: that is no sign of the next record,
    /// which is asked for only then.
    #[test]
    fn what_nobody_saw_was_not_there_before_it_was_asked_for() {
        let at = |nanos, what| Record {
            at: Instant::from_nanos(nanos),
            what,
        };
        let invoke = |id, expected| What::Invoke {
            id,
            process: "a/1".into(),
            call: write(Operation::Put, expected, id),
        };
        let refused = What::Refused {
            id: 2,
            error: "the latest revision of the key is 0".to_owned(),
            conflict: true,
        };
        let stored = What::Ok {
            id: 3,
            reply: Reply::Stored {
                revision: Revision(2),
            },
        };
        let (history, _) = attribute(History(vec![
            committed(10, 1, Operation::Put, 1),
            at(20, invoke(2, 1)),
            at(30, refused),
            at(40, invoke(3, 0)),
            at(50, stored),
        ]));
        let commits = history.0.iter().filter_map(|record| match &record.what {
            What::Committed(commit) => Some((record.at.as_nanos(), commit.revision.0)),
            _ => None,
        });
        assert_eq!(commits.collect::<Vec<_>>(), [(10, 1), (50, 2)]);
    }

    /// Two accounts number what is stored in them each by itself.
    #[test]
    fn revisions_of_two_accounts_are_told_apart() {
        let commit = |at, revision, key: &str| {
            let mut record = committed(at, revision, Operation::Put, 0);
            if let What::Committed(commit) = &mut record.what {
                (commit.bucket, commit.key) = (user::BUCKET.into(), key.into());
            }
            record
        };
        let records = vec![
            commit(10, 1, "app.alice.1"),
            commit(20, 1, "other.bob.1"),
            commit(30, 3, "other.bob.2"),
            commit(40, 2, "app.alice.2"),
        ];
        let (history, unknown) = attribute(History(records));
        assert_eq!(history.0.len(), 4);
        let other = Place::of(user::BUCKET, "other.bob.1");
        assert_eq!(
            (other.account, unknown),
            ("other", vec![(other, Revision(2))])
        );
    }
}
