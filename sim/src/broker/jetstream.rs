//! JetStream: the API requests, the publishes that wait for an acknowledgement, the direct gets.
//!
//! Every request here has the answer that the real server would give as JSON, or none at all where the real one is
//! silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::Rng;
use squall_core::transport::{
    ApiError, ConsumerInfo, Message, Operation, Pull, ReadStart, Retention, Revision, Sequence,
    Storage, StoreAck, StreamConfig, names,
};

use super::config::Kindness;
use super::consumer::{ConsumerId, Wanted};
use super::context::Context;
use super::effect::{Cause, Effect, Incarnation};
use super::head::Head;
use super::pull::{AckSubject, Inbox};
use super::purge::Removal;
use super::refusal::{Refusal, api_error, invalid_config, stream_not_found};
use super::routes::Routes;
use super::settings::{
    check, check_members, check_update, name_in_use, normalized, shares_subjects, subjects_overlap,
};
use super::store::Name;
use super::stream::{Incoming, Stream, Written};
use super::subject::{Filters, is_routable, overlap};
use super::timers::{StreamTimer, Timer};
use crate::wire::{
    ConsumerWish, LinkId, PullStatus, Request, RequestId, Response, ServerOp, Sid, Write,
};

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

/// Streams and their consumers.
#[derive(Debug)]
pub(super) struct JetStream {
    pub(super) service: Service,
    /// By incarnation; `None` where it was deleted.
    streams: Vec<Option<Stream>>,
    names: BTreeMap<Arc<str>, Incarnation>,
    /// The streams behind buckets, by the names of those.
    buckets: BTreeMap<Arc<str>, Incarnation>,
    routes: Routes,
    /// Which stream delivers to which subscription.
    deliveries: BTreeSet<(LinkId, Sid, Incarnation)>,
    consumers_made: u64,
    /// Timers that came while nothing was done.
    held: Vec<(Incarnation, StreamTimer)>,
}

impl JetStream {
    pub(super) fn new(service: Service) -> Self {
        Self {
            service,
            streams: Vec::new(),
            names: BTreeMap::new(),
            buckets: BTreeMap::new(),
            routes: Routes::default(),
            deliveries: BTreeSet::new(),
            consumers_made: 0,
            held: Vec::new(),
        }
    }

    pub(super) fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams[self.names.get(name)?.0].as_ref()
    }

    pub(super) fn stream_mut(&mut self, name: &str) -> Option<&mut Stream> {
        self.streams[self.names.get(name)?.0].as_mut()
    }

    /// The stream behind a bucket.
    pub(super) fn bucket(&self, bucket: &str) -> Option<&Stream> {
        self.streams[self.buckets.get(bucket)?.0].as_ref()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.streams.iter_mut().flatten()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.buckets.keys()
    }

    /// The stream that stores what is published there.
    pub(super) fn storing(&mut self, subject: &str) -> Option<&mut Stream> {
        if !is_routable(subject) {
            return None;
        }
        self.streams[self.routes.find(subject)?.0].as_mut()
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
                // Its API is silent, but streams are gone.
                let is_to_stream = request.api_name().is_none();
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
        if request.api_name().is_some_and(|name| !is_api_name(name)) {
            return None;
        }
        match request {
            Request::Write {
                bucket,
                key,
                write,
                expected,
            } => self.write_key(ctx, &bucket, &key, write, expected, Some((link, id))),
            Request::Store(message) => self.store(ctx, message, Some((link, id))),
            Request::Entry { bucket, key } => Some(match self.bucket(&bucket) {
                Some(stream) if is_routable(&key) && stream.config.allow_direct => {
                    Response::Entry(stream.entry(&key))
                }
                _ => Response::NoResponders,
            }),
            Request::Get { stream, what } => Some(match self.stream(&stream) {
                Some(stream) if stream.config.allow_direct => match stream.get(&what) {
                    Ok(found) => Response::Message(found.map(Box::new)),
                    Err(error) => Response::Error(error),
                },
                _ => Response::NoResponders,
            }),
            Request::LastOf { stream, filters } => Some(match self.stream(&stream) {
                Some(stream) if stream.config.allow_direct => {
                    match stream.last_of(ctx.config.version, &filters) {
                        Ok(found) => Response::Messages(found),
                        Err(error) => Response::Error(error),
                    }
                }
                _ => Response::NoResponders,
            }),
            Request::CreateConsumer { stream, wish } => {
                let is_alive = is_subscribed(wish.deliver);
                let wanted = wanted(*wish, link);
                self.create_consumer(ctx, &stream, id, wanted, is_alive)
            }
            Request::EndConsumer { stream, deliver } => {
                let ended = self.on_stream(&stream, |stream| {
                    stream.end_consumer(ctx, link, deliver);
                    Ok(Response::Deleted)
                });
                Some(answer(ended))
            }
            Request::CreateStream(config) => Some(answer(self.create(ctx, *config))),
            Request::UpdateStream(config) => Some(answer(self.update(ctx, *config))),
            Request::DeleteStream { stream } => Some(self.delete(ctx, &stream)),
            Request::StreamInfo { stream } => Some(match self.stream(&stream) {
                Some(stream) => Response::Stream(Box::new(stream.info(ctx.now.wall))),
                None => Response::Error(stream_not_found()),
            }),
            Request::CreatePullConsumer {
                stream,
                config,
                action,
            } => {
                let created = self.on_stream(&stream, |stream| {
                    stream.create_pull_consumer(ctx, &config, action)
                });
                Some(answer(created.map(described)))
            }
            Request::ConsumerInfo { stream, consumer } => {
                let info = self.on_stream(&stream, |stream| stream.consumer_info(ctx, &consumer));
                Some(answer(info.map(described)))
            }
            Request::DeleteConsumer { stream, consumer } => {
                let deleted =
                    self.on_stream(&stream, |stream| stream.delete_consumer(ctx, &consumer));
                Some(answer(deleted.map(|()| Response::Deleted)))
            }
            Request::Purge { stream, what } => {
                Some(self.remove(ctx, &stream, &Removal::Purge(what)))
            }
            Request::DeleteMessage { stream, sequence } => {
                Some(self.remove(ctx, &stream, &Removal::Message(sequence)))
            }
        }
    }

    /// Takes messages out of a stream.
    pub(super) fn remove(
        &mut self,
        ctx: &mut Context<'_>,
        stream: &str,
        removal: &Removal,
    ) -> Response {
        let checked = removal.check();
        answer(checked.and_then(|()| self.on_stream(stream, |stream| stream.remove(ctx, removal))))
    }

    fn on_stream<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Stream) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        work(self.stream_mut(name).ok_or_else(stream_not_found)?)
    }

    /// A publish to the subject of a key. Nearly always its bucket's stream stores it, and the subject is never spelt
    /// out.
    fn write_key(
        &mut self,
        ctx: &mut Context<'_>,
        bucket: &str,
        key: &Arc<str>,
        write: Write,
        expected: Option<Revision>,
        by: Option<(LinkId, RequestId)>,
    ) -> Option<Response> {
        let (payload, operation) = match write {
            Write::Put(value) => (value, Operation::Put),
            Write::Delete => (Bytes::new(), Operation::Delete),
            Write::Purge => (Bytes::new(), Operation::Purge),
        };
        let head = Head::Write {
            operation,
            expected,
        };
        let known = self.buckets.get(bucket);
        let stream = known.and_then(|incarnation| self.streams[incarnation.0].as_mut());
        if let Some(stream) = stream
            && stream.stores_keys
        {
            let name = Name::Held(key);
            let subject = stream.store.find(name);
            if subject.is_none() && !is_routable(key) {
                return Some(Response::NoResponders);
            }
            let incoming = Incoming {
                name,
                subject,
                head,
                payload,
                by,
            };
            let written = stream.write(ctx, incoming).map(|mut written| {
                if ctx.is_kind(Kindness::RevisionsPerKey) {
                    written.sequence = Sequence(stream.store.history(name).count() as u64);
                }
                written
            });
            return stored(written, Response::stored);
        }
        let subject = names::key_subject(bucket, key);
        let ack = |_: &Stream, written| Response::stored(written);
        self.store_at(ctx, &subject, head, payload, by, ack)
    }

    /// A publish that waits for its acknowledgement.
    fn store(
        &mut self,
        ctx: &mut Context<'_>,
        message: Message,
        by: Option<(LinkId, RequestId)>,
    ) -> Option<Response> {
        let head = Head::full(message.headers);
        self.store_at(
            ctx,
            &message.subject,
            head,
            message.payload,
            by,
            Response::acked,
        )
    }

    fn store_at(
        &mut self,
        ctx: &mut Context<'_>,
        subject: &str,
        head: Head,
        payload: Bytes,
        by: Option<(LinkId, RequestId)>,
        ack: impl FnOnce(&Stream, Written) -> Response,
    ) -> Option<Response> {
        let Some(stream) = self.storing(subject) else {
            return Some(Response::NoResponders);
        };
        let name = stream.store.name(subject);
        let incoming = Incoming {
            name,
            subject: stream.store.find(name),
            head,
            payload,
            by,
        };
        let written = stream.write(ctx, incoming);
        stored(written, |written| ack(stream, written))
    }

    fn create(&mut self, ctx: &Context<'_>, config: StreamConfig) -> Result<Response, ApiError> {
        let version = ctx.config.version;
        let config = normalized(config, version);
        check(&config, version)?;
        if let Some(stream) = self.stream(&config.name) {
            return match stream.config == config {
                true => Ok(Response::Stream(Box::new(stream.info(ctx.now.wall)))),
                false => Err(name_in_use()),
            };
        }
        self.check_overlap(&config)?;
        Ok(self.create_checked(ctx, config))
    }

    /// Creates a stream that may be created.
    pub(super) fn create_checked(&mut self, ctx: &Context<'_>, config: StreamConfig) -> Response {
        let incarnation = Incarnation(self.streams.len());
        let mut stream = Stream::new(incarnation, config, ctx.now.wall);
        stream.remember_unsynced(ctx.config.sync_interval);
        let info = stream.info(ctx.now.wall);
        self.routes.add(&stream.config.subjects, incarnation);
        let identity = &stream.identity;
        self.names.insert(Arc::clone(&identity.name), incarnation);
        if let Some(bucket) = &identity.bucket {
            self.buckets.insert(Arc::clone(bucket), incarnation);
        }
        self.streams.push(Some(stream));
        Response::Stream(Box::new(info))
    }

    fn update(
        &mut self,
        ctx: &mut Context<'_>,
        config: StreamConfig,
    ) -> Result<Response, ApiError> {
        let version = ctx.config.version;
        let config = normalized(config, version);
        let stream = self.stream(&config.name).ok_or_else(stream_not_found)?;
        match version.is_at_least(2, 14) {
            true => check(&config, version)?,
            // Older servers take more copies than there are servers, where that is no creation.
            false => check_members(&config, version)?,
        }
        check_update(&stream.config, &config)?;
        self.check_overlap(&config)?;
        self.update_checked(ctx, config)
            .ok_or_else(stream_not_found)
    }

    /// Changes a stream that may be changed; `None` where there is none.
    pub(super) fn update_checked(
        &mut self,
        ctx: &mut Context<'_>,
        config: StreamConfig,
    ) -> Option<Response> {
        let incarnation = *self.names.get(&*config.name)?;
        self.routes.remove(incarnation);
        self.routes.add(&config.subjects, incarnation);
        let stream = self.streams[incarnation.0].as_mut()?;
        stream.reconfigure(ctx, config);
        Some(Response::Stream(Box::new(stream.info(ctx.now.wall))))
    }

    /// No two streams store the same subject.
    fn check_overlap(&self, config: &StreamConfig) -> Result<(), ApiError> {
        let mut others = self.streams.iter().flatten();
        match others.any(|other| shares_subjects(&other.config, config)) {
            true => Err(subjects_overlap()),
            false => Ok(()),
        }
    }

    pub(super) fn delete(&mut self, ctx: &mut Context<'_>, name: &str) -> Response {
        let Some(mut stream) = self.take(name) else {
            return Response::Error(stream_not_found());
        };
        stream.dismiss_pulls(ctx);
        stream.lose_all(ctx.effects, Cause::BucketDeleted);
        Response::Deleted
    }

    /// Takes a stream away, and its consumers with it; their readers are told nothing.
    fn take(&mut self, name: &str) -> Option<Stream> {
        let incarnation = self.names.remove(name)?;
        if let Some(bucket) = names::stream_bucket(name) {
            self.buckets.remove(bucket);
        }
        self.routes.remove(incarnation);
        self.deliveries
            .retain(|(.., stream)| *stream != incarnation);
        self.streams[incarnation.0].take()
    }

    fn create_consumer(
        &mut self,
        ctx: &mut Context<'_>,
        name: &str,
        request: RequestId,
        wanted: Result<Wanted, ApiError>,
        is_alive: bool,
    ) -> Option<Response> {
        self.consumers_made += 1;
        let id = ConsumerId(self.consumers_made);
        let Some(&incarnation) = self.names.get(name) else {
            return Some(Response::Error(stream_not_found()));
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(error) => return Some(Response::Error(error)),
        };
        let stream = self.streams[incarnation.0].as_mut()?;
        if stream.config.retention == Retention::WorkQueue {
            let why = "workqueue stream requires explicit ack";
            return Some(Response::Error(api_error(400, 10098, why)));
        }
        let (link, sid) = (wanted.link, wanted.sid);
        let pending = stream.add_consumer(ctx, id, wanted);
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
            stream.wake(ctx);
        } else {
            stream.deactivate(ctx, link, sid);
        }
        None
    }

    /// A client asks a pull consumer for messages.
    pub(super) fn pull(
        &mut self,
        ctx: &mut Context<'_>,
        inbox: Inbox,
        stream: &str,
        consumer: &str,
        wish: Pull,
    ) {
        let is_heard = match self.service {
            Service::On => self
                .stream_mut(stream)
                .is_some_and(|stream| stream.pull(ctx, consumer, inbox, wish)),
            Service::Mute => true,
            Service::Disabled | Service::LameDuck => false,
        };
        if !is_heard {
            let status = PullStatus {
                code: 503,
                text: "".into(),
            };
            ctx.send_status(inbox, status);
        }
    }

    /// A client says something about a delivery. True if a consumer listens there.
    pub(super) fn acknowledge(&mut self, ctx: &mut Context<'_>, message: &Message) -> bool {
        let Some(subject) = AckSubject::parse(&message.subject) else {
            return false;
        };
        match self.service {
            Service::On => self
                .stream_mut(subject.stream)
                .is_some_and(|stream| stream.acknowledge(ctx, subject, message)),
            Service::Mute => true,
            Service::Disabled | Service::LameDuck => false,
        }
    }

    /// A subscription ended.
    pub(super) fn unsubscribed(&mut self, ctx: &mut Context<'_>, link: LinkId, sid: Sid) {
        let bounds = (link, sid, Incarnation(0))..=(link, sid, Incarnation(usize::MAX));
        while let Some(&delivery) = self.deliveries.range(bounds.clone()).next() {
            self.deliveries.remove(&delivery);
            if let Some(stream) = &mut self.streams[delivery.2.0] {
                stream.deactivate(ctx, link, sid);
            }
        }
    }

    /// A client elsewhere is gone, and all its subscriptions.
    pub(super) fn disconnected(&mut self, ctx: &mut Context<'_>, link: LinkId) {
        let last = (link, Sid(u64::MAX), Incarnation(usize::MAX));
        let bounds = (link, Sid(0), Incarnation(0))..=last;
        while let Some(&(_, sid, _)) = self.deliveries.range(bounds.clone()).next() {
            self.unsubscribed(ctx, link, sid);
        }
    }

    /// The name of a stream.
    pub(super) fn name_of(&self, incarnation: Incarnation) -> Option<Arc<str>> {
        let stream = self.streams.get(incarnation.0)?.as_ref()?;
        Some(Arc::clone(&stream.identity.name))
    }

    /// A timer of a stream fired.
    pub(super) fn on_timer(
        &mut self,
        ctx: &mut Context<'_>,
        incarnation: Incarnation,
        timer: StreamTimer,
    ) {
        if self.service != Service::On {
            self.held.push((incarnation, timer));
        } else if let Some(stream) = &mut self.streams[incarnation.0] {
            match timer {
                StreamTimer::Sweep => stream.on_sweep(ctx),
                StreamTimer::Forget if ctx.is_kind(Kindness::IdsAreRemembered) => {}
                StreamTimer::Forget => stream.on_forget(ctx),
                StreamTimer::Deliver(id) => stream.deliver(ctx, id),
                StreamTimer::Heartbeat(id) => stream.beat(ctx, id),
                StreamTimer::Inactive(id) => stream.end_inactive(ctx, id),
                StreamTimer::Pull(id, timer) => stream.on_pull_timer(ctx, id, timer),
                StreamTimer::Sync => stream.on_sync(),
                StreamTimer::Mark(sequence) => stream.mark(ctx, sequence),
                StreamTimer::Written => stream.half_gone.write(),
            }
        }
    }

    /// The process goes on after it stood still.
    pub(super) fn resume(&mut self, ctx: &mut Context<'_>) {
        if self.service == Service::On {
            for stream in self.streams.iter_mut().flatten() {
                stream.resume(ctx);
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
                    ctx.set_timer(Duration::ZERO, Timer::Stream(incarnation, timer));
                }
            }
            _ => {}
        }
    }

    /// The process is gone: consumers and what was in memory with it. Files stay, to the last acknowledged write; of pull
    /// consumers what they have written by now, which is everything only if the process was asked to end.
    pub(super) fn stop(
        &mut self,
        effects: &mut Vec<Effect>,
        is_orderly: bool,
        kindness: Option<Kindness>,
        rng: &mut Rng,
    ) {
        self.deliveries.clear();
        self.held.clear();
        let survives = kindness == Some(Kindness::MemorySurvives);
        let is_lost = |stream: &&Stream| stream.config.storage == Storage::Memory && !survives;
        let streams = self.streams.iter().flatten();
        let lost: Vec<Arc<str>> = streams
            .filter(is_lost)
            .map(|stream| Arc::clone(&stream.identity.name))
            .collect();
        for name in lost {
            if let Some(stream) = self.take(&name) {
                stream.lose_all(effects, Cause::LostAtRestart);
            }
        }
        for stream in self.streams.iter_mut().flatten() {
            stream.drop_consumers();
            stream.stop_pulls(is_orderly, rng);
            if is_orderly {
                stream.half_gone.write();
            }
        }
    }

    /// The process is back.
    pub(super) fn start(&mut self, ctx: &mut Context<'_>, service: Service) {
        self.service = service;
        if service == Service::On {
            for stream in self.streams.iter_mut().flatten() {
                stream.recover(ctx);
                stream.start_pulls(ctx);
                stream.drop_settled(ctx, false);
            }
        }
    }
}

/// True where `$JS.API...<name>` is a subject that the server listens to; elsewhere it is silent.
pub(super) fn is_api_name(name: &str) -> bool {
    is_routable(name) && !name.contains(['.', '*', '>'])
}

fn described(info: ConsumerInfo) -> Response {
    Response::PullConsumer(Box::new(info))
}

fn answer(done: Result<Response, ApiError>) -> Response {
    done.unwrap_or_else(Response::Error)
}

/// The answer to a publish.
pub(super) fn stored(
    written: Result<Written, Refusal>,
    ack: impl FnOnce(Written) -> Response,
) -> Option<Response> {
    Some(match written {
        Ok(written) => ack(written),
        Err(Refusal::Silence) => return None,
        Err(Refusal::WrongLast(actual)) => Response::WrongRevision(actual.into()),
        Err(Refusal::WrongLastId(actual)) => Response::WrongMessageId(actual),
        Err(Refusal::Error(error)) => Response::Error(error),
    })
}

/// The least idle heartbeat of a push consumer.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// What a client asks for, if a consumer can be that.
fn wanted(wish: ConsumerWish, link: LinkId) -> Result<Wanted, ApiError> {
    let unset = |what: &str, option: &str| {
        let why =
            format!("consumer delivery policy is deliver {what}, but optional {option} is not set");
        Err(api_error(400, 10094, why))
    };
    if !wish.heartbeat.is_zero() && wish.heartbeat < HEARTBEAT_MIN {
        let why = "consumer idle heartbeat needs to be >= 100ms";
        return Err(api_error(400, 10083, why));
    }
    match wish.start {
        ReadStart::Sequence(first) if first.0 == 0 => {
            return unset("by start sequence", "start sequence");
        }
        ReadStart::LastPerSubject if wish.filters.is_empty() => {
            return unset("last per subject", "filter subject");
        }
        _ => {}
    }
    let Some(filters) = Filters::parse(&wish.filters) else {
        return Err(invalid_config("invalid subject"));
    };
    for (place, filter) in wish.filters.iter().enumerate() {
        let mut others = wish.filters[place + 1..].iter();
        if others.any(|other| overlap(filter, other)) {
            let why = "consumer subject filters cannot overlap";
            return Err(api_error(400, 10138, why));
        }
    }
    Ok(Wanted {
        filters,
        start: wish.start,
        heartbeat: wish.heartbeat,
        inactive: wish.inactive,
        form: wish.form,
        link,
        sid: wish.deliver,
    })
}

impl Stream {
    /// The answer to a write that is stored: to a key, or to any subject.
    pub(super) fn acknowledged(&self, written: Written, is_write: bool) -> Response {
        match is_write {
            true => Response::stored(written),
            false => Response::acked(self, written),
        }
    }
}

impl Response {
    fn stored(written: Written) -> Self {
        Self::Stored(written.sequence.into())
    }

    fn acked(stream: &Stream, written: Written) -> Self {
        Self::Acked(StoreAck {
            stream: Arc::clone(&stream.identity.name),
            sequence: written.sequence,
            duplicate: written.is_duplicate,
        })
    }
}
