//! Leaders of a cluster that others have succeeded and who do not know it: what they say, and what can be made of it.

use std::time::Duration;

use squall_core::chat::{Chat, Config, OpenError, Thread};
use squall_core::transport::{
    JetStream as _, Leadership, ReadStreamError, Stream as _, StreamError, StreamInfo, names,
};
use squall_core::{Bucket as _, Clock as _};

use super::cluster::{LOOK, NO_PEERS, at, connect, copies, lead, reads, write};
use super::laboratory::{Conn, ServerVerb, Stop, sleep, soon, until};
use super::transcript::Transcript;
use super::trio::{Trio, others};
use crate::real::NatsCluster;

/// What a server says, in words.
fn said(described: &Result<StreamInfo, ReadStreamError>) -> String {
    match described {
        Ok(info) => {
            let who = match &info.leadership {
                Leadership::Alone => "who is alone",
                Leadership::Nobody => "who knows of no leader",
                leader if leader.is_likely() => "a leader that hears a majority",
                Leadership::Leader { .. } => "a leader that hears nobody",
            };
            format!("last {}, says {who}", info.last_sequence)
        }
        Err(error) => error.to_string(),
    }
}

/// It names itself and describes the stream as it was, until it gives up, and then it does so without a name. But it says
/// how long it has heard nobody.
pub(super) async fn a_leader_that_is_cut_off_describes_what_it_had<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let near = connect(lab, &[first]).await?;
    let stream = near.stream(&names::bucket_stream("b"))?;
    let ahead = at(lab, others(first)[0]).await?;
    let calm = "last 1, says a leader that hears a majority";
    t.is("in calm", said(&stream.info().await), calm);
    lab.isolate(first, true);
    sleep(lab, Duration::from_millis(3_500)).await;
    let behind = "last 1, says a leader that hears nobody";
    t.is("cut off", said(&stream.info().await), behind);
    write(lab, &ahead, "second").await?;
    let info = stream.info().await?;
    t.must(
        "succeeded",
        info.last_sequence.0 == 1 && !info.leadership.is_likely(),
    );
    let gives_up = |info: &Result<StreamInfo, _>| {
        info.as_ref()
            .is_ok_and(|info| info.leadership == Leadership::Nobody)
    };
    until(lab, "it gives up", || stream.info(), gives_up).await?;
    let behind = "last 1, says who knows of no leader";
    t.is("having given up", said(&stream.info().await), behind);
    lab.isolate(first, false);
    let ahead = "last 2, says a leader that hears a majority";
    let knows = |info: &Result<StreamInfo, _>| said(info) == ahead;
    until(lab, "it knows", || stream.info(), knows).await?;
    Ok(())
}

/// A question that waits for a leader that stands still is answered before it hears that it is succeeded, if the question
/// comes first: where it is, it has heard nobody for all that time.
pub(super) async fn a_leader_that_is_thawed_describes_what_it_had<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let near = connect(lab, &[first]).await?;
    let stream = near.stream(&names::bucket_stream("b"))?;
    let ahead = at(lab, others(first)[0]).await?;
    lab.server_of(first, ServerVerb::Pause).await?;
    write(lab, &ahead, "second").await?;
    let thaw = async {
        sleep(lab, Duration::from_millis(300)).await;
        lab.server_of(first, ServerVerb::Resume).await
    };
    let (asked, thawed) = futures_util::join!(stream.info(), thaw);
    thawed?;
    let (last, is_likely) = match &asked {
        Ok(info) => (info.last_sequence.0, info.leadership.is_likely()),
        Err(_) => (2, true),
    };
    t.must("what is likely is new", last == 2 || !is_likely);
    let ahead = "last 2, says a leader that hears a majority";
    let knows = |info: &Result<StreamInfo, _>| said(info) == ahead;
    until(lab, "it knows", || stream.info(), knows).await?;
    Ok(())
}

/// It has less of the log, and stands; a leader heeds it and steps down, and whoever could win has just been told by that
/// leader to wait. For seconds nobody leads, though two of three reach each other.
pub(super) async fn one_that_cannot_win_leaves_nobody_to_lead<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let first = lead(lab, &copies(3)).await?;
    let [behind, third] = others(first);
    let near = at(lab, third).await?;
    for (from, to) in [(first, behind), (behind, first)] {
        lab.hold_route(from, to, true);
    }
    let mut stored = lab.clock().now();
    soon(lab, "the leader steps down", async {
        while near.put("k", "more".into()).await.is_ok() {
            stored = lab.clock().now();
            sleep(lab, LOOK).await;
        }
    })
    .await?;
    write(lab, &near, "last").await?;
    t.lasts(
        "nobody leads",
        lab.clock().now().since(stored),
        3_500,
        12_500,
    );
    for (from, to) in [(first, behind), (behind, first)] {
        lab.hold_route(from, to, false);
    }
    let back = at(lab, behind).await?;
    reads(lab, &back, "last", 20).await
}

/// A chat of copies, opened as soon as there are servers for them.
async fn chat<L: Trio>(lab: &L, agent: &str, server: usize) -> Result<(Conn<L>, Chat), Stop> {
    let connection = connect(lab, &[server]).await?;
    let (env, _) = lab.reach(&NatsCluster::name(server)).await?;
    let config = Config {
        replicas: 3,
        scan_timeout: Duration::from_secs(4),
        ..Config::new("demo", agent, Duration::ZERO)
    };
    let opened = soon(lab, "the chat is open", async {
        loop {
            match Chat::open(&env, &connection, config.clone()).await {
                Err(OpenError::Stream(StreamError::Rejected(error)))
                    if error.err_code == NO_PEERS =>
                {
                    sleep(lab, LOOK).await;
                }
                Err(OpenError::Stream(StreamError::TimedOut)) => {}
                opened => return opened,
            }
        }
    });
    let chat = opened.await??;
    Ok((connection, chat))
}

async fn says<L: Trio>(lab: &L, chat: &Chat, thread: &Thread) -> Result<(), Stop> {
    soon(lab, "it is stored", async {
        while chat.send(thread, "hello").await.is_err() {
            sleep(lab, LOOK).await;
        }
    })
    .await
}

/// How many messages a scan counts.
async fn counted(chat: &Chat) -> Option<u64> {
    let threads = chat.list_threads().await.ok()?;
    Some(threads.iter().map(|thread| thread.message_count).sum())
}

/// At a leader that is cut off a scan finds all that the leader has, and does not take it for the whole.
pub(super) async fn a_scan_does_not_take_a_part_for_the_whole<L: Trio>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, alice) = chat(lab, "alice", 0).await?;
    let thread = alice.thread("deploy").await?;
    says(lab, &alice, &thread).await?;
    let stream = near.stream(&squall_core::chat::stream("demo"))?;
    let leader = soon(lab, "somebody leads", async {
        loop {
            if let Ok(info) = stream.info().await
                && let Leadership::Leader { server, .. } = info.leadership
                && let Some(leader) = NatsCluster::number(&server)
            {
                return leader;
            }
            sleep(lab, LOOK).await;
        }
    })
    .await?;
    let (_behind, bob) = chat(lab, "bob", leader).await?;
    let (_ahead, carol) = chat(lab, "carol", others(leader)[0]).await?;
    t.is("in calm", format!("{:?}", counted(&bob).await), "Some(1)");
    // A look that is given to a server that is cut off then would have no answer.
    let same = carol.thread("deploy").await?;
    lab.isolate(leader, true);
    says(lab, &carol, &same).await?;
    t.is("cut off", format!("{:?}", counted(&bob).await), "None");
    lab.isolate(leader, false);
    let counts = |counted: &Option<u64>| *counted == Some(2);
    until(lab, "all is counted", || counted(&bob), counts).await?;
    Ok(())
}
