//! Section 4: streams and publishes into them: acknowledgements, conditions, message ids, limits, purges, settings.

use std::time::Duration;

use squall_core::transport::{
    Connection, Discard, Headers, JetStream, Message, Purge, Retention, Sequence, Storage,
    StoreError, StoreOptions, Stream, StreamConfig,
};

use super::facts;
use super::laboratory::{Conn, Laboratory, Stop, connect, sleep};
use super::transcript::{Transcript, told, went};

facts!("streams" {
    an_acknowledgement_names_stream_and_sequence: "4 pub ack; publish, no stream",
    a_core_publish_is_stored_unless_its_condition_fails: "4 core publish without reply into a stream",
    a_message_id_is_stream_wide_and_outlives_its_message: "4 dedupe",
    a_message_id_survives_a_restart: "4 dedupe",
    a_window_ends_and_is_not_extended: "4 window end",
    a_wrong_sequence_comes_before_a_duplicate: "4 dedupe vs Expected-Last-Sequence wrong",
    expected_sequences_are_those_of_stream_and_subject: "4 Expected-Last-Sequence; Expected-Last-Subject-Sequence",
    an_expected_id_is_that_of_the_last_message: "4 Expected-Last-Msg-Id; Expected-Stream",
    rollups_must_be_allowed_and_known: "4 rollup not allowed / bad value",
    a_full_stream_drops_its_oldest: "4 max_msgs, max_bytes discard old",
    a_full_stream_refuses_new_messages: "4 discard new",
    a_subject_at_its_limit_drops_or_refuses: "4 mmps + discard new",
    a_message_can_be_too_large: "4 max_msg_size",
    purges_remove_what_they_name: "4 purge all / filter / keep / seq",
    a_purge_beyond_the_last_moves_the_counter: "4 purge seq > last",
    a_deleted_message_leaves_a_hole: "4 delete message",
    subjects_of_two_streams_never_overlap: "4 overlap; no subjects",
    narrower_limits_take_effect_at_once: "4 update",
    some_settings_never_change: "4 update; duplicate_window > max_age",
    nobody_interested_nothing_kept: "4 interest stream, no consumer",
    headers_are_stored: "4 headers",
    a_bucket_is_a_stream: "1 stream behind a bucket",
});

/// A stream `S` over `s.>`, changed.
pub(super) fn config(change: impl FnOnce(&mut StreamConfig)) -> StreamConfig {
    let mut config = StreamConfig::new("S");
    config.subjects = vec!["s.>".to_owned()];
    change(&mut config);
    config
}

/// A client on the link `near`, and a stream of these settings.
pub(super) async fn stream<L: Laboratory>(
    lab: &L,
    config: &StreamConfig,
) -> Result<(Conn<L>, <Conn<L> as JetStream>::Stream), Stop> {
    let near = connect(lab, "near").await?;
    let stream = near.create_stream(config).await?;
    Ok((near, stream))
}

/// Whether messages can have lives of their own; says so where they cannot.
pub(super) fn has_lives<L: Laboratory>(lab: &L, t: &mut Transcript) -> bool {
    let has_lives = lab.version().is_at_least(2, 11);
    if !has_lives {
        t.note("lives of messages", "need nats-server 2.11");
    }
    has_lives
}

pub(super) fn plain() -> StoreOptions {
    StoreOptions::default()
}

pub(super) fn id(id: &str) -> StoreOptions {
    StoreOptions {
        message_id: Some(id.to_owned()),
        ..plain()
    }
}

/// What a publish with these demands comes to.
pub(super) async fn store<C: JetStream>(near: &C, subject: &str, options: StoreOptions) -> String {
    told(&near.store(Message::new(subject, "x"), options).await)
}

/// Publishes that must be stored.
pub(super) async fn fill<C: JetStream>(near: &C, subjects: &[&str]) -> Result<(), StoreError> {
    for (place, subject) in subjects.iter().enumerate() {
        let message = Message::new(*subject, format!("{}", place + 1));
        near.store(message, plain()).await?;
    }
    Ok(())
}

/// Messages, first and last sequence.
pub(super) async fn state<S: Stream>(stream: &S) -> String {
    told(&stream.info().await)
}

async fn an_acknowledgement_names_stream_and_sequence<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    t.is("first", store(&near, "s.a", plain()).await, "S@1");
    t.is("second", store(&near, "s.b", plain()).await, "S@2");
    t.is(
        "nowhere",
        store(&near, "t.a", plain()).await,
        "refused (no stream stores this subject)",
    );
    Ok(())
}

async fn a_core_publish_is_stored_unless_its_condition_fails<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    near.publish(Message::new("s.a", "raw")).await?;
    let mut conditional = Message::new("s.a", "refused");
    let name = "Nats-Expected-Last-Sequence";
    conditional.headers.append(name, "7");
    near.publish(conditional).await?;
    near.publish(Message::new("s.b", "raw")).await?;
    near.flush().await?;
    sleep(lab, Duration::from_millis(100)).await;
    t.is("state", state(&s).await, "2 messages 1..2");
    Ok(())
}

async fn a_message_id_is_stream_wide_and_outlives_its_message<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    t.is("first", store(&near, "s.a", id("m")).await, "S@1");
    t.is(
        "another subject",
        store(&near, "s.b", id("m")).await,
        "S@1 again",
    );
    t.is("delete", told(&s.delete_message(Sequence(1)).await), "true");
    t.is("deleted", store(&near, "s.a", id("m")).await, "S@1 again");
    t.is("purge", told(&s.purge(Purge::default()).await), "0");
    t.is("purged", store(&near, "s.a", id("m")).await, "S@1 again");
    t.is("an empty id", store(&near, "s.a", id("")).await, "S@2");
    t.is("is none", store(&near, "s.a", id("")).await, "S@3");
    Ok(())
}

async fn a_message_id_survives_a_restart<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    t.is("first", store(&near, "s.a", id("m")).await, "S@1");
    lab.server(super::laboratory::ServerVerb::Stop).await?;
    lab.server(super::laboratory::ServerVerb::Start).await?;
    near.close().await;
    let near = connect(lab, "near").await?;
    t.is("after it", store(&near, "s.a", id("m")).await, "S@1 again");
    Ok(())
}

async fn a_window_ends_and_is_not_extended<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let window = config(|c| c.duplicate_window = Some(Duration::from_secs(1)));
    let (near, _s) = stream(lab, &window).await?;
    t.is("first", store(&near, "s.a", id("m")).await, "S@1");
    sleep(lab, Duration::from_millis(600)).await;
    t.is("within", store(&near, "s.a", id("m")).await, "S@1 again");
    sleep(lab, Duration::from_millis(600)).await;
    t.is("after it", store(&near, "s.a", id("m")).await, "S@2");
    Ok(())
}

async fn a_wrong_sequence_comes_before_a_duplicate<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    store(&near, "s.a", id("m")).await;
    let both = StoreOptions {
        expected_last_sequence: Some(Sequence(9)),
        ..id("m")
    };
    let fact = match lab.version().is_at_least(2, 12) {
        true => "refused (the last sequence is 1)",
        false => "S@1 again",
    };
    t.is("sequence", store(&near, "s.a", both).await, fact);
    let both = StoreOptions {
        expected_last_message_id: Some("zz".to_owned()),
        ..id("m")
    };
    t.is("last id", store(&near, "s.a", both).await, "S@1 again");
    let both = StoreOptions {
        expected_stream: Some("T".to_owned()),
        ..id("m")
    };
    let refused = "refused (expected stream does not match (code 400, error code 10060))";
    t.is("stream", store(&near, "s.a", both).await, refused);
    Ok(())
}

async fn expected_sequences_are_those_of_stream_and_subject<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    let last = |sequence| StoreOptions {
        expected_last_sequence: Some(Sequence(sequence)),
        ..plain()
    };
    let of_subject = |sequence| StoreOptions {
        expected_last_subject_sequence: Some(Sequence(sequence)),
        ..plain()
    };
    t.is("empty", store(&near, "s.a", last(0)).await, "S@1");
    let refused = "refused (the last sequence is 1)";
    t.is("not empty", store(&near, "s.a", last(0)).await, refused);
    t.is("right", store(&near, "s.b", last(1)).await, "S@2");
    t.is("subject", store(&near, "s.a", of_subject(2)).await, refused);
    t.is("its own", store(&near, "s.a", of_subject(1)).await, "S@3");
    t.is(
        "new subject",
        store(&near, "s.c", of_subject(0)).await,
        "S@4",
    );
    let none = "refused (the last sequence is 0)";
    t.is("of none", store(&near, "s.d", of_subject(1)).await, none);
    Ok(())
}

async fn an_expected_id_is_that_of_the_last_message<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    let last = |id: &str| StoreOptions {
        expected_last_message_id: Some(id.to_owned()),
        ..plain()
    };
    store(&near, "s.a", id("m")).await;
    let refused = "refused (the last message id is \"m\")";
    t.is("another", store(&near, "s.a", last("n")).await, refused);
    t.is("right", store(&near, "s.a", last("m")).await, "S@2");
    let none = "refused (the last message id is \"\")";
    t.is("reset", store(&near, "s.a", last("m")).await, none);
    Ok(())
}

fn rollup(value: &str) -> Message {
    let mut headers = Headers::new();
    headers.append("Nats-Rollup", value);
    Message {
        headers,
        ..Message::new("s.a", "all")
    }
}

async fn rollups_must_be_allowed_and_known<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    let roll = async |value| told(&near.store(rollup(value), plain()).await);
    let refused = "refused (rollup not permitted (code 500, error code 10111))";
    t.is("not allowed", roll("sub").await, refused);
    near.update_stream(&config(|c| c.allow_rollup = true))
        .await?;
    fill(&near, &["s.a", "s.b", "s.a"]).await?;
    let fact = match lab.version().is_at_least(2, 11) {
        true => "refused (rollup value invalid: \"zz\" (code 500, error code 10111))",
        false => "unknown (no acknowledgement in time)",
    };
    t.is("bad", went(&near.store(rollup("zz"), plain()).await), fact);
    t.is("of the subject", roll("sub").await, "S@4");
    t.is("left", state(&s).await, "2 messages 2..4");
    t.is("of all", roll("all").await, "S@5");
    t.is("left", state(&s).await, "1 messages 5..5");
    Ok(())
}

async fn a_full_stream_drops_its_oldest<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|c| c.max_messages = 2)).await?;
    fill(&near, &["s.a", "s.b", "s.c"]).await?;
    t.is("by number", state(&s).await, "2 messages 2..3");
    near.update_stream(&config(|c| c.max_bytes = 40)).await?;
    t.is("by bytes", state(&s).await, "1 messages 3..3");
    let large = Message::new("s.a", vec![b'x'; 100]);
    t.is("too large", told(&near.store(large, plain()).await), "S@4");
    t.is("stored and gone", state(&s).await, "0 messages 5..4");
    Ok(())
}

const FULL: &str = "refused (maximum messages exceeded (code 503, error code 10077))";

async fn a_full_stream_refuses_new_messages<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let full = config(|c| {
        c.discard = Discard::New;
        c.max_messages = 2;
        c.max_messages_per_subject = 1;
    });
    let (near, s) = stream(lab, &full).await?;
    fill(&near, &["s.a", "s.b"]).await?;
    t.is("a new subject", store(&near, "s.c", plain()).await, FULL);
    t.is("an old one", store(&near, "s.a", plain()).await, "S@3");
    t.is("state", state(&s).await, "2 messages 2..3");
    let bytes = config(|c| {
        c.discard = Discard::New;
        c.max_bytes = 80;
    });
    near.update_stream(&bytes).await?;
    let refused = "refused (maximum bytes exceeded (code 503, error code 10077))";
    t.is("bytes", store(&near, "s.d", plain()).await, refused);
    Ok(())
}

async fn a_subject_at_its_limit_drops_or_refuses<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let limit = |refuses| {
        config(|c| {
            c.discard = Discard::New;
            c.max_messages_per_subject = 1;
            c.discard_new_per_subject = refuses;
        })
    };
    let (near, _s) = stream(lab, &limit(false)).await?;
    fill(&near, &["s.a"]).await?;
    t.is("drops", store(&near, "s.a", plain()).await, "S@2");
    near.update_stream(&limit(true)).await?;
    let refused = "refused (maximum messages per subject exceeded (code 503, error code 10077))";
    t.is("refuses", store(&near, "s.a", plain()).await, refused);
    Ok(())
}

async fn a_message_can_be_too_large<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|c| c.max_message_size = 40)).await?;
    let message = |size| Message::new("s.a", vec![b'x'; size]);
    t.is("fits", told(&near.store(message(40), plain()).await), "S@1");
    let refused = "refused (message size exceeds maximum allowed (code 400, error code 10054))";
    t.is(
        "does not",
        told(&near.store(message(41), plain()).await),
        refused,
    );
    let with_id = near.store(message(10), id("mmmmmmmmmm")).await;
    t.is("headers count", told(&with_id), refused);
    Ok(())
}

async fn purges_remove_what_they_name<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    fill(&near, &["s.a", "s.b", "s.c", "s.a", "s.b", "s.c"]).await?;
    let by = |filter: &str| Purge {
        filter: Some(filter.to_owned()),
        ..Purge::default()
    };
    t.is("a filter", told(&s.purge(by("s.a")).await), "2");
    t.is("holes", state(&s).await, "4 messages 2..6");
    let keep = Purge {
        keep: Some(1),
        ..by("s.b")
    };
    t.is("all but one", told(&s.purge(keep).await), "1");
    let below = Purge {
        below: Some(Sequence(4)),
        ..by("s.c")
    };
    t.is("filter and below", told(&s.purge(below).await), "1");
    t.is("left", state(&s).await, "2 messages 5..6");
    t.is("nothing matches", told(&s.purge(by("z")).await), "0");
    let newest = Purge {
        keep: Some(1),
        ..Purge::default()
    };
    t.is("the newest", told(&s.purge(newest).await), "1");
    let contradiction = Purge {
        below: Some(Sequence(2)),
        keep: Some(1),
        ..Purge::default()
    };
    let refused = "refused (bad request (code 400, error code 10003))";
    t.is("both", told(&s.purge(contradiction).await), refused);
    t.is("all", told(&s.purge(Purge::default()).await), "1");
    t.is("empty", state(&s).await, "0 messages 7..6");
    Ok(())
}

async fn a_purge_beyond_the_last_moves_the_counter<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    fill(&near, &["s.a", "s.b"]).await?;
    let far = |filter| Purge {
        below: Some(Sequence(20)),
        filter,
        keep: None,
    };
    t.is("purge", told(&s.purge(far(None)).await), "2");
    t.is("state", state(&s).await, "0 messages 20..19");
    t.is("next", store(&near, "s.a", plain()).await, "S@20");
    let with_filter = s.purge(far(Some("s.>".to_owned()))).await;
    t.is("with a filter", told(&with_filter), "0");
    Ok(())
}

async fn a_deleted_message_leaves_a_hole<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    fill(&near, &["s.a", "s.a", "s.a", "s.a"]).await?;
    let delete = async |sequence| told(&s.delete_message(Sequence(sequence)).await);
    t.is("one", delete(2).await, "true");
    t.is("again", delete(2).await, "false");
    t.is("hole", state(&s).await, "3 messages 1..4");
    t.is("the first", delete(1).await, "true");
    t.is("moves", state(&s).await, "2 messages 3..4");
    t.is("the last", delete(4).await, "true");
    t.is("stays", state(&s).await, "1 messages 3..4");
    t.is("beyond", delete(9).await, "false");
    near.update_stream(&config(|c| c.deny_delete = true))
        .await?;
    let refused = "refused (message delete not permitted (code 500, error code 10057))";
    t.is("denied", delete(3).await, refused);
    Ok(())
}

async fn subjects_of_two_streams_never_overlap<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, _s) = stream(lab, &config(|_| {})).await?;
    let create = async |name: &str, subjects: &[&str]| {
        let mut config = StreamConfig::new(name);
        config.subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        went(&near.create_stream(&config).await)
    };
    let overlap = "refused (subjects overlap with an existing stream (code 400, error code 10065))";
    t.is("one of them", create("T", &["s.a"]).await, overlap);
    t.is("a wildcard", create("T", &["s.*"]).await, overlap);
    t.is("other", create("T", &["t"]).await, "done");
    for (what, subjects) in [
        ("within", &["u.a", "u.*"][..]),
        ("twice", &["u.a", "u.a"]),
        ("all", &[">"]),
        ("the API", &["$JS.>"]),
        ("invalid", &["u..a"]),
    ] {
        t.note(what, create("U", subjects).await);
    }
    create("V", &[]).await;
    t.is("its name", store(&near, "V", plain()).await, "V@1");
    Ok(())
}

async fn narrower_limits_take_effect_at_once<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    fill(&near, &["s.a", "s.a", "s.a", "s.b", "s.b"]).await?;
    let update =
        async |change: fn(&mut StreamConfig)| told(&near.update_stream(&config(change)).await);
    t.is(
        "number",
        update(|c| c.max_messages = 4).await,
        "4 messages 2..5",
    );
    let fact = match lab.version().is_at_least(2, 14) {
        true => "2 messages 3..5",
        false => "4 messages 2..5",
    };
    let shorter = update(|c| c.max_messages_per_subject = 1).await;
    t.is("per subject", shorter, fact);
    t.is(
        "bytes",
        update(|c| c.max_bytes = 40).await,
        "1 messages 5..5",
    );
    t.is(
        "subjects",
        update(|c| c.subjects = vec!["t.>".into()]).await,
        "1 messages 5..5",
    );
    t.is(
        "not there",
        store(&near, "s.a", plain()).await,
        "refused (no stream stores this subject)",
    );
    t.is("but there", store(&near, "t.a", plain()).await, "S@6");
    t.is("state", state(&s).await, "2 messages 5..6");
    Ok(())
}

async fn some_settings_never_change<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = config(|c| {
        c.deny_delete = true;
        c.deny_purge = true;
        c.allow_message_ttl = lab.version().is_at_least(2, 11);
    });
    let (near, s) = stream(lab, &first).await?;
    let mut update = async |what: &str, change: fn(&mut StreamConfig)| {
        let mut changed = first.clone();
        change(&mut changed);
        t.note(what, went(&near.update_stream(&changed).await));
    };
    update("storage", |c| c.storage = Storage::Memory).await;
    update("work queue", |c| c.retention = Retention::WorkQueue).await;
    update("deletion", |c| c.deny_delete = false).await;
    update("purge", |c| c.deny_purge = false).await;
    update("lives", |c| c.allow_message_ttl = false).await;
    update("window", |c| {
        c.max_age = Duration::from_secs(1);
        c.duplicate_window = Some(Duration::from_secs(2));
    })
    .await;
    update("short window", |c| {
        c.duplicate_window = Some(Duration::from_millis(10))
    })
    .await;
    update("short age", |c| c.max_age = Duration::from_millis(10)).await;
    update("rollups", |c| c.allow_rollup = true).await;
    update("markers", |c| {
        c.subject_delete_markers = Some(Duration::from_millis(10))
    })
    .await;
    update("per subject", |c| c.discard_new_per_subject = true).await;
    update("interest", |c| c.retention = Retention::Interest).await;
    update("copies", |c| c.replicas = 3).await;
    t.note("purged", told(&s.purge(Purge::default()).await));
    let again = went(&near.create_stream(&config(|c| c.max_messages = 7)).await);
    t.is(
        "created anew",
        again,
        "refused (the stream exists with other settings)",
    );
    let mut missing = StreamConfig::new("T");
    missing.subjects = vec!["t".to_owned()];
    let not_found = "refused (there is no such stream)";
    t.is(
        "missing",
        went(&near.update_stream(&missing).await),
        not_found,
    );
    t.is(
        "not deleted",
        went(&near.delete_stream("T").await),
        not_found,
    );
    t.is("deleted", went(&near.delete_stream("S").await), "done");
    t.is("gone", told(&s.info().await), not_found);
    Ok(())
}

async fn nobody_interested_nothing_kept<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|c| c.retention = Retention::Interest)).await?;
    t.is("stored", store(&near, "s.a", id("m")).await, "S@1");
    t.is("known", store(&near, "s.a", id("m")).await, "S@1 again");
    t.is("not kept", state(&s).await, "0 messages 2..1");
    Ok(())
}

async fn headers_are_stored<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (near, s) = stream(lab, &config(|_| {})).await?;
    let mut message = Message::new("s.a", "body");
    message.headers.append("traceparent", "00-ab-cd-01");
    message.headers.append("X-Two", "1");
    message.headers.append("X-Two", "2");
    near.store(message, id("m")).await?;
    let stored = "s.a=body@1 Nats-Msg-Id:m X-Two:1 X-Two:2 traceparent:00-ab-cd-01";
    t.is("stored", told(&s.get(Sequence(1)).await), stored);
    Ok(())
}

async fn a_bucket_is_a_stream<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    use squall_core::transport::{Bucket as _, BucketConfig};
    let near = connect(lab, "near").await?;
    let bucket = near.create_bucket(&BucketConfig::new("b")).await?;
    bucket.put("k", "1".into()).await?;
    bucket.delete("gone", None).await?;
    let s = near.stream("KV_b")?;
    t.is("state", state(&s).await, "2 messages 1..2");
    t.is("a record", told(&s.get(Sequence(1)).await), "$KV.b.k=1@1");
    t.is(
        "a tombstone",
        told(&s.last("$KV.b.gone").await),
        "$KV.b.gone=@2 KV-Operation:DEL",
    );
    t.is("a put", store(&near, "$KV.b.k", plain()).await, "KV_b@3");
    t.is("is read", told(&bucket.entry("k").await), "k=x@3");
    let refused = "refused (message delete not permitted (code 500, error code 10057))";
    t.is(
        "delete",
        told(&s.delete_message(Sequence(3)).await),
        refused,
    );
    t.is("purge", told(&s.purge(Purge::default()).await), "2");
    t.is("is empty", told(&bucket.entry("k").await), "none");
    let config = s.info().await?.config;
    t.note("settings", format!("{config:?}"));
    Ok(())
}
