//! What is to be stored, asked again as long as a server cannot judge it.
//!
//! A server with copies refuses what depends on a message that is on its way to them. The adapter to the real NATS asks
//! again within the time of one write; so does this client.

use std::time::Duration;

use squall_core::Clock as _;
use squall_core::Instant;

use super::handle::SimConnection;
use super::requests::{Patience, Reply, id_of};
use crate::wire::{ClientOp, Request, Response};

/// Another message of the subject is on its way: whether that will be the last is not decided.
const LAST_SEQUENCE_UNDECIDED: u64 = 10164;
/// A message of this id is on its way: whether it will be stored is not decided.
const DUPLICATE_UNDECIDED: u64 = 10158;

/// It is asked again after so long.
const PAUSE: Duration = Duration::from_millis(5);

fn undecided(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Response(Response::Error(error)) => Some(error.err_code)
            .filter(|code| matches!(*code, LAST_SEQUENCE_UNDECIDED | DUPLICATE_UNDECIDED)),
        _ => None,
    }
}

/// Whether a server may be unable to judge it.
fn demands(request: &Request) -> bool {
    match request {
        Request::Write { expected, .. } => expected.is_some(),
        Request::Store(message) => !message.headers.is_empty(),
        _ => false,
    }
}

impl SimConnection {
    /// Asks for something to be stored. What is not decided in time is not stored; but a message of this id may be.
    pub(super) async fn ask_to_store(&self, request: Request) -> Reply {
        let kept = demands(&request).then(|| (request.clone(), self.clock.now()));
        let command = |key| ClientOp::Request {
            id: id_of(key),
            request,
        };
        let reply = self.exchange(Patience::Ack, command).await;
        match kept {
            Some((request, begun)) if undecided(&reply).is_some() => {
                Box::pin(self.ask_again(request, begun, reply)).await
            }
            _ => reply,
        }
    }

    async fn ask_again(&self, request: Request, begun: Instant, mut reply: Reply) -> Reply {
        let Some(patience) = self.look(|client| client.ack_timeout) else {
            return Reply::Closed;
        };
        let deadline = begun + patience;
        while let Some(code) = undecided(&reply) {
            let next = self.clock.now() + PAUSE;
            if next >= deadline {
                return match code {
                    DUPLICATE_UNDECIDED => Reply::TimedOut,
                    _ => reply,
                };
            }
            self.clock.sleep_until(next).await;
            let request = request.clone();
            let command = |key| ClientOp::Request {
                id: id_of(key),
                request,
            };
            let exchange = self.exchange(Patience::Ack, command);
            reply = exchange.until(deadline).await;
        }
        reply
    }
}
