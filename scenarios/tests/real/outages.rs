//! Writes over links that lose their answers: what is not known is said to be unknown.

use std::time::Duration;

use squall_core::transport::{
    ConnectionEvent, CreateError, DisconnectCause, Fallible as _, Outcome, Revision, UpdateError,
    WriteError,
};
use squall_core::{Bucket as _, Connection as _};
use squall_scenarios::real::Direction;

use crate::world::{World, heard, soon};

/// async-nats would say that the key exists: it reads its own value after the time-out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_acknowledgement_is_lost_is_unknown() {
    let world = World::new().await;
    let (_near, near_bucket, _far, bucket) = world.bucket().await;
    bucket
        .put("warm", "up".into())
        .await
        .expect("it is written");
    world.proxy.blackhole(Direction::ToClient);
    let created = bucket.create("k", "mine".into()).await;
    let error = created.expect_err("no acknowledgement can come");
    assert_eq!(error, CreateError::Write(WriteError::TimedOut));
    assert_eq!(error.outcome(), Outcome::Unknown);
    let stored = near_bucket
        .entry("k")
        .await
        .expect("it is read")
        .expect("it was stored");
    assert_eq!(stored.value, "mine");
    world.proxy.heal();
    assert_eq!(
        bucket.create("k", "again".into()).await,
        Err(CreateError::AlreadyExists)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_whose_acknowledgement_is_lost_is_unknown() {
    let world = World::new().await;
    let (_near, _, _far, bucket) = world.bucket().await;
    bucket.put("k", "1".into()).await.expect("it is written");
    world.proxy.blackhole(Direction::ToClient);
    let updated = bucket.update("k", "2".into(), Revision(1)).await;
    assert_eq!(updated, Err(UpdateError::Write(WriteError::TimedOut)));
    world.proxy.cut();
    world.proxy.heal();
    let again = soon("the link is back", async {
        loop {
            match bucket.update("k", "2".into(), Revision(1)).await {
                Err(UpdateError::Write(WriteError::TimedOut)) => {}
                other => return other,
            }
        }
    })
    .await;
    assert_eq!(
        again,
        Err(UpdateError::WrongRevision {
            actual: Revision(2)
        })
    );
}

/// A ghost write: refused by the clock, and applied once the link is healed. It was said to be unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_held_on_its_way_is_unknown_and_may_be_applied_later() {
    let world = World::new().await;
    let (_near, near_bucket, _far, bucket) = world.bucket().await;
    world.proxy.partition();
    let error = bucket
        .put("k", "ghost".into())
        .await
        .expect_err("nothing can come back");
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(near_bucket.entry("k").await, Ok(None));
    world.proxy.heal();
    soon("the ghost is written", async {
        while near_bucket.entry("k").await == Ok(None) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A delayed link keeps order and takes its time, each way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_link_is_slow_and_in_order() {
    let world = World::new().await;
    let (_near, _, far, bucket) = world.bucket().await;
    world.proxy.delay(Duration::from_millis(100));
    let begun = std::time::Instant::now();
    let writes = (0..10).map(|i| {
        let bucket = bucket.clone();
        async move { bucket.put("k", format!("{i}").into()).await }
    });
    for write in writes {
        write.await.expect("it is written");
        if begun.elapsed() > Duration::from_millis(600) {
            break;
        }
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
    world.proxy.heal();
    far.flush().await.expect("it comes back");
}

/// Pings find a link that is dead though its sockets are open; the reconnect waits until it is healed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_link_is_noticed_by_pings() {
    let world = World::new().await;
    let far = world
        .connect_with(squall_core::transport::ConnectOptions {
            servers: vec![world.proxy.url()],
            ping_interval: Duration::from_millis(200),
            connect_timeout: Duration::from_millis(300),
            ..World::options()
        })
        .await;
    let mut events = far.events();
    world.proxy.partition();
    let lost = ConnectionEvent::Disconnected(DisconnectCause::Lost);
    heard(&mut events, "the loss is noticed", |event| *event == lost).await;
    heard(&mut events, "an attempt fails", |event| {
        matches!(event, ConnectionEvent::ReconnectFailed(text) if text.contains("timed out"))
    })
    .await;
    world.proxy.heal();
    heard(&mut events, "reconnected", |event| {
        *event == ConnectionEvent::Reconnected
    })
    .await;
    far.flush().await.expect("it comes back");
}
