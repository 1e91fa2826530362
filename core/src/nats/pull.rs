//! One pull: a request whose answers come one by one, to an inbox of its own.
//!
//! The server says when it is over, mostly. What it cannot say is told here: silence for longer than was agreed, and the
//! end of the link, with which the server forgets the pull.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::api::status_error;
use super::delivery::{Place, stored};
use super::link::Shared;
use crate::time::nanos;
use crate::transport::{Delivered, Pull, PullEnd, PullError, PullEvent, Pulled, PulledSender};

/// How late the word that a pull has expired may come.
const GRACE: Duration = Duration::from_secs(1);

pub(super) async fn start(
    shared: &Arc<Shared>,
    subject: String,
    wish: Pull,
) -> Result<Pulled, PullError> {
    check(&wish)?;
    let client = shared.client().ok_or(PullError::Closed)?;
    let batch = wish.batch.get();
    let places = usize::try_from(batch).unwrap_or(usize::MAX);
    let (out, pulled) = Pulled::channel(places.saturating_add(1).min(MOST_PLACES), None);
    let link = shared.link();
    if !link.up {
        // A request that waited for the link would be a pull that nobody knows of.
        end(&out, PullEnd::Disconnected);
        return Ok(pulled);
    }
    let inbox = client.new_inbox();
    let asked = async {
        let answers = client.subscribe(inbox.clone()).await.ok()?;
        let sent = client.publish_with_reply(subject, inbox, body(&wish));
        sent.await.ok().map(|()| answers)
    };
    let Some(Some(answers)) = shared.until_closed(asked).await else {
        return Err(PullError::Closed);
    };
    let ends = Ends {
        no_wait: wish.expires.is_none(),
        heartbeat: wish.heartbeat,
        left: batch,
        silent_at: Instant::now() + patience(shared, &wish),
    };
    let (shared, generation) = (Arc::clone(shared), link.generation);
    tokio::spawn(async move { serve(&shared, generation, answers, ends, &out).await });
    Ok(pulled)
}

/// What a channel can hold.
const MOST_PLACES: usize = usize::MAX >> 4;

fn check(wish: &Pull) -> Result<(), PullError> {
    let expires = wish.expires.unwrap_or_default();
    match wish.heartbeat {
        Some(heartbeat) if heartbeat.is_zero() || heartbeat > expires / 2 => {
            Err(PullError::InvalidHeartbeat { heartbeat, expires })
        }
        _ => Ok(()),
    }
}

fn body(wish: &Pull) -> Bytes {
    let mut body = json!({ "batch": wish.batch });
    match wish.expires {
        Some(expires) => body["expires"] = nanos(expires).into(),
        None => body["no_wait"] = true.into(),
    }
    if let Some(heartbeat) = wish.heartbeat {
        body["idle_heartbeat"] = nanos(heartbeat).into();
    }
    body.to_string().into()
}

/// How long the server may say nothing.
fn patience(shared: &Shared, wish: &Pull) -> Duration {
    match (wish.heartbeat, wish.expires) {
        (Some(heartbeat), _) => heartbeat * 2,
        (None, Some(expires)) => expires + GRACE,
        // It is answered at once, or not at all: where other pulls wait the server forgets it.
        (None, None) => shared.options.request_timeout,
    }
}

/// What a pull waits for.
struct Ends {
    no_wait: bool,
    heartbeat: Option<Duration>,
    /// Messages still wanted.
    left: u32,
    silent_at: Instant,
}

async fn serve(
    shared: &Shared,
    generation: u64,
    mut answers: Subscriber,
    mut ends: Ends,
    out: &PulledSender,
) {
    let mut links = shared.link_changes();
    loop {
        // What has arrived is read before the pull is given up.
        let answer = tokio::select! {
            biased;
            () = out.closed() => return,
            answer = answers.next() => answer,
            _ = links.wait_for(|link| link.closed || !link.up || link.generation != generation) => {
                return end(out, PullEnd::Disconnected);
            }
            () = sleep_until(ends.silent_at) => return end(out, PullEnd::Silent),
        };
        let Some(answer) = answer else {
            return end(out, PullEnd::Disconnected);
        };
        if let Some(heartbeat) = ends.heartbeat {
            ends.silent_at = Instant::now() + heartbeat * 2;
        }
        if let Some(over) = ends.on_answer(&answer, out) {
            return end(out, over);
        }
    }
}

impl Ends {
    /// Why it is over, if it is.
    fn on_answer(&mut self, answer: &Message, out: &PulledSender) -> Option<PullEnd> {
        let Some(status) = answer.status.map(|status| status.as_u16()) else {
            // What bears no place is no delivery: somebody else's message.
            let delivered = delivered(answer)?;
            // There is room for the whole batch: only a reader that is gone takes nothing.
            let _gone = out.try_send(PullEvent::Message(delivered));
            self.left -= 1;
            return (self.left == 0).then_some(PullEnd::Full);
        };
        match status {
            100 => None,
            404 => Some(PullEnd::NoMessages),
            // Also how 2.10 says that there is nothing now.
            408 if self.no_wait => Some(PullEnd::NoMessages),
            408 => Some(PullEnd::Expired),
            _ => Some(PullEnd::Refused(status_error(answer))),
        }
    }
}

fn end(out: &PulledSender, why: PullEnd) {
    // One place was kept for it: only a reader that is gone does not hear it.
    let _gone = out.try_send(PullEvent::Ended(why));
}

fn delivered(answer: &Message) -> Option<Delivered> {
    let reply = answer.reply.as_ref()?.as_str();
    let place = Place::parse(reply)?;
    Some(Delivered {
        message: stored(answer, &place),
        consumer_sequence: place.delivered,
        deliveries: place.attempt,
        pending: place.pending,
        reply: reply.into(),
    })
}
