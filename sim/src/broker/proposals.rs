//! What the leaders of a cluster propose: new streams, other settings, writes and sweeps.
//!
//! Conditions are judged when a write is proposed, against what is agreed; one that depends on a write still under way is
//! [refused](super::undecided), or waits for it.

use std::sync::Arc;

use bytes::Bytes;
use squall_core::transport::{
    Message, Operation, Retention, Revision, Sequence, Storage, StreamConfig, names,
};

use super::Broker;
use super::admit::Admission;
use super::config::{Kindness, Now};
use super::demands::Demands;
use super::effect::Effect;
use super::head::Head;
use super::jetstream::stored;
use super::member::{ACCOUNT, SIZE};
use super::parley::{Answer, Asker, Command, GroupId, Proposal};
use super::purge::Removal;
use super::refusal::{Refusal, stream_not_found};
use super::settings::{
    check_members, check_update, name_in_use, normalized, shares_subjects, subjects_overlap,
};
use super::stream::{Incoming, Written};
use crate::cluster::{Group, Peer};
use crate::wire::{Request, Response, Write};

impl Broker {
    pub(super) fn propose_creation(
        &mut self,
        now: Now,
        asker: Asker,
        config: StreamConfig,
        effects: &mut Vec<Effect>,
    ) {
        let config = normalized(config, self.surroundings.config.version);
        let Some(member) = &self.member else {
            return;
        };
        let version = self.surroundings.config.version;
        if let Err(error) = check_members(&config, version) {
            self.tell(asker, Response::Error(error), effects);
            return;
        }
        if let Some(stream) = member.streams.get(config.name.as_str()) {
            if stream.config == config {
                // Whoever leads it describes it; where nobody does, nobody answers.
                let holders = stream.holders.clone();
                for holder in holders {
                    let stream = config.name.as_str().into();
                    let request = Request::StreamInfo { stream };
                    self.hand_on(now, holder, asker, request, false, effects);
                }
            } else {
                self.tell(asker, Response::Error(name_in_use()), effects);
            }
            return;
        }
        if self.overlaps_in_cluster(&config) {
            self.tell(asker, Response::Error(subjects_overlap()), effects);
            return;
        }
        let there: Vec<Peer> = std::iter::once(member.me)
            .chain(member.reachable())
            .collect();
        let holders: Vec<Peer> = if config.replicas > 1 {
            assert!(
                config.storage == Storage::File,
                "not modelled: copies in memory, which catch up after a restart"
            );
            assert!(
                config.retention == Retention::Limits,
                "not modelled: copies of what consumers settle"
            );
            (0..SIZE).map(Peer).collect()
        } else {
            let picked = self.surroundings.rng.pick(&there).copied();
            picked.into_iter().collect()
        };
        let at = now.wall;
        let first = self.surroundings.rng.pick(&holders);
        let create = Command::Create {
            config,
            first: first.copied().unwrap_or(member.me),
            holders,
            at,
            asker,
        };
        self.propose(now, GroupId::CLUSTER, create, effects);
    }

    pub(super) fn propose_update(
        &mut self,
        now: Now,
        asker: Asker,
        config: StreamConfig,
        effects: &mut Vec<Effect>,
    ) {
        let version = self.surroundings.config.version;
        let config = normalized(config, version);
        let Some(member) = &self.member else {
            return;
        };
        let Some(stream) = member.streams.get(config.name.as_str()) else {
            self.tell(asker, Response::Error(stream_not_found()), effects);
            return;
        };
        assert_eq!(
            stream.config.replicas, config.replicas,
            "not modelled: another number of copies"
        );
        let checked = check_members(&config, version)
            .and_then(|()| check_update(&stream.config, &config))
            .and_then(|()| match self.overlaps_in_cluster(&config) {
                true => Err(subjects_overlap()),
                false => Ok(()),
            });
        if let Err(error) = checked {
            self.tell(asker, Response::Error(error), effects);
            return;
        }
        assert!(
            config.replicas == 1 || config.retention == Retention::Limits,
            "not modelled: copies of what consumers settle"
        );
        let update = Command::Update { config, asker };
        self.propose(now, GroupId::CLUSTER, update, effects);
    }

    pub(super) fn propose_deletion(
        &mut self,
        now: Now,
        asker: Asker,
        stream: Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &self.member else {
            return;
        };
        if member.streams.contains_key(&stream) {
            let delete = Command::Delete { stream, asker };
            self.propose(now, GroupId::CLUSTER, delete, effects);
        } else {
            self.tell(asker, Response::Error(stream_not_found()), effects);
        }
    }

    fn overlaps_in_cluster(&self, config: &StreamConfig) -> bool {
        let streams = self
            .member
            .iter()
            .flat_map(|member| member.streams.values());
        let mut settings = streams.map(|stream| &stream.config);
        settings.any(|other| shares_subjects(other, config))
    }

    /// A write has come to a server that leads the stream, or did.
    pub(super) fn asked_to_write(
        &mut self,
        now: Now,
        asker: Asker,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &mut self.member else {
            return;
        };
        let subject = match &request {
            Request::Write { bucket, key, .. } => names::key_subject(bucket, key).into(),
            Request::Store(message) => Arc::clone(&message.subject),
            _ => return,
        };
        let Some(name) = member.storing(&subject).cloned() else {
            return;
        };
        let Some(stream) = member.streams.get_mut(&name) else {
            return;
        };
        if !stream.is_replicated() {
            if !stream.holders.contains(&member.me) {
                return;
            }
            match &request {
                Request::Store(message) if asker.is_publisher() => {
                    let begun = effects.len();
                    self.store_raw(now, ACCOUNT, message, effects);
                    self.send_home(begun, effects);
                }
                _ => self.answer_here(now, asker, request, effects),
            }
            return;
        }
        let group = stream.group;
        if !member.groups.get(&group).is_some_and(Group::is_leader) {
            return;
        }
        let demands = match &request {
            Request::Write { expected, .. } => Demands {
                last_of_subject: expected.map(|Revision(expected)| Sequence(expected)),
                ..Demands::default()
            },
            Request::Store(message) => Demands::parse(&message.headers),
            _ => return,
        };
        let config = &self.surroundings.config;
        let is_patient =
            !config.version.is_at_least(2, 11) || config.kindness == Some(Kindness::ConditionsWait);
        let refusal = stream.undecided.refusal(&subject, &demands);
        let depends = refusal.is_some();
        if let Some(refusal) = refusal.filter(|_| !is_patient) {
            let answer = Answer::to(asker, &request);
            self.answer_store(now, &name, asker, &answer, Err(refusal), effects);
            return;
        }
        if depends || stream.undecided.holds_up(&demands) || !stream.waiting.is_empty() {
            stream.waiting.push_back((asker, request));
            return;
        }
        self.propose_write(now, &name, group, asker, subject, request, effects);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what was asked, and where it belongs"
    )]
    fn propose_write(
        &mut self,
        now: Now,
        name: &Arc<str>,
        group: GroupId,
        asker: Asker,
        subject: Arc<str>,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let answer = Answer::to(asker, &request);
        let Some((head, payload)) = spelt_out(request) else {
            return;
        };
        let version = self.surroundings.config.version;
        let Some(stream) = self.jetstreams[ACCOUNT.0].stream(name) else {
            return;
        };
        let place = stream.store.name(&subject);
        let incoming = Incoming {
            name: place,
            subject: stream.store.find(place),
            head,
            payload,
            by: None,
        };
        let admitted = stream.admit(version, &incoming);
        let refused = match admitted {
            Ok(Admission::Accepted(accepted)) => {
                let Incoming { head, payload, .. } = incoming;
                let proposal = Box::new(Proposal {
                    subject: Arc::clone(&subject),
                    head,
                    payload,
                    accepted,
                    answer,
                });
                let member = self.member.as_mut();
                if let Some(stream) = member.and_then(|member| member.streams.get_mut(name)) {
                    let demands = Demands::of(&proposal.head);
                    stream.undecided.propose(&subject, &demands);
                }
                let at = now.wall;
                let write = Command::Write {
                    proposal,
                    at,
                    asker,
                };
                self.propose(now, group, write, effects);
                return;
            }
            Ok(Admission::Duplicate(sequence)) => Ok(Written {
                sequence,
                is_duplicate: true,
            }),
            Err(Refusal::WrongLastId(_)) if version.is_at_least(2, 14) => panic!(
                "not modelled: a wrong last message id, which silences all copies of a stream"
            ),
            Err(refusal) => Err(refusal),
        };
        self.answer_store(now, name, asker, &answer, refused, effects);
    }

    /// Says what became of a message that somebody wants stored.
    pub(super) fn answer_store(
        &mut self,
        now: Now,
        stream: &Arc<str>,
        asker: Asker,
        answer: &Answer,
        written: Result<Written, Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        let is_write = match answer {
            Answer::Write => true,
            Answer::Store => false,
            Answer::Message(reply) => {
                let stored = match written {
                    Ok(written) => Ok(written),
                    Err(refusal) => match refusal.error() {
                        Some(error) => Err(error),
                        None => return,
                    },
                };
                if let Some(reply) = reply {
                    let begun = effects.len();
                    self.acknowledge_raw(now, ACCOUNT, reply, stream, &stored, effects);
                    self.send_home(begun, effects);
                }
                return;
            }
        };
        let Some(found) = self.jetstreams[ACCOUNT.0].stream(stream) else {
            return;
        };
        let response = stored(written, |written| found.acknowledged(written, is_write));
        if let Some(response) = response {
            self.tell(asker, response, effects);
        }
    }

    /// Somebody wants messages to go, of a stream that this server leads, or that only it may have.
    pub(super) fn asked_to_remove(
        &mut self,
        now: Now,
        asker: Asker,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let (stream, removal) = match &request {
            Request::Purge { stream, what } => (stream, Removal::Purge(what.clone())),
            Request::DeleteMessage { stream, sequence } => (stream, Removal::Message(*sequence)),
            _ => return,
        };
        let group = self.member.as_ref().and_then(|member| {
            let stream = member.streams.get(stream)?;
            stream.is_replicated().then_some(stream.group)
        });
        let Some(found) = self.jetstreams[ACCOUNT.0].stream(stream) else {
            return;
        };
        match (
            removal.check().and_then(|()| found.permits(&removal)),
            group,
        ) {
            (Err(error), _) => self.tell(asker, Response::Error(error), effects),
            (Ok(()), None) => self.answer_here(now, asker, request, effects),
            (Ok(()), Some(group)) => {
                let remove = Command::Remove { removal, asker };
                self.propose(now, group, remove, effects);
            }
        }
    }

    /// Proposes to sweep a stream that is swept together, where this server leads it.
    pub(super) fn propose_sweep(&mut self, now: Now, name: &Arc<str>, effects: &mut Vec<Effect>) {
        let Some(member) = &self.member else {
            return;
        };
        let group = member.streams.get(name).map(|stream| stream.group);
        if let Some(group) = group.filter(|group| member.leads(*group)) {
            let at = self.surroundings.ctx(now, ACCOUNT, effects).cached_wall();
            self.propose(now, group, Command::Sweep { at }, effects);
        }
    }
}

/// The message that a publish is.
fn spelt_out(request: Request) -> Option<(Head, Bytes)> {
    match request {
        Request::Write {
            write, expected, ..
        } => {
            let (payload, operation) = match write {
                Write::Put(value) => (value, Operation::Put),
                Write::Delete => (Bytes::new(), Operation::Delete),
                Write::Purge => (Bytes::new(), Operation::Purge),
            };
            let head = Head::Write {
                operation,
                expected,
            };
            Some((head, payload))
        }
        Request::Store(Message {
            headers, payload, ..
        }) => Some((Head::full(headers), payload)),
        _ => None,
    }
}
