//! Three servers as one cluster: what clients see while leaders change, majorities are lost and followers lag.
//!
//! Elections are drawn anew each time: compared is what happens meanwhile and afterwards, and that they take seconds.

use std::time::Duration;

use squall_core::transport::{
    BucketConfig, BucketError, ConnectOptions, ConnectionEvent, ConnectionState, Message,
    Operation, Revision, WatchStart, WriteError,
};
use squall_core::{Bucket, Connection as _, Transport as _};
use squall_sim::broker::Kindness;
use squall_sim::{Latency, Simulation};

use super::cluster_leaders::{
    a_leader_that_is_cut_off_describes_what_it_had, a_leader_that_is_thawed_describes_what_it_had,
    a_scan_does_not_take_a_part_for_the_whole, one_that_cannot_win_leaves_nobody_to_lead,
};
use super::cluster_streams::{
    a_core_publish_is_stored_by_the_leader, a_core_publish_is_stored_in_a_single_copy,
    a_single_copy_is_purged_from_anywhere, removals_are_agreed_upon,
    what_is_stuck_is_refused_or_unknown, what_is_under_way_cannot_be_judged,
    writers_at_once_are_stored_or_told_of_another,
};
use super::cluster_watches::{
    a_consumer_goes_on_where_its_server_is_cut_off, a_watch_whose_server_is_cut_off_says_so,
};
use super::laboratory::{Conn, Kv, ServerVerb, Stop, options, sleep, soon, within};
use super::real::Program;
use super::transcript::{Transcript, line, rest, told, until_told};
use super::trio::{RealTrio, SimulatedTrio, Trio, others};
use super::{Told, real};
use crate::real::{NatsCluster, SIZE};

pub(super) const LOOK: Duration = Duration::from_millis(20);
/// Followers answer reads of a new bucket after two seconds.
const FOLLOWERS_READ: Duration = Duration::from_millis(2500);
/// Who stands and is not elected stands again after 4 to 9 s: 14 s were measured until there was a leader, on a quiet
/// machine, in one of six times.
const ELECTIONS: Duration = Duration::from_secs(60);
/// Enough for a read over a good link, and little beside an election.
const HASTE: Duration = Duration::from_millis(250);
/// "no suitable peers for placement".
pub(super) const NO_PEERS: u64 = 10005;

/// One fact of a cluster, and how to see it.
#[derive(Clone, Copy)]
pub struct ClusterCase {
    /// The fact.
    pub name: &'static str,
    /// The row of `docs/nats-cluster-facts.md` it shows.
    pub fact: &'static str,
    simulated: for<'a> fn(&'a SimulatedTrio, &'a mut Transcript) -> Told<'a>,
    real: for<'a> fn(&'a RealTrio, &'a mut Transcript) -> Told<'a>,
}

impl ClusterCase {
    /// What is seen in the simulated world.
    pub fn simulate(&self, seed: u64, kindness: Option<Kindness>) -> Transcript {
        let mut simulation = Simulation::new(seed, Latency::default());
        let world = simulation.world().clone();
        simulation.run(async {
            let mut transcript = Transcript::default();
            let told = match SimulatedTrio::start(world, kindness).await {
                Ok(trio) => (self.simulated)(&trio, &mut transcript).await,
                Err(stop) => Err(stop),
            };
            transcript.close(told)
        })
    }

    /// What is seen on real servers of this program.
    pub fn observe(&self, program: &Program) -> Transcript {
        real::block_on(async {
            let mut transcript = Transcript::default();
            let told = match RealTrio::start(program).await {
                Ok(trio) => (self.real)(&trio, &mut transcript).await,
                Err(stop) => Err(stop),
            };
            transcript.close(told)
        })
    }
}

macro_rules! cluster_facts {
    ($($name:ident: $fact:literal,)*) => {
        /// All cases of a cluster.
        pub const CLUSTER_CASES: &[ClusterCase] = &[$(ClusterCase {
            name: stringify!($name),
            fact: $fact,
            simulated: |trio, transcript| Box::pin($name(trio, transcript)),
            real: |trio, transcript| Box::pin($name(trio, transcript)),
        }),*];
    };
}

cluster_facts! {
    a_killed_leader_is_followed_by_another_in_seconds: "1 SIGKILL of the leader",
    a_leader_that_steps_down_is_followed_at_once: "1 STEPDOWN",
    a_frozen_leader_is_silence: "1 SIGSTOP of the leader",
    a_leader_without_followers_keeps_what_it_was_told: "surprise 3: ghost writes",
    an_isolated_leader_acknowledges_nothing_and_forgets_it: "surprise 4, 6",
    a_single_copy_is_gone_while_its_server_is: "3 a bucket with one copy",
    a_follower_that_is_behind_is_read_from: "4 pair leader-follower held",
    a_client_moves_to_another_server_with_what_it_hears: "5 client's server killed",
    watches_outlive_any_one_server: "5 stream's leader killed",
    an_expiry_is_told_once: "6 markers, calm",
    markers_wait_for_a_leader: "surprise 9",
    what_was_acknowledged_outlives_the_death_of_all: "7 SIGKILL of all three",
    removals_are_agreed_upon: "9 purge, deletion of a message",
    a_single_copy_is_purged_from_anywhere: "9 purge, deletion of a message",
    a_core_publish_is_stored_by_the_leader: "9 core publish",
    a_core_publish_is_stored_in_a_single_copy: "9 core publish",
    writers_at_once_are_stored_or_told_of_another: "9 conditions of writers at once",
    what_is_under_way_cannot_be_judged: "9 conditions of writers at once; ids at once",
    what_is_stuck_is_refused_or_unknown: "9 conditions of writers at once; ids at once",
    a_leader_that_is_cut_off_describes_what_it_had: "surprise 12",
    a_leader_that_is_thawed_describes_what_it_had: "surprise 12",
    one_that_cannot_win_leaves_nobody_to_lead: "surprise 13",
    a_scan_does_not_take_a_part_for_the_whole: "surprise 12",
    a_consumer_goes_on_where_its_server_is_cut_off: "surprise 14",
    a_watch_whose_server_is_cut_off_says_so: "surprise 14",
}

/// A client that knows these servers, in this order.
pub(super) async fn connect<L: Trio>(lab: &L, servers: &[usize]) -> Result<Conn<L>, Stop> {
    connect_with(lab, servers, |_| {}).await
}

pub(super) async fn connect_with<L: Trio>(
    lab: &L,
    servers: &[usize],
    change: impl FnOnce(&mut ConnectOptions),
) -> Result<Conn<L>, Stop> {
    let mut addresses = Vec::new();
    let mut near = None;
    for server in servers {
        let (env, address) = lab.reach(&NatsCluster::name(*server)).await?;
        addresses.push(address);
        near.get_or_insert(env);
    }
    let env = near.ok_or_else(|| Stop("a client needs a server".to_owned()))?;
    let mut options = options(String::new());
    options.servers = addresses;
    change(&mut options);
    Ok(squall_core::Env::transport(&env).connect(options).await?)
}

/// The bucket as a client of this server sees it. The client goes with the bucket.
pub(super) async fn at<L: Trio>(lab: &L, server: usize) -> Result<Kv<L>, Stop> {
    Ok(connect(lab, &[server]).await?.bucket("b")?)
}

/// As a client sees it that waits little for each read, because many are given to servers that cannot answer.
async fn in_haste<L: Trio>(lab: &L, server: usize) -> Result<Kv<L>, Stop> {
    let hasty = |options: &mut ConnectOptions| options.request_timeout = HASTE;
    Ok(connect_with(lab, &[server], hasty).await?.bucket("b")?)
}

pub(super) fn copies(replicas: u8) -> BucketConfig {
    BucketConfig {
        replicas,
        ..BucketConfig::new("b")
    }
}

/// Creates it as soon as the leader of the cluster knows that the others are there, which it may learn late.
async fn create<L: Trio>(
    lab: &L,
    connection: &Conn<L>,
    config: &BucketConfig,
) -> Result<Kv<L>, Stop> {
    soon(lab, "there are peers", async {
        loop {
            match connection.create_bucket(config).await {
                Err(BucketError::Rejected(error)) if error.err_code == NO_PEERS => {
                    sleep(lab, LOOK).await;
                }
                Err(BucketError::TimedOut) => {}
                result => return Ok(result?),
            }
        }
    })
    .await?
}

/// A bucket with a first value that all its servers read, and the server that leads it.
pub(super) async fn lead<L: Trio>(lab: &L, config: &BucketConfig) -> Result<usize, Stop> {
    let near = connect(lab, &[0]).await?;
    let created = create(lab, &near, config).await?;
    // Created, but this server may hear only later that somebody listens: until then writes are refused.
    write(lab, &created, "first").await?;
    sleep(lab, FOLLOWERS_READ).await;
    await_leader(lab).await
}

async fn await_leader<L: Trio>(lab: &L) -> Result<usize, Stop> {
    soon(lab, "somebody leads", async {
        loop {
            if let Some(leader) = lab.leader("b").await {
                return leader;
            }
            sleep(lab, LOOK).await;
        }
    })
    .await
}

/// A write that was repeated until it was acknowledged: the errors before, each once, and the time until then.
pub(super) struct Written {
    errors: Vec<String>,
    took: Duration,
    pub(super) revision: Revision,
}

pub(super) async fn write<L: Trio>(
    lab: &L,
    bucket: &Kv<L>,
    value: &'static str,
) -> Result<Written, Stop> {
    let begun = squall_core::Clock::now(lab.clock());
    let mut errors = Vec::new();
    let revision = soon(lab, "a write is acknowledged", async {
        loop {
            match bucket.put("k", value.into()).await {
                Ok(revision) => return revision,
                Err(error) => errors.push(error.to_string()),
            }
            sleep(lab, LOOK).await;
        }
    })
    .await?;
    errors.dedup();
    Ok(Written {
        errors,
        took: squall_core::Clock::now(lab.clock()).since(begun),
        revision,
    })
}

async fn value<B: Bucket>(bucket: &B) -> String {
    match bucket.entry("k").await {
        Ok(Some(entry)) => String::from_utf8_lossy(&entry.value).into_owned(),
        Ok(None) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// Reads until it is this value so often in a row.
pub(super) async fn reads<L: Trio>(
    lab: &L,
    bucket: &Kv<L>,
    wanted: &str,
    often: usize,
) -> Result<(), Stop> {
    soon(lab, &format!("{wanted} is read"), async {
        let mut row = 0;
        while row < often {
            row = if value(bucket).await == wanted {
                row + 1
            } else {
                0
            };
            if row == 0 {
                sleep(lab, LOOK).await;
            }
        }
    })
    .await
}

/// Nobody listens for writes until the next leader does, so they are refused as if there were no bucket; reads go on.
async fn a_killed_leader_is_followed_by_another_in_seconds<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let near = at(lab, others(first)[0]).await?;
    lab.server_of(first, ServerVerb::Stop).await?;
    sleep(lab, Duration::from_millis(200)).await;
    t.is("meanwhile read", value(&near).await, "first");
    let written = write(lab, &near, "second").await?;
    t.is(
        "meanwhile written",
        line(&written.errors),
        "there is no such bucket",
    );
    t.lasts("election", written.took, 2_000, 12_000);
    lab.server_of(first, ServerVerb::Start).await?;
    let back = at(lab, first).await?;
    reads(lab, &back, "second", 20).await
}

/// As at a rolling restart: it picks a successor, who begins at once.
async fn a_leader_that_steps_down_is_followed_at_once<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let near = at(lab, others(first)[0]).await?;
    lab.step_down("b").await?;
    let written = write(lab, &near, "second").await?;
    t.lasts("handing over", written.took, 0, 2_500);
    let next = await_leader(lab).await?;
    t.is("another leads", (next != first).to_string(), "true");
    Ok(())
}

/// Its interest is known over routes that are open, so nobody says that nobody listens.
async fn a_frozen_leader_is_silence<L: Trio>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let near = at(lab, others(first)[0]).await?;
    lab.server_of(first, ServerVerb::Pause).await?;
    let written = write(lab, &near, "second").await?;
    t.is(
        "meanwhile written",
        line(&written.errors),
        "no acknowledgement in time",
    );
    t.lasts("election", written.took, 2_000, 12_000);
    lab.server_of(first, ServerVerb::Resume).await?;
    let back = at(lab, first).await?;
    reads(lab, &back, "second", 20).await
}

/// Its writes are not acknowledged, and are stored once a majority is back: ghosts. Reads are answered all the time.
async fn a_leader_without_followers_keeps_what_it_was_told<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let alone = lead(lab, &copies(3)).await?;
    let near = at(lab, alone).await?;
    for other in others(alone) {
        lab.server_of(other, ServerVerb::Stop).await?;
    }
    let ghost = near.put("k", "ghost".into()).await;
    t.is(
        "written",
        told(&ghost),
        "unknown (no acknowledgement in time)",
    );
    t.is("read", value(&near).await, "first");
    lab.server_of(others(alone)[0], ServerVerb::Start).await?;
    reads(lab, &near, "ghost", 1).await
}

/// What it was told alone is lost: the others went on without it.
async fn an_isolated_leader_acknowledges_nothing_and_forgets_it<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let behind = in_haste(lab, first).await?;
    let ahead = at(lab, others(first)[0]).await?;
    lab.isolate(first, true);
    let lost = behind.put("k", "lost".into()).await;
    t.is(
        "written alone",
        told(&lost),
        "unknown (no acknowledgement in time)",
    );
    let written = write(lab, &ahead, "second").await?;
    t.is(
        "meanwhile written",
        line(&written.errors),
        "no acknowledgement in time",
    );
    t.lasts("election", written.took, 1_000, 12_000);
    // Two thirds of the reads are given to servers that cannot be reached; one that answers here is behind.
    reads(lab, &behind, "first", 1).await?;
    lab.isolate(first, false);
    reads(lab, &behind, "second", 20).await?;
    let third = write(lab, &ahead, "third").await?.revision;
    t.is("third", third.to_string(), "3");
    Ok(())
}

/// A bucket with one copy is silent or refused while its server is down, and there again with it.
async fn a_single_copy_is_gone_while_its_server_is<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let holder = lead(lab, &copies(1)).await?;
    let near = connect(lab, &[others(holder)[0]]).await?;
    lab.server_of(holder, ServerVerb::Stop).await?;
    // The leader of the cluster may have been on that server too, and of the two that are left each may vote for itself.
    let answered = within(lab, ELECTIONS, async {
        while near.delete_bucket("none").await != Err(BucketError::NotFound) {
            sleep(lab, LOOK).await;
        }
    });
    answered
        .await
        .ok_or_else(|| Stop("the cluster has no leader".to_owned()))?;
    let bucket = near.bucket("b")?;
    // Where the machine is busy, the end of the routes to that server is noticed late: what was sent there is lost.
    let written = soon(lab, "the routes are known to be closed", async {
        loop {
            match bucket.put("k", "second".into()).await {
                Err(WriteError::TimedOut) => {}
                written => return written,
            }
        }
    })
    .await?;
    t.is(
        "written",
        told(&written),
        "refused (there is no such bucket)",
    );
    t.is("read", value(&bucket).await, "there is no such bucket");
    let described = bucket.info().await.map(|_| ());
    t.is("described", told(&described), "refused (no answer in time)");
    let again = near.create_bucket(&copies(1)).await.map(|_| ());
    t.is("created again", told(&again), "unknown (no answer in time)");
    let mut other = copies(1);
    other.history = 5;
    let again = near.create_bucket(&other).await.map(|_| ());
    t.note("created otherwise", told(&again));
    lab.server_of(holder, ServerVerb::Start).await?;
    let third = write(lab, &bucket, "third").await?.revision;
    t.is("third", third.to_string(), "2");
    Ok(())
}

/// A follower that has not heard answers reads from what it has.
async fn a_follower_that_is_behind_is_read_from<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let [follower, _] = others(first);
    // What the leader answers does not come, and its share of the reads is a third: to wait for each as usual would often
    // take until the follower has called an election and is behind no more.
    let behind = in_haste(lab, follower).await?;
    let ahead = at(lab, first).await?;
    lab.hold_route(first, follower, true);
    // The other follower makes the majority.
    let second = ahead.put("k", "second".into()).await;
    t.is("written", told(&second), "@2");
    reads(lab, &behind, "first", 1).await?;
    lab.hold_route(first, follower, false);
    reads(lab, &behind, "second", 20).await
}

/// Its subscription goes with the client, and what is written afterwards is told.
async fn a_client_moves_to_another_server_with_what_it_hears<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let [here, there] = others(first);
    let moving = connect(lab, &[here, there]).await?;
    let mut events = moving.events();
    let mut subscription = moving.subscribe("news", None).await?;
    let mut watch = moving.bucket("b")?.watch("k", WatchStart::Snapshot).await?;
    t.is(
        "before",
        line(&rest(lab, &mut watch).await),
        "k=first@1, end",
    );
    lab.server_of(here, ServerVerb::Stop).await?;
    soon(lab, "it has moved", async {
        while events.next().await != Some(ConnectionEvent::Reconnected) {}
    })
    .await?;
    t.is(
        "state",
        format!("{:?}", moving.state()),
        &format!("{:?}", ConnectionState::Connected),
    );
    let near = connect(lab, &[first]).await?;
    let revision = write(lab, &near.bucket("b")?, "second").await?.revision;
    until_told(lab, &mut watch, &format!("k=second@{revision}")).await;
    moving.flush().await?;
    let news = soon(lab, "news come over the route", async {
        loop {
            near.publish(Message::new("news", "moved")).await?;
            tokio::select! {
                biased;
                news = subscription.next() => return Ok::<_, Stop>(news),
                () = sleep(lab, LOOK) => {}
            }
        }
    })
    .await??;
    let news = news.map(|news| String::from_utf8_lossy(&news.payload).into_owned());
    t.is("news", news.unwrap_or_default(), "moved");
    Ok(())
}

/// Consumers of watches have one copy, on any server: a watch heals where that one is lost.
async fn watches_outlive_any_one_server<L: Trio>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let near = at(lab, others(first)[0]).await?;
    let mut watches = Vec::new();
    for _ in 0..6 {
        watches.push(near.watch("k", WatchStart::Now).await?);
    }
    lab.server_of(first, ServerVerb::Stop).await?;
    let revision = write(lab, &near, "second").await?.revision;
    let wanted = format!("k=second@{revision}");
    for watch in &mut watches {
        let told = until_told(lab, watch, &wanted).await;
        let often = told.iter().filter(|told| **told == wanted).count();
        t.is("told", often.to_string(), "1");
    }
    Ok(())
}

/// A bucket whose records live a second, and leave a marker.
fn marked() -> BucketConfig {
    BucketConfig {
        max_age: Duration::from_secs(1),
        delete_markers: Some(Duration::from_secs(1)),
        ..copies(3)
    }
}

/// However many copies there are, one marker tells the expiry.
async fn an_expiry_is_told_once<L: Trio>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, &[0]).await?;
    let bucket = create(lab, &near, &marked()).await?;
    let mut watch = bucket.watch(">", WatchStart::Snapshot).await?;
    write(lab, &bucket, "v").await?;
    let told = until_told(lab, &mut watch, "k:expire@2").await;
    t.is("told", line(&told), "end, k=v@1, k:expire@2");
    sleep(lab, Duration::from_secs(3)).await;
    let info = bucket.info().await?;
    t.is(
        "left",
        format!("{} of {}", info.records, info.last_revision),
        "0 of 2",
    );
    Ok(())
}

/// A marker is a write: until there is a leader, what has aged out is still read.
async fn markers_wait_for_a_leader<L: Trio>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let first = lead(lab, &marked()).await?;
    let near = at(lab, others(first)[0]).await?;
    let written = write(lab, &near, "v").await?.revision;
    lab.server_of(first, ServerVerb::Stop).await?;
    sleep(lab, Duration::from_millis(2_000)).await;
    t.is("a second too late", value(&near).await, "v");
    let marker = soon(lab, "it has expired", async {
        loop {
            if let Ok(Some(entry)) = near.entry("k").await
                && entry.operation == Operation::Expire
            {
                return entry.revision;
            }
            sleep(lab, LOOK).await;
        }
    })
    .await?;
    let next = written.next();
    t.is("marker", (marker == next).to_string(), "true");
    Ok(())
}

/// Killed all at once, they come back with all that was acknowledged.
async fn what_was_acknowledged_outlives_the_death_of_all<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    lead(lab, &copies(3)).await?;
    let near = at(lab, 0).await?;
    for _ in 0..50 {
        near.put("k", "last".into()).await?;
    }
    for server in 0..SIZE {
        lab.server_of(server, ServerVerb::Stop).await?;
    }
    for server in 0..SIZE {
        lab.server_of(server, ServerVerb::Start).await?;
    }
    let again = connect(lab, &[0]).await?.bucket("b")?;
    let written = write(lab, &again, "more").await?;
    t.is("next", written.revision.to_string(), "52");
    t.lasts("election", written.took, 2_000, 15_000);
    Ok(())
}
