//! Where core messaging and key-value buckets meet: a bucket is a stream that listens to `$KV.<bucket>.>`.
//!
//! A core publish to the subject of a key is a write, with its acknowledgement as JSON if it asks for one. A write is
//! a message, which core subscriptions to that subject hear too. Delete markers are neither: the server stores them
//! without publishing them.

use std::sync::Arc;

use squall_core::transport::{ApiError, Message, Operation, Revision};

use super::Broker;
use super::bucket::{Incoming, Refusal};
use super::config::{Now, Version};
use super::effect::Effect;
use super::jetstream::Service;
use super::refusal::{api_error, headers};
use super::security::Account;
use super::subject::{KV_PREFIX, split_key};
use crate::wire::{LinkId, ServerOp, Write};

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
        assert!(
            !message.subject.starts_with("$JS."),
            "not modelled as a core publish, send a `Request` instead: {}",
            message.subject
        );
        if self.answer_system(now, account, &message, effects) {
            return;
        }
        let mut ctx = self.surroundings.ctx(now, account, effects);
        let mut takers = self.messaging.route(&mut ctx, &message);
        if message.subject.starts_with(KV_PREFIX) {
            takers += usize::from(self.store_raw(now, account, &message, effects));
        }
        if takers == 0
            && let Some(reply) = message.reply
        {
            let op = ServerOp::NoResponders { reply };
            effects.push(Effect::Send { link, op });
        }
    }

    /// Stores a message that was published to the subject of a key. True if a bucket listens there.
    fn store_raw(
        &mut self,
        now: Now,
        account: Account,
        message: &Message,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let mut ctx = self.surroundings.ctx(now, account, effects);
        let Some((bucket, key)) = split_key(&message.subject) else {
            return false;
        };
        let jetstream = &mut self.jetstreams[account.0];
        let service = jetstream.service;
        let Some(bucket) = jetstream.bucket_mut(bucket) else {
            return false;
        };
        match service {
            Service::On => {}
            Service::Mute => return true,
            Service::Disabled | Service::LameDuck => return false,
        }
        let operation = match message.headers.get("KV-Operation") {
            Some("DEL") => Operation::Delete,
            Some("PURGE") => Operation::Purge,
            _ => Operation::Put,
        };
        let expected = message.headers.get("Nats-Expected-Last-Subject-Sequence");
        let incoming = Incoming {
            key: key.into(),
            value: message.payload.clone(),
            operation,
            // The server reads what is no number as 0.
            expected: expected.map(|text| Revision(text.parse().unwrap_or(0))),
            headers: message.headers.wire_len(),
            by: None,
        };
        let stream = format!("KV_{}", bucket.name);
        let stored = match bucket.write(&mut ctx, incoming) {
            Ok(revision) => Ok(revision),
            Err(Refusal::NoStream) => return false,
            Err(Refusal::Error(error)) => Err(error),
            Err(Refusal::WrongRevision(actual)) => {
                let why = format!("wrong last sequence: {actual}");
                Err(api_error(400, 10071, why))
            }
        };
        if let Some(reply) = &message.reply {
            let text = acknowledgement(ctx.config.version, &stream, &stored);
            let answer = Message::new(Arc::clone(reply), text);
            self.messaging.route(&mut ctx, &answer);
        }
        true
    }

    /// Lets core subscriptions hear a write that comes as a request. True if one did.
    pub(super) fn overhear(
        &mut self,
        now: Now,
        account: Account,
        bucket: &str,
        key: &str,
        write: &Write,
        expected: Option<Revision>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let payload = match write {
            Write::Put(value) => value.clone(),
            Write::Delete | Write::Purge => bytes::Bytes::new(),
        };
        let message = Message {
            headers: headers(write, expected),
            ..Message::new(format!("{KV_PREFIX}{bucket}.{key}"), payload)
        };
        let mut ctx = self.surroundings.ctx(now, account, effects);
        self.messaging.route(&mut ctx, &message) > 0
    }
}

fn acknowledgement(version: Version, stream: &str, stored: &Result<Revision, ApiError>) -> String {
    match stored {
        Ok(revision) if version.is_at_least(2, 12) => {
            format!(r#"{{"stream":"{stream}","seq":{revision}}}"#)
        }
        Ok(revision) => format!(r#"{{"stream":"{stream}", "seq":{revision}}}"#),
        Err(error) => format!(
            r#"{{"error":{{"code":{},"err_code":{},"description":"{}"}},"stream":"{stream}","seq":0}}"#,
            error.code, error.err_code, error.description
        ),
    }
}
