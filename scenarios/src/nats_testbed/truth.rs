//! The servers' own truth, on real ones: an observer at each, with a connection of its own, follows the stream of a bucket
//! from its first revision on, and after the run each record is given to whoever wrote it. There are as many observers as
//! servers because one of them sees nothing while its server, or that of its consumer, is cut off or gone; and where
//! servers ask for credentials there is one in each account, with a login that has no end and that nothing is done to.
//!
//! A record is dated by the server itself when it stores it: on one machine that is true time, and it does not matter
//! how late the observer hears of it. A bucket keeps only the latest record of a key, so one that is overwritten before
//! the observer has read it is never seen. But revisions have no holes, so it is known that it was there; what its
//! writer was answered tells the rest. That a record ages out is not told at all (see `Facts::removal`).

use std::collections::BTreeMap;
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
/// How long it may take to have heard of the last record.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// The wall clock may have been set by so much while a run went on, before nothing can be said of it.
const CLOCK_STEP_MAX: Duration = Duration::from_millis(20);

/// True time: the monotonic clock since the start, and the wall clock then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    monotonic: std::time::Instant,
    wall: UnixTime,
}

impl Epoch {
    pub(super) fn new() -> Self {
        Self {
            monotonic: std::time::Instant::now(),
            wall: wall(),
        }
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
        let (now, passed) = (wall(), self.now().elapsed());
        let there = self.wall + passed;
        now.since(there).max(there.since(now)) > CLOCK_STEP_MAX
    }
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
            event = watch.next() => if let WatchEvent::Entry(entry) = event? {
                *newest = entry.revision;
                seen.all().insert((post.place, entry.revision), entry);
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
    /// When it was acknowledged, and under which revision.
    stored: Option<(Instant, Revision)>,
    is_refused: bool,
}

/// Gives every record to its writer, and adds those that were overwritten unseen but acknowledged. Returns the history,
/// and the revisions of which nothing is known.
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
    for ((place, revision), write) in &by_revision {
        commits.entry((*place, *revision)).or_insert_with(|| {
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
    for (number, (_, commit)) in &mut commits {
        let before = latest.insert(commit.key.clone(), number.1);
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
                    stored: None,
                    is_refused: false,
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
            What::Refused { id, .. } => {
                if let Some(write) = writes.get_mut(id) {
                    write.is_refused = true;
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
