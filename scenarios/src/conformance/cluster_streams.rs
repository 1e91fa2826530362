//! Streams of a cluster, whichever server is asked: removals are agreed upon as writes are, and core publishes are stored
//! by whoever leads.

use std::time::Duration;

use futures_util::future::join_all;
use squall_core::transport::{
    ApiError, Fallible as _, JetStream as _, Message, Outcome, Purge, Revision, Sequence,
    StoreError, StoreOptions, Stream as _, StreamConfig, StreamError,
};
use squall_core::{Bucket as _, Connection as _};

use super::cluster::{LOOK, NO_PEERS, connect, connect_with, copies as bucket_of, lead};
use super::laboratory::{Conn, Stop, options, sleep, soon, timed};
use super::transcript::{Transcript, told};
use super::trio::Trio;

/// Another write of the subject is on its way: which will be the last is not decided.
const UNDECIDED: u64 = 10164;

fn copies(replicas: u8) -> StreamConfig {
    StreamConfig {
        subjects: vec!["s.>".to_owned()],
        replicas,
        ..StreamConfig::new("S")
    }
}

/// One client of each server, and a stream that all of them can write to.
async fn begin<L: Trio>(lab: &L, config: &StreamConfig) -> Result<[Conn<L>; 3], Stop> {
    let clients = [
        connect(lab, &[0]).await?,
        connect(lab, &[1]).await?,
        connect(lab, &[2]).await?,
    ];
    soon(lab, "there are peers", async {
        loop {
            match clients[0].create_stream(config).await {
                Err(StreamError::Rejected(error)) if error.err_code == NO_PEERS => {
                    sleep(lab, LOOK).await;
                }
                Err(StreamError::TimedOut) => {}
                result => return result.map(|_| ()),
            }
        }
    })
    .await??;
    for client in &clients {
        store(lab, client, "s.a").await?;
    }
    Ok(clients)
}

/// Stores a message as soon as somebody listens.
async fn store<L: Trio>(lab: &L, client: &Conn<L>, subject: &str) -> Result<(), Stop> {
    soon(lab, "a message is stored", async {
        let message = || Message::new(subject, "m");
        while client
            .store(message(), StoreOptions::default())
            .await
            .is_err()
        {
            sleep(lab, LOOK).await;
        }
    })
    .await
}

async fn extent<L: Trio>(client: &Conn<L>) -> Result<String, Stop> {
    let info = client.stream("S")?.info().await?;
    let (first, last) = (info.first_sequence, info.last_sequence);
    Ok(format!("{first} to {last}, {} messages", info.messages))
}

async fn removals<L: Trio>(lab: &L, t: &mut Transcript, replicas: u8) -> Result<(), Stop> {
    let [one, two, three] = begin(lab, &copies(replicas)).await?;
    for subject in ["s.b", "s.b", "s.c"] {
        store(lab, &one, subject).await?;
    }
    t.is("stored", extent::<L>(&one).await?, "1 to 6, 6 messages");
    let of_b = Purge {
        filter: Some("s.b".to_owned()),
        ..Purge::default()
    };
    let s = two.stream("S")?;
    t.is("a purge of s.b", told(&s.purge(of_b).await), "2");
    t.is("after it", extent::<L>(&two).await?, "1 to 6, 4 messages");
    let s = three.stream("S")?;
    let second = s.delete_message(Sequence(2)).await;
    t.is("one deleted", told(&second), "true");
    let again = s.delete_message(Sequence(2)).await;
    t.is("again", told(&again), "false");
    let beyond = s.delete_message(Sequence(9)).await;
    t.note("beyond the end", told(&beyond));
    let below = Purge {
        below: Some(Sequence(9)),
        ..Purge::default()
    };
    let s = one.stream("S")?;
    t.is("a purge below 9", told(&s.purge(below).await), "3");
    t.is("then", extent::<L>(&one).await?, "9 to 8, 0 messages");
    store(lab, &three, "s.a").await?;
    t.is("the next", extent::<L>(&three).await?, "9 to 9, 1 messages");
    let both = Purge {
        keep: Some(1),
        below: Some(Sequence(9)),
        ..Purge::default()
    };
    t.note("both limits", told(&s.purge(both).await));
    let denied = StreamConfig {
        deny_purge: true,
        deny_delete: true,
        ..copies(replicas)
    };
    two.update_stream(&denied).await?;
    t.note("a purge denied", told(&s.purge(Purge::default()).await));
    let denied = s.delete_message(Sequence(9)).await;
    t.note("a deletion denied", told(&denied));
    let missing = three.stream("T")?;
    let purged = missing.purge(Purge::default()).await;
    t.note("of a missing stream", told(&purged));
    Ok(())
}

/// All copies let the same messages go, in the order in which they were asked to.
pub(super) async fn removals_are_agreed_upon<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    removals(lab, t, 3).await
}

/// Whoever has it answers, whichever server is asked.
pub(super) async fn a_single_copy_is_purged_from_anywhere<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    removals(lab, t, 1).await
}

async fn core_publishes<L: Trio>(lab: &L, t: &mut Transcript, replicas: u8) -> Result<(), Stop> {
    let clients = begin(lab, &copies(replicas)).await?;
    for (number, client) in clients.iter().enumerate() {
        let reply = format!("inbox.{number}");
        let mut inbox = client.subscribe(&reply, None).await?;
        // Its interest is known to all servers once a message has come over each route.
        for other in &clients {
            soon(lab, "the inbox is known", async {
                loop {
                    other.publish(Message::new(reply.as_str(), "hello")).await?;
                    tokio::select! {
                        biased;
                        _hello = inbox.next() => return Ok::<_, Stop>(()),
                        () = sleep(lab, LOOK) => {}
                    }
                }
            })
            .await??;
        }
        sleep(lab, LOOK * 5).await;
        while inbox.try_next().is_some() {}
        let mut ask = async |what: &str, expected: Option<&str>| {
            let mut message = Message::new("s.b", "m");
            message.reply = Some(reply.as_str().into());
            if let Some(expected) = expected {
                message
                    .headers
                    .append("Nats-Expected-Last-Sequence", expected);
            }
            client.publish(message).await?;
            let answer = soon(lab, "it is acknowledged", inbox.next()).await?;
            let answer = answer.map(|answer| answer.payload).unwrap_or_default();
            t.note(what, String::from_utf8_lossy(&answer).into_owned());
            Ok::<_, Stop>(())
        };
        ask("a publish", None).await?;
        ask("one that expects 1", Some("1")).await?;
        client.publish(Message::new("s.c", "nobody asks")).await?;
        client.flush().await?;
        let due = 3 + 2 * (number as u64 + 1);
        soon(lab, "it is stored", async {
            while client.stream("S")?.info().await?.last_sequence < Sequence(due) {
                sleep(lab, LOOK).await;
            }
            Ok::<_, Stop>(())
        })
        .await??;
        t.note("stored", extent::<L>(client).await?);
    }
    Ok(())
}

/// It is acknowledged where the publisher wants it, by a message that comes over the routes.
pub(super) async fn a_core_publish_is_stored_by_the_leader<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    core_publishes(lab, t, 3).await
}

/// The same.
pub(super) async fn a_core_publish_is_stored_in_a_single_copy<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    core_publishes(lab, t, 1).await
}

/// What one of several writers heard.
#[derive(Default)]
struct Heard {
    stored: u64,
    unknown: u64,
    /// Refused, each time that it was asked, for as long as a write may take.
    undecided: u64,
    /// The longest that a write took which was begun.
    slowest: Duration,
    odd: Vec<String>,
}

/// A server with copies says of a write that is on its way no more than that it is (10164): whether that will be the last
/// is not decided. Whoever asks hears what was decided, as of one server.
pub(super) async fn writers_at_once_are_stored_or_told_of_another<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    const ROUNDS: u64 = 40;
    let clients = begin(lab, &copies(3)).await?;
    let before = clients[0].stream("S")?.info().await?;
    let writers = clients.iter().map(async |client| {
        let mut heard = Heard::default();
        let mut last = Sequence::NONE;
        for _ in 0..ROUNDS {
            let options = StoreOptions {
                expected_last_subject_sequence: Some(last),
                ..StoreOptions::default()
            };
            let storing = client.store(Message::new("s.k", "m"), options);
            let (took, result) = timed(lab, storing).await;
            let mut is_begun = true;
            match result {
                Ok(ack) => {
                    heard.stored += 1;
                    last = ack.sequence;
                }
                // Servers that get no time answer late, or elect another leader.
                Err(error) if error.outcome() == Outcome::Unknown => heard.unknown += 1,
                Err(error) => {
                    is_begun = false;
                    match error {
                        StoreError::WrongLastSequence { actual } => last = actual,
                        StoreError::Rejected(ApiError {
                            err_code: UNDECIDED,
                            ..
                        }) => heard.undecided += 1,
                        error => heard.odd.push(error.to_string()),
                    }
                }
            }
            if is_begun {
                heard.slowest = heard.slowest.max(took);
            }
        }
        heard
    });
    let mut all = Heard::default();
    for heard in join_all(writers).await {
        all.stored += heard.stored;
        all.unknown += heard.unknown;
        all.undecided += heard.undecided;
        all.slowest = all.slowest.max(heard.slowest);
        all.odd.extend(heard.odd);
    }
    t.is("neither stored nor told of another", all.odd.join("; "), "");
    t.must("some were stored", all.stored > 0);
    let long = options(String::new()).ack_timeout / 2;
    t.must(
        "nobody is refused to the end but behind a write that takes as long",
        all.undecided == 0 || all.slowest > long,
    );
    let after = clients[0].stream("S")?.info().await?;
    let least = before.messages + all.stored;
    t.must(
        "as many as were acknowledged, or more where nobody heard",
        (least..=least + all.unknown).contains(&after.messages),
    );
    Ok(())
}

/// What a publish to `k` demands, after a record of this revision.
type Demanded = fn(Revision) -> Vec<(&'static str, String)>;

const NOTHING: Demanded = |_| Vec::new();
const OF_LAST: Demanded = |last| vec![("Nats-Expected-Last-Subject-Sequence", last.to_string())];
const OF_NEXT: Demanded = |last| OF_LAST(Revision(last.0 + 1));
const AN_ID: Demanded = |last| vec![("Nats-Msg-Id", format!("id-{last}"))];

/// What the leader says of a message that depends on one before it, which is under way: published both at once, the first
/// is nearly always.
pub(super) async fn what_is_under_way_cannot_be_judged<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    const ROUNDS: usize = 40;
    let leader = lead(lab, &bucket_of(3)).await?;
    let near = connect(lab, &[leader]).await?;
    let bucket = near.bucket("b")?;
    let mut first = near.subscribe("inbox.first", None).await?;
    let mut second = near.subscribe("inbox.second", None).await?;
    near.flush().await?;
    let pairs: [(&str, [Demanded; 2], &str); 4] = [
        ("a condition after a condition", [OF_LAST, OF_LAST], "10164"),
        ("one that will hold", [OF_LAST, OF_NEXT], "10164"),
        ("a condition after a put", [NOTHING, OF_NEXT], "10164"),
        ("an id again", [AN_ID, AN_ID], "10158"),
    ];
    for (what, demanded, code) in pairs {
        let mut seen = None;
        for _ in 0..ROUNDS {
            let last = soon(lab, "a put", async {
                loop {
                    match bucket.put("k", "m".into()).await {
                        Err(error) if error.outcome() == Outcome::Unknown => {}
                        put => return put,
                    }
                }
            })
            .await??;
            for (demanded, inbox) in demanded.iter().zip(["inbox.first", "inbox.second"]) {
                let mut message = Message::new("$KV.b.k", "m");
                message.reply = Some(inbox.into());
                for (name, value) in demanded(last) {
                    message.headers.append(name, value);
                }
                near.publish(message).await?;
            }
            let mut said = Vec::new();
            for inbox in [&mut first, &mut second] {
                let answer = soon(lab, "it is answered", inbox.next()).await?;
                let answer = answer.map(|answer| answer.payload).unwrap_or_default();
                said.push(String::from_utf8_lossy(&answer).into_owned());
            }
            let is_stored = said[0].contains(&format!("\"seq\":{}", last.0 + 1));
            t.must("the first is stored", is_stored);
            if said[1].contains(code) {
                seen = said.pop();
                break;
            }
        }
        t.note(what, seen.unwrap_or_else(|| "never seen".to_owned()));
    }
    Ok(())
}

/// Behind a write that will not be decided for long, the adapter asks until its time is over. A condition was refused each
/// time; of an id nobody knows whether the first of it will be stored.
pub(super) async fn what_is_stuck_is_refused_or_unknown<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    const UNKNOWN: &str = "unknown (no acknowledgement in time)";
    const PATIENCE: Duration = Duration::from_millis(700);
    let leader = lead(lab, &bucket_of(3)).await?;
    let near = connect_with(lab, &[leader], |options| options.ack_timeout = PATIENCE).await?;
    let bucket = near.bucket("b")?;
    let with_id = || StoreOptions {
        message_id: Some("id".to_owned()),
        ..StoreOptions::default()
    };
    lab.isolate(leader, true);
    let one = bucket.update("k", "one".into(), Revision(1)).await;
    t.is("a condition", told(&one), UNKNOWN);
    // Who asks for the last time when the time is nearly over may get no answer to that: then nobody knows.
    let mut tries = 5;
    let (took, two) = loop {
        let (took, two) = timed(lab, bucket.update("k", "two".into(), Revision(1))).await;
        tries -= 1;
        if told(&two) != UNKNOWN || tries == 0 {
            break (took, two);
        }
    };
    t.is(
        "another",
        told(&two),
        "refused (wrong last sequence (code 400, error code 10164))",
    );
    t.lasts("another", took, 650, 900);
    let put = bucket.put("k", "three".into()).await;
    t.is("none", told(&put), UNKNOWN);
    let other = bucket.update("j", "four".into(), Revision::NONE).await;
    t.is("of another key", told(&other), UNKNOWN);
    let message = || Message::new("$KV.b.i", "m");
    let first = near.store(message(), with_id()).await;
    t.is("an id", told(&first), UNKNOWN);
    let again = near.store(message(), with_id()).await;
    t.is("it again", told(&again), UNKNOWN);
    Ok(())
}
