//! Links: TCP connections between a host and a server, and the routes they run over.
//!
//! A link is ordered and reliable until it is cut, in each direction alone. Faults act on the *route*, which outlives
//! links: while a route is blocked what is sent waits and arrives after the mending, as TCP's retransmissions do; while
//! it is a hole what is sent is gone for good though the sockets stay open, and when the hole is mended the links that
//! lost bytes are reset, because a stream with a hole in it cannot go on.

use std::collections::VecDeque;
use std::time::Duration;

use slotmap::new_key_type;
use squall_core::{Instant, Rng};

use crate::client::ClientKey;
use crate::wire::{ClientOp, ServerOp};
use crate::world::{HostKey, ProcessKey, ServerKey};

new_key_type! {
    /// A link in the world's table.
    pub(crate) struct LinkKey;
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the host to the server.
    ToServer,
    /// From the server to the host.
    ToHost,
}

/// What travels in a pipe.
#[derive(Debug)]
pub(crate) enum Parcel<T> {
    /// The first packet of a link.
    Open,
    /// One protocol message.
    Op(T),
    /// End of file, or reset: the other end is gone.
    Eof,
    /// Nobody listens there.
    Refused,
}

/// One direction of a link: first in, first out. Mostly there is one parcel in it: that one lies here, the others behind.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    head: Option<(Instant, Parcel<T>)>,
    behind: VecDeque<(Instant, Parcel<T>)>,
    /// No parcel may arrive before the one sent before it.
    last_arrival: Instant,
    /// An entry for the head is in the world's queue.
    pub(crate) armed: bool,
}

impl<T> Pipe<T> {
    pub(crate) const fn new() -> Self {
        Self {
            head: None,
            behind: VecDeque::new(),
            last_arrival: Instant::ZERO,
            armed: false,
        }
    }

    pub(crate) fn push(&mut self, arrival: Instant, parcel: Parcel<T>) {
        self.last_arrival = self.last_arrival.max(arrival);
        let arriving = Some((self.last_arrival, parcel));
        match self.head {
            None => self.head = arriving,
            Some(_) => self.behind.extend(arriving),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Parcel<T>> {
        let (_, parcel) = self.head.take()?;
        if !self.behind.is_empty() {
            self.head = self.behind.pop_front();
        }
        Some(parcel)
    }

    /// When the first parcel arrives.
    pub(crate) fn arrival(&self) -> Option<Instant> {
        self.head.as_ref().map(|(at, _)| *at)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(crate) fn clear(&mut self) {
        self.head = None;
        self.behind.clear();
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: ClientKey,
    pub(crate) process: ProcessKey,
    pub(crate) host: HostKey,
    pub(crate) server: ServerKey,
    pub(crate) up: Pipe<ClientOp>,
    pub(crate) down: Pipe<ServerOp>,
    /// The client has not closed its end.
    pub(crate) client_open: bool,
    /// The server has accepted and not closed its end.
    pub(crate) server_open: bool,
    /// Bytes were swallowed: the stream cannot go on.
    pub(crate) torn: bool,
}

impl Link {
    pub(crate) const fn new(
        client: ClientKey,
        process: ProcessKey,
        host: HostKey,
        server: ServerKey,
    ) -> Self {
        Self {
            client,
            process,
            host,
            server,
            up: Pipe::new(),
            down: Pipe::new(),
            client_open: true,
            server_open: false,
            torn: false,
        }
    }
}

/// How long parcels travel: `base` plus up to `jitter`, each alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// At least this long.
    pub base: Duration,
    /// And up to this much more.
    pub jitter: Duration,
}

impl Default for Latency {
    /// A quiet local network: 100 to 300 microseconds one way.
    fn default() -> Self {
        Self {
            base: Duration::from_micros(100),
            jitter: Duration::from_micros(200),
        }
    }
}

/// The way between one host and one server, shared by all links between them, now and later.
///
/// Counts instead of flags, so that overlapping faults of one kind mend apart.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) latency: Latency,
    pub(crate) extra: Duration,
    /// Nothing gets through, it waits: to the server, to the host.
    pub(crate) blocked: [u32; 2],
    /// What is sent is gone: to the server, to the host.
    pub(crate) holes: [u32; 2],
    /// Replies still to be lost after their effect, no more than one for each fault that lasts.
    pub(crate) replies_to_lose: u32,
    /// Faults that lose a reply, whether they have or not.
    pub(crate) losing: u32,
    rng: Rng,
}

impl Route {
    pub(crate) const fn new(latency: Latency, rng: Rng) -> Self {
        Self {
            latency,
            extra: Duration::ZERO,
            blocked: [0; 2],
            holes: [0; 2],
            replies_to_lose: 0,
            losing: 0,
            rng,
        }
    }

    /// When a parcel sent now arrives.
    pub(crate) fn arrival(&mut self, now: Instant) -> Instant {
        let jitter = self.latency.jitter.as_nanos() as u64;
        let jitter = if jitter == 0 {
            0
        } else {
            self.rng.below(jitter)
        };
        now + (self.latency.base + self.extra + Duration::from_nanos(jitter))
    }

    pub(crate) const fn is_blocked(&self, direction: Direction) -> bool {
        self.blocked[direction as usize] > 0
    }

    pub(crate) const fn is_hole(&self, direction: Direction) -> bool {
        self.holes[direction as usize] > 0
    }
}
