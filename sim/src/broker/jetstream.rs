//! JetStream as far as key-value buckets need it: the API requests, the writes, the direct gets.
//!
//! Every request here has the answer that the real server would give as JSON, or none at all where the real one is
//! silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{ApiError, BucketConfig, Operation, Revision, Storage};

use super::bucket::{Bucket, Incoming, Refusal};
use super::config::Kindness;
use super::consumer::{ConsumerId, Wanted};
use super::context::Context;
use super::effect::{Cause, Effect, Incarnation};
use super::refusal::{
    api_error, check, check_update, check_version, headers_len, invalid_config, normalized,
    stream_not_found,
};
use super::subject::{Filter, is_routable};
use super::timers::{BucketTimer, Timer};
use crate::wire::{ConsumerStart, LinkId, Request, RequestId, Response, ServerOp, Sid, Write};

/// Whether JetStream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// As it should.
    On,
    /// Not enabled: nobody is there to answer.
    Disabled,
    /// Enabled, and silent, as without a leader: nothing is done, nothing is answered, nothing expires.
    Mute,
    /// Switched off by a lame duck: its streams are gone, its API is silent.
    LameDuck,
}

/// Buckets and their consumers.
#[derive(Debug)]
pub(super) struct JetStream {
    pub(super) service: Service,
    /// By incarnation; `None` where it was deleted.
    buckets: Vec<Option<Bucket>>,
    names: BTreeMap<Arc<str>, Incarnation>,
    /// Which bucket delivers to which subscription.
    deliveries: BTreeSet<(LinkId, Sid, Incarnation)>,
    consumers_made: u64,
    /// Timers that came while nothing was done.
    held: Vec<(Incarnation, BucketTimer)>,
}

impl JetStream {
    pub(super) const fn new(service: Service) -> Self {
        Self {
            service,
            buckets: Vec::new(),
            names: BTreeMap::new(),
            deliveries: BTreeSet::new(),
            consumers_made: 0,
            held: Vec::new(),
        }
    }

    pub(super) fn bucket(&self, name: &str) -> Option<&Bucket> {
        self.buckets[self.names.get(name)?.0].as_ref()
    }

    pub(super) fn bucket_mut(&mut self, name: &str) -> Option<&mut Bucket> {
        self.buckets[self.names.get(name)?.0].as_mut()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    /// Handles a request and sends what answer there is. `is_subscribed` says whether a subscription of this
    /// connection is alive.
    pub(super) fn request(
        &mut self,
        ctx: &mut Context<'_>,
        link: LinkId,
        id: RequestId,
        request: Request,
        is_subscribed: impl FnOnce(Sid) -> bool,
    ) {
        let response = match self.service {
            Service::On => self.serve(ctx, link, id, request, is_subscribed),
            Service::Disabled => Some(Response::NoResponders),
            Service::LameDuck => {
                let is_to_stream = matches!(request, Request::Write { .. } | Request::Entry { .. });
                is_to_stream.then_some(Response::NoResponders)
            }
            Service::Mute => None,
        };
        if let Some(response) = response {
            ctx.send(link, ServerOp::Response { id, response });
        }
    }

    fn serve(
        &mut self,
        ctx: &mut Context<'_>,
        link: LinkId,
        id: RequestId,
        request: Request,
        is_subscribed: impl FnOnce(Sid) -> bool,
    ) -> Option<Response> {
        let response = match request {
            Request::Write {
                bucket,
                key,
                write,
                expected,
            } => match self.bucket_mut(&bucket) {
                Some(bucket) => {
                    let headers = headers_len(&write, expected);
                    let (value, operation) = match write {
                        Write::Put(value) => (value, Operation::Put),
                        Write::Delete => (Bytes::new(), Operation::Delete),
                        Write::Purge => (Bytes::new(), Operation::Purge),
                    };
                    let written = Arc::clone(&key);
                    let incoming = Incoming {
                        key,
                        value,
                        operation,
                        expected,
                        headers,
                        by: Some((link, id)),
                    };
                    match bucket.write(ctx, incoming) {
                        Ok(_) if ctx.is_kind(Kindness::RevisionsPerKey) => Response::Stored(
                            Revision(bucket.store.history(&written).count() as u64),
                        ),
                        Ok(revision) => Response::Stored(revision),
                        Err(Refusal::WrongRevision(actual)) => Response::WrongRevision(actual),
                        Err(Refusal::Error(error)) => Response::Error(error),
                        Err(Refusal::NoStream) => Response::NoResponders,
                    }
                }
                None => Response::NoResponders,
            },
            Request::Entry { bucket, key } => match self.bucket(&bucket) {
                Some(bucket) if is_routable(&key) => Response::Entry(bucket.entry(&key).cloned()),
                _ => Response::NoResponders,
            },
            Request::CreateConsumer {
                bucket,
                filter,
                start,
                heartbeat,
                deliver,
            } => {
                let is_alive = is_subscribed(deliver);
                let wanted = self.wanted(&filter, start, heartbeat, link, deliver);
                return self.create_consumer(ctx, &bucket, id, wanted, is_alive);
            }
            Request::CreateBucket(config) => return self.create(ctx, *config),
            Request::UpdateBucket(config) => return self.update(ctx, *config),
            Request::DeleteBucket { bucket } => return self.delete(ctx, &bucket),
            Request::BucketInfo { bucket } => {
                if !is_api_name(&bucket) {
                    return None;
                }
                match self.bucket(&bucket) {
                    Some(bucket) => Response::Bucket(bucket.info().into()),
                    None => Response::Error(stream_not_found()),
                }
            }
        };
        Some(response)
    }

    fn create(&mut self, ctx: &mut Context<'_>, config: BucketConfig) -> Option<Response> {
        if !is_api_name(&config.bucket) {
            return None;
        }
        let config = normalized(config);
        let checked = check_version(&config, ctx.config.version).and_then(|()| check(&config));
        if let Err(error) = checked {
            return Some(Response::Error(error));
        }
        if let Some(bucket) = self.bucket(&config.bucket) {
            return Some(if bucket.config == config {
                Response::Bucket(bucket.info().into())
            } else {
                let why = "stream name already in use with a different configuration";
                Response::Error(api_error(400, 10058, why))
            });
        }
        let incarnation = Incarnation(self.buckets.len());
        let bucket = Bucket::new(incarnation, config, ctx.now.wall);
        let info = bucket.info();
        self.names.insert(Arc::clone(&bucket.name), incarnation);
        self.buckets.push(Some(bucket));
        Some(Response::Bucket(info.into()))
    }

    fn update(&mut self, ctx: &mut Context<'_>, config: BucketConfig) -> Option<Response> {
        if !is_api_name(&config.bucket) {
            return None;
        }
        let config = normalized(config);
        if let Err(error) = check_version(&config, ctx.config.version) {
            return Some(Response::Error(error));
        }
        let Some(bucket) = self.bucket_mut(&config.bucket) else {
            return Some(Response::Error(stream_not_found()));
        };
        if let Err(error) = check_update(&bucket.config, &config) {
            return Some(Response::Error(error));
        }
        bucket.reconfigure(ctx, config);
        Some(Response::Bucket(bucket.info().into()))
    }

    fn delete(&mut self, ctx: &mut Context<'_>, name: &str) -> Option<Response> {
        if !is_api_name(name) {
            return None;
        }
        let Some(bucket) = self.take(name) else {
            return Some(Response::Error(stream_not_found()));
        };
        bucket.lose_all(ctx.effects, Cause::BucketDeleted);
        Some(Response::Deleted)
    }

    /// Takes a bucket away, and its consumers with it; their watchers are told nothing.
    fn take(&mut self, name: &str) -> Option<Bucket> {
        let incarnation = self.names.remove(name)?;
        self.deliveries
            .retain(|(.., bucket)| *bucket != incarnation);
        self.buckets[incarnation.0].take()
    }

    fn wanted(
        &self,
        filter: &str,
        start: ConsumerStart,
        heartbeat: Duration,
        link: LinkId,
        sid: Sid,
    ) -> Result<Wanted, ApiError> {
        if matches!(start, ConsumerStart::Sequence(first) if first.0 == 0) {
            let why = "consumer delivery policy is deliver by start sequence, but optional start \
                       sequence is not set";
            return Err(api_error(400, 10094, why));
        }
        match Filter::parse(filter) {
            Some(filter) => Ok(Wanted {
                filter,
                start,
                heartbeat,
                link,
                sid,
            }),
            None => Err(invalid_config("invalid subject")),
        }
    }

    fn create_consumer(
        &mut self,
        ctx: &mut Context<'_>,
        name: &str,
        request: RequestId,
        wanted: Result<Wanted, ApiError>,
        is_alive: bool,
    ) -> Option<Response> {
        if !is_api_name(name) {
            return None;
        }
        self.consumers_made += 1;
        let id = ConsumerId(self.consumers_made);
        let Some(&incarnation) = self.names.get(name) else {
            return Some(Response::Error(stream_not_found()));
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(error) => return Some(Response::Error(error)),
        };
        let bucket = self.buckets[incarnation.0].as_mut()?;
        let (link, sid) = (wanted.link, wanted.sid);
        let pending = bucket.add_consumer(ctx, id, wanted);
        let response = Response::Consumer { pending };
        // What it delivers must not come before the answer that announces it.
        ctx.send(
            link,
            ServerOp::Response {
                id: request,
                response,
            },
        );
        if is_alive {
            self.deliveries.insert((link, sid, incarnation));
            bucket.wake(ctx);
        } else {
            bucket.deactivate(ctx, link, sid);
        }
        None
    }

    /// A subscription ended.
    pub(super) fn unsubscribed(&mut self, ctx: &mut Context<'_>, link: LinkId, sid: Sid) {
        let bounds = (link, sid, Incarnation(0))..=(link, sid, Incarnation(usize::MAX));
        while let Some(&delivery) = self.deliveries.range(bounds.clone()).next() {
            self.deliveries.remove(&delivery);
            if let Some(bucket) = &mut self.buckets[delivery.2.0] {
                bucket.deactivate(ctx, link, sid);
            }
        }
    }

    /// A timer of a bucket fired.
    pub(super) fn on_timer(
        &mut self,
        ctx: &mut Context<'_>,
        incarnation: Incarnation,
        timer: BucketTimer,
    ) {
        if self.service != Service::On {
            self.held.push((incarnation, timer));
        } else if let Some(bucket) = &mut self.buckets[incarnation.0] {
            match timer {
                BucketTimer::Sweep => bucket.on_sweep(ctx),
                BucketTimer::Deliver(id) => bucket.deliver(ctx, id),
                BucketTimer::Heartbeat(id) => bucket.beat(ctx, id),
                BucketTimer::Inactive(id) => bucket.end_inactive(id),
            }
        }
    }

    /// Falls silent, or speaks again and catches up with what was due meanwhile.
    pub(super) fn mute(&mut self, ctx: &mut Context<'_>, is_mute: bool) {
        match (self.service, is_mute) {
            (Service::On, true) => self.service = Service::Mute,
            (Service::Mute, false) => {
                self.service = Service::On;
                for (incarnation, timer) in std::mem::take(&mut self.held) {
                    ctx.set_timer(Duration::ZERO, Timer::Bucket(incarnation, timer));
                }
            }
            _ => {}
        }
    }

    /// The process is gone: consumers and what was in memory with it. Files stay, to the last acknowledged write.
    pub(super) fn stop(&mut self, kindness: Option<Kindness>, effects: &mut Vec<Effect>) {
        self.deliveries.clear();
        self.held.clear();
        let survives = kindness == Some(Kindness::MemorySurvives);
        let is_lost = |bucket: &&Bucket| bucket.storage() == Storage::Memory && !survives;
        let buckets = self.buckets.iter().flatten();
        let lost: Vec<Arc<str>> = buckets
            .filter(is_lost)
            .map(|bucket| Arc::clone(&bucket.name))
            .collect();
        for name in lost {
            if let Some(bucket) = self.take(&name) {
                bucket.lose_all(effects, Cause::LostAtRestart);
            }
        }
        for bucket in self.buckets.iter_mut().flatten() {
            bucket.drop_consumers();
        }
    }

    /// The process is back.
    pub(super) fn start(&mut self, ctx: &mut Context<'_>, service: Service) {
        self.service = service;
        if service == Service::On {
            for bucket in self.buckets.iter_mut().flatten() {
                bucket.recover(ctx);
            }
        }
    }
}

/// True where `$JS.API...<name>` is a subject that the server listens to; elsewhere it is silent.
fn is_api_name(bucket: &str) -> bool {
    is_routable(bucket) && !bucket.contains(['.', '*', '>'])
}
