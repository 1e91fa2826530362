//! Age limits: what goes when, who is told, and what the markers do.

use std::time::Duration;

use squall_core::transport::{
    BucketConfig, KvEntry, Operation, ReadError, Revision, Storage, WatchStart,
};
use squall_core::{Bucket as _, Clock as _, Connection as _};

use super::laboratory::{
    Conn, Kv, Laboratory, LinkVerb, ServerVerb, Stop, bucket, config, connect, pair, sleep, until,
};
use super::transcript::{Transcript, line, rest, told, until_told, went};

super::facts!("expiry" {
    what_expires_unmarked_tells_nobody: "2 max_age, no markers; surprise 8",
    expiry_is_late_by_so_much: "2 file, max_age 1s, puts 37ms apart; memory",
    what_expires_in_memory_is_gone_as_well: "2 memory, 1s; surprise 11",
    what_expires_marked_is_told: "2 max_age + markers; write over a marker",
    a_marker_goes_in_silence: "2 marker expiry; surprise 9",
    keys_due_together_get_markers_in_order: "2 several keys due together",
    a_write_renews_a_key: "2 put refreshes age",
    only_the_last_record_of_a_key_gets_a_marker: "2 history>1 with markers",
    a_deletion_that_ages_out_is_told_and_a_purge_is_not: "2 user tombstones ageing; surprise 10",
    a_shorter_limit_acts_at_once: "2 shrink max_age in place",
    a_shorter_limit_marks_at_once: "2 shrink max_age in place, with markers",
    what_expires_while_the_server_is_down_is_gone: "2 keys expired while server down",
    what_expires_marked_while_down_is_marked_after: "2 same, with markers",
    a_marker_missed_is_missed_for_good: "surprise 8: missed if cut off longer than it lives",
});

fn aged(seconds: u64) -> BucketConfig {
    config(|c| c.max_age = Duration::from_secs(seconds))
}

fn marked(age: u64, life: u64) -> BucketConfig {
    config(|c| {
        c.max_age = Duration::from_secs(age);
        c.delete_markers = Some(Duration::from_secs(life));
    })
}

/// Delete markers came with 2.11.
fn has_markers<L: Laboratory>(lab: &L) -> bool {
    lab.version().is_at_least(2, 11)
}

/// A bucket with markers, where there are any; elsewhere what says so.
async fn marked_bucket<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
    config: &BucketConfig,
) -> Result<Option<(Conn<L>, Kv<L>)>, Stop> {
    if has_markers(lab) {
        return bucket(lab, config).await.map(Some);
    }
    let near = connect(lab, "near").await?;
    let refused =
        "refused (delete markers need nats-server 2.11 or later (code 400, error code 0))";
    t.is("markers", went(&near.create_bucket(config).await), refused);
    Ok(None)
}

fn is_gone(read: &Result<Option<KvEntry>, ReadError>) -> bool {
    matches!(read, Ok(None))
}

fn is_expired(read: &Result<Option<KvEntry>, ReadError>) -> bool {
    matches!(read, Ok(Some(entry)) if entry.operation == Operation::Expire)
}

async fn what_expires_unmarked_tells_nobody<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &aged(1)).await?;
    let mut watch = b.watch(">", WatchStart::Now).await?;
    b.put("k", "1".into()).await?;
    t.is(
        "told",
        line(&until_told(lab, &mut watch, "k=1@1").await),
        "end, k=1@1",
    );
    sleep(lab, Duration::from_millis(700)).await;
    t.is("young", told(&b.entry("k").await), "k=1@1");
    let time = until(lab, "it goes", || b.entry("k"), is_gone).await?;
    // Files of 2.10 are looked at once a second.
    let latest = if has_markers(lab) { 900 } else { 1600 };
    t.lasts("goes", time, 0, latest);
    t.is("told", line(&rest(lab, &mut watch).await), "nothing");
    t.is("info", told(&b.info().await), "0 records, last @1");
    t.is("history", told(&b.history("k").await), "[]");
    let stale = b.update("k", "2".into(), Revision(1)).await;
    t.is(
        "update",
        told(&stale),
        "refused (the latest revision of the key is 0)",
    );
    t.is(
        "update none",
        told(&b.update("k", "2".into(), Revision::NONE).await),
        "@2",
    );
    Ok(())
}

async fn expiry_is_late_by_so_much<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    const KEYS: usize = 60;
    for (name, storage) in [("file", Storage::File), ("memory", Storage::Memory)] {
        let near = connect(lab, "near").await?;
        let config = BucketConfig {
            max_age: Duration::from_secs(1),
            storage,
            ..BucketConfig::new(name)
        };
        let b = near.create_bucket(&config).await?;
        let lateness = |number: usize| {
            let (b, key) = (b.clone(), format!("k{number}"));
            async move {
                sleep(lab, Duration::from_millis(37 * number as u64)).await;
                b.put(&key, "1".into()).await?;
                let put = lab.clock().now();
                sleep(lab, Duration::from_millis(990)).await;
                until(lab, "it goes", || b.entry(&key), is_gone).await?;
                let age = lab.clock().now().since(put);
                // It is looked at every few milliseconds: less than that is not told apart.
                let late = age.saturating_sub(Duration::from_secs(1)).as_millis() as u64;
                Ok::<_, Stop>(Duration::from_millis(late / 10 * 10))
            }
        };
        let times = futures_util::future::try_join_all((0..KEYS).map(lateness)).await?;
        t.times(
            &format!("{name}: late by"),
            &times,
            Duration::from_millis(120),
        );
    }
    Ok(())
}

async fn what_expires_in_memory_is_gone_as_well<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let memory = config(|c| {
        c.max_age = Duration::from_secs(1);
        c.storage = Storage::Memory;
    });
    let (_near, b) = bucket(lab, &memory).await?;
    for key in ["a", "b", "c"] {
        b.put(key, "1".into()).await?;
    }
    let time = until(lab, "it goes", || b.entry("c"), is_gone).await?;
    t.lasts("goes", time, 900, 1900);
    t.is("create", told(&b.create("a", "2".into()).await), "@4");
    t.is("entries", told(&b.entries(">").await), "[a=2@4]");
    Ok(())
}

async fn what_expires_marked_is_told<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Some((_near, b)) = marked_bucket(lab, t, &marked(1, 5)).await? else {
        return Ok(());
    };
    let mut watch = b.watch(">", WatchStart::Now).await?;
    b.put("k", "1".into()).await?;
    b.put("l", "1".into()).await?;
    let time = until(lab, "it is marked", || b.entry("k"), is_expired).await?;
    t.lasts("marked", time, 900, 1900);
    let said = until_told(lab, &mut watch, "l:expire@4").await;
    t.is(
        "told",
        line(&said),
        "end, k=1@1, l=1@2, k:expire@3, l:expire@4",
    );
    t.is("history", told(&b.history("k").await), "[k:expire@3]");
    t.is("entries", told(&b.entries(">").await), "[]");
    let mut late = b.watch(">", WatchStart::Snapshot).await?;
    t.is(
        "snapshot",
        line(&until_told(lab, &mut late, "end").await),
        "k:expire@3, l:expire@4, end",
    );
    let stale = b.update("k", "2".into(), Revision(1)).await;
    t.is(
        "update",
        told(&stale),
        "refused (the latest revision of the key is 3)",
    );
    let none = b.update("k", "2".into(), Revision::NONE).await;
    t.is(
        "update none",
        told(&none),
        "refused (the latest revision of the key is 3)",
    );
    t.is(
        "create over it",
        told(&b.create("k", "2".into()).await),
        "@5",
    );
    t.is(
        "update over it",
        told(&b.update("l", "2".into(), Revision(4)).await),
        "@6",
    );
    Ok(())
}

async fn a_marker_goes_in_silence<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let Some((_near, b)) = marked_bucket(lab, t, &marked(1, 10)).await? else {
        return Ok(());
    };
    let mut watch = b.watch(">", WatchStart::Now).await?;
    b.put("k", "1".into()).await?;
    let said = until_told(lab, &mut watch, "k:expire@2").await;
    t.is("told", line(&said), "end, k=1@1, k:expire@2");
    let time = until(lab, "the marker goes", || b.entry("k"), is_gone).await?;
    // It lives no longer than `max_age`.
    t.lasts("goes", time, 700, 2200);
    t.is("told", line(&rest(lab, &mut watch).await), "nothing");
    t.is("info", told(&b.info().await), "0 records, last @2");
    Ok(())
}

async fn keys_due_together_get_markers_in_order<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Some((_near, b)) = marked_bucket(lab, t, &marked(1, 5)).await? else {
        return Ok(());
    };
    for key in ["d", "b", "c", "a", "b"] {
        b.put(key, "1".into()).await?;
    }
    until(lab, "all are marked", || b.entry("b"), is_expired).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    let said = until_told(lab, &mut watch, "end").await;
    t.is(
        "markers",
        line(&said),
        "d:expire@6, c:expire@7, a:expire@8, b:expire@9, end",
    );
    Ok(())
}

async fn a_write_renews_a_key<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &aged(1)).await?;
    let mut revision = b.put("k", "0".into()).await?;
    for _ in 0..4 {
        sleep(lab, Duration::from_millis(500)).await;
        revision = b.update("k", "more".into(), revision).await?;
    }
    t.is("after two lives", told(&b.entry("k").await), "k=more@5");
    until(lab, "it goes", || b.entry("k"), is_gone).await?;
    t.is("info", told(&b.info().await), "0 records, last @5");
    Ok(())
}

async fn only_the_last_record_of_a_key_gets_a_marker<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let five = config(|c| {
        c.history = 5;
        c.max_age = Duration::from_secs(1);
        c.delete_markers = Some(Duration::from_secs(5));
    });
    let Some((_near, b)) = marked_bucket(lab, t, &five).await? else {
        return Ok(());
    };
    for value in ["1", "2", "3"] {
        b.put("k", value.into()).await?;
        sleep(lab, Duration::from_millis(400)).await;
    }
    t.note("older ones may be gone", went(&b.history("k").await));
    until(lab, "it is marked", || b.entry("k"), is_expired).await?;
    t.is("history", told(&b.history("k").await), "[k:expire@4]");
    Ok(())
}

async fn a_deletion_that_ages_out_is_told_and_a_purge_is_not<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Some((_near, b)) = marked_bucket(lab, t, &marked(1, 5)).await? else {
        return Ok(());
    };
    b.put("d", "1".into()).await?;
    b.put("p", "1".into()).await?;
    b.delete("d", None).await?;
    b.purge("p", None).await?;
    let mut watch = b.watch(">", WatchStart::Now).await?;
    until(lab, "the deletion is marked", || b.entry("d"), is_expired).await?;
    until(lab, "the purge is gone", || b.entry("p"), is_gone).await?;
    t.is(
        "told",
        line(&rest(lab, &mut watch).await),
        "end, d:expire@5",
    );
    t.is("info", told(&b.info().await), "1 records, last @5");
    Ok(())
}

async fn a_shorter_limit_acts_at_once<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, b) = bucket(lab, &aged(60)).await?;
    b.put("k", "1".into()).await?;
    sleep(lab, Duration::from_millis(1300)).await;
    near.update_bucket(&aged(1)).await?;
    let time = until(lab, "it goes", || b.entry("k"), is_gone).await?;
    t.lasts("goes", time, 0, 600);
    Ok(())
}

async fn a_shorter_limit_marks_at_once<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Some((near, b)) = marked_bucket(lab, t, &marked(60, 5)).await? else {
        return Ok(());
    };
    let mut watch = b.watch(">", WatchStart::Now).await?;
    b.put("k", "1".into()).await?;
    sleep(lab, Duration::from_millis(1300)).await;
    near.update_bucket(&marked(1, 5)).await?;
    let said = until_told(lab, &mut watch, "k:expire@2").await;
    t.is("told", line(&said), "end, k=1@1, k:expire@2");
    Ok(())
}

async fn what_expires_while_the_server_is_down_is_gone<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, b) = bucket(lab, &aged(1)).await?;
    b.put("k", "1".into()).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.note("before", line(&rest(lab, &mut watch).await));
    lab.server(ServerVerb::Stop).await?;
    sleep(lab, Duration::from_millis(1200)).await;
    lab.server(ServerVerb::Start).await?;
    until(lab, "it is back", || near.flush(), Result::is_ok).await?;
    t.is("first read", told(&b.entry("k").await), "none");
    t.is(
        "told",
        line(&until_told(lab, &mut watch, "resumed").await),
        "interrupted (disconnected), resumed",
    );
    t.is("then", line(&rest(lab, &mut watch).await), "nothing");
    t.note("info", told(&b.info().await));
    t.is("put", told(&b.put("k", "2".into()).await), "@2");
    Ok(())
}

async fn what_expires_marked_while_down_is_marked_after<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let Some((near, b)) = marked_bucket(lab, t, &marked(2, 5)).await? else {
        return Ok(());
    };
    b.put("k", "1".into()).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.note("before", line(&rest(lab, &mut watch).await));
    lab.server(ServerVerb::Stop).await?;
    sleep(lab, Duration::from_millis(2500)).await;
    lab.server(ServerVerb::Start).await?;
    until(lab, "it is back", || near.flush(), Result::is_ok).await?;
    until(lab, "it is marked", || b.entry("k"), is_expired).await?;
    let said = until_told(lab, &mut watch, "k:expire@2").await;
    t.is(
        "told",
        line(&said),
        "interrupted (disconnected), resumed, k:expire@2",
    );
    Ok(())
}

async fn a_marker_missed_is_missed_for_good<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    if !has_markers(lab) {
        return marked_bucket(lab, t, &marked(1, 1)).await.map(drop);
    }
    let (_both, near_bucket, b) = pair(lab, &marked(1, 1)).await?;
    near_bucket.put("k", "1".into()).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.is("before", line(&rest(lab, &mut watch).await), "k=1@1, end");
    lab.link("far", LinkVerb::Hold);
    let gone = || near_bucket.entry("k");
    until(lab, "it is marked", gone, is_expired).await?;
    until(lab, "the marker goes", gone, is_gone).await?;
    let silence = "interrupted (no sign of life from the server)";
    t.is(
        "held",
        line(&until_told(lab, &mut watch, silence).await),
        silence,
    );
    lab.link("far", LinkVerb::Release);
    t.is(
        "released",
        line(&until_told(lab, &mut watch, "resumed").await),
        "resumed",
    );
    t.is("then", line(&rest(lab, &mut watch).await), "nothing");
    Ok(())
}
