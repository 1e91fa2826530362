//! Buckets as such: their settings, limits, creation and deletion.

use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{BucketConfig, Revision, Storage, WatchStart};
use squall_core::{Bucket as _, Connection as _};

use super::laboratory::{Laboratory, Stop, bucket, config, connect, sleep};
use super::transcript::{Show as _, Transcript, told, went};

super::facts!("buckets" {
    bucket_names_are_checked_before_they_are_sent: "1 bucket name",
    the_size_limit_of_a_bucket_counts_headers: "1 max_value_size exceeded (surprise 17)",
    a_full_bucket_takes_overwrites_and_deletions: "1 max_bytes full; overwrite when full",
    a_bucket_is_created_once: "1 create bucket again; missing bucket",
    settings_a_server_refuses: "1 replicas 3 on R1, max_age <100ms, limit_markers <1s",
    info_tells_the_settings: "1 stream behind a bucket",
    an_update_of_the_bucket_acts_at_once: "4 mmps shrink on update; 1 limit_markers later",
    operations_on_a_deleted_bucket: "1 ops on deleted bucket",
    a_bucket_created_anew_begins_at_one: "3 deleted and recreated",
});

async fn bucket_names_are_checked_before_they_are_sent<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    for name in ["a.b", "", "a b", "a*", ">", "é", "a/b"] {
        t.note(name, went(&near.bucket(name)));
        t.note(
            name,
            went(&near.create_bucket(&BucketConfig::new(name)).await),
        );
        t.note(
            name,
            went(&near.update_bucket(&BucketConfig::new(name)).await),
        );
        t.note(name, went(&near.delete_bucket(name).await));
    }
    let created = near.create_bucket(&BucketConfig::new("A-z_0")).await;
    t.is("A-z_0", went(&created), "done");
    Ok(())
}

async fn the_size_limit_of_a_bucket_counts_headers<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.max_value_size = 100)).await?;
    let bytes = |n: usize| Bytes::from(vec![b'x'; n]);
    let large = "refused (message size exceeds maximum allowed (code 400, error code 10054))";
    t.is("put 100", told(&b.put("k", bytes(100)).await), "@1");
    t.is("put 101", told(&b.put("k", bytes(101)).await), large);
    t.is(
        "update 48",
        told(&b.update("k", bytes(48), Revision(1)).await),
        "@2",
    );
    t.is(
        "update 49",
        told(&b.update("k", bytes(49), Revision(2)).await),
        large,
    );
    t.is("create 48", told(&b.create("c", bytes(48)).await), "@3");
    t.is("create 49", told(&b.create("d", bytes(49)).await), large);
    t.is("delete", told(&b.delete("k", None).await), "@4");
    t.note("purge", told(&b.purge("c", None).await));
    t.note("purge this", told(&b.purge("k", Some(Revision(4))).await));
    Ok(())
}

async fn a_full_bucket_takes_overwrites_and_deletions<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let bytes = |n: usize| Bytes::from(vec![b'x'; n]);
    for (name, storage) in [("f", Storage::File), ("m", Storage::Memory)] {
        let mut config = BucketConfig::new(name);
        config.max_bytes = 1000;
        config.storage = storage;
        let b = near.create_bucket(&config).await?;
        let mut kept = 0;
        let full = loop {
            match b.put(&format!("k{kept}"), bytes(100)).await {
                Ok(_) => kept += 1,
                Err(error) => break told::<(), _>(&Err(error)),
            }
        };
        t.is(
            "full",
            full,
            "refused (maximum bytes exceeded (code 503, error code 10077))",
        );
        t.note("keys that fit", kept.to_string());
        t.note("overwrite", told(&b.put("k0", bytes(100)).await));
        t.note("overwrite with more", told(&b.put("k0", bytes(300)).await));
        t.note(
            "smaller update",
            told(&b.update("k1", bytes(10), Revision(2)).await),
        );
        t.note("delete", told(&b.delete("k2", None).await));
        t.note("purge", told(&b.purge("k3", None).await));
        t.note("a new key again", told(&b.put("new", bytes(100)).await));
        t.note("info", told(&b.info().await));
        // How many fit, to the byte.
        for max_bytes in 560..580 {
            let mut config = BucketConfig::new(format!("{name}{max_bytes}"));
            config.max_bytes = max_bytes;
            config.storage = storage;
            let b = near.create_bucket(&config).await?;
            let sizes = [100, 100, 100, 70, 70, 101, 50];
            let mut said = String::new();
            for (key, size) in ["a", "b", "c", "d", "e", "a", "b"].into_iter().zip(sizes) {
                let fits = b.put(key, bytes(size)).await.is_ok();
                said.push(if fits { '+' } else { '-' });
            }
            t.note(&format!("{name} of {max_bytes} bytes"), said);
        }
    }
    Ok(())
}

async fn a_bucket_is_created_once<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let missing = near.update_bucket(&BucketConfig::new("b")).await;
    t.is(
        "update a missing one",
        went(&missing),
        "refused (there is no such bucket)",
    );
    let missing = near.delete_bucket("b").await;
    t.is(
        "delete a missing one",
        went(&missing),
        "refused (there is no such bucket)",
    );
    let b = near.create_bucket(&BucketConfig::new("b")).await?;
    b.put("k", "1".into()).await?;
    let again = near.create_bucket(&BucketConfig::new("b")).await;
    t.is("create again", went(&again), "done");
    t.is("its data", told(&b.entry("k").await), "k=1@1");
    let other = config(|c| c.max_age = Duration::from_secs(60));
    let refused = near.create_bucket(&other).await;
    t.is(
        "create another",
        went(&refused),
        "refused (the bucket exists with other settings)",
    );
    t.is("update", went(&near.update_bucket(&other).await), "done");
    let info = b.info().await?;
    t.is("its age limit", format!("{:?}", info.config.max_age), "60s");
    t.is("its data", told(&b.entry("k").await), "k=1@1");
    t.is("delete", went(&near.delete_bucket("b").await), "done");
    let again = near.delete_bucket("b").await;
    t.is(
        "delete again",
        went(&again),
        "refused (there is no such bucket)",
    );
    Ok(())
}

async fn settings_a_server_refuses<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let millis = Duration::from_millis;
    let created = near.create_bucket(&config(|c| c.replicas = 3)).await;
    t.note("replicas 3", went(&created));
    for age in [1, 50, 99, 100, 101] {
        let mut c = BucketConfig::new(format!("age-{age}"));
        c.max_age = millis(age);
        t.note(
            &format!("max_age {age} ms"),
            went(&near.create_bucket(&c).await),
        );
    }
    for life in [1, 500, 999, 1000, 1500, 2000] {
        let mut c = BucketConfig::new(format!("life-{life}"));
        c.delete_markers = Some(millis(life));
        c.max_age = millis(10_000);
        let created = near.create_bucket(&c).await;
        t.note(&format!("delete_markers {life} ms"), went(&created));
        if let Ok(bucket) = created {
            let markers = bucket.info().await?.config.delete_markers;
            t.note("kept as", format!("{markers:?}"));
        }
    }
    for history in [0, 1, 64, 65, 255] {
        let mut c = BucketConfig::new(format!("history-{history}"));
        c.history = history;
        let created = near.create_bucket(&c).await;
        t.note(&format!("history {history}"), went(&created));
        if let Ok(bucket) = created {
            t.note("kept as", bucket.info().await?.config.history.to_string());
        }
    }
    for replicas in [0, 1] {
        let mut c = BucketConfig::new(format!("replicas-{replicas}"));
        c.replicas = replicas;
        t.note(
            &format!("replicas {replicas}"),
            went(&near.create_bucket(&c).await),
        );
    }
    for limit in [0, -1, -2] {
        let mut c = BucketConfig::new(format!("value{limit}"));
        c.max_value_size = limit;
        t.note(
            &format!("max_value_size {limit}"),
            went(&near.create_bucket(&c).await),
        );
        let mut c = BucketConfig::new(format!("bytes{limit}"));
        c.max_bytes = i64::from(limit);
        t.note(
            &format!("max_bytes {limit}"),
            went(&near.create_bucket(&c).await),
        );
    }
    Ok(())
}

async fn info_tells_the_settings<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let has_markers = lab.version().is_at_least(2, 11);
    let full = config(|c| {
        c.history = 7;
        c.max_age = Duration::from_millis(90_500);
        c.delete_markers = has_markers.then_some(Duration::from_secs(3));
        c.max_value_size = 1000;
        c.max_bytes = 100_000;
        c.storage = Storage::Memory;
    });
    let info = near.create_bucket(&full).await?.info().await?;
    t.is("full", format!("{}", info.config == full), "true");
    t.note("full", format!("{:?}", info.config));
    let plain = BucketConfig::new("plain");
    let info = near.create_bucket(&plain).await?.info().await?;
    t.is("plain", format!("{}", info.config == plain), "true");
    t.is("empty", info.show(), "0 records, last @0");
    Ok(())
}

async fn an_update_of_the_bucket_acts_at_once<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, b) = bucket(lab, &config(|c| c.history = 3)).await?;
    for value in ["1", "2", "3"] {
        b.put("k", value.into()).await?;
    }
    let shrunk = near.update_bucket(&config(|c| c.history = 1)).await;
    t.is("history 3 to 1", went(&shrunk), "done");
    t.is("what is left", told(&b.history("k").await), "[k=3@3]");
    let grown = near.update_bucket(&config(|c| c.history = 2)).await;
    t.is("history 1 to 2", went(&grown), "done");
    b.put("k", "4".into()).await?;
    t.is("what is kept", told(&b.history("k").await), "[k=3@3 k=4@4]");
    let storage = config(|c| {
        c.history = 2;
        c.storage = Storage::Memory;
    });
    t.note("file to memory", went(&near.update_bucket(&storage).await));
    let marked = config(|c| {
        c.history = 2;
        c.max_age = Duration::from_secs(60);
        c.delete_markers = Some(Duration::from_secs(1));
    });
    let markers = if lab.version().is_at_least(2, 11) {
        "done"
    } else {
        "refused (delete markers need nats-server 2.11 or later (code 400, error code 0))"
    };
    t.is(
        "markers on",
        went(&near.update_bucket(&marked).await),
        markers,
    );
    let unmarked = config(|c| {
        c.history = 2;
        c.max_age = Duration::from_secs(60);
    });
    t.note("markers off", went(&near.update_bucket(&unmarked).await));
    t.note("settings", format!("{:?}", b.info().await?.config));
    Ok(())
}

async fn operations_on_a_deleted_bucket<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    b.put("k", "1".into()).await?;
    near.delete_bucket("b").await?;
    let gone = "refused (there is no such bucket)";
    t.is("put", told(&b.put("k", "1".into()).await), gone);
    t.is("create", told(&b.create("k", "1".into()).await), gone);
    t.is(
        "update",
        told(&b.update("k", "1".into(), Revision(1)).await),
        gone,
    );
    t.is("delete", told(&b.delete("k", None).await), gone);
    t.is("purge", told(&b.purge("k", None).await), gone);
    t.is("entry", told(&b.entry("k").await), gone);
    t.is("history", told(&b.history("k").await), gone);
    t.is("entries", told(&b.entries(">").await), gone);
    t.is("info", told(&b.info().await), gone);
    for start in [
        WatchStart::Snapshot,
        WatchStart::Now,
        WatchStart::Revision(Revision(1)),
    ] {
        t.is("watch", went(&b.watch(">", start).await), gone);
    }
    Ok(())
}

async fn a_bucket_created_anew_begins_at_one<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    b.put("k", "1".into()).await?;
    let before = b.info().await?.created;
    near.delete_bucket("b").await?;
    sleep(lab, Duration::from_millis(5)).await;
    near.create_bucket(&BucketConfig::new("b")).await?;
    t.is("nothing is left", told(&b.entry("k").await), "none");
    t.is("put", told(&b.put("k", "2".into()).await), "@1");
    let after = b.info().await?.created;
    t.is("another creation", (after > before).to_string(), "true");
    Ok(())
}
