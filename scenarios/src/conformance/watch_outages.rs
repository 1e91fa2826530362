//! Watches across outages: what interrupts them, and what they tell once they are back.

use std::time::Duration;

use squall_core::transport::{BucketConfig, Storage, WatchStart};
use squall_core::{Bucket as _, Connection as _};

use super::laboratory::{
    Laboratory, LinkVerb, ServerVerb, Stop, bucket, config, connect, connect_with, pair, sleep,
    until,
};
use super::transcript::{Transcript, during, line, rest, until_told};

super::facts!("watch_outages" {
    a_cut_neither_loses_nor_repeats: "3 connection reset",
    a_restart_of_the_server_neither_loses_nor_repeats: "3 SIGKILL + restart 300ms",
    a_quiet_watch_does_not_replay_after_a_restart: "surprise 4: deliver New replays",
    a_young_watch_comes_back_with_the_connection: "surprise 5: a young watcher misses it",
    a_short_hold_is_not_noticed: "3 network hold 6s",
    a_long_hold_is_told_and_caught_up: "3 network hold 14s / 45s",
    a_frozen_server_is_told: "3 SIGSTOP 10/12/25s",
    a_bucket_deleted_and_created_anew_is_told: "surprise 12",
    a_bucket_that_vanished_with_a_restart_is_told: "surprise 19, 12",
});

async fn a_cut_neither_loses_nor_repeats<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_both, near_bucket, b) = pair(lab, &config(|c| c.history = 5)).await?;
    near_bucket.put("a", "1".into()).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.note("before", line(&rest(lab, &mut watch).await));
    lab.link("far", LinkVerb::Cut);
    let told = until_told(lab, &mut watch, "resumed").await;
    t.is("cut", line(&told), "interrupted (disconnected), resumed");
    near_bucket.put("a", "2".into()).await?;
    t.is("after", line(&rest(lab, &mut watch).await), "a=2@2");
    Ok(())
}

async fn a_restart_of_the_server_neither_loses_nor_repeats<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_both, near_bucket, b) = pair(lab, &config(|c| c.history = 5)).await?;
    near_bucket.put("a", "1".into()).await?;
    near_bucket.put("b", "1".into()).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.note("before", line(&rest(lab, &mut watch).await));
    lab.server(ServerVerb::Stop).await?;
    sleep(lab, Duration::from_millis(300)).await;
    lab.server(ServerVerb::Start).await?;
    let told = until_told(lab, &mut watch, "resumed").await;
    t.is(
        "restart",
        line(&told),
        "interrupted (disconnected), resumed",
    );
    until(
        lab,
        "it is written",
        || near_bucket.put("c", "2".into()),
        Result::is_ok,
    )
    .await?;
    let told = rest(lab, &mut watch).await;
    t.note("after", line(&told));
    Ok(())
}

async fn a_quiet_watch_does_not_replay_after_a_restart<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &config(|c| c.history = 5)).await?;
    for value in ["1", "2", "3"] {
        b.put("a", value.into()).await?;
    }
    let mut watch = b.watch(">", WatchStart::Now).await?;
    // Two heartbeats: no longer young.
    sleep(lab, Duration::from_millis(1200)).await;
    lab.server(ServerVerb::Stop).await?;
    lab.server(ServerVerb::Start).await?;
    let told = until_told(lab, &mut watch, "resumed").await;
    t.is(
        "restart",
        line(&told),
        "end, interrupted (disconnected), resumed",
    );
    t.is("then", line(&rest(lab, &mut watch).await), "nothing");
    b.put("a", "4".into()).await?;
    t.is("live", line(&rest(lab, &mut watch).await), "a=4@4");
    Ok(())
}

async fn a_young_watch_comes_back_with_the_connection<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_both, near_bucket, b) = pair(lab, &BucketConfig::new("b")).await?;
    near_bucket.put("a", "1".into()).await?;
    let mut watch = b.watch(">", WatchStart::Now).await?;
    lab.link("far", LinkVerb::Cut);
    let told = until_told(lab, &mut watch, "resumed").await;
    t.is(
        "cut",
        line(&told),
        "end, interrupted (disconnected), resumed",
    );
    near_bucket.put("a", "2".into()).await?;
    t.is("live", line(&rest(lab, &mut watch).await), "a=2@2");
    Ok(())
}

async fn a_short_hold_is_not_noticed<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect_with(lab, "far", |options| {
        options.watch_heartbeat = Duration::from_secs(2);
    })
    .await?;
    let near_bucket = near.create_bucket(&config(|c| c.history = 10)).await?;
    let mut watch = far.bucket("b")?.watch(">", WatchStart::Now).await?;
    t.is("before", line(&rest(lab, &mut watch).await), "end");
    lab.link("far", LinkVerb::Hold);
    for value in ["1", "2", "3"] {
        near_bucket.put("a", value.into()).await?;
        sleep(lab, Duration::from_millis(20)).await;
    }
    t.is("held", line(&rest(lab, &mut watch).await), "nothing");
    lab.link("far", LinkVerb::Release);
    let told = until_told(lab, &mut watch, "a=3@3").await;
    t.is("released", line(&told), "a=1@1, a=2@2, a=3@3");
    Ok(())
}

async fn a_long_hold_is_told_and_caught_up<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_both, near_bucket, b) = pair(lab, &BucketConfig::new("b")).await?;
    near_bucket.put("a", "0".into()).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.note("before", line(&rest(lab, &mut watch).await));
    lab.link("far", LinkVerb::Hold);
    for value in ["1", "2", "3"] {
        near_bucket.put("a", value.into()).await?;
        near_bucket.put("b", value.into()).await?;
    }
    let silence = "interrupted (no sign of life from the server)";
    let told = during(lab, &mut watch, Duration::from_millis(1600)).await;
    t.is("held", line(&told), silence);
    lab.link("far", LinkVerb::Release);
    let told = until_told(lab, &mut watch, "b=3@7").await;
    t.is("released", line(&told), "resumed, a=3@6, b=3@7");
    t.is("then", line(&rest(lab, &mut watch).await), "nothing");
    Ok(())
}

async fn a_frozen_server_is_told<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (_near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    b.put("a", "1".into()).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.note("before", line(&rest(lab, &mut watch).await));
    lab.server(ServerVerb::Pause).await?;
    let told = during(lab, &mut watch, Duration::from_millis(1600)).await;
    t.is(
        "frozen",
        line(&told),
        "interrupted (no sign of life from the server)",
    );
    lab.server(ServerVerb::Resume).await?;
    t.is(
        "running",
        line(&until_told(lab, &mut watch, "resumed").await),
        "resumed",
    );
    b.put("a", "2".into()).await?;
    t.is(
        "live",
        line(&until_told(lab, &mut watch, "a=2@2").await),
        "a=2@2",
    );
    Ok(())
}

async fn a_bucket_deleted_and_created_anew_is_told<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, b) = bucket(lab, &BucketConfig::new("b")).await?;
    for value in ["1", "2", "3"] {
        b.put("a", value.into()).await?;
    }
    let mut watch = b.watch(">", WatchStart::Now).await?;
    t.note("before", line(&rest(lab, &mut watch).await));
    near.delete_bucket("b").await?;
    let told = during(lab, &mut watch, Duration::from_millis(1600)).await;
    // It asks at once, is told that there is none, and asks again half a second later and so on.
    t.is(
        "deleted",
        line(&told),
        "interrupted (no sign of life from the server), interrupted (the bucket is not there)",
    );
    let b = near.create_bucket(&BucketConfig::new("b")).await?;
    b.put("a", "new".into()).await?;
    b.put("b", "new".into()).await?;
    let told = until_told(lab, &mut watch, "b=new@2").await;
    t.is(
        "created",
        line(&told),
        "resumed (new bucket), a=new@1, b=new@2",
    );
    Ok(())
}

async fn a_bucket_that_vanished_with_a_restart_is_told<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let memory = config(|c| c.storage = Storage::Memory);
    let (near, b) = bucket(lab, &memory).await?;
    b.put("a", "1".into()).await?;
    b.put("a", "2".into()).await?;
    let mut watch = b.watch(">", WatchStart::Snapshot).await?;
    t.note("before", line(&rest(lab, &mut watch).await));
    lab.server(ServerVerb::Stop).await?;
    lab.server(ServerVerb::Start).await?;
    until(
        lab,
        "it is made",
        || near.create_bucket(&memory),
        Result::is_ok,
    )
    .await?;
    b.put("a", "new".into()).await?;
    let told = until_told(lab, &mut watch, "a=new@1").await;
    let missing = "interrupted (the bucket is not there)";
    t.is(
        "at first",
        told.first().map_or("", |first| first),
        "interrupted (disconnected)",
    );
    // It may be back before the bucket is made, and finds it missing, or after.
    let times = told.iter().filter(|event| *event == missing).count();
    t.counts("told that it is missing", times, 0, 1);
    let last = &told[told.len().saturating_sub(2)..];
    t.is("anew", line(last), "resumed (new bucket), a=new@1");
    t.counts("all told", told.len() - times, 3, 3);
    Ok(())
}
