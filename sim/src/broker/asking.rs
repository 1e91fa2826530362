//! A server as one of a cluster: where a JetStream request goes, and which server answers it.
//!
//! It goes to whoever serves it, as its subject would: writes to the servers that lead the stream, direct reads to one of
//! those that are up to date, whichever, everything else to all. Who is not in charge says nothing.

use std::time::Duration;

use squall_core::transport::names;

use super::Broker;
use super::config::{Kindness, Now};
use super::effect::Effect;
use super::jetstream::{Service, is_api_name};
use super::member::{ACCOUNT, SIZE};
use super::parley::{Asker, GroupId, RouteOp, Serves};
use super::refusal::{api_error, stream_not_found};
use crate::cluster::Peer;
use crate::wire::{Request, Response, ServerOp};

/// A server without a leader of the cluster is silent for so long, and then says so (6.5 to 8 s measured).
const SAYS_LEADERLESS_AFTER: Duration = Duration::from_millis(7500);

impl Broker {
    /// A client here asks JetStream for something: it goes to whoever serves it.
    ///
    /// # Panics
    /// If what is asked for is not modelled in a cluster: it must not look like silence.
    pub(super) fn ask(
        &mut self,
        now: Now,
        asker: Asker,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &mut self.member else {
            return;
        };
        if request.api_name().is_some_and(|name| !is_api_name(name)) {
            return;
        }
        let mut read_from = |stream: &str| {
            let known = member.streams.get(stream);
            if known.is_some_and(|stream| !stream.config.allow_direct) {
                return Vec::new();
            }
            let is_kind = self.surroundings.config.kindness == Some(Kindness::LeaderIsRead);
            let reads = |serves: &Serves| serves.reads && (serves.writes || !is_kind);
            let servers = member.servers(stream, reads);
            let picked = self.surroundings.rng.pick(&servers).copied();
            picked.into_iter().collect()
        };
        let targets = match &request {
            Request::Write { bucket, key, .. } => self.writers_to(&names::key_subject(bucket, key)),
            Request::Store(message) => self.writers_to(&message.subject),
            Request::Entry { bucket, .. } => read_from(&names::bucket_stream(bucket)),
            Request::Get { stream, .. } | Request::LastOf { stream, .. } => read_from(stream),
            Request::CreatePullConsumer { .. }
            | Request::ConsumerInfo { .. }
            | Request::DeleteConsumer { .. } => panic!("not modelled in a cluster: pull consumers"),
            Request::CreateStream(_)
            | Request::UpdateStream(_)
            | Request::DeleteStream { .. }
            | Request::StreamInfo { .. }
            | Request::Purge { .. }
            | Request::DeleteMessage { .. }
            | Request::CreateConsumer { .. }
            | Request::EndConsumer { .. } => (0..SIZE).map(Peer).collect(),
        };
        if targets.is_empty() {
            self.tell(asker, Response::NoResponders, effects);
            return;
        }
        for target in targets {
            self.hand_on(now, target, asker, request.clone(), false, effects);
        }
    }

    /// The servers that lead the stream in which this subject is stored: one, none, or, for a moment, two.
    pub(super) fn writers_to(&self, subject: &str) -> Vec<Peer> {
        let Some(member) = &self.member else {
            return Vec::new();
        };
        let stream = member.storing(subject);
        stream.map_or(Vec::new(), |name| {
            member.servers(name, |serves| serves.writes)
        })
    }

    /// Gives a request to a server, this one or another.
    pub(super) fn hand_on(
        &mut self,
        now: Now,
        to: Peer,
        asker: Asker,
        request: Request,
        is_placed: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &self.member else {
            return;
        };
        if to == member.me {
            self.asked(now, asker, request, is_placed, effects);
        } else if member.reachable().any(|peer| peer == to) {
            let op = RouteOp::Ask {
                asker,
                request,
                is_placed,
            };
            effects.push(Effect::Route { to, op });
        }
    }

    /// A request has come to a server that may be in charge of it.
    pub(super) fn asked(
        &mut self,
        now: Now,
        asker: Asker,
        request: Request,
        is_placed: bool,
        effects: &mut Vec<Effect>,
    ) {
        if self.jetstreams[ACCOUNT.0].service != Service::On {
            return;
        }
        let Some(member) = &self.member else {
            return;
        };
        let is_here = |name: &str| {
            let stream = member.streams.get(name)?;
            Some(!stream.is_replicated() || member.leads(stream.group))
        };
        let is_leaderless = |name: &str| {
            let stream = member.streams.get(name);
            stream.is_some_and(|stream| member.is_leaderless(now.monotonic, stream))
        };
        match &request {
            Request::Entry { .. } | Request::Get { .. } | Request::LastOf { .. } => {
                self.answer_here(now, asker, request, effects);
            }
            // Whoever has it; nobody waits for the answers.
            Request::EndConsumer { .. } => self.answer_here(now, asker, request, effects),
            Request::CreateConsumer { .. } if is_placed => {
                self.answer_here(now, asker, request, effects);
            }
            Request::Write { .. } | Request::Store(_) => {
                self.asked_to_write(now, asker, request, effects);
            }
            Request::StreamInfo { stream } => match is_here(stream) {
                Some(true) if self.jetstreams[ACCOUNT.0].stream(stream).is_some() => {
                    self.answer_here(now, asker, request, effects);
                }
                // Whoever knows that nobody leads it says what it has itself.
                Some(false) if is_leaderless(stream) => {
                    self.answer_here(now, asker, request, effects);
                }
                Some(_) => self.say_leaderless(now, asker, effects),
                None => self.answer_as_cluster(now, asker, request, effects),
            },
            Request::Purge { stream, .. } | Request::DeleteMessage { stream, .. } => {
                match is_here(stream) {
                    Some(true) => self.asked_to_remove(now, asker, request, effects),
                    Some(false) => {}
                    None => self.answer_as_cluster(now, asker, request, effects),
                }
            }
            _ => self.answer_as_cluster(now, asker, request, effects),
        }
    }

    /// The leader of the cluster answers; who has had none for long enough says so; the others are silent.
    fn answer_as_cluster(
        &mut self,
        now: Now,
        asker: Asker,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &self.member else {
            return;
        };
        if member.leads(GroupId::CLUSTER) {
            self.decide(now, asker, request, effects);
        } else {
            self.say_leaderless(now, asker, effects);
        }
    }

    /// Says that the cluster has no leader, if it has had none for long enough.
    fn say_leaderless(&self, now: Now, asker: Asker, effects: &mut Vec<Effect>) {
        let Some(member) = &self.member else {
            return;
        };
        let is_leaderless = member
            .leaderless
            .is_some_and(|since| now.monotonic.since(since) >= SAYS_LEADERLESS_AFTER);
        // Only the server that the client is connected to: the others may know better.
        if is_leaderless && asker.server == member.me {
            let why = "JetStream system temporarily unavailable";
            let response = Response::Error(api_error(503, 10008, why));
            self.tell(asker, response, effects);
        }
    }

    /// What the cluster's leader does about a request that is not about one record.
    fn decide(&mut self, now: Now, asker: Asker, request: Request, effects: &mut Vec<Effect>) {
        let Some(member) = &self.member else {
            return;
        };
        match request {
            Request::CreateStream(config) => self.propose_creation(now, asker, *config, effects),
            Request::UpdateStream(config) => self.propose_update(now, asker, *config, effects),
            Request::DeleteStream { stream } => self.propose_deletion(now, asker, stream, effects),
            Request::CreateConsumer { ref stream, .. } => match member.streams.get(stream) {
                Some(stream) => {
                    // On any server that is believed to be there: one that is not never answers.
                    let me = member.me;
                    let there = |peer: &&Peer| {
                        **peer == me || member.reachable().any(|reachable| reachable == **peer)
                    };
                    let holders: Vec<Peer> = stream.holders.iter().filter(there).copied().collect();
                    if let Some(&on) = self.surroundings.rng.pick(&holders) {
                        self.hand_on(now, on, asker, request, true, effects);
                    }
                }
                None => self.tell(asker, Response::Error(stream_not_found()), effects),
            },
            Request::StreamInfo { .. } | Request::Purge { .. } | Request::DeleteMessage { .. } => {
                self.tell(asker, Response::Error(stream_not_found()), effects);
            }
            // To streams themselves, or refused where they were asked.
            _ => {}
        }
    }

    /// Answers from what this server has.
    pub(super) fn answer_here(
        &mut self,
        now: Now,
        asker: Asker,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        // Whether a subscription elsewhere is still there is told when it is not.
        let is_subscribed = |_| true;
        let begun = effects.len();
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        self.jetstreams[ACCOUNT.0].request(&mut ctx, asker.link, asker.id, request, is_subscribed);
        for effect in &mut effects[begun..] {
            if let Effect::Send {
                op: ServerOp::Response { response, .. },
                ..
            } = effect
            {
                self.tell_leader(now, response);
            }
        }
        self.send_home(begun, effects);
    }

    /// Where a stream is described, says what this server knows of who leads it.
    pub(super) fn tell_leader(&self, now: Now, response: &mut Response) {
        if let (Response::Stream(info), Some(member)) = (response, &self.member) {
            let me = &self.surroundings.config.name;
            info.leadership = member.leadership(now.monotonic, &info.config.name, me);
        }
    }

    /// An answer to a client here or elsewhere.
    pub(super) fn tell(&self, asker: Asker, response: Response, effects: &mut Vec<Effect>) {
        let begun = effects.len();
        let id = asker.id;
        effects.push(Effect::Send {
            link: asker.link,
            op: ServerOp::Response { id, response },
        });
        self.send_home(begun, effects);
    }
}
