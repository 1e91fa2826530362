//! Key-value buckets: what each operation answers, and what is there afterwards.

use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::Revision;
use squall_core::transport::{BucketConfig, Storage, WatchStart};
use squall_core::{Bucket as _, Connection as _};

use super::laboratory::{
    Laboratory, LinkVerb, Pair, ServerVerb, Stop, bucket, config, connect, pair, sleep, until,
};
use super::transcript::{Show as _, Transcript, told, went};

super::facts!("kv" {
    failed_operations_take_no_revision: "1 revisions; create fresh, over live; update wrong rev",
    create_writes_over_tombstones: "1 create over DEL / PURGE",
    an_update_is_told_the_actual_revision: "1 update wrong rev, missing key, exp 0",
    deleting_nothing_makes_a_revision: "1 delete / purge of never-existing; expect wrong",
    history_keeps_so_many_records_of_a_key: "1 history(), history limit, purge",
    entries_are_the_latest_values_in_order: "1 keys()",
    an_empty_value_is_a_value: "1 get missing / deleted",
    keys_and_filters_are_checked_before_they_are_sent: "1 key validation, watch key validation",
    bucket_names_are_checked_before_they_are_sent: "1 bucket name",
    the_size_limit_of_a_bucket_counts_headers: "1 max_value_size exceeded (surprise 17)",
    what_no_message_can_hold_is_refused_here: "1 > max_payload",
    a_full_bucket_takes_overwrites_and_deletions: "1 max_bytes full; overwrite when full",
    a_bucket_is_created_once: "1 create bucket again; missing bucket",
    settings_a_server_refuses: "1 replicas 3 on R1, max_age <100ms, limit_markers <1s",
    info_tells_the_settings: "1 stream behind a bucket",
    an_update_of_the_bucket_acts_at_once: "4 mmps shrink on update; 1 limit_markers later",
    operations_on_a_deleted_bucket: "1 ops on deleted bucket",
    a_bucket_created_anew_begins_at_one: "3 deleted and recreated",
    one_of_two_creates_wins: "1 two concurrent creates",
    another_client_reads_what_was_acknowledged: "1 read-after-write, other client",
    a_bucket_in_memory_vanishes_with_a_restart: "surprise 19",
    a_lost_acknowledgement_is_unknown: "surprise 2: ambiguous writes, create() lies",
    a_write_held_on_its_way_is_applied_later: "surprise 3: ghost writes",
    writes_to_a_frozen_server_are_applied_in_order: "surprise 3: ghost writes, SIGSTOP",
    writes_in_an_outage_are_applied_after_it: "surprise 3: ghost writes, server down",
    reads_in_an_outage_wait_for_the_server: "6 request issued while down",
});

async fn failed_operations_take_no_revision<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    t.is("put a", told(&b.put("a", "1".into()).await), "@1");
    t.is("create b", told(&b.create("b", "1".into()).await), "@2");
    t.is(
        "create b again",
        told(&b.create("b", "2".into()).await),
        "refused (the key has a value)",
    );
    t.is(
        "update a",
        told(&b.update("a", "2".into(), Revision(1)).await),
        "@3",
    );
    t.is(
        "update a again",
        told(&b.update("a", "3".into(), Revision(1)).await),
        "refused (the latest revision of the key is 3)",
    );
    t.is("delete b", told(&b.delete("b", None).await), "@4");
    t.is("purge a", told(&b.purge("a", None).await), "@5");
    t.is("info", told(&b.info().await), "2 records, last @5");
    Ok(())
}

async fn create_writes_over_tombstones<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 5)).await?;
    b.put("k", "1".into()).await?;
    b.delete("k", None).await?;
    t.is(
        "create over a deletion",
        told(&b.create("k", "2".into()).await),
        "@3",
    );
    b.purge("k", None).await?;
    t.is(
        "create over a purge",
        told(&b.create("k", "3".into()).await),
        "@5",
    );
    t.is("history", told(&b.history("k").await), "[k:purge@4 k=3@5]");
    Ok(())
}

async fn an_update_is_told_the_actual_revision<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    b.put("a", "1".into()).await?;
    b.put("b", "1".into()).await?;
    b.put("a", "2".into()).await?;
    let actual = |n: u64| format!("refused (the latest revision of the key is {n})");
    for (what, expected) in [
        ("stale", 1),
        ("future", 9),
        ("of another key", 2),
        ("none", 0),
    ] {
        let updated = b.update("a", "x".into(), Revision(expected)).await;
        t.is(what, told(&updated), &actual(3));
    }
    let missing = b.update("c", "x".into(), Revision(7)).await;
    t.is("missing, expected 7", told(&missing), &actual(0));
    let fresh = b.update("c", "x".into(), Revision::NONE).await;
    t.is("missing, expected none", told(&fresh), "@4");
    b.delete("c", None).await?;
    let over = b.update("c", "y".into(), Revision::NONE).await;
    t.is("deleted, expected none", told(&over), &actual(5));
    let over = b.update("c", "y".into(), Revision(5)).await;
    t.is("deleted, expected the tombstone", told(&over), "@6");
    Ok(())
}

async fn deleting_nothing_makes_a_revision<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 3)).await?;
    t.is("delete nothing", told(&b.delete("a", None).await), "@1");
    t.is("delete again", told(&b.delete("a", None).await), "@2");
    t.is("purge nothing", told(&b.purge("b", None).await), "@3");
    t.is("purge again", told(&b.purge("b", None).await), "@4");
    let actual = |n: u64| format!("refused (the latest revision of the key is {n})");
    t.is(
        "delete another",
        told(&b.delete("a", Some(Revision(1))).await),
        &actual(2),
    );
    t.is(
        "purge another",
        told(&b.purge("a", Some(Revision(9))).await),
        &actual(2),
    );
    t.is(
        "delete what is not",
        told(&b.delete("c", Some(Revision(9))).await),
        &actual(0),
    );
    t.is(
        "delete none",
        told(&b.delete("c", Some(Revision::NONE)).await),
        "@5",
    );
    t.is(
        "delete this",
        told(&b.delete("a", Some(Revision(2))).await),
        "@6",
    );
    t.is(
        "purge this",
        told(&b.purge("a", Some(Revision(6))).await),
        "@7",
    );
    t.is("a", told(&b.history("a").await), "[a:purge@7]");
    t.is("entry", told(&b.entry("a").await), "a:purge@7");
    t.is("all", told(&b.entries(">").await), "[]");
    Ok(())
}

async fn history_keeps_so_many_records_of_a_key<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 3)).await?;
    for value in ["1", "2", "3", "4", "5"] {
        b.put("k", value.into()).await?;
        b.put("other", value.into()).await?;
    }
    t.is(
        "five puts",
        told(&b.history("k").await),
        "[k=3@5 k=4@7 k=5@9]",
    );
    b.delete("k", None).await?;
    t.is(
        "deleted",
        told(&b.history("k").await),
        "[k=4@7 k=5@9 k:delete@11]",
    );
    b.purge("k", None).await?;
    t.is("purged", told(&b.history("k").await), "[k:purge@12]");
    t.is("never written", told(&b.history("none").await), "[]");
    t.is("info", told(&b.info().await), "4 records, last @12");
    Ok(())
}

async fn entries_are_the_latest_values_in_order<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 2)).await?;
    t.is("empty", told(&b.entries(">").await), "[]");
    for key in ["a.x", "b.x", "a.y", "a.y.z", "a"] {
        b.put(key, "1".into()).await?;
    }
    b.put("b.x", "2".into()).await?;
    b.delete("a.x", None).await?;
    t.is(
        "all",
        told(&b.entries(">").await),
        "[a.y=1@3 a.y.z=1@4 a=1@5 b.x=2@6]",
    );
    t.is("a.*", told(&b.entries("a.*").await), "[a.y=1@3]");
    t.is("a.>", told(&b.entries("a.>").await), "[a.y=1@3 a.y.z=1@4]");
    t.is("*.x", told(&b.entries("*.x").await), "[b.x=2@6]");
    t.is("a", told(&b.entries("a").await), "[a=1@5]");
    t.is("no such", told(&b.entries("c.>").await), "[]");
    Ok(())
}

async fn an_empty_value_is_a_value<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    t.is("missing", told(&b.entry("k").await), "none");
    b.put("k", Bytes::new()).await?;
    t.is("empty", told(&b.entry("k").await), "k=@1");
    let again = b.create("k", "x".into()).await;
    t.is("create", told(&again), "refused (the key has a value)");
    b.delete("k", None).await?;
    t.is("deleted", told(&b.entry("k").await), "k:delete@2");
    Ok(())
}

async fn keys_and_filters_are_checked_before_they_are_sent<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    let bad = [
        "", ".a", "a.", "a b", "a*", "*", ">", "é", ":", "$", "@", "+", "a..b",
    ];
    for key in bad {
        t.note(key, told(&b.put(key, "1".into()).await));
        t.note(key, told(&b.create(key, "1".into()).await));
        t.note(key, told(&b.update(key, "1".into(), Revision(1)).await));
        t.note(key, told(&b.delete(key, None).await));
        t.note(key, told(&b.purge(key, None).await));
        t.note(key, told(&b.entry(key).await));
        t.note(key, told(&b.history(key).await));
    }
    for filter in ["", ".a", "a.", "a b", "a*", "a.>.b", "a..b", ">>"] {
        t.note(filter, told(&b.entries(filter).await));
        t.note(filter, went(&b.watch(filter, WatchStart::Now).await));
    }
    t.is(
        "nothing was written",
        told(&b.info().await),
        "0 records, last @0",
    );
    for key in ["-/_=.a-zA-Z0-9", "a.b/c=d", "="] {
        t.note(key, told(&b.put(key, "1".into()).await));
        t.note(key, told(&b.entry(key).await));
    }
    for filter in ["*", "a.>", "*.*", ">", "=", "a.*.c"] {
        t.is(
            filter,
            went(&b.watch(filter, WatchStart::Now).await),
            "done",
        );
    }
    Ok(())
}

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

async fn what_no_message_can_hold_is_refused_here<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    const LIMIT: usize = 1_048_576;
    let bytes = |n: usize| Bytes::from(vec![b'x'; n]);
    t.is("put the most", told(&b.put("k", bytes(LIMIT)).await), "@1");
    t.is(
        "put one more",
        told(&b.put("k", bytes(LIMIT + 1)).await),
        "refused (1048577 bytes with headers, and the server takes 1048576)",
    );
    t.note(
        "update the most",
        told(&b.update("k", bytes(LIMIT), Revision(1)).await),
    );
    t.note(
        "update 52 less",
        told(&b.update("k", bytes(LIMIT - 52), Revision(1)).await),
    );
    t.note("create the most", told(&b.create("l", bytes(LIMIT)).await));
    t.note("the connection", format!("{:?}", near.state()));
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
    let full = config(|c| {
        c.history = 7;
        c.max_age = Duration::from_millis(90_500);
        c.delete_markers = Some(Duration::from_secs(3));
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
    t.is(
        "markers on",
        went(&near.update_bucket(&marked).await),
        "done",
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

async fn one_of_two_creates_wins<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let Pair {
        near_bucket,
        bucket,
        near: _near,
        far: _far,
    } = pair(lab, &BucketConfig::new("b")).await?;
    let mut both = 0;
    for round in 0..50 {
        let key = format!("k{round}");
        let (one, other) = tokio::join!(
            biased;
            near_bucket.create(&key, "near".into()),
            bucket.create(&key, "far".into()),
        );
        both += usize::from(one.is_ok() != other.is_ok());
    }
    t.is("rounds with one winner", both.to_string(), "50");
    t.is("info", told(&bucket.info().await), "50 records, last @50");
    Ok(())
}

async fn another_client_reads_what_was_acknowledged<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Pair {
        near_bucket,
        bucket,
        near: _near,
        far: _far,
    } = pair(lab, &BucketConfig::new("b")).await?;
    let mut stale = 0;
    for _ in 0..100 {
        let revision = near_bucket.put("k", "v".into()).await?;
        let read = bucket.entry("k").await?;
        stale += usize::from(read.is_none_or(|entry| entry.revision != revision));
    }
    t.is("stale reads", stale.to_string(), "0");
    Ok(())
}

async fn a_bucket_in_memory_vanishes_with_a_restart<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut memory = BucketConfig::new("m");
    memory.storage = Storage::Memory;
    let memory = near.create_bucket(&memory).await?;
    let file = near.create_bucket(&BucketConfig::new("f")).await?;
    memory.put("k", "1".into()).await?;
    file.put("k", "1".into()).await?;
    lab.server(ServerVerb::Stop).await?;
    lab.server(ServerVerb::Start).await?;
    until(lab, "the file is read", || file.entry("k"), Result::is_ok).await?;
    t.is("file", told(&file.entry("k").await), "k=1@1");
    t.is(
        "memory",
        told(&memory.entry("k").await),
        "refused (there is no such bucket)",
    );
    t.is("file", told(&file.put("k", "2".into()).await), "@2");
    let created = near.create_bucket(&BucketConfig::new("m")).await?;
    t.is("anew", told(&created.put("k", "2".into()).await), "@1");
    Ok(())
}

async fn a_lost_acknowledgement_is_unknown<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Pair {
        near_bucket,
        bucket: b,
        near: _near,
        far: _far,
    } = pair(lab, &BucketConfig::new("b")).await?;
    b.put("u", "0".into()).await?;
    lab.link("far", LinkVerb::HoldAnswers);
    let lost = "unknown (no acknowledgement in time)";
    t.is("put", told(&b.put("p", "1".into()).await), lost);
    t.is("create", told(&b.create("c", "1".into()).await), lost);
    t.is(
        "update",
        told(&b.update("u", "1".into(), Revision(1)).await),
        lost,
    );
    t.is("delete", told(&b.delete("d", None).await), lost);
    t.is("purge", told(&b.purge("g", None).await), lost);
    t.is(
        "entry",
        told(&b.entry("p").await),
        "refused (no answer in time)",
    );
    t.is(
        "info",
        told(&near_bucket.info().await),
        "5 records, last @6",
    );
    t.is(
        "what is there",
        told(&near_bucket.entries(">").await),
        "[p=1@2 c=1@3 u=1@4]",
    );
    lab.link("far", LinkVerb::ReleaseAnswers);
    let again = b.create("c", "1".into()).await;
    t.is(
        "create again",
        told(&again),
        "refused (the key has a value)",
    );
    let again = b.update("u", "1".into(), Revision(1)).await;
    t.is(
        "update again",
        told(&again),
        "refused (the latest revision of the key is 4)",
    );
    Ok(())
}

async fn a_write_held_on_its_way_is_applied_later<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Pair {
        near_bucket,
        bucket: b,
        near: _near,
        far: _far,
    } = pair(lab, &BucketConfig::new("b")).await?;
    lab.link("far", LinkVerb::Hold);
    let lost = "unknown (no acknowledgement in time)";
    t.is("put", told(&b.put("k", "ghost".into()).await), lost);
    t.is("create", told(&b.create("c", "ghost".into()).await), lost);
    t.is(
        "not yet",
        told(&near_bucket.info().await),
        "0 records, last @0",
    );
    near_bucket.put("k", "other".into()).await?;
    lab.link("far", LinkVerb::Release);
    let there = |read: &Result<Option<_>, _>| matches!(read, Ok(Some(_)));
    until(lab, "the ghost is there", || near_bucket.entry("c"), there).await?;
    t.is(
        "afterwards",
        told(&near_bucket.entries(">").await),
        "[k=ghost@2 c=ghost@3]",
    );
    Ok(())
}

async fn writes_to_a_frozen_server_are_applied_in_order<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 10)).await?;
    b.put("k", "0".into()).await?;
    lab.server(ServerVerb::Pause).await?;
    let lost = "unknown (no acknowledgement in time)";
    t.is("put", told(&b.put("k", "1".into()).await), lost);
    t.is("delete", told(&b.delete("k", None).await), lost);
    t.is("create", told(&b.create("k", "2".into()).await), lost);
    lab.server(ServerVerb::Resume).await?;
    t.note("afterwards", told(&b.history("k").await));
    Ok(())
}

async fn writes_in_an_outage_are_applied_after_it<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 10)).await?;
    b.put("k", "0".into()).await?;
    lab.server(ServerVerb::Stop).await?;
    // The client needs a moment to learn of it: what it sends before that is lost.
    sleep(lab, Duration::from_millis(100)).await;
    let lost = "unknown (no acknowledgement in time)";
    t.is("put", told(&b.put("k", "1".into()).await), lost);
    let again = b.update("k", "2".into(), Revision(2)).await;
    t.is("update", told(&again), lost);
    lab.server(ServerVerb::Start).await?;
    until(lab, "it is there", || b.entry("k"), Result::is_ok).await?;
    t.is(
        "afterwards",
        told(&b.history("k").await),
        "[k=0@1 k=1@2 k=2@3]",
    );
    Ok(())
}

async fn reads_in_an_outage_wait_for_the_server<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    b.put("k", "0".into()).await?;
    lab.server(ServerVerb::Stop).await?;
    sleep(lab, Duration::from_millis(100)).await;
    t.is(
        "entry",
        told(&b.entry("k").await),
        "refused (no answer in time)",
    );
    t.note("info", told(&b.info().await));
    t.note("history", told(&b.history("k").await));
    t.note("entries", told(&b.entries(">").await));
    t.note("watch", went(&b.watch(">", WatchStart::Snapshot).await));
    t.note(
        "create bucket",
        went(&near.create_bucket(&BucketConfig::new("c")).await),
    );
    let started = async {
        sleep(lab, Duration::from_millis(100)).await;
        lab.server(ServerVerb::Start).await
    };
    // The next attempt of the client is up to four seconds away.
    let waited = async {
        until(lab, "it is read", || b.entry("k"), Result::is_ok).await?;
        Ok::<_, Stop>(told(&b.entry("k").await))
    };
    let (started, waited) = tokio::join!(biased; started, waited);
    started?;
    t.is("entry", waited?, "k=0@1");
    Ok(())
}
