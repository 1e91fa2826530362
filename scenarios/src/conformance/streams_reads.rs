//! Section 4: messages read from streams, one by one, many at once, and by readers; lives of messages (section 2).

use std::time::Duration;

use squall_core::transport::{
    Bucket, BucketConfig, Connection, JetStream, Message, MessageTtl, PutOptions, ReadStart,
    Sequence, StoreOptions, Stream,
};

use super::facts;
use super::laboratory::{Laboratory, LinkVerb, ServerVerb, Stop, connect, sleep, until};
use super::streams::{config, fill, has_lives, plain, state, store, stream};
use super::transcript::{Transcript, line, rest, told, until_told, went};

facts!("streams_reads" {
    a_message_is_found_by_sequence_and_by_subject: "4 DIRECT.GET",
    the_last_of_many_subjects_is_one_batch: "4 batch / multi_last",
    direct_reads_must_be_allowed: "4 direct get without allow_direct / missing stream",
    a_reader_begins_where_it_is_told_to: "4 consumers begin",
    a_reader_of_several_subjects_hears_these: "4 filters",
    a_reader_cannot_hear_overlapping_filters: "1 watch key validation (10138)",
    a_reader_goes_on_after_a_cut_link: "3 connection reset",
    a_reader_goes_on_after_a_restart: "3 SIGKILL + restart",
    a_reader_is_told_of_a_stream_made_anew: "3 #12",
    a_reader_is_told_what_it_lost: "4 limits under a reader",
    lives_are_refused_where_not_allowed: "2 TTL header values",
    a_life_ends_a_message_and_never_exempts_it: "2 per-key TTL",
    a_life_that_ends_resurrects_what_was_before: "2 resurrection",
    a_life_that_ends_leaves_a_marker: "2 max_age + markers",
    a_life_is_at_least_that_of_the_markers: "2 per-key TTL floor",
    keys_live_as_long_as_they_wish: "1 create_with_ttl; 2 per-key TTL",
    keys_are_read_together: "4 multi_last over a bucket",
});

const SOON: Duration = Duration::from_millis(200);

async fn a_message_is_found_by_sequence_and_by_subject<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    fill(&near, &["s.a", "s.b", "s.a", "s.b"]).await?;
    t.is("by sequence", told(&s.get(Sequence(2)).await), "s.b=2@2");
    t.is("beyond", told(&s.get(Sequence(9)).await), "none");
    let empty = "refused (Empty Request (code 408, error code 0))";
    t.is("of none", told(&s.get(Sequence(0)).await), empty);
    t.is("next", told(&s.next(Sequence(2), "s.a").await), "s.a=3@3");
    t.is(
        "next of any",
        told(&s.next(Sequence(2), "s.*").await),
        "s.b=2@2",
    );
    t.is("no next", told(&s.next(Sequence(5), "s.*").await), "none");
    t.is("last", told(&s.last("s.a").await), "s.a=3@3");
    t.is("last of any", told(&s.last("s.*").await), "s.b=4@4");
    t.is("last of none", told(&s.last("s.z").await), "none");
    let bad = "refused (not a subject: \"s..z\")";
    t.is("no subject", told(&s.last("s..z").await), bad);
    s.delete_message(Sequence(4)).await?;
    t.is("a hole", told(&s.get(Sequence(4)).await), "none");
    t.is("before it", told(&s.last("s.b").await), "s.b=2@2");
    Ok(())
}

async fn the_last_of_many_subjects_is_one_batch<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    if !lab.version().is_at_least(2, 11) {
        t.note("not known yet", told(&s.last_of(&["s.>"]).await));
        return Ok(());
    }
    t.is("of nothing", told(&s.last_of(&["s.>"]).await), "[]");
    fill(&near, &["s.a", "s.b", "s.a", "s.c"]).await?;
    let some = s.last_of(&["s.c", "s.a", "s.z"]).await;
    t.is("some", told(&some), "[s.a=3@3 s.c=4@4]");
    let all = s.last_of(&["s.>"]).await;
    t.is("all", told(&all), "[s.b=2@2 s.a=3@3 s.c=4@4]");
    t.is(
        "twice",
        told(&s.last_of(&["s.*", "s.a"]).await),
        "[s.b=2@2 s.a=3@3 s.c=4@4]",
    );
    Ok(())
}

async fn direct_reads_must_be_allowed<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|c| c.allow_direct = false)).await?;
    fill(&near, &["s.a"]).await?;
    let nobody = "refused (there is no such stream)";
    t.is("not allowed", told(&s.get(Sequence(1)).await), nobody);
    t.is("by subject", told(&s.last("s.a").await), nobody);
    t.is("many", told(&s.last_of(&["s.a"]).await), nobody);
    let missing = near.stream("T")?;
    t.is("missing", told(&missing.get(Sequence(1)).await), nobody);
    t.is("its info", told(&missing.info().await), nobody);
    Ok(())
}

async fn a_reader_begins_where_it_is_told_to<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    fill(&near, &["s.a", "s.a", "s.b"]).await?;
    sleep(lab, SOON).await;
    fill(&near, &["s.b", "s.c"]).await?;
    let fourth = s
        .get(Sequence(4))
        .await?
        .ok_or_else(|| Stop("no fourth".into()))?;
    for (what, start, fact) in [
        ("all", ReadStart::All, "1, 2, 3, 4, 5, caught up"),
        ("new", ReadStart::New, "caught up"),
        ("last", ReadStart::Last, "5, caught up"),
        (
            "last of each",
            ReadStart::LastPerSubject,
            "2, 4, 5, caught up",
        ),
        (
            "fourth",
            ReadStart::Sequence(Sequence(4)),
            "4, 5, caught up",
        ),
        ("then", ReadStart::Time(fourth.time), "4, 5, caught up"),
        ("to come", ReadStart::Sequence(Sequence(7)), "caught up"),
    ] {
        let mut reader = s.read(&[], start).await?;
        let heard = until_told(lab, &mut reader, "caught up").await;
        t.is(what, numbers(&heard), fact);
    }
    let mut reader = s.read(&[], ReadStart::Sequence(Sequence(7))).await?;
    until_told(lab, &mut reader, "caught up").await;
    fill(&near, &["s.a", "s.a", "s.a"]).await?;
    t.is(
        "from the seventh",
        numbers(&rest(lab, &mut reader).await),
        "7, 8",
    );
    Ok(())
}

/// Only the sequences of what was heard.
fn numbers(heard: &[String]) -> String {
    let number = |said: &String| {
        said.rsplit_once('@')
            .map_or_else(|| said.clone(), |(_, n)| n.to_owned())
    };
    line(&heard.iter().map(number).collect::<Vec<_>>())
}

async fn a_reader_of_several_subjects_hears_these<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    fill(&near, &["s.a", "s.b", "s.c", "s.b.d"]).await?;
    let mut reader = s.read(&["s.a", "s.b.>"], ReadStart::All).await?;
    let heard = until_told(lab, &mut reader, "caught up").await;
    t.is("those there", line(&heard), "s.a=1@1, s.b.d=4@4, caught up");
    fill(&near, &["s.b", "s.b.e", "s.a"]).await?;
    t.is(
        "those to come",
        numbers(&rest(lab, &mut reader).await),
        "6, 7",
    );
    let mut last = s.read(&["s.b", "s.c"], ReadStart::Last).await?;
    let heard = until_told(lab, &mut last, "caught up").await;
    t.is("the last of them", numbers(&heard), "5, caught up");
    Ok(())
}

async fn a_reader_cannot_hear_overlapping_filters<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    let read = async |filters: &[&str]| went(&s.read(filters, ReadStart::All).await);
    let refused = "refused (consumer subject filters cannot overlap (code 400, error code 10138))";
    t.is("overlap", read(&["s.a", "s.>"]).await, refused);
    t.is("elsewhere", read(&["t.a"]).await, "done");
    t.is(
        "no filter",
        read(&["s..a"]).await,
        "refused (not a filter for keys: \"s..a\")",
    );
    let missing = near.stream("T")?.read(&[], ReadStart::All).await;
    t.is(
        "no stream",
        went(&missing),
        "refused (there is no such bucket)",
    );
    Ok(())
}

async fn a_reader_goes_on_after_a_cut_link<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    let far = connect(lab, "far").await?;
    let mut reader = far.stream("S")?.read(&[], ReadStart::New).await?;
    until_told(lab, &mut reader, "caught up").await;
    fill(&near, &["s.a", "s.a"]).await?;
    let before = until_told(lab, &mut reader, "s.a=2@2").await;
    lab.link("far", LinkVerb::Cut);
    let lost = until_told(lab, &mut reader, "resumed, first held 1").await;
    fill(&near, &["s.b", "s.b"]).await?;
    let after = until_told(lab, &mut reader, "s.b=2@4").await;
    t.is("before", numbers(&before), "1, 2");
    let interrupted = "interrupted (disconnected), resumed, first held 1";
    t.is("between", line(&lost), interrupted);
    t.is("after", numbers(&after), "3, 4");
    Ok(())
}

async fn a_reader_goes_on_after_a_restart<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    let far = connect(lab, "far").await?;
    let mut reader = far.stream("S")?.read(&[], ReadStart::Last).await?;
    until_told(lab, &mut reader, "caught up").await;
    fill(&near, &["s.a"]).await?;
    until_told(lab, &mut reader, "s.a=1@1").await;
    lab.server(ServerVerb::Stop).await?;
    sleep(lab, SOON).await;
    lab.server(ServerVerb::Start).await?;
    let lost = until_told(lab, &mut reader, "resumed, first held 1").await;
    let ask = async || near.store(Message::new("s.a", "2"), plain()).await;
    until(lab, "a publish", ask, Result::is_ok).await?;
    let after = until_told(lab, &mut reader, "s.a=2@2").await;
    t.is(
        "resumed",
        line(&lost[lost.len() - 1..]),
        "resumed, first held 1",
    );
    t.is("after", numbers(&after), "2");
    Ok(())
}

async fn a_reader_is_told_of_a_stream_made_anew<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    fill(&near, &["s.a", "s.a", "s.a"]).await?;
    let mut reader = s.read(&[], ReadStart::New).await?;
    until_told(lab, &mut reader, "caught up").await;
    near.delete_stream("S").await?;
    near.create_stream(&config(|_| {})).await?;
    fill(&near, &["s.a", "s.b"]).await?;
    let heard = until_told(lab, &mut reader, "s.b=2@2").await;
    let fact = "interrupted (no sign of life from the server), resumed (another stream), first held 1, \
                s.a=1@1, s.b=2@2";
    t.is("heard", line(&heard), fact);
    Ok(())
}

async fn a_reader_is_told_what_it_lost<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|c| c.max_messages = 2)).await?;
    let far = connect(lab, "far").await?;
    let mut reader = far.stream("S")?.read(&[], ReadStart::New).await?;
    until_told(lab, &mut reader, "caught up").await;
    fill(&near, &["s.a"]).await?;
    until_told(lab, &mut reader, "s.a=1@1").await;
    lab.link("far", LinkVerb::Hold);
    fill(&near, &["s.b", "s.b", "s.b", "s.b"]).await?;
    sleep(lab, Duration::from_secs(3)).await;
    lab.link("far", LinkVerb::Release);
    let heard = until_told(lab, &mut reader, "s.b=4@5").await;
    t.note("told at last", numbers(&heard[heard.len() - 1..]));
    Ok(())
}

fn life(life: MessageTtl) -> StoreOptions {
    StoreOptions {
        ttl: Some(life),
        ..plain()
    }
}

fn seconds(seconds: u64) -> StoreOptions {
    life(MessageTtl::For(Duration::from_secs(seconds)))
}

async fn lives_are_refused_where_not_allowed<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    if !has_lives(lab, t) {
        return Ok(());
    }
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    let refused = "refused (per-message TTL is disabled (code 400, error code 10166))";
    t.is(
        "not allowed",
        store(&near, "s.a", seconds(1)).await,
        refused,
    );
    near.update_stream(&config(|c| c.allow_message_ttl = true))
        .await?;
    t.is("allowed", store(&near, "s.a", seconds(1)).await, "S@1");
    for text in [
        "1",
        "1500ms",
        "1s",
        "1h",
        "never",
        "999999999999",
        "0",
        "-1",
        "0.5",
        "500ms",
        "abc",
    ] {
        let mut message = Message::new("s.a", "x");
        message.headers.append("Nats-TTL", text);
        t.note(text, told(&near.store(message, plain()).await));
    }
    Ok(())
}

async fn a_life_ends_a_message_and_never_exempts_it<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    if !has_lives(lab, t) {
        return Ok(());
    }
    let lives = config(|c| {
        c.allow_message_ttl = true;
        c.max_age = Duration::from_secs(3);
    });
    let (near, s) = stream(lab, &lives).await?;
    store(&near, "s.never", life(MessageTtl::Never)).await;
    store(&near, "s.short", seconds(1)).await;
    store(&near, "s.long", seconds(10)).await;
    t.is("at first", state(&s).await, "3 messages 1..3");
    sleep(lab, Duration::from_millis(2200)).await;
    t.is("the short one is gone", state(&s).await, "2 messages 1..3");
    sleep(lab, Duration::from_millis(1800)).await;
    t.is("age ends the long one", state(&s).await, "1 messages 1..3");
    Ok(())
}

async fn a_life_that_ends_resurrects_what_was_before<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    if !has_lives(lab, t) {
        return Ok(());
    }
    let lives = config(|c| c.subject_delete_markers = Some(Duration::from_secs(1)));
    let (near, s) = stream(lab, &lives).await?;
    fill(&near, &["s.a"]).await?;
    store(&near, "s.a", seconds(1)).await;
    t.is(
        "the newer",
        told(&s.last("s.a").await),
        "s.a=x@2 Nats-TTL:1",
    );
    sleep(lab, Duration::from_millis(2200)).await;
    t.is("the older", told(&s.last("s.a").await), "s.a=1@1");
    Ok(())
}

async fn a_life_that_ends_leaves_a_marker<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    if !has_lives(lab, t) {
        return Ok(());
    }
    let lives = config(|c| {
        c.max_messages_per_subject = 1;
        c.subject_delete_markers = Some(Duration::from_secs(2));
    });
    let (near, s) = stream(lab, &lives).await?;
    let mut reader = s.read(&[], ReadStart::New).await?;
    store(&near, "s.a", seconds(1)).await;
    let marker = "s.a=@2 Nats-Marker-Reason:MaxAge Nats-Rollup:sub Nats-TTL:2s";
    let heard = until_told(lab, &mut reader, marker).await;
    let fact = format!("caught up, s.a=x@1 Nats-TTL:1, {marker}");
    t.is("heard", line(&heard), &fact);
    t.is("is there", told(&s.last("s.a").await), marker);
    sleep(lab, Duration::from_millis(3200)).await;
    t.is("is gone", state(&s).await, "0 messages 3..2");
    Ok(())
}

async fn a_life_is_at_least_that_of_the_markers<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    if !has_lives(lab, t) {
        return Ok(());
    }
    let lives = config(|c| c.subject_delete_markers = Some(Duration::from_secs(4)));
    let (near, s) = stream(lab, &lives).await?;
    store(&near, "s.a", seconds(1)).await;
    t.is("stored", told(&s.last("s.a").await), "s.a=x@1 Nats-TTL:4");
    sleep(lab, Duration::from_millis(2500)).await;
    t.is("still there", state(&s).await, "1 messages 1..1");
    Ok(())
}

async fn keys_live_as_long_as_they_wish<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    if !has_lives(lab, t) {
        return Ok(());
    }
    let near = connect(lab, "near").await?;
    let without = near.create_bucket(&BucketConfig::new("without")).await?;
    let second = MessageTtl::For(Duration::from_secs(1));
    let refused = "refused (per-message TTL is disabled (code 400, error code 10166))";
    let created = without.create_with("k", "v".into(), second).await;
    t.is("without markers", told(&created), refused);
    let mut config = BucketConfig::new("b");
    config.delete_markers = Some(Duration::from_secs(1));
    let b = near.create_bucket(&config).await?;
    t.is(
        "create",
        told(&b.create_with("k", "v".into(), second).await),
        "@1",
    );
    let again = b.create_with("k", "w".into(), second).await;
    t.is("again", told(&again), "refused (the key has a value)");
    b.delete("gone", None).await?;
    t.is(
        "over a tombstone",
        told(&b.create_with("gone", "v".into(), second).await),
        "@3",
    );
    let with = |expected, ttl| PutOptions { expected, ttl };
    let put = b.put_with("p", "v".into(), with(None, Some(second))).await;
    t.is("put", told(&put), "@4");
    let expected = Some(squall_core::transport::Revision(9));
    let wrong = b
        .put_with("p", "v".into(), with(expected, Some(second)))
        .await;
    t.is(
        "wrong",
        told(&wrong),
        "refused (the latest revision of the key is 4)",
    );
    let no_life = b.put_with("q", "v".into(), with(None, None)).await;
    t.is("without a life", told(&no_life), "@5");
    sleep(lab, Duration::from_millis(1800)).await;
    for key in ["k", "gone", "p", "q"] {
        let entry = b.entry(key).await?;
        let is_value = entry.is_some_and(|entry| entry.operation.is_put());
        t.is(
            key,
            is_value.to_string(),
            if key == "q" { "true" } else { "false" },
        );
    }
    Ok(())
}

async fn keys_are_read_together<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let b = near.create_bucket(&BucketConfig::new("b")).await?;
    t.is("of nothing", told(&b.entries_of(&["a"]).await), "[]");
    for key in ["a", "b", "c", "a"] {
        b.put(key, "v".into()).await?;
    }
    b.delete("c", None).await?;
    let some = b.entries_of(&["c", "z", "a"]).await;
    t.is("some", told(&some), "[a=v@4 c:delete@5]");
    t.is("none", told(&b.entries_of(&[]).await), "[]");
    t.is(
        "no key",
        told(&b.entries_of(&["a", "*"]).await),
        "refused (not a key: \"*\")",
    );
    let missing = near.bucket("missing")?.entries_of(&["a"]).await;
    t.is(
        "no bucket",
        told(&missing),
        "refused (there is no such bucket)",
    );
    Ok(())
}
