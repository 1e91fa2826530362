//! Key-value buckets: what each operation answers, and what is there afterwards.

use bytes::Bytes;
use squall_core::transport::Revision;
use squall_core::transport::{BucketConfig, WatchStart};
use squall_core::{Bucket as _, Connection as _};

use super::laboratory::{Laboratory, Stop, bucket, config, pair};
use super::transcript::{Transcript, told, went};

super::facts!("kv" {
    failed_operations_take_no_revision: "1 revisions; create fresh, over live; update wrong rev",
    create_writes_over_tombstones: "1 create over DEL / PURGE",
    an_update_is_told_the_actual_revision: "1 update wrong rev, missing key, exp 0",
    deleting_nothing_makes_a_revision: "1 delete / purge of never-existing; expect wrong",
    history_keeps_so_many_records_of_a_key: "1 history(), history limit, purge",
    entries_are_the_latest_values_in_order: "1 keys()",
    an_empty_value_is_a_value: "1 get missing / deleted",
    keys_and_filters_are_checked_before_they_are_sent: "1 key validation, watch key validation",
    what_no_message_can_hold_is_refused_here: "1 > max_payload",
    one_of_two_creates_wins: "1 two concurrent creates",
    another_client_reads_what_was_acknowledged: "1 read-after-write, other client",
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

async fn one_of_two_creates_wins<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (_both, near_bucket, bucket) = pair(lab, &BucketConfig::new("b")).await?;
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
    let (_both, near_bucket, bucket) = pair(lab, &BucketConfig::new("b")).await?;
    let mut stale = 0;
    for _ in 0..100 {
        let revision = near_bucket.put("k", "v".into()).await?;
        let read = bucket.entry("k").await?;
        stale += usize::from(read.is_none_or(|entry| entry.revision != revision));
    }
    t.is("stale reads", stale.to_string(), "0");
    Ok(())
}
