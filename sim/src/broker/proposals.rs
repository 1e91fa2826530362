//! What the leaders of a cluster propose: new buckets, other settings, writes and sweeps.
//!
//! Conditions are judged when a write is proposed, against what is agreed; a write that depends on one still under way
//! waits for it.

use std::sync::Arc;

use bytes::Bytes;
use squall_core::transport::{BucketConfig, Operation, Storage};

use super::Broker;
use super::bucket::{Incoming, Refusal};
use super::config::Now;
use super::effect::Effect;
use super::member::{ACCOUNT, SIZE};
use super::refusal::{
    api_error, check_members, check_update, headers_len, normalized, stream_not_found,
};
use super::route::{Asker, Command, GroupId};
use crate::cluster::{Group, Peer};
use crate::wire::{Request, Response, Write};

impl Broker {
    pub(super) fn propose_creation(
        &mut self,
        now: Now,
        asker: Asker,
        config: BucketConfig,
        effects: &mut Vec<Effect>,
    ) {
        let config = normalized(config, self.surroundings.config.version);
        let Some(member) = &self.member else {
            return;
        };
        if let Err(error) = check_members(&config) {
            self.tell(asker, Response::Error(error), effects);
            return;
        }
        if let Some(stream) = member.streams.get(config.bucket.as_str()) {
            if stream.config == config {
                // Whoever leads it describes it; where nobody does, nobody answers.
                let holders = stream.holders.clone();
                for holder in holders {
                    let bucket = config.bucket.as_str().into();
                    let request = Request::BucketInfo { bucket };
                    self.hand_on(now, holder, asker, request, false, effects);
                }
            } else {
                let why = "stream name already in use with a different configuration";
                self.tell(asker, Response::Error(api_error(400, 10058, why)), effects);
            }
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
            (0..SIZE).map(Peer).collect()
        } else {
            let picked = self.surroundings.rng.pick(&there).copied();
            picked.into_iter().collect()
        };
        let at = now.wall;
        let create = Command::Create {
            config,
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
        config: BucketConfig,
        effects: &mut Vec<Effect>,
    ) {
        let config = normalized(config, self.surroundings.config.version);
        let Some(member) = &self.member else {
            return;
        };
        let Some(stream) = member.streams.get(config.bucket.as_str()) else {
            self.tell(asker, Response::Error(stream_not_found()), effects);
            return;
        };
        assert_eq!(
            stream.config.replicas, config.replicas,
            "not modelled: another number of copies"
        );
        if let Err(error) = check_members(&config).and_then(|()| {
            // The number of copies is the cluster's matter, and was checked.
            let single = |config: &BucketConfig| BucketConfig {
                replicas: 1,
                ..config.clone()
            };
            check_update(&single(&stream.config), &single(&config))
        }) {
            self.tell(asker, Response::Error(error), effects);
            return;
        }
        let update = Command::Update { config, asker };
        self.propose(now, GroupId::CLUSTER, update, effects);
    }

    pub(super) fn propose_deletion(
        &mut self,
        now: Now,
        asker: Asker,
        bucket: Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &self.member else {
            return;
        };
        if member.streams.contains_key(&bucket) {
            let delete = Command::Delete { bucket, asker };
            self.propose(now, GroupId::CLUSTER, delete, effects);
        } else {
            self.tell(asker, Response::Error(stream_not_found()), effects);
        }
    }

    /// A write has come to a server that leads the bucket, or did.
    pub(super) fn asked_to_write(
        &mut self,
        now: Now,
        bucket: &Arc<str>,
        asker: Asker,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &mut self.member else {
            return;
        };
        let Some(stream) = member.streams.get_mut(bucket) else {
            return;
        };
        if !stream.is_replicated() {
            if stream.holders.contains(&member.me) {
                self.answer_here(now, asker, request, effects);
            }
            return;
        }
        let group = stream.group;
        if !member.groups.get(&group).is_some_and(Group::is_leader) {
            return;
        }
        let Request::Write { key, expected, .. } = &request else {
            return;
        };
        let depends = expected.is_some() && stream.proposed.contains_key(key);
        if depends || !stream.waiting.is_empty() {
            stream.waiting.push_back((asker, request));
            return;
        }
        self.propose_write(now, bucket, group, asker, request, effects);
    }

    fn propose_write(
        &mut self,
        now: Now,
        bucket: &Arc<str>,
        group: GroupId,
        asker: Asker,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let Request::Write {
            key,
            write,
            expected,
            ..
        } = request
        else {
            return;
        };
        let headers = headers_len(&write, expected);
        let (value, operation) = match write {
            Write::Put(value) => (value, Operation::Put),
            Write::Delete => (Bytes::new(), Operation::Delete),
            Write::Purge => (Bytes::new(), Operation::Purge),
        };
        let incoming = Incoming {
            key,
            value,
            operation,
            expected,
            headers,
            by: None,
        };
        let version = self.surroundings.config.version;
        let checked = match self.jetstreams[ACCOUNT.0].bucket(bucket) {
            Some(found) => found.check(version, &incoming),
            None => return,
        };
        let refused = match checked {
            Ok(_) => None,
            Err(Refusal::WrongRevision(actual)) => Some(Response::WrongRevision(actual)),
            Err(Refusal::Error(error)) => Some(Response::Error(error)),
            Err(Refusal::NoStream) => Some(Response::NoResponders),
        };
        if let Some(response) = refused {
            self.tell(asker, response, effects);
            return;
        }
        let Incoming { key, value, .. } = incoming;
        let stream = self.member.as_mut();
        if let Some(stream) = stream.and_then(|member| member.streams.get_mut(bucket)) {
            *stream.proposed.entry(Arc::clone(&key)).or_default() += 1;
        }
        let at = now.wall;
        let write = Command::Write {
            key,
            value,
            operation,
            headers,
            at,
            asker,
        };
        self.propose(now, group, write, effects);
    }

    /// Whether servers sweep a bucket together: markers are writes, and the leader's to propose. Without markers each
    /// sweeps by itself, leader or not.
    pub(super) fn is_swept_together(&self, bucket: &str) -> bool {
        let stream = self.member.as_ref();
        let stream = stream.and_then(|member| member.streams.get(bucket));
        stream
            .is_some_and(|stream| stream.is_replicated() && stream.config.delete_markers.is_some())
    }

    /// Proposes to sweep such a bucket, where this server leads it.
    pub(super) fn propose_sweep(&mut self, now: Now, bucket: &Arc<str>, effects: &mut Vec<Effect>) {
        let stream = self.member.as_ref();
        let stream = stream.and_then(|member| member.streams.get(bucket));
        let Some(group) = stream.map(|stream| stream.group) else {
            return;
        };
        if self
            .member
            .as_ref()
            .is_some_and(|member| member.leads(group))
        {
            let at = self.surroundings.ctx(now, ACCOUNT, effects).cached_wall();
            self.propose(now, group, Command::Sweep { at }, effects);
        }
    }
}
