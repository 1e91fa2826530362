//! Watches: what they tell, in which order, and how they come back.

use std::time::Duration;

use squall_core::transport::{BucketConfig, Revision, WatchStart};
use squall_core::{Bucket as _, Connection as _};

use super::laboratory::{Laboratory, Stop, bucket, config, connect, connect_with, pair, sleep};
use super::transcript::{Transcript, gist, line, rest, until_told, went};

super::facts!("watch" {
    a_snapshot_comes_in_order_and_ends: "3 snapshot order; initial done",
    an_empty_snapshot_ends_at_once: "3 initial done",
    a_watch_from_now_tells_nothing_old: "3 watch/watch_all: deliver New only",
    a_watch_from_a_revision_tells_all_that_is_held: "3 watch_from_revision(1)",
    a_watch_from_the_future_is_mute_until_then: "3 from > last: mute until that rev",
    filters_choose_keys: "3 watch filters",
    deletions_and_purges_are_told: "3 tombstones included",
    a_missing_bucket_cannot_be_watched: "1 ops on deleted bucket",
    a_heartbeat_below_100_ms_is_refused: "probe: 10083 on all five versions",
    the_last_value_of_a_burst_arrives: "surprise 7: a watch is not a change log",
    a_write_right_after_the_watch_is_told: "3 write between watch() and first poll",
    a_slow_reader_is_told_of_the_gap: "3 slow watcher",
    a_watch_ends_with_its_connection: "surprise 6",
    several_watches_of_one_client_are_apart: "6 overlapping subs on one client",
});

async fn a_snapshot_comes_in_order_and_ends<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 3)).await?;
    for key in ["a", "b", "c", "d", "a"] {
        b.put(key, "1".into()).await?;
    }
    b.delete("b", None).await?;
    b.purge("c", None).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    let told = until_told(lab, &mut watch, "end").await;
    t.is(
        "snapshot",
        line(&told),
        "d=1@4, a=1@5, b:delete@6, c:purge@7, end",
    );
    b.put("b", "2".into()).await?;
    let told = until_told(lab, &mut watch, "b=2@8").await;
    t.is("live", line(&told), "b=2@8");
    Ok(())
}

async fn an_empty_snapshot_ends_at_once<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.is("empty", line(&rest(lab, &mut watch).await), "end");
    b.put("a", "1".into()).await?;
    t.is("live", line(&rest(lab, &mut watch).await), "a=1@1");
    let mut watch = b.watch("b.>", WatchStart::Snapshot).await?;
    t.is("nothing matches", line(&rest(lab, &mut watch).await), "end");
    Ok(())
}

async fn a_watch_from_now_tells_nothing_old<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 5)).await?;
    b.put("a", "1".into()).await?;
    b.put("a", "2".into()).await?;
    let mut watch = b.watch(">", WatchStart::Now).await?;
    t.is("at first", line(&rest(lab, &mut watch).await), "end");
    b.put("a", "3".into()).await?;
    t.is("live", line(&rest(lab, &mut watch).await), "a=3@3");
    Ok(())
}

async fn a_watch_from_a_revision_tells_all_that_is_held<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 2)).await?;
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "3"), ("b", "2")] {
        b.put(key, value.into()).await?;
    }
    let mut watch = b.watch(">", WatchStart::Revision(Revision(1))).await?;
    let told = until_told(lab, &mut watch, "end").await;
    t.is("from 1", line(&told), "b=1@2, a=2@3, a=3@4, b=2@5, end");
    let mut watch = b.watch(">", WatchStart::Revision(Revision(4))).await?;
    t.is(
        "from 4",
        line(&rest(lab, &mut watch).await),
        "a=3@4, b=2@5, end",
    );
    let mut watch = b.watch("b", WatchStart::Revision(Revision(3))).await?;
    t.is("b from 3", line(&rest(lab, &mut watch).await), "b=2@5, end");
    let mut watch = b.watch(">", WatchStart::Revision(Revision(0))).await?;
    t.note("from 0", line(&rest(lab, &mut watch).await));
    let mut watch = b.watch(">", WatchStart::Revision(Revision(6))).await?;
    t.is("from the next", line(&rest(lab, &mut watch).await), "end");
    Ok(())
}

async fn a_watch_from_the_future_is_mute_until_then<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    b.put("a", "1".into()).await?;
    let mut watch = b.watch(">", WatchStart::Revision(Revision(5))).await?;
    for value in ["2", "3", "4"] {
        b.put("a", value.into()).await?;
    }
    t.note("before", line(&rest(lab, &mut watch).await));
    for value in ["5", "6"] {
        b.put(value, value.into()).await?;
    }
    t.note("then", line(&rest(lab, &mut watch).await));
    Ok(())
}

async fn filters_choose_keys<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    let mut watches = Vec::new();
    for filter in [">", "*", "a.*", "a.>", "*.x", "a.x", "A.x"] {
        watches.push((filter, b.watch(filter, WatchStart::Now).await?));
    }
    for key in ["a", "a.x", "a.y", "a.x.y", "b.x", "A.x"] {
        b.put(key, "1".into()).await?;
        sleep(lab, Duration::from_millis(20)).await;
    }
    for (filter, watch) in &mut watches {
        t.note(filter, line(&rest(lab, watch).await));
    }
    Ok(())
}

async fn deletions_and_purges_are_told<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 10)).await?;
    let mut watch = b.watch(">", WatchStart::Now).await?;
    b.put("a", "1".into()).await?;
    b.delete("a", None).await?;
    b.purge("a", None).await?;
    b.delete("b", None).await?;
    let told = until_told(lab, &mut watch, "b:delete@4").await;
    t.counts("events", told.len(), 3, 5);
    t.is(
        "last",
        line(&told[told.len() - 2..]),
        "a:purge@3, b:delete@4",
    );
    Ok(())
}

async fn a_missing_bucket_cannot_be_watched<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let watched = near.bucket("none")?.watch(">", WatchStart::Snapshot).await;
    t.is(
        "missing",
        went(&watched),
        "refused (there is no such bucket)",
    );
    Ok(())
}

async fn a_heartbeat_below_100_ms_is_refused<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _b) = bucket(lab, &BucketConfig::new("b")).await?;
    for millis in [99, 100] {
        let heartbeat = Duration::from_millis(millis);
        let hasty = connect_with(lab, "far", |options| options.watch_heartbeat = heartbeat).await?;
        let watched = hasty.bucket("b")?.watch(">", WatchStart::Snapshot).await;
        let expected = match millis {
            99 => {
                "refused (consumer idle heartbeat needs to be >= 100ms (code 400, error code 10083))"
            }
            _ => "done",
        };
        t.is(&format!("{millis} ms"), went(&watched), expected);
        hasty.close().await;
    }
    near.close().await;
    Ok(())
}

async fn the_last_value_of_a_burst_arrives<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_both, near_bucket, b) = pair(lab, &BucketConfig::new("b")).await?;
    let mut watch = b.watch(">", WatchStart::Now).await?;
    let puts = (0..300).map(|i| {
        let bucket = near_bucket.clone();
        async move { bucket.put("k", format!("{i}").into()).await }
    });
    futures_util::future::join_all(puts).await;
    let last = near_bucket.put("k", "last".into()).await?;
    let told = until_told(lab, &mut watch, &format!("k=last@{last}")).await;
    let revisions: Vec<u64> = told
        .iter()
        .filter_map(|event| event.rsplit_once('@')?.1.parse().ok())
        .collect();
    t.is("last", last.to_string(), "301");
    t.is(
        "ascending",
        revisions.is_sorted_by(|a, b| a < b).to_string(),
        "true",
    );
    Ok(())
}

async fn a_write_right_after_the_watch_is_told<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_both, near_bucket, b) = pair(lab, &BucketConfig::new("b")).await?;
    let mut missed = 0;
    for round in 0..30 {
        let mut watch = b.watch(">", WatchStart::Now).await?;
        let revision = near_bucket.put("k", format!("{round}").into()).await?;
        let wanted = format!("k={round}@{revision}");
        let told = until_told(lab, &mut watch, &wanted).await;
        missed += usize::from(told != ["end".to_owned(), wanted]);
    }
    t.is("missed", missed.to_string(), "0");
    Ok(())
}

async fn a_slow_reader_is_told_of_the_gap<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let near_bucket = near.create_bucket(&BucketConfig::new("b")).await?;
    let far = connect_with(lab, "far", |options| options.subscription_capacity = 16).await?;
    let mut events = far.events();
    let mut watch = far.bucket("b")?.watch(">", WatchStart::Now).await?;
    for i in 0..100 {
        near_bucket.put(&format!("k{i}"), "v".into()).await?;
    }
    t.note(
        "said",
        gist(&until_told(lab, &mut events, "slow consumer").await),
    );
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "k99=v@100") {
        // A reader that takes a moment over each.
        sleep(lab, Duration::from_millis(2)).await;
        let before = told.len();
        told.extend(until_told_one(lab, &mut watch).await);
        if told.len() == before {
            break;
        }
    }
    let entries: Vec<&String> = told.iter().filter(|event| event.contains('@')).collect();
    t.is("entries", entries.len().to_string(), "100");
    t.is("last", entries.last().map_or("", |last| last), "k99=v@100");
    let gap = told
        .iter()
        .any(|event| event == "interrupted (gap in the deliveries)");
    t.is("the gap is told", gap.to_string(), "true");
    Ok(())
}

async fn until_told_one<L: Laboratory>(
    lab: &L,
    watch: &mut squall_core::transport::Watch,
) -> Option<String> {
    use super::transcript::Show as _;
    let next = super::laboratory::within(lab, Duration::from_secs(10), watch.next()).await;
    next.flatten().map(|event| event.show())
}

async fn a_watch_ends_with_its_connection<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_both, near_bucket, _) = pair(lab, &BucketConfig::new("b")).await?;
    for (what, drain) in [("close", false), ("drain", true)] {
        let far = connect(lab, "far").await?;
        let mut watch = far.bucket("b")?.watch(">", WatchStart::Now).await?;
        near_bucket.put("k", "1".into()).await?;
        sleep(lab, Duration::from_millis(50)).await;
        if drain {
            far.drain().await?;
        } else {
            far.close().await;
        }
        let told = until_told(lab, &mut watch, "(end)").await;
        t.note(what, format!("{} events", told.len()));
        t.is(what, told.last().map_or("", |last| last), "(end)");
        t.is(what, watch.next().await.is_none().to_string(), "true");
    }
    Ok(())
}

async fn several_watches_of_one_client_are_apart<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    b.put("a", "1".into()).await?;
    let mut first = b.watch("a", WatchStart::Snapshot).await?;
    let mut second = b.watch(">", WatchStart::Now).await?;
    let mut third = b.watch("a", WatchStart::Snapshot).await?;
    t.note("third", line(&rest(lab, &mut third).await));
    drop(third);
    b.put("a", "2".into()).await?;
    t.is(
        "first",
        line(&rest(lab, &mut first).await),
        "a=1@1, end, a=2@2",
    );
    t.is("second", line(&rest(lab, &mut second).await), "end, a=2@2");
    Ok(())
}
