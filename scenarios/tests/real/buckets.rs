//! Reads, writes and administration of buckets over good links.

use std::time::{Duration, Instant};

use bytes::Bytes;
use squall_core::transport::{
    BucketConfig, BucketError, CreateError, Message, MessageTtl, Operation, PutOptions, ReadError,
    Revision, UpdateError, WatchError, WatchEvent, WatchStart, WriteError,
};
use squall_core::{Bucket as _, Connection as _};

use crate::streams::old_world;
use crate::world::{World, soon, told};

/// Every write and deletion takes a revision; a condition that fails names the revision that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_are_judged_by_the_server() {
    let world = World::new().await;
    let (_near, bucket, ..) = world.bucket().await;
    let value = Bytes::from_static(b"v");

    assert_eq!(bucket.create("k", value.clone()).await, Ok(Revision(1)));
    assert_eq!(
        bucket.create("k", value.clone()).await,
        Err(CreateError::AlreadyExists)
    );
    let wrong = bucket.update("k", value.clone(), Revision(7)).await;
    assert_eq!(
        wrong,
        Err(UpdateError::WrongRevision {
            actual: Revision(1)
        })
    );
    assert_eq!(
        bucket.update("k", value.clone(), Revision(1)).await,
        Ok(Revision(2))
    );
    let wrong = bucket.delete("k", Some(Revision(1))).await;
    assert_eq!(
        wrong,
        Err(UpdateError::WrongRevision {
            actual: Revision(2)
        })
    );
    assert_eq!(bucket.delete("k", Some(Revision(2))).await, Ok(Revision(3)));

    let tombstone = bucket
        .entry("k")
        .await
        .expect("it is read")
        .expect("it is there");
    assert_eq!(
        (tombstone.operation, tombstone.revision),
        (Operation::Delete, Revision(3))
    );
    assert_eq!(bucket.create("k", value.clone()).await, Ok(Revision(4)));
    assert_eq!(bucket.purge("k", None).await, Ok(Revision(5)));
    let purged = bucket
        .entry("k")
        .await
        .expect("it is read")
        .expect("it is there");
    assert_eq!(purged.operation, Operation::Purge);
    let wrong = bucket.update("k", value.clone(), Revision::NONE).await;
    assert_eq!(
        wrong,
        Err(UpdateError::WrongRevision {
            actual: Revision(5)
        })
    );
    assert_eq!(bucket.put("other", value.clone()).await, Ok(Revision(6)));
    assert_eq!(bucket.entry("never").await, Ok(None));
    assert_eq!(bucket.delete("never", None).await, Ok(Revision(7)));
    let wrong = bucket.update("gone", value, Revision(7)).await;
    assert_eq!(
        wrong,
        Err(UpdateError::WrongRevision {
            actual: Revision::NONE
        })
    );
}

/// What would fail late, or cost the connection, fails at once and locally.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_refused_here() {
    let world = World::new().await;
    let (near, bucket, ..) = world.bucket().await;
    let long = "k".repeat(4060);
    for key in ["a..b", "", ".a", "a b", "a*", &long] {
        let put = bucket.put(key, Bytes::new()).await;
        assert_eq!(put, Err(WriteError::InvalidKey(key.into())), "{key:?}");
        assert_eq!(
            bucket.entry(key).await,
            Err(ReadError::InvalidKey(key.into())),
            "{key:?}"
        );
    }
    let filter = bucket.watch("a..b", WatchStart::Now).await;
    assert_eq!(filter.err(), Some(WatchError::InvalidFilter("a..b".into())));
    let limit = 1024 * 1024;
    let big = bucket.put("k", vec![0; limit + 1].into()).await;
    assert_eq!(
        big,
        Err(WriteError::TooLarge {
            size: limit + 1,
            limit
        })
    );
    assert_eq!(
        bucket.put("k", vec![0; limit].into()).await,
        Ok(Revision(1))
    );
    assert_eq!(
        near.bucket("a.b").err(),
        Some(BucketError::InvalidName("a.b".into()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_bucket_is_named_as_such() {
    let world = World::new().await;
    let near = world.direct().await;
    let bucket = near.bucket("nowhere").expect("the name is valid");
    let value = Bytes::from_static(b"v");
    assert_eq!(
        bucket.put("k", value.clone()).await,
        Err(WriteError::NoBucket)
    );
    let created = bucket.create("k", value).await;
    assert_eq!(created, Err(CreateError::Write(WriteError::NoBucket)));
    assert_eq!(bucket.entry("k").await, Err(ReadError::NoBucket));
    assert_eq!(bucket.entries(">").await, Err(ReadError::NoBucket));
    assert_eq!(bucket.info().await, Err(ReadError::NoBucket));
    let watch = bucket.watch(">", WatchStart::Now).await;
    assert_eq!(watch.err(), Some(WatchError::NoBucket));
    assert_eq!(
        near.delete_bucket("nowhere").await,
        Err(BucketError::NotFound)
    );
    let config = BucketConfig::new("nowhere");
    assert_eq!(
        near.update_bucket(&config).await.err(),
        Some(BucketError::NotFound)
    );
}

/// Creating twice is fine; with other settings it is refused, and an update changes them for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_created_once_and_updated_in_place() {
    let world = World::new().await;
    let near = world.direct().await;
    let mut config = BucketConfig::new("b");
    config.max_age = Duration::from_secs(300);
    config.history = 5;
    let bucket = near.create_bucket(&config).await.expect("it is created");
    near.create_bucket(&config).await.expect("it is the same");
    bucket.put("k", "v".into()).await.expect("it is written");

    // Shorter than the duplicate window, which has to shrink with it; and markers come on.
    let other = BucketConfig {
        max_age: Duration::from_secs(30),
        delete_markers: Some(Duration::from_secs(10)),
        ..config.clone()
    };
    assert_eq!(
        near.create_bucket(&other).await.err(),
        Some(BucketError::Exists)
    );
    near.update_bucket(&other).await.expect("it is updated");
    let info = bucket.info().await.expect("it is described");
    assert_eq!(
        (info.config, info.last_revision, info.records),
        (other.clone(), Revision(1), 1)
    );

    // Settings that a bucket does not name are kept: a raw update of one, and then ours.
    let raw = near
        .request(Message::new("$JS.API.STREAM.INFO.KV_b", ""))
        .await
        .expect("the stream is described");
    let mut raw: serde_json::Value = serde_json::from_slice(&raw.payload).expect("it is JSON");
    raw["config"]["description"] = "kept".into();
    let body = raw["config"].to_string();
    let answer = near
        .request(Message::new("$JS.API.STREAM.UPDATE.KV_b", body))
        .await;
    let answer = answer.expect("the stream is updated");
    assert!(!String::from_utf8_lossy(&answer.payload).contains("\"error\""));
    near.update_bucket(&other).await.expect("it is updated");
    let kept = near
        .request(Message::new("$JS.API.STREAM.INFO.KV_b", ""))
        .await;
    let kept = kept.expect("the stream is described");
    assert!(String::from_utf8_lossy(&kept.payload).contains("\"description\":\"kept\""));

    let taken_back = BucketConfig {
        delete_markers: None,
        ..other
    };
    let refused = near.update_bucket(&taken_back).await;
    assert!(
        matches!(refused, Err(BucketError::Rejected(_))),
        "{refused:?}"
    );
    near.delete_bucket("b").await.expect("it is deleted");
    assert_eq!(bucket.info().await, Err(ReadError::NoBucket));
}

/// An expiry is told apart from a deletion, and a key is free again after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_key_shows_its_marker_and_can_be_created() {
    let world = World::new().await;
    let near = world.direct().await;
    let mut config = BucketConfig::new("b");
    config.max_age = Duration::from_secs(3);
    config.delete_markers = Some(Duration::from_secs(3));
    let bucket = near.create_bucket(&config).await.expect("it is created");
    bucket.put("k", "v".into()).await.expect("it is written");
    let expired = soon("k expires", async {
        loop {
            let entry = bucket
                .entry("k")
                .await
                .expect("it is read")
                .expect("it is there");
            if !entry.operation.is_put() {
                return entry;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(
        (expired.operation, expired.revision),
        (Operation::Expire, Revision(2))
    );
    assert!(expired.value.is_empty());
    assert_eq!(bucket.create("k", "w".into()).await, Ok(Revision(3)));
}

/// Listings are complete and end at once, though keys vanish while they run, and leave no consumers behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_are_complete_and_leave_nothing_behind() {
    let world = World::new().await;
    let (near, bucket, _far, churned) = world.bucket().await;
    assert_eq!(bucket.entries(">").await, Ok(Vec::new()));
    for i in 0..100 {
        let key = format!("stable.{i}");
        bucket.put(&key, "v".into()).await.expect("it is written");
    }
    let churn = tokio::spawn(async move {
        loop {
            for i in 0..20 {
                let key = format!("churn.{i}");
                churned.put(&key, "v".into()).await.expect("it is written");
                churned.purge(&key, None).await.expect("it is purged");
            }
        }
    });
    for _ in 0..20 {
        let begun = Instant::now();
        let listed = bucket.entries(">").await.expect("it is listed");
        let stable = listed
            .iter()
            .filter(|entry| entry.key.starts_with("stable."));
        assert_eq!(stable.count(), 100);
        assert!(listed.is_sorted_by_key(|entry| entry.revision));
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "it took {:?}",
            begun.elapsed()
        );
    }
    churn.abort();
    assert_eq!(
        bucket.entries("stable.7").await.map(|listed| listed.len()),
        Ok(1)
    );
    let watch = bucket
        .watch(">", WatchStart::Now)
        .await
        .expect("it is watched");
    drop(watch);
    soon("the consumers are gone", async {
        loop {
            let names = near
                .request(Message::new("$JS.API.CONSUMER.NAMES.KV_b", ""))
                .await;
            let names = names.expect("they are listed");
            if String::from_utf8_lossy(&names.payload).contains("\"total\":0") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// With one record a key, a rewritten one vanishes from under a listing, and the new one may not count as pending yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_rewritten_while_it_is_listed_is_not_missing() {
    let world = World::new().await;
    let (_near, bucket, _far, written) = world.bucket().await;
    let keys = ["a", "b", "c", "d"];
    for key in keys {
        bucket.put(key, "v".into()).await.expect("it is written");
    }
    let beats = tokio::spawn(async move {
        loop {
            for key in keys {
                written.put(key, "v".into()).await.expect("it is written");
            }
        }
    });
    for round in 0..300 {
        let listed = bucket.entries(">").await.expect("it is listed");
        assert_eq!(listed.len(), keys.len(), "round {round}: {listed:?}");
        if round % 10 == 0 {
            let mut watch = bucket
                .watch(">", WatchStart::Snapshot)
                .await
                .expect("it is watched");
            let seen = told(&mut watch, "the snapshot ends", |event| {
                *event == WatchEvent::SnapshotEnd
            });
            let seen = seen.await;
            for key in keys {
                let is_there = seen.iter().any(|event| event.starts_with(key));
                assert!(is_there, "round {round}: {key} is missing in {seen:?}");
            }
        }
    }
    beats.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_told_oldest_first_with_its_tombstones() {
    let world = World::new().await;
    let near = world.direct().await;
    let mut config = BucketConfig::new("b");
    config.history = 3;
    let bucket = near.create_bucket(&config).await.expect("it is created");
    for value in ["1", "2", "3"] {
        bucket.put("k", value.into()).await.expect("it is written");
    }
    bucket.delete("k", None).await.expect("it is deleted");
    let history = bucket.history("k").await.expect("it is told");
    let told: Vec<_> = history
        .iter()
        .map(|e| (e.revision.0, e.operation))
        .collect();
    let expected = [
        (2, Operation::Put),
        (3, Operation::Put),
        (4, Operation::Delete),
    ];
    assert_eq!(told, expected);
    assert_eq!(bucket.history("never").await, Ok(Vec::new()));
}

/// A key lives as long as its own record says, also where it was taken over from an earlier life; async-nats forgets it
/// there, and the key stays for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_lives_as_long_as_it_says_at_every_creation() {
    let world = World::new().await;
    let near = world.direct().await;
    let mut config = BucketConfig::new("b");
    config.delete_markers = Some(Duration::from_secs(10));
    let bucket = near.create_bucket(&config).await.expect("it is created");
    let second = MessageTtl::For(Duration::from_secs(1));
    let expires = async |created: Result<Revision, CreateError>, revision| {
        assert_eq!(created, Ok(Revision(revision)));
        let expired = soon("k expires", async {
            loop {
                let entry = bucket.entry("k").await.expect("it is read");
                let entry = entry.expect("there is a marker");
                if !entry.operation.is_put() {
                    return entry;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let expired = expired.await;
        assert_eq!(expired.operation, Operation::Expire);
        assert_eq!(expired.revision, Revision(revision + 1));
    };
    expires(bucket.create_with("k", "1".into(), second).await, 1).await;
    // Over the marker of the life before, and over a tombstone.
    expires(bucket.create_with("k", "2".into(), second).await, 3).await;
    bucket.delete("k", None).await.expect("it is deleted");
    expires(bucket.create_with("k", "3".into(), second).await, 6).await;

    let exists = Err(CreateError::AlreadyExists);
    bucket.put("k", "4".into()).await.expect("it is written");
    assert_eq!(bucket.create_with("k", "5".into(), second).await, exists);

    let plain = near.create_bucket(&BucketConfig::new("plain")).await;
    let plain = plain.expect("it is created");
    let refused = plain.create_with("k", "v".into(), second).await;
    let without = |error: &WriteError| matches!(error, WriteError::Rejected(error) if error.err_code == 10166);
    assert!(matches!(&refused, Err(CreateError::Write(error)) if without(error)));
    let old_world = old_world().await;
    let old = old_world.direct().await;
    let created = old.create_bucket(&BucketConfig::new("plain")).await;
    let old_bucket = created.expect("it is created");
    assert_eq!(
        old_bucket.create_with("k", "v".into(), second).await,
        refused
    );
    assert_eq!(old_bucket.entry("k").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_demands_what_it_is_told_to() {
    let world = World::new().await;
    let near = world.direct().await;
    let mut config = BucketConfig::new("b");
    config.delete_markers = Some(Duration::from_secs(10));
    let bucket = near.create_bucket(&config).await.expect("it is created");
    let put = |expected, ttl| bucket.put_with("k", "v".into(), PutOptions { expected, ttl });
    assert_eq!(put(None, None).await, Ok(Revision(1)));
    let ttl = Some(MessageTtl::For(Duration::from_millis(1)));
    let actual = Revision(1);
    let wrong = Err(UpdateError::WrongRevision { actual });
    assert_eq!(put(Some(Revision(7)), ttl).await, wrong);
    assert_eq!(put(Some(actual), ttl).await, Ok(Revision(2)));
    soon("it expires", async {
        while bucket.info().await.expect("it is described").last_revision < Revision(3) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(
        put(Some(Revision(3)), Some(MessageTtl::Never)).await,
        Ok(Revision(4))
    );
}

/// Many keys at once, in one question where the server can, and never more or less than what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_are_read_at_once() {
    for world in [World::new().await, old_world().await] {
        let (near, bucket, ..) = world.bucket().await;
        let keys: Vec<String> = (0..600).map(|i| format!("key.{i}")).collect();
        let mut names: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(bucket.entries_of(&names).await, Ok(Vec::new()));
        for key in &names {
            bucket
                .put(key, (*key).to_owned().into())
                .await
                .expect("it is written");
        }
        bucket.delete("key.7", None).await.expect("it is deleted");
        bucket
            .put("key.0", "new".into())
            .await
            .expect("it is written");
        names.push("none");
        let read = bucket.entries_of(&names).await.expect("they are read");
        assert_eq!(read.len(), 600);
        assert!(
            read.windows(2)
                .all(|pair| pair[0].revision < pair[1].revision)
        );
        let [.., tombstone, newest] = &*read else {
            panic!("there are many");
        };
        assert_eq!(
            (&*tombstone.key, tombstone.operation),
            ("key.7", Operation::Delete)
        );
        assert_eq!((&*newest.key, &*newest.value), ("key.0", &b"new"[..]));
        assert_eq!(bucket.entries_of(&[]).await, Ok(Vec::new()));
        let invalid = bucket.entries_of(&["a", "a..b"]).await;
        assert_eq!(invalid, Err(ReadError::InvalidKey("a..b".into())));
        near.delete_bucket("b").await.expect("it is deleted");
        assert_eq!(bucket.entries_of(&["a"]).await, Err(ReadError::NoBucket));
    }
}
