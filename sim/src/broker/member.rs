//! What a server knows as a member of a cluster: who the others are and what they serve, which streams there are, and
//! its part in the logs of those that it keeps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use squall_core::transport::{Leadership, StreamConfig};
use squall_core::{Instant, Rng, UnixTime};

use super::parley::{Asker, Command, GroupId, Serves};
use super::security::Account;
use super::subject::{Filters, is_routable};
use super::undecided::Undecided;
use crate::cluster::{Group, Peer, Timing};
use crate::wire::{LinkId, Request, Sid};

/// The account of all clients: a cluster has one.
pub(super) const ACCOUNT: Account = Account(0);

/// Servers of a cluster.
pub(super) const SIZE: u8 = 3;

/// The connection that stands for the route to another server: its subscriptions are those of the clients there.
pub(super) const fn route_link(peer: Peer) -> LinkId {
    LinkId(u64::MAX - peer.0 as u64)
}

/// Whether this connection stands for a route.
pub(super) const fn is_route(link: LinkId) -> bool {
    link.0 > u64::MAX - SIZE as u64
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) me: Peer,
    /// What there is of the others and of itself, by number.
    pub(super) peers: Vec<PeerState>,
    pub(super) groups: BTreeMap<GroupId, Group<Command>>,
    /// When the timer of a group is set.
    pub(super) armed: BTreeMap<GroupId, Instant>,
    pub(super) streams: BTreeMap<Arc<str>, Stream>,
    /// Servers of clients that are not connected here.
    pub(super) homes: BTreeMap<LinkId, Peer>,
    /// Subscriptions of clients here, as the others know them.
    pub(super) told: BTreeMap<(LinkId, Sid), Told>,
    numbers: BTreeMap<Sid, (LinkId, Sid)>,
    last_number: u64,
    /// When the process was started.
    started: Instant,
    /// Since when the cluster has had no leader whom this server knows.
    pub(super) leaderless: Option<Instant>,
}

/// A subscription as the others know it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) number: Sid,
    pub(super) subject: Arc<str>,
    pub(super) queue: Option<Arc<str>>,
}

/// What is known of a server.
#[derive(Debug, Default)]
pub(super) struct PeerState {
    /// There is a route to it. It may be silent all the same.
    pub(super) is_up: bool,
    /// When it was last heard.
    pub(super) heard_at: Instant,
    /// What it serves.
    pub(super) serves: BTreeMap<Arc<str>, Serves>,
}

/// A stream as the cluster knows it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) group: GroupId,
    pub(super) config: StreamConfig,
    /// The subjects of its settings.
    filters: Option<Filters>,
    pub(super) holders: Vec<Peer>,
    /// Who created it, until that is answered.
    pub(super) creator: Option<Asker>,
    /// Writes that are proposed and not agreed upon.
    pub(super) undecided: Undecided,
    /// Writes that must wait for those, and what came after them.
    pub(super) waiting: VecDeque<(Asker, Request)>,
}

impl Member {
    pub(super) fn new(me: Peer, now: Instant, rng: &mut Rng) -> Self {
        let cluster = Group::new(me, SIZE, Timing::default(), true, now, rng);
        let peers = (0..SIZE).map(|_| PeerState::default()).collect();
        Self {
            me,
            peers,
            groups: BTreeMap::from([(GroupId::CLUSTER, cluster)]),
            armed: BTreeMap::new(),
            streams: BTreeMap::new(),
            homes: BTreeMap::new(),
            told: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last_number: 0,
            started: now,
            leaderless: Some(now),
        }
    }

    pub(super) fn peer(&mut self, peer: Peer) -> &mut PeerState {
        &mut self.peers[usize::from(peer.0)]
    }

    /// The others that there is a route to.
    pub(super) fn reachable(&self) -> impl Iterator<Item = Peer> + use<'_> {
        let is_up = |peer: &Peer| *peer != self.me && self.peers[usize::from(peer.0)].is_up;
        (0..SIZE).map(Peer).filter(is_up)
    }

    /// Servers that say that they serve a stream so.
    pub(super) fn servers(&self, stream: &str, is_it: impl Fn(&Serves) -> bool) -> Vec<Peer> {
        let serves = |peer: &Peer| {
            let serves = self.peers[usize::from(peer.0)].serves.get(stream);
            serves.is_some_and(&is_it)
        };
        (0..SIZE).map(Peer).filter(serves).collect()
    }

    pub(super) fn leads(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(Group::is_leader)
    }

    /// What a server that describes a stream says of who leads it.
    pub(super) fn leadership(&self, now: Instant, stream: &str, name: &Arc<str>) -> Leadership {
        let group = self.streams.get(stream);
        let group = group.and_then(|stream| self.groups.get(&stream.group));
        match group {
            None => Leadership::Alone,
            Some(group) => match group.heard(now).filter(|_| group.is_leader()) {
                None => Leadership::Nobody,
                Some(heard) => Leadership::Leader {
                    server: Arc::clone(name),
                    heard,
                },
            },
        }
    }

    /// Whether this server keeps a copy of the stream, and knows that nobody leads it.
    pub(super) fn is_leaderless(&self, now: Instant, stream: &Stream) -> bool {
        let group = self.groups.get(&stream.group);
        group.is_some_and(|group| group.is_leaderless(now, self.started))
    }

    pub(super) fn stream_of(&self, group: GroupId) -> Option<&Arc<str>> {
        let mut streams = self.streams.iter();
        streams
            .find(|(_, stream)| stream.group == group)
            .map(|(name, _)| name)
    }

    /// The stream that stores what is published there.
    pub(super) fn storing(&self, subject: &str) -> Option<&Arc<str>> {
        if !is_routable(subject) {
            return None;
        }
        let stores = |stream: &Stream| {
            let filters = stream.filters.as_ref();
            filters.is_some_and(|filters| filters.matches(subject))
        };
        let mut streams = self.streams.iter();
        let found = streams.find(|(_, stream)| stores(stream));
        found.map(|(name, _)| name)
    }

    /// Numbers a subscription of a client here, for the others.
    pub(super) fn number(&mut self, link: LinkId, sid: Sid) -> Sid {
        self.last_number += 1;
        let number = Sid(self.last_number);
        self.numbers.insert(number, (link, sid));
        number
    }

    pub(super) fn numbered(&self, number: Sid) -> Option<(LinkId, Sid)> {
        self.numbers.get(&number).copied()
    }

    pub(super) fn forget(&mut self, link: LinkId, sid: Sid) -> Option<Sid> {
        let told = self.told.remove(&(link, sid))?;
        self.numbers.remove(&told.number);
        Some(told.number)
    }

    /// The process is gone: what stays is what is on disk.
    pub(super) fn stop(&mut self) {
        self.peers = (0..SIZE).map(|_| PeerState::default()).collect();
        self.armed.clear();
        self.homes.clear();
        self.told.clear();
        self.numbers.clear();
        for stream in self.streams.values_mut() {
            stream.stand_back();
        }
    }

    /// The process is back.
    pub(super) fn start(&mut self, now: Instant, rng: &mut Rng) {
        (self.started, self.leaderless) = (now, Some(now));
        for group in self.groups.values_mut() {
            group.restart(now, rng);
        }
    }
}

impl Stream {
    pub(super) fn new(
        group: GroupId,
        config: StreamConfig,
        holders: Vec<Peer>,
        creator: Asker,
    ) -> Self {
        Self {
            group,
            filters: Filters::parse(&config.subjects),
            config,
            holders,
            creator: Some(creator),
            undecided: Undecided::default(),
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn reconfigure(&mut self, config: StreamConfig) {
        self.filters = Filters::parse(&config.subjects);
        self.config = config;
    }

    pub(super) const fn is_replicated(&self) -> bool {
        self.holders.len() > 1
    }

    /// What was proposed here is nobody's business any more: it is never answered.
    pub(super) fn stand_back(&mut self) {
        self.undecided.clear();
        self.waiting.clear();
        self.creator = None;
    }
}

/// A wall clock that a group agreed upon.
pub(super) const fn agreed_wall(command: &Command) -> Option<UnixTime> {
    match command {
        Command::Create { at, .. } | Command::Write { at, .. } | Command::Sweep { at } => Some(*at),
        Command::Update { .. } | Command::Delete { .. } | Command::Remove { .. } => None,
    }
}
