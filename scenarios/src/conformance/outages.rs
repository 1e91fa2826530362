//! Outages of links and servers: what is unknown, what is applied later, what is lost.

use std::time::Duration;

use squall_core::transport::{BucketConfig, BucketInfo, Message, Revision, Storage, WatchStart};
use squall_core::{Bucket as _, Connection as _};

use super::laboratory::{
    Laboratory, LinkVerb, ServerVerb, Stop, bucket, config, connect, connect_with, pair, sleep,
    timed, until, within,
};
use super::transcript::{Transcript, line, told, until_told, went};

super::facts!("outages" {
    a_bucket_in_memory_vanishes_with_a_restart: "surprise 19",
    a_lost_acknowledgement_is_unknown: "surprise 2: ambiguous writes, create() lies",
    a_write_held_on_its_way_is_applied_later: "surprise 3: ghost writes",
    writes_to_a_frozen_server_are_applied_in_order: "surprise 3: ghost writes, SIGSTOP",
    writes_in_an_outage_are_applied_after_it: "surprise 3: ghost writes, server down",
    reads_in_an_outage_wait_for_the_server: "6 request issued while down",
    messages_published_in_an_outage_arrive_in_order: "surprise 14; 6 subscriptions",
    messages_of_others_in_an_outage_are_lost: "6 other clients' messages during my reconnect",
    a_full_buffer_blocks: "surprise 14: the 2049th publish blocks",
    requests_over_an_outage: "6 request in flight at SIGKILL / issued while down",
});

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
    let (_both, near_bucket, b) = pair(lab, &BucketConfig::new("b")).await?;
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
    let (_both, near_bucket, b) = pair(lab, &BucketConfig::new("b")).await?;
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
    // A busy server may look at a request that came later first.
    let applied =
        |read: &Result<BucketInfo, _>| matches!(read, Ok(info) if info.last_revision.0 >= 3);
    until(lab, "they are applied", || b.info(), applied).await?;
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

async fn messages_published_in_an_outage_arrive_in_order<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    let mut heard = near.subscribe("s", None).await?;
    near.flush().await?;
    lab.server(ServerVerb::Stop).await?;
    let told = until_told(lab, &mut events, "disconnected: link lost").await;
    t.is("events", line(&told), "disconnected: link lost");
    for i in 0..100 {
        near.publish(Message::new("s", format!("{i}"))).await?;
    }
    lab.server(ServerVerb::Start).await?;
    let told = until_told(lab, &mut heard, "s=99").await;
    let expected: Vec<String> = (0..100).map(|i| format!("s={i}")).collect();
    t.is("all in order", (told == expected).to_string(), "true");
    Ok(())
}

async fn messages_of_others_in_an_outage_are_lost<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect_with(lab, "far", |options| {
        options.ping_interval = Duration::from_millis(200);
        options.connect_timeout = Duration::from_millis(500);
    })
    .await?;
    let mut events = far.events();
    let mut heard = far.subscribe("s", None).await?;
    far.flush().await?;
    lab.link("far", LinkVerb::Hold);
    until_told(lab, &mut events, "disconnected: link lost").await;
    lab.link("far", LinkVerb::Cut);
    sleep(lab, Duration::from_millis(100)).await;
    near.publish(Message::new("s", "lost")).await?;
    near.flush().await?;
    lab.link("far", LinkVerb::Release);
    until_told(lab, &mut events, "reconnected").await;
    far.flush().await?;
    near.publish(Message::new("s", "heard")).await?;
    t.is(
        "heard",
        line(&until_told(lab, &mut heard, "s=heard").await),
        "s=heard",
    );
    Ok(())
}

async fn a_full_buffer_blocks<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    let mut heard = near.subscribe("s", None).await?;
    near.flush().await?;
    lab.server(ServerVerb::Stop).await?;
    until_told(lab, &mut events, "disconnected: link lost").await;
    sleep(lab, Duration::from_millis(100)).await;
    let mut published = 0;
    while published < 3000 {
        let message = Message::new("s", format!("{published}"));
        match within(lab, Duration::from_millis(300), near.publish(message)).await {
            Some(done) => done?,
            None => break,
        }
        published += 1;
    }
    t.counts("published", published, 2040, 2060);
    let short = Duration::from_millis(100);
    let subscribed = within(lab, short, near.subscribe("x", None)).await;
    t.is(
        "subscribe",
        subscribed.map_or_else(|| "blocks".to_owned(), |s| went(&s)),
        "blocks",
    );
    lab.server(ServerVerb::Start).await?;
    let told = until_told(lab, &mut heard, &format!("s={}", published - 1)).await;
    t.is("all arrive", (told.len() == published).to_string(), "true");
    Ok(())
}

async fn requests_over_an_outage<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let _silent = far.subscribe("s", None).await?;
    far.flush().await?;
    let stop = async {
        sleep(lab, Duration::from_millis(100)).await;
        lab.server(ServerVerb::Stop).await
    };
    let ask = timed(lab, near.request(Message::new("s", "?")));
    let (stopped, (time, asked)) = tokio::join!(biased; stop, ask);
    stopped?;
    t.is("in flight", told(&asked), "unknown (no answer in time)");
    t.lasts("in flight", time, 1990, 2600);
    let start = async {
        sleep(lab, Duration::from_millis(100)).await;
        lab.server(ServerVerb::Start).await
    };
    let patient = connect_later(lab, &near).await;
    let (started, asked) = tokio::join!(biased; start, patient);
    started?;
    t.is("while down", asked, "refused (no responders)");
    Ok(())
}

/// Asks until an answer comes: the next attempt to connect may be further away than one request waits.
async fn connect_later<'a, L: Laboratory>(
    lab: &'a L,
    near: &'a super::laboratory::Conn<L>,
) -> impl Future<Output = String> + 'a {
    async move {
        loop {
            let asked = told(&near.request(Message::new("nobody", "?")).await);
            if asked != "unknown (no answer in time)" {
                return asked;
            }
            sleep(lab, Duration::from_millis(10)).await;
        }
    }
}
