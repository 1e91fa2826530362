//! Connections: how they begin, come back and end, and what they say of it.

use std::num::NonZeroU32;
use std::time::Duration;

use squall_core::transport::{
    BucketConfig, ConnectionEvent, Events, Message, Revision, WatchStart,
};
use squall_core::{Bucket as _, Clock as _, Connection};

use super::laboratory::{
    Laboratory, LinkVerb, ServerVerb, Setup, Stop, connect, connect_with, sleep, timed,
    try_connect, within,
};
use super::transcript::{Transcript, gist, line, rest, told, until_told, went};

super::facts!("connection" {
    a_connection_begins_connected: "6 events: connect",
    a_server_that_is_down_cannot_be_reached: "6 connection refused",
    a_server_that_does_not_greet_times_out: "6 no INFO",
    a_cut_is_healed_at_once: "6 events; 3 connection reset",
    attempts_come_at_growing_intervals: "6 attempt times",
    a_client_waits_for_its_next_attempt: "6 server back at +1.21s",
    attempts_go_round_the_servers: "6 attempt times: with k URLs each URL is an attempt",
    the_next_server_is_tried_at_once: "6 two URLs, first dies",
    a_lame_duck_says_so: "6 lame duck; surprise 20"
        with Setup { lame_duck_grace: Duration::from_secs(6), ..Setup::DEFAULT },
    a_client_may_give_up: "6 max_reconnects(3)",
    pings_find_a_dead_link: "6 SIGSTOP, ping_interval 1s",
    a_frozen_server_is_not_noticed_by_itself: "6 SIGSTOP 215s",
    a_server_gives_up_a_mute_client: "6 server ping gives up"
        with Setup { ping_interval: Duration::from_secs(1), ..Setup::DEFAULT },
    closing_is_said_once_and_final: "6 drain / drop last Client",
    the_last_clone_closes: "6 drop last Client",
    a_drained_connection_lets_its_messages_be_read: "6 drain",
    closing_ends_what_waits: "the seam: ClosedWhileWaiting",
    a_disconnected_client_can_be_closed: "6 drop Client while disconnected",
    a_drain_in_an_outage_closes: "0.10 a client that is failing cannot be stopped",
});

async fn a_connection_begins_connected<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    t.is("state", format!("{:?}", near.state()), "Connected");
    let far = connect(lab, "far").await?;
    let other = connect(lab, "near").await?;
    t.is("ids differ", (near.id() != other.id()).to_string(), "true");
    t.is(
        "a clone is the same",
        (near.id() == near.clone().id()).to_string(),
        "true",
    );
    far.flush().await?;
    t.is("events", line(&rest(lab, &mut events).await), "nothing");
    Ok(())
}

async fn a_server_that_is_down_cannot_be_reached<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    lab.server(ServerVerb::Stop).await?;
    let refused = try_connect(lab, "near", |_| {}).await?;
    t.is("kind", kind(&refused), "unreachable");
    let refused = try_connect(lab, "near", |options| options.servers.clear()).await?;
    t.is("no server", kind(&refused), "invalid address");
    lab.server(ServerVerb::Start).await?;
    let near = connect(lab, "near").await?;
    t.is("started", told(&near.flush().await), "done");
    Ok(())
}

fn kind<T>(result: &Result<T, squall_core::transport::ConnectError>) -> &'static str {
    use squall_core::transport::ConnectError;
    match result {
        Ok(_) => "connected",
        Err(ConnectError::InvalidAddress(_)) => "invalid address",
        Err(ConnectError::Unreachable(_)) => "unreachable",
        Err(ConnectError::TimedOut) => "timed out",
        Err(ConnectError::Auth(_)) => "auth",
    }
}

async fn a_server_that_does_not_greet_times_out<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    // The link must be there before it can be held.
    connect(lab, "near").await?.close().await;
    lab.link("near", LinkVerb::Hold);
    let (time, refused) = timed(lab, try_connect(lab, "near", |_| {})).await;
    t.is("held", kind(&refused?), "timed out");
    t.lasts("held", time, 990, 1800);
    lab.link("near", LinkVerb::Release);
    lab.server(ServerVerb::Pause).await?;
    let (time, refused) = timed(lab, try_connect(lab, "near", |_| {})).await;
    t.is("frozen", kind(&refused?), "timed out");
    t.lasts("frozen", time, 990, 1800);
    lab.server(ServerVerb::Resume).await?;
    t.is(
        "good",
        kind(&try_connect(lab, "near", |_| {}).await?),
        "connected",
    );
    Ok(())
}

async fn a_cut_is_healed_at_once<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    for _ in 0..3 {
        lab.link("near", LinkVerb::Cut);
        let (time, said) = timed(lab, until_told(lab, &mut events, "reconnected")).await;
        t.is("cut", line(&said), "disconnected: link lost, reconnected");
        t.lasts("cut", time, 0, 500);
        near.flush().await?;
    }
    Ok(())
}

async fn attempts_come_at_growing_intervals<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(connect(lab, "near").await?);
    }
    let mut watched: Vec<_> = others.iter().map(Connection::events).collect();
    lab.server(ServerVerb::Stop).await?;
    let span = Duration::from_millis(1500);
    let listening = watched.iter_mut().map(|events| failures(lab, events, span));
    let times = futures_util::future::join_all(listening).await.concat();
    t.times("attempts of six", &times, Duration::from_millis(60));
    t.is("state", format!("{:?}", near.state()), "Disconnected");
    let said = rest(lab, &mut events).await;
    t.is(
        "said",
        gist(&said),
        "disconnected: link lost, reconnect failed",
    );
    // After 1, 4, 10, 19, 36, 70, 135, 265, 521, 1034 ms; the next is at 2060 ms.
    t.counts("attempts in 1.8 s", said.len() - 1, 8, 11);
    let (time, ()) = timed(lab, async {
        sleep(lab, Duration::ZERO).await;
    })
    .await;
    t.lasts("meanwhile", time, 0, 500);
    lab.server(ServerVerb::Start).await?;
    let said = until_told(lab, &mut events, "reconnected").await;
    t.is("back", said.last().map_or("", |last| last), "reconnected");
    t.is("state", format!("{:?}", near.state()), "Connected");
    Ok(())
}

async fn a_client_may_give_up<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect_with(lab, "near", |options| {
        options.reconnects_max = NonZeroU32::new(3);
    })
    .await?;
    let mut events = near.events();
    let mut heard = near.subscribe("s", None).await?;
    lab.server(ServerVerb::Stop).await?;
    let said = until_told(lab, &mut events, "closed").await;
    t.is(
        "said",
        line(&said),
        "disconnected: link lost, reconnect failed, reconnect failed, reconnect failed, closed",
    );
    t.is("state", format!("{:?}", near.state()), "Closed");
    t.is(
        "heard",
        line(&until_told(lab, &mut heard, "(end)").await),
        "(end)",
    );
    let published = near.publish(Message::new("s", "m")).await;
    t.is(
        "publish",
        told(&published),
        "refused (the connection is closed)",
    );
    t.is(
        "events end",
        events.next().await.is_none().to_string(),
        "true",
    );
    Ok(())
}

async fn pings_find_a_dead_link<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect_with(lab, "near", |options| {
        options.ping_interval = Duration::from_millis(400);
        options.connect_timeout = Duration::from_millis(500);
    })
    .await?;
    let mut events = near.events();
    near.flush().await?;
    lab.link("near", LinkVerb::Hold);
    let (time, said) = timed(lab, until_told(lab, &mut events, "disconnected: link lost")).await;
    t.is("said", line(&said), "disconnected: link lost");
    t.lasts("noticed", time, 800, 1700);
    let said = until_told(lab, &mut events, "reconnect failed (timed out)").await;
    t.is("said", line(&said), "reconnect failed (timed out)");
    lab.link("near", LinkVerb::Release);
    let said = until_told(lab, &mut events, "reconnected").await;
    t.is(
        "released",
        said.last().map_or("", |last| last),
        "reconnected",
    );
    Ok(())
}

async fn a_frozen_server_is_not_noticed_by_itself<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    let mut heard = near.subscribe("s", None).await?;
    near.flush().await?;
    lab.server(ServerVerb::Pause).await?;
    near.publish(Message::new("s", "m")).await?;
    t.is(
        "flush",
        told(&near.flush().await),
        "unknown (the server did not answer in time)",
    );
    t.is("events", line(&rest(lab, &mut events).await), "nothing");
    t.is("state", format!("{:?}", near.state()), "Connected");
    lab.server(ServerVerb::Resume).await?;
    t.is(
        "heard",
        line(&until_told(lab, &mut heard, "s=m").await),
        "s=m",
    );
    Ok(())
}

async fn a_server_gives_up_a_mute_client<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    near.flush().await?;
    lab.link("near", LinkVerb::Hold);
    sleep(lab, Duration::from_millis(6000)).await;
    t.is("held", line(&rest(lab, &mut events).await), "nothing");
    lab.link("near", LinkVerb::Release);
    let said = until_told(lab, &mut events, "reconnected").await;
    t.is(
        "released",
        line(&said),
        "server error: Stale Connection, disconnected: Stale Connection, reconnected",
    );
    Ok(())
}

async fn closing_is_said_once_and_final<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let b = near.create_bucket(&BucketConfig::new("b")).await?;
    let mut events = near.events();
    let mut heard = near.subscribe("s", None).await?;
    near.close().await;
    near.close().await;
    t.is("state", format!("{:?}", near.state()), "Closed");
    t.is(
        "events",
        line(&until_told(lab, &mut events, "(end)").await),
        "closed, (end)",
    );
    t.is(
        "late listener",
        line(&until_told(lab, &mut near.events(), "(end)").await),
        "closed, (end)",
    );
    t.is(
        "heard",
        line(&until_told(lab, &mut heard, "(end)").await),
        "(end)",
    );
    t.note("publish", told(&near.publish(Message::new("s", "m")).await));
    t.note("request", told(&near.request(Message::new("s", "m")).await));
    t.note("subscribe", went(&near.subscribe("s", None).await));
    t.note("flush", told(&near.flush().await));
    t.note("drain", told(&near.drain().await));
    t.note("bucket", went(&near.bucket("b")));
    t.note(
        "create bucket",
        went(&near.create_bucket(&BucketConfig::new("b")).await),
    );
    t.note(
        "update bucket",
        went(&near.update_bucket(&BucketConfig::new("b")).await),
    );
    t.note("delete bucket", went(&near.delete_bucket("b").await));
    t.note("entry", told(&b.entry("k").await));
    t.note("history", told(&b.history("k").await));
    t.note("entries", told(&b.entries(">").await));
    t.note("info", told(&b.info().await));
    t.note("put", told(&b.put("k", "1".into()).await));
    t.note("create", told(&b.create("k", "1".into()).await));
    t.note(
        "update",
        told(&b.update("k", "1".into(), Revision(1)).await),
    );
    t.note("delete", told(&b.delete("k", None).await));
    t.note("purge", told(&b.purge("k", None).await));
    t.note("watch", went(&b.watch(">", WatchStart::Now).await));
    Ok(())
}

async fn the_last_clone_closes<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    let mut heard = near.subscribe("s", None).await?;
    let clone = near.clone();
    drop(near);
    t.is("one left", line(&rest(lab, &mut events).await), "nothing");
    let b = clone.create_bucket(&BucketConfig::new("b")).await?;
    drop(clone);
    t.note("only a bucket left", line(&rest(lab, &mut events).await));
    drop(b);
    t.note("none left", line(&rest(lab, &mut events).await));
    t.note(
        "a subscription left",
        heard.try_next().is_some().to_string(),
    );
    drop(heard);
    t.note("nothing left", line(&rest(lab, &mut events).await));
    Ok(())
}

async fn a_drained_connection_lets_its_messages_be_read<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let mut events = far.events();
    let mut heard = far.subscribe("s", None).await?;
    let mut other = near.subscribe("o", None).await?;
    far.flush().await?;
    near.flush().await?;
    for i in 0..5 {
        near.publish(Message::new("s", format!("{i}"))).await?;
    }
    near.flush().await?;
    sleep(lab, Duration::from_millis(50)).await;
    for i in 0..50 {
        far.publish(Message::new("o", format!("{i}"))).await?;
    }
    t.is("drain", told(&far.drain().await), "done");
    let told_all = until_told(lab, &mut heard, "(end)").await;
    t.is("heard", line(&told_all), "s=0, s=1, s=2, s=3, s=4, (end)");
    t.is(
        "sent",
        until_told(lab, &mut other, "o=49").await.len().to_string(),
        "50",
    );
    t.is(
        "events",
        line(&until_told(lab, &mut events, "(end)").await),
        "closed, (end)",
    );
    t.is("state", format!("{:?}", far.state()), "Closed");
    Ok(())
}

async fn closing_ends_what_waits<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let far = connect(lab, "far").await?;
    let b = far.create_bucket(&BucketConfig::new("b")).await?;
    lab.link("far", LinkVerb::Hold);
    let close = async {
        sleep(lab, Duration::from_millis(100)).await;
        far.close().await;
    };
    let waiting = async {
        tokio::join!(
            biased;
            async { told(&b.put("k", "1".into()).await) },
            async { told(&b.create("k", "1".into()).await) },
            async { told(&b.update("k", "1".into(), Revision(1)).await) },
            async { told(&b.delete("k", None).await) },
            async { told(&b.purge("k", None).await) },
            async { told(&b.entry("k").await) },
            async { told(&b.history("k").await) },
            async { told(&b.entries(">").await) },
            async { told(&b.info().await) },
            async { went(&b.watch(">", WatchStart::Now).await) },
            async { told(&far.request(Message::new("s", "m")).await) },
            async { told(&far.flush().await) },
            async { went(&far.create_bucket(&BucketConfig::new("c")).await) },
            async { went(&far.update_bucket(&BucketConfig::new("b")).await) },
            async { went(&far.delete_bucket("b").await) },
        )
    };
    let (
        (),
        (
            put,
            create,
            update,
            delete,
            purge,
            entry,
            history,
            entries,
            info,
            watch,
            request,
            flush,
            made,
            updated,
            gone,
        ),
    ) = tokio::join!(biased; close, waiting);
    let closed = "the connection was closed while waiting for the acknowledgement";
    t.is("put", put, &format!("unknown ({closed})"));
    t.is("create", create, &format!("unknown ({closed})"));
    t.is("update", update, &format!("unknown ({closed})"));
    t.is("delete", delete, &format!("unknown ({closed})"));
    t.is("purge", purge, &format!("unknown ({closed})"));
    t.note("entry", entry);
    t.note("history", history);
    t.note("entries", entries);
    t.note("info", info);
    t.note("watch", watch);
    t.note("request", request);
    t.note("flush", flush);
    t.note("create bucket", made);
    t.note("update bucket", updated);
    t.note("delete bucket", gone);
    Ok(())
}

async fn a_disconnected_client_can_be_closed<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    for drop_it in [false, true] {
        let near = connect(lab, "near").await?;
        let mut events = near.events();
        lab.server(ServerVerb::Stop).await?;
        until_told(lab, &mut events, "disconnected: link lost").await;
        sleep(lab, Duration::from_millis(200)).await;
        if drop_it {
            drop(near);
        } else {
            near.close().await;
            t.is("state", format!("{:?}", near.state()), "Closed");
        }
        let said = until_told(lab, &mut events, "(end)").await;
        t.is("said", gist(&said), "reconnect failed, closed, (end)");
        lab.server(ServerVerb::Start).await?;
    }
    Ok(())
}

async fn a_drain_in_an_outage_closes<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    lab.server(ServerVerb::Stop).await?;
    until_told(lab, &mut events, "disconnected: link lost").await;
    let (time, drained) = timed(lab, near.drain()).await;
    t.is(
        "drain",
        told(&drained),
        "unknown (the server did not answer in time)",
    );
    t.lasts("drain", time, 1990, 2600);
    t.is("state", format!("{:?}", near.state()), "Closed");
    let said = until_told(lab, &mut events, "(end)").await;
    t.is("said", gist(&said), "reconnect failed, closed, (end)");
    Ok(())
}

async fn a_client_waits_for_its_next_attempt<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    lab.server(ServerVerb::Stop).await?;
    until_told(lab, &mut events, "disconnected: link lost").await;
    let lost = lab.clock().now();
    sleep(lab, Duration::from_millis(1150)).await;
    lab.server(ServerVerb::Start).await?;
    until_told(lab, &mut events, "reconnected").await;
    // There is an attempt after 1.034 s, and one after 2.06 s.
    t.lasts("back", lab.clock().now().since(lost), 2000, 2400);
    Ok(())
}

/// When attempts failed within a span, counted from the disconnect.
async fn failures<L: Laboratory>(lab: &L, events: &mut Events, span: Duration) -> Vec<Duration> {
    let (mut lost, mut times) = (lab.clock().now(), Vec::new());
    let listen = async {
        while let Some(event) = events.next().await {
            match event {
                ConnectionEvent::Disconnected(_) => lost = lab.clock().now(),
                ConnectionEvent::ReconnectFailed(_) => times.push(lab.clock().now().since(lost)),
                _ => {}
            }
        }
    };
    within(lab, span, listen).await;
    times
}

async fn attempts_go_round_the_servers<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_, first) = lab.reach("near").await?;
    let servers = vec![first.clone(), first];
    let near = connect_with(lab, "near", |options| options.servers = servers).await?;
    let mut events = near.events();
    lab.server(ServerVerb::Stop).await?;
    let times = failures(lab, &mut events, Duration::from_millis(1500)).await;
    t.times("attempts", &times, Duration::from_millis(60));
    t.counts("attempts", times.len(), 8, 11);
    Ok(())
}

async fn the_next_server_is_tried_at_once<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_, first) = lab.reach("far").await?;
    let spare = lab.reach_spare("far").await?;
    let to = |servers: &[&String]| servers.iter().map(|server| (*server).clone()).collect();
    let near = connect_with(lab, "near", |options| options.servers = to(&[&spare])).await?;
    let far = connect_with(lab, "far", |options| {
        options.servers = to(&[&first, &spare])
    })
    .await?;
    let mut heard = near.subscribe("s", None).await?;
    near.flush().await?;
    far.publish(Message::new("s", "to the first")).await?;
    far.flush().await?;
    let mut events = far.events();
    lab.server(ServerVerb::Stop).await?;
    let (time, said) = timed(lab, until_told(lab, &mut events, "reconnected")).await;
    t.note("events", line(&said));
    t.lasts("events", time, 0, 500);
    far.publish(Message::new("s", "to the other")).await?;
    far.flush().await?;
    t.is(
        "heard",
        line(&rest(lab, &mut heard).await),
        "s=to the other",
    );
    lab.server(ServerVerb::Start).await?;
    t.is(
        "it stays there",
        line(&rest(lab, &mut events).await),
        "nothing",
    );
    Ok(())
}

async fn a_lame_duck_says_so<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let b = near.create_bucket(&BucketConfig::new("b")).await?;
    b.put("k", "1".into()).await?;
    let mut events = near.events();
    let mut heard = near.subscribe("s", None).await?;
    near.flush().await?;
    lab.server(ServerVerb::Retire).await?;
    let (time, said) = timed(lab, until_told(lab, &mut events, "lame duck")).await;
    t.is("announced", line(&said), "lame duck");
    t.lasts("announced", time, 0, 500);
    // JetStream goes at once; the rest of the server a while later.
    sleep(lab, Duration::from_millis(600)).await;
    let gone = "refused (there is no such bucket)";
    t.is("put", told(&b.put("k", "2".into()).await), gone);
    t.note("entry", told(&b.entry("k").await));
    t.is("info", told(&b.info().await), "refused (no answer in time)");
    far.publish(Message::new("s", "m")).await?;
    t.is(
        "core messages",
        line(&until_told(lab, &mut heard, "s=m").await),
        "s=m",
    );
    t.note(
        "another client",
        kind(&try_connect(lab, "late", |_| {}).await?),
    );
    let said = until_told(lab, &mut events, "disconnected: link lost").await;
    t.is("cut off", line(&said), "disconnected: link lost");
    sleep(lab, Duration::from_millis(2500)).await;
    t.is(
        "gone",
        gist(&rest(lab, &mut events).await),
        "reconnect failed",
    );
    lab.server(ServerVerb::Start).await?;
    until_told(lab, &mut events, "reconnected").await;
    t.is("back", told(&b.entry("k").await), "k=1@1");
    Ok(())
}
