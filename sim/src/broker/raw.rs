//! Where core messaging and streams meet: a stream listens to its subjects as any subscriber does.
//!
//! A core publish to a subject that a stream stores is stored, with its acknowledgement as JSON if it asks for one. A
//! publish that waits for its acknowledgement is a message, which core subscriptions to that subject hear too. Delete
//! markers are neither: the server stores them without publishing them.

use std::sync::Arc;

use squall_core::transport::{ApiError, Message, Operation, Revision, names};

use super::Broker;
use super::config::{Now, Version};
use super::effect::Effect;
use super::head::Head;
use super::jetstream::Service;
use super::parley::Asker;
use super::security::Account;
use super::stream::{Incoming, Written};
use crate::wire::{LinkId, Request, RequestId, ServerOp, Write};

impl Broker {
    /// Handles a core publish.
    ///
    /// # Panics
    /// If it is published to `$JS.`: the simulated client sends such requests typed, and an answer that is not modelled
    /// must not look like silence.
    pub(super) fn publish(
        &mut self,
        now: Now,
        link: LinkId,
        account: Account,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        let is_ack = message.subject.starts_with("$JS.ACK.");
        assert!(
            is_ack || !message.subject.starts_with("$JS."),
            "not modelled as a core publish, send a `Request` instead: {}",
            message.subject
        );
        if self.answer_system(now, account, &message, effects) {
            return;
        }
        let mut ctx = self.surroundings.ctx(now, account, effects);
        let mut takers = self.messaging.route(&mut ctx, &message);
        takers += usize::from(match (is_ack, &self.member) {
            (true, _) => self.jetstreams[account.0].acknowledge(&mut ctx, &message),
            (false, None) => self.store_raw(now, account, &message, effects),
            (false, Some(member)) => {
                let server = member.me;
                let id = RequestId::NONE;
                self.ask_to_store(now, Asker { server, link, id }, &message, effects)
            }
        });
        if takers == 0
            && let Some(reply) = message.reply
        {
            let op = ServerOp::NoResponders { reply };
            effects.push(Effect::Send { link, op });
        }
    }

    /// Hands a message on to whoever leads the stream that listens. True if somebody does.
    fn ask_to_store(
        &mut self,
        now: Now,
        asker: Asker,
        message: &Message,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let leaders = self.writers_to(&message.subject);
        for &leader in &leaders {
            let request = Request::Store(message.clone());
            self.hand_on(now, leader, asker, request, false, effects);
        }
        !leaders.is_empty()
    }

    /// Stores a message where a stream listens. True if one does.
    pub(super) fn store_raw(
        &mut self,
        now: Now,
        account: Account,
        message: &Message,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let mut ctx = self.surroundings.ctx(now, account, effects);
        let jetstream = &mut self.jetstreams[account.0];
        let service = jetstream.service;
        let Some(stream) = jetstream.storing(&message.subject) else {
            return false;
        };
        match service {
            Service::On => {}
            Service::Mute => return true,
            Service::Disabled | Service::LameDuck => return false,
        }
        let name = stream.store.name(&message.subject);
        let incoming = Incoming {
            name,
            subject: stream.store.find(name),
            head: Head::full(message.headers.clone()),
            payload: message.payload.clone(),
            by: None,
        };
        let stored = match stream.write(&mut ctx, incoming) {
            Ok(written) => Ok(written),
            Err(refusal) => match refusal.error() {
                Some(error) => Err(error),
                None => return true,
            },
        };
        if let Some(reply) = &message.reply {
            let stream = Arc::clone(&stream.identity.name);
            self.acknowledge_raw(now, account, reply, &stream, &stored, effects);
        }
        true
    }

    /// Says where it was asked for what became of a message.
    pub(super) fn acknowledge_raw(
        &mut self,
        now: Now,
        account: Account,
        reply: &Arc<str>,
        stream: &str,
        stored: &Result<Written, ApiError>,
        effects: &mut Vec<Effect>,
    ) {
        let mut ctx = self.surroundings.ctx(now, account, effects);
        let text = acknowledgement(ctx.config.version, stream, stored);
        let answer = Message::new(Arc::clone(reply), text);
        self.messaging.route(&mut ctx, &answer);
    }

    /// Lets core subscriptions hear a publish that comes as a request. True if one did, and no stream stores it: then
    /// the server does not say that nobody has it, but nobody will acknowledge it.
    pub(super) fn is_only_heard(
        &mut self,
        now: Now,
        account: Account,
        request: &Request,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let written;
        let message = match request {
            Request::Write {
                bucket,
                key,
                write,
                expected,
            } if self.messaging.hears_keys(account) => {
                written = spelt_out(bucket, key, write, *expected);
                &written
            }
            Request::Store(message) => message,
            _ => return false,
        };
        let mut ctx = self.surroundings.ctx(now, account, effects);
        self.messaging.route(&mut ctx, message) > 0
            && self.jetstreams[account.0]
                .storing(&message.subject)
                .is_none()
    }
}

/// A write to a key as the message that it is.
fn spelt_out(bucket: &str, key: &str, write: &Write, expected: Option<Revision>) -> Message {
    let (payload, operation) = match write {
        Write::Put(value) => (value.clone(), Operation::Put),
        Write::Delete => (bytes::Bytes::new(), Operation::Delete),
        Write::Purge => (bytes::Bytes::new(), Operation::Purge),
    };
    let head = Head::Write {
        operation,
        expected,
    };
    Message {
        headers: head.headers(),
        ..Message::new(names::key_subject(bucket, key), payload)
    }
}

fn acknowledgement(version: Version, stream: &str, stored: &Result<Written, ApiError>) -> String {
    let space = if version.is_at_least(2, 12) { "" } else { " " };
    match stored {
        Ok(Written {
            sequence,
            is_duplicate: false,
        }) => format!(r#"{{"stream":"{stream}",{space}"seq":{sequence}}}"#),
        Ok(Written { sequence, .. }) => {
            format!(r#"{{"stream":"{stream}",{space}"seq":{sequence},"duplicate": true}}"#)
        }
        Err(error) => {
            let description = error.description.replace('"', "\\\"");
            format!(
                r#"{{"error":{{"code":{},"err_code":{},"description":"{description}"}},"stream":"{stream}","seq":0}}"#,
                error.code, error.err_code
            )
        }
    }
}
