//! Pull consumers and time: redelivery, expiry, heartbeats, restarts, broken links.

use std::num::NonZeroU32;
use std::time::Duration;

use squall_core::Clock as _;
use squall_core::transport::{
    Ack, Connection as _, ConsumerConfig, JetStream, Pull, PullConsumer as _, Stream as _,
};

use super::consumers::{all, batch, config, deliveries, drain, store, stream, take};
use super::laboratory::{
    Laboratory, LinkVerb, ServerVerb, Stop, connect, sleep, soon, timed, until,
};
use super::transcript::{Show as _, Transcript, line, until_told, went};

super::facts!("consumer_waits" {
    what_is_not_settled_comes_again_in_order: "5 redelivery",
    not_done_comes_again_after_its_delay: "5 nak delay",
    in_progress_begins_the_wait_anew: "5 +WPI",
    backoff_takes_the_place_of_the_wait: "5 backoff",
    a_message_is_given_up: "5 max_deliver",
    a_pull_expires: "5 expires",
    heartbeats_keep_a_pull_alive: "5 expires: heartbeats 100",
    without_a_client_a_consumer_ends: "5 inactive_threshold",
    a_restart_keeps_what_was_written: "5 state durability (surprise 15)",
    after_a_restart_the_wait_counts_from_the_message: "surprise 16",
    a_broken_link_ends_a_pull: "5 two pullers (link cut)",
    a_silent_server_ends_a_pull: "5 messages() under SIGSTOP",
});

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn what_is_not_settled_comes_again_in_order<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream
        .create_consumer(&config(|c| c.ack_wait = millis(1000)))
        .await?;
    store(lab, &near, &["s.1", "s.2", "s.3"]).await?;
    let taken = take(lab, &consumer, 3).await?;
    t.note("taken", all(&taken));
    for second in deliveries(&taken).iter().skip(1).take(1) {
        consumer.ack_confirmed(second, Ack::Done).await?;
    }
    let again = async { drain(lab, consumer.pull(batch(2, Some(millis(5000)))).await?).await };
    let (time, again) = timed(lab, again).await;
    t.note("again", all(&again?));
    t.lasts("again", time, 900, 1200);
    t.note("info", consumer.info().await?.show());
    // What is due again goes before what is new.
    sleep(lab, millis(1200)).await;
    store(lab, &near, &["s.4"]).await?;
    t.note("then", all(&take(lab, &consumer, 3).await?));
    Ok(())
}

async fn not_done_comes_again_after_its_delay<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    store(lab, &near, &["s.1"]).await?;
    for delivered in deliveries(&take(lab, &consumer, 1).await?) {
        let later = Ack::Again(Some(millis(400)));
        consumer.ack_confirmed(&delivered, later).await?;
    }
    let again = async { drain(lab, consumer.pull(batch(1, Some(millis(5000)))).await?).await };
    let (time, again) = timed(lab, again).await;
    t.note("again", all(&again?));
    t.lasts("again", time, 380, 550);
    Ok(())
}

async fn in_progress_begins_the_wait_anew<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream
        .create_consumer(&config(|c| c.ack_wait = millis(1000)))
        .await?;
    store(lab, &near, &["s.1"]).await?;
    let begun = lab.clock().now();
    for delivered in deliveries(&take(lab, &consumer, 1).await?) {
        sleep(lab, millis(600)).await;
        consumer.ack_confirmed(&delivered, Ack::InProgress).await?;
    }
    let again = consumer.pull(batch(1, Some(millis(5000)))).await?;
    t.note("again", all(&drain(lab, again).await?));
    t.lasts("again", lab.clock().now().since(begun), 1590, 1800);
    Ok(())
}

async fn backoff_takes_the_place_of_the_wait<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream
        .create_consumer(&config(|c| {
            c.backoff = vec![millis(200), millis(600)];
            c.max_deliver = NonZeroU32::new(3);
        }))
        .await?;
    t.note(
        "wait",
        format!("{:?}", consumer.info().await?.config.ack_wait),
    );
    store(lab, &near, &["s.1"]).await?;
    // It ends between two looks at what is pending, 1400 and 2000 ms after the first delivery.
    let mut pulled = consumer.pull(batch(9, Some(millis(1700)))).await?;
    let begun = lab.clock().now();
    for (from, to) in [(0, 150), (190, 350), (790, 950)] {
        let event = soon(lab, "a delivery", pulled.next()).await?;
        t.note(
            "delivery",
            event.map_or_else(|| "(end)".to_owned(), |event| event.show()),
        );
        t.lasts("delivery", lab.clock().now().since(begun), from, to);
    }
    t.note("then", all(&drain(lab, pulled).await?));
    t.note("info", consumer.info().await?.show());
    // The look that finds nothing pending any more moves the floor, which only 2.10 tells of.
    sleep(lab, millis(800)).await;
    t.note("later", consumer.info().await?.show());
    Ok(())
}

async fn a_message_is_given_up<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream
        .create_consumer(&config(|c| {
            c.ack_wait = millis(400);
            c.max_deliver = NonZeroU32::new(2);
        }))
        .await?;
    let subject = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>";
    let mut advisories = near.subscribe(subject, None).await?;
    near.flush().await?;
    store(lab, &near, &["s.1", "s.2"]).await?;
    let pulled = consumer.pull(batch(9, Some(millis(1500)))).await?;
    t.note("deliveries", all(&drain(lab, pulled).await?));
    t.note("info", consumer.info().await?.show());
    let mut told = Vec::new();
    while let Some(message) = advisories.try_next() {
        let json = String::from_utf8_lossy(&message.payload).into_owned();
        let ours = json
            .split_once("\"stream_seq\"")
            .map_or("", |(_, rest)| rest);
        told.push(format!("{}{ours}", message.subject));
    }
    t.note("advisories", line(&told));
    // The floor stays until another is settled.
    store(lab, &near, &["s.3"]).await?;
    for delivered in deliveries(&take(lab, &consumer, 1).await?) {
        consumer.ack_confirmed(&delivered, Ack::Done).await?;
    }
    t.note("info", consumer.info().await?.show());
    Ok(())
}

async fn a_pull_expires<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    store(lab, &near, &["s.1"]).await?;
    let expired = async { drain(lab, consumer.pull(batch(2, Some(millis(500)))).await?).await };
    let (time, expired) = timed(lab, expired).await;
    t.note("expired", all(&expired?));
    t.lasts("expired", time, 490, 700);
    // Who is gone gets nothing, and what comes then is not counted as delivered.
    drop(consumer.pull(batch(2, Some(millis(5000)))).await?);
    near.flush().await?;
    sleep(lab, millis(50)).await;
    store(lab, &near, &["s.2"]).await?;
    t.note("info", consumer.info().await?.show());
    t.note("taken", all(&take(lab, &consumer, 2).await?));
    Ok(())
}

async fn heartbeats_keep_a_pull_alive<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    let wish = Pull {
        heartbeat: Some(millis(200)),
        ..batch(1, Some(millis(1500)))
    };
    let expired = async { drain(lab, consumer.pull(wish).await?).await };
    let (time, expired) = timed(lab, expired).await;
    t.is("expired", all(&expired?), "over (expired)");
    t.lasts("expired", time, 1490, 1700);
    Ok(())
}

async fn without_a_client_a_consumer_ends<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let mut brief = ConsumerConfig::durable("E");
    brief.durable = false;
    brief.inactive_threshold = Some(millis(500));
    for (what, wait) in [("nobody asks", None), ("a pull waits", Some(1500))] {
        let consumer = stream.create_consumer(&brief).await?;
        let pulled = match wait {
            Some(wait) => Some(consumer.pull(batch(1, Some(millis(wait)))).await?),
            None => None,
        };
        near.flush().await?;
        let ended = until(lab, what, || consumer.info(), Result::is_err).await?;
        t.note(what, went(&consumer.info().await));
        match wait {
            None => t.lasts(what, ended, 550, 1700),
            Some(_) => t.lasts(what, ended, 1500, 3200),
        }
        drop(pulled);
    }
    Ok(())
}

async fn a_restart_keeps_what_was_written<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let named = |name: &str, change: fn(&mut ConsumerConfig)| {
        let mut config = ConsumerConfig::durable(name);
        change(&mut config);
        config
    };
    let consumer = stream.create_consumer(&named("C", |_| {})).await?;
    let memory = named("M", |c| c.memory_storage = true);
    let memory = stream.create_consumer(&memory).await?;
    let brief = stream
        .create_consumer(&named("E", |c| c.durable = false))
        .await?;
    store(lab, &near, &["s.1", "s.2", "s.3"]).await?;
    let delivered = deliveries(&take(lab, &consumer, 3).await?);
    for delivered in delivered.iter().take(1) {
        consumer.ack_confirmed(delivered, Ack::Done).await?;
    }
    // A third message is asked for again now; that is kept in memory only.
    for delivered in delivered.iter().skip(2) {
        consumer.ack_confirmed(delivered, Ack::Again(None)).await?;
    }
    sleep(lab, millis(400)).await;
    lab.server(ServerVerb::Stop).await?;
    lab.server(ServerVerb::Start).await?;
    let later = connect(lab, "later").await?;
    let stream = later.stream("S")?;
    t.note("after it", stream.consumer("C")?.info().await?.show());
    t.note("taken", all(&take(lab, &stream.consumer("C")?, 3).await?));
    t.note(
        "in memory",
        went(&stream.consumer(memory.name())?.info().await),
    );
    t.note(
        "not durable",
        went(&stream.consumer(brief.name())?.info().await),
    );
    Ok(())
}

async fn after_a_restart_the_wait_counts_from_the_message<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream
        .create_consumer(&config(|c| c.ack_wait = millis(6000)))
        .await?;
    store(lab, &near, &["s.1"]).await?;
    let stored = lab.clock().now();
    sleep(lab, millis(3000)).await;
    t.note("taken", all(&take(lab, &consumer, 1).await?));
    sleep(lab, millis(300)).await;
    lab.server(ServerVerb::Stop).await?;
    lab.server(ServerVerb::Start).await?;
    let later = connect(lab, "later").await?;
    let consumer = later.stream("S")?.consumer("C")?;
    let again = consumer.pull(batch(1, Some(millis(9000)))).await?;
    t.note("again", all(&drain(lab, again).await?));
    // In whole seconds of the wall clock, so up to one early.
    t.lasts("again", lab.clock().now().since(stored), 4950, 6200);
    Ok(())
}

async fn a_broken_link_ends_a_pull<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    stream.create_consumer(&config(|_| {})).await?;
    let far = connect(lab, "far").await?;
    let consumer = far.stream("S")?.consumer("C")?;
    let mut pulled = consumer.pull(batch(5, Some(millis(20_000)))).await?;
    far.flush().await?;
    store(lab, &near, &["s.1"]).await?;
    sleep(lab, millis(100)).await;
    lab.link("far", LinkVerb::Cut);
    t.note("pull", line(&until_told(lab, &mut pulled, "(end)").await));
    soon(lab, "the link", far.flush()).await??;
    store(lab, &near, &["s.2"]).await?;
    sleep(lab, millis(100)).await;
    t.note("info", consumer.info().await?.show());
    t.note("taken", all(&take(lab, &consumer, 5).await?));
    Ok(())
}

async fn a_silent_server_ends_a_pull<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (_near, stream) = stream(lab, |_| {}).await?;
    stream.create_consumer(&config(|_| {})).await?;
    let far = connect(lab, "far").await?;
    let consumer = far.stream("S")?.consumer("C")?;
    far.flush().await?;
    for (what, heartbeat, from, to) in [
        ("heart", Some(millis(300)), 550, 900),
        ("no heart", None, 1950, 2400),
    ] {
        let wish = Pull {
            heartbeat,
            ..batch(1, Some(millis(1000)))
        };
        lab.link("far", LinkVerb::Hold);
        let silent = async { drain(lab, consumer.pull(wish).await?).await };
        let (time, silent) = timed(lab, silent).await;
        t.is(what, all(&silent?), "over (silent)");
        t.lasts(what, time, from, to);
        lab.link("far", LinkVerb::Release);
        soon(lab, "the link", far.flush()).await??;
    }
    Ok(())
}
