//! Watches: what they tell, and that no outage makes them repeat, skip, panic or fall silent.

use std::time::Duration;

use squall_core::Bucket as _;
use squall_core::transport::{
    BucketConfig, ConnectOptions, Connection as _, ConnectionEvent, InterruptCause, Revision,
    Storage, WatchEvent, WatchStart,
};

use crate::world::{HEARTBEAT, World, brief, heard, soon, told, told_until};

fn is_resumed(event: &WatchEvent) -> bool {
    matches!(event, WatchEvent::Resumed { .. })
}

fn is_interrupted_by(cause: InterruptCause) -> impl Fn(&WatchEvent) -> bool {
    move |event| *event == WatchEvent::Interrupted(cause)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_ends_once_and_is_followed_by_what_comes() {
    let world = World::new().await;
    let (_near, bucket, ..) = world.bucket().await;
    let mut empty = bucket
        .watch(">", WatchStart::Snapshot)
        .await
        .expect("it is watched");
    assert_eq!(
        soon("an end", empty.next()).await,
        Some(WatchEvent::SnapshotEnd)
    );

    bucket.put("a", "1".into()).await.expect("it is written");
    bucket.put("b", "2".into()).await.expect("it is written");
    bucket.delete("a", None).await.expect("it is deleted");
    let mut snapshot = bucket
        .watch("*", WatchStart::Snapshot)
        .await
        .expect("it is watched");
    let mut now = bucket
        .watch("b", WatchStart::Now)
        .await
        .expect("it is watched");
    let mut from = bucket
        .watch(">", WatchStart::Revision(Revision(3)))
        .await
        .expect("watched");
    bucket.put("b", "4".into()).await.expect("it is written");

    assert_eq!(
        told_until(&mut empty, "b=4@4").await,
        ["a=1@1", "b=2@2", "a:delete@3", "b=4@4"]
    );
    assert_eq!(
        told_until(&mut snapshot, "b=4@4").await,
        ["b=2@2", "a:delete@3", "end", "b=4@4"]
    );
    assert_eq!(told_until(&mut now, "b=4@4").await, ["end", "b=4@4"]);
    assert_eq!(
        told_until(&mut from, "b=4@4").await,
        ["a:delete@3", "end", "b=4@4"]
    );
}

/// async-nats would tell the bucket's whole history as if it were new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_has_told_nothing_does_not_replay_after_a_restart() {
    let mut world = World::new().await;
    let (near, bucket, ..) = world.bucket().await;
    for i in 0..3 {
        bucket
            .put("old", format!("{i}").into())
            .await
            .expect("it is written");
    }
    let mut watch = bucket
        .watch(">", WatchStart::Now)
        .await
        .expect("it is watched");
    // Old enough to have had signs of life.
    tokio::time::sleep(3 * HEARTBEAT).await;
    let mut events = near.events();
    world.server.kill().await.expect("it dies");
    world.server.restart().await.expect("it starts");
    heard(&mut events, "reconnected", |e| {
        *e == ConnectionEvent::Reconnected
    })
    .await;
    bucket.put("new", "1".into()).await.expect("it is written");
    let all = told_until(&mut watch, "new=1@4").await;
    assert_eq!(
        all,
        ["end", "interrupted: disconnected", "resumed", "new=1@4"]
    );
}

/// async-nats would notice ten seconds later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_young_watch_resumes_with_the_reconnect() {
    let mut world = World::new().await;
    let (near, bucket, ..) = world.bucket().await;
    let mut watch = bucket
        .watch(">", WatchStart::Now)
        .await
        .expect("it is watched");
    let mut events = near.events();
    world.server.kill().await.expect("it dies");
    world.server.restart().await.expect("it starts");
    heard(&mut events, "reconnected", |e| {
        *e == ConnectionEvent::Reconnected
    })
    .await;
    let resumed = tokio::time::timeout(
        Duration::from_secs(1),
        told(&mut watch, "resumed", is_resumed),
    );
    let all = resumed.await.expect("it resumes at once");
    assert_eq!(all, ["end", "interrupted: disconnected", "resumed"]);
}

/// async-nats would panic when asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_its_connection_and_can_be_asked_again() {
    let world = World::new().await;
    for drained in [true, false] {
        let near = world.direct().await;
        let created = near.create_bucket(&BucketConfig::new("b")).await;
        let bucket = created.expect("it is there");
        let mut watch = bucket
            .watch(">", WatchStart::Now)
            .await
            .expect("it is watched");
        assert_eq!(
            soon("an end", watch.next()).await,
            Some(WatchEvent::SnapshotEnd)
        );
        if drained {
            near.drain().await.expect("it drains");
        } else {
            near.close().await;
        }
        // On a busy machine its heartbeat may be missed first, and that be told.
        let ended = async { while watch.next().await.is_some() {} };
        soon("the end of the watch", ended).await;
        for _ in 0..2 {
            assert_eq!(soon("the end of the watch", watch.next()).await, None);
        }
        let late = bucket.watch(">", WatchStart::Now).await;
        assert_eq!(late.err(), Some(squall_core::transport::WatchError::Closed));
    }
}

/// async-nats would go on at the old bucket's revision, and never tell the new one's first records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_created_anew_is_told_from_its_start() {
    let world = World::new().await;
    let (near, bucket, ..) = world.bucket().await;
    let mut watch = bucket
        .watch(">", WatchStart::Snapshot)
        .await
        .expect("it is watched");
    for i in 1..=5 {
        bucket
            .put("k", format!("{i}").into())
            .await
            .expect("it is written");
    }
    told_until(&mut watch, "k=5@5").await;
    near.delete_bucket("b").await.expect("it is deleted");
    let missing = is_interrupted_by(InterruptCause::BucketMissing);
    let all = told(&mut watch, "the bucket is missed", missing).await;
    assert_eq!(all.len(), 2, "{all:?}");
    near.create_bucket(&BucketConfig::new("b"))
        .await
        .expect("it is created");
    bucket.put("a", "new".into()).await.expect("it is written");
    bucket.put("b", "new".into()).await.expect("it is written");
    let all = told_until(&mut watch, "b=new@2").await;
    assert_eq!(all, ["resumed: new bucket", "a=new@1", "b=new@2"]);

    // At once, too: nobody sees it missing.
    near.delete_bucket("b").await.expect("it is deleted");
    near.create_bucket(&BucketConfig::new("b"))
        .await
        .expect("it is created");
    bucket
        .put("c", "newer".into())
        .await
        .expect("it is written");
    let all = told_until(&mut watch, "c=newer@1").await;
    let silence = "interrupted: no sign of life from the server";
    assert_eq!(all, [silence, "resumed: new bucket", "c=newer@1"]);
}

/// A restart takes a memory bucket with it: that is no empty bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_bucket_is_missing_after_a_restart() {
    let mut world = World::new().await;
    let near = world.direct().await;
    let mut config = BucketConfig::new("b");
    config.storage = Storage::Memory;
    let bucket = near.create_bucket(&config).await.expect("it is created");
    bucket.put("k", "v".into()).await.expect("it is written");
    let mut watch = bucket
        .watch(">", WatchStart::Snapshot)
        .await
        .expect("it is watched");
    world.server.restart().await.expect("it restarts");
    let missing = is_interrupted_by(InterruptCause::BucketMissing);
    let all = told(&mut watch, "the bucket is missed", missing).await;
    let missing = "interrupted: the bucket is not there";
    assert_eq!(all, ["k=v@1", "end", "interrupted: disconnected", missing]);
}

/// The server is frozen and the link stays up: only the missing heartbeats tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_interrupts_and_nothing_is_lost() {
    let world = World::new().await;
    let (near, bucket, ..) = world.bucket().await;
    let mut watch = bucket
        .watch(">", WatchStart::Now)
        .await
        .expect("it is watched");
    bucket.put("k", "1".into()).await.expect("it is written");
    told_until(&mut watch, "k=1@1").await;
    let mut events = near.events();
    world.server.pause().await.expect("it freezes");
    let silent = is_interrupted_by(InterruptCause::MissedHeartbeat);
    told(&mut watch, "the silence is noticed", silent).await;
    world.server.resume().expect("it thaws");
    assert_eq!(told(&mut watch, "resumed", is_resumed).await, ["resumed"]);
    bucket.put("k", "2".into()).await.expect("it is written");
    assert_eq!(told_until(&mut watch, "k=2@2").await, ["k=2@2"]);
    assert_eq!(
        events.try_next(),
        None,
        "the connection was up all the time"
    );
}

/// A consumer that somebody deletes is replaced, and what came meanwhile is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_consumer_is_replaced() {
    let world = World::new().await;
    let (near, bucket, ..) = world.bucket().await;
    let mut watch = bucket
        .watch(">", WatchStart::Now)
        .await
        .expect("it is watched");
    let ask = |subject: String| near.request(squall_core::transport::Message::new(subject, ""));
    let names = ask("$JS.API.CONSUMER.NAMES.KV_b".into())
        .await
        .expect("they are listed");
    let names: serde_json::Value = serde_json::from_slice(&names.payload).expect("it is JSON");
    let name = names["consumers"][0].as_str().expect("there is one");
    ask(format!("$JS.API.CONSUMER.DELETE.KV_b.{name}"))
        .await
        .expect("it is deleted");
    bucket.put("k", "1".into()).await.expect("it is written");
    let all = told_until(&mut watch, "k=1@1").await;
    let silence = "interrupted: no sign of life from the server";
    assert_eq!(all, ["end", silence, "resumed", "k=1@1"]);
}

/// Connections are reset again and again under a writer: every key's last value is told, and no revision twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_neither_lose_nor_repeat() {
    let world = World::new().await;
    let (_near, writer, _far, bucket) = world.bucket().await;
    let mut watch = bucket
        .watch(">", WatchStart::Snapshot)
        .await
        .expect("it is watched");
    for round in 0..5 {
        for key in ["a", "b", "c"] {
            let value = format!("{round}");
            writer.put(key, value.into()).await.expect("it is written");
        }
        world.proxy.cut();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let last = writer.put("z", "last".into()).await.expect("it is written");
    let all = told_until(&mut watch, &format!("z=last@{last}")).await;
    for last in ["a=4@13", "b=4@14", "c=4@15"] {
        assert!(all.iter().any(|event| event == last), "{last} in {all:?}");
    }
    let revisions: Vec<u64> = all
        .iter()
        .filter_map(|event| event.rsplit_once('@')?.1.parse().ok())
        .collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "{all:?}");
    assert!(
        all.contains(&"interrupted: disconnected".to_owned()),
        "{all:?}"
    );
}

/// What a reader leaves lying is dropped and said; once it reads again it is told all last values.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_told_of_the_gap_and_catches_up() {
    let world = World::new().await;
    let near = world.direct().await;
    near.create_bucket(&BucketConfig::new("b"))
        .await
        .expect("it is created");
    let slow = world
        .connect_with(ConnectOptions {
            servers: vec![world.server.url()],
            subscription_capacity: 8,
            ..World::options()
        })
        .await;
    let mut events = slow.events();
    let bucket = slow.bucket("b").expect("the name is valid");
    let mut watch = bucket
        .watch(">", WatchStart::Now)
        .await
        .expect("it is watched");
    for i in 0..100 {
        bucket
            .put(&format!("k{i}"), "v".into())
            .await
            .expect("it is written");
    }
    heard(&mut events, "slow consumer", |e| {
        *e == ConnectionEvent::SlowConsumer
    })
    .await;
    let mut all = Vec::new();
    soon("all keys are told", async {
        while all.last().is_none_or(|last| last != "k99=v@100") {
            let event = watch.next().await.expect("the watch goes on");
            all.push(brief(&event));
            // A reader that takes a moment over each.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(
        all.contains(&"interrupted: gap in the deliveries".to_owned()),
        "{all:?}"
    );
    let entries: Vec<_> = all.iter().filter(|event| event.contains('@')).collect();
    assert_eq!(entries.len(), 100, "{all:?}");
}
