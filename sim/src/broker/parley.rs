//! What servers of a cluster say to each other over their routes.

use std::sync::Arc;

use bytes::Bytes;
use squall_core::UnixTime;
use squall_core::transport::{Message, StreamConfig};

use super::admit::Accepted;
use super::head::Head;
use super::purge::Removal;
use crate::cluster::{Peer, Word};
use crate::wire::{LinkId, Request, RequestId, ServerOp, Sid};

/// A replicated log of the cluster: 0 is the cluster's own, the others are numbered by the entry that created them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The log of what streams there are.
    pub const CLUSTER: Self = Self(0);
}

/// One server to another.
#[derive(Clone, Debug)]
pub enum RouteOp {
    /// A client there has subscribed.
    Subscribe {
        /// Numbers the subscription on this route.
        sid: Sid,
        /// May hold wildcards.
        subject: Arc<str>,
        /// The queue group, if any.
        queue: Option<Arc<str>>,
    },
    /// It has unsubscribed, or is gone.
    Unsubscribe {
        /// Which.
        sid: Sid,
    },
    /// A message for a subscription that was told before.
    Message {
        /// Which.
        sid: Sid,
        /// The message.
        message: Message,
    },
    /// A client there asks JetStream for something.
    Ask {
        /// Who.
        asker: Asker,
        /// What.
        request: Request,
        /// The cluster's leader has chosen this very server for it.
        is_placed: bool,
    },
    /// For a client there: an answer, or what a consumer here delivers.
    Tell {
        /// Its connection.
        link: LinkId,
        /// What.
        op: ServerOp,
    },
    /// A subscription of a client there is over, which a consumer here may deliver to.
    Over {
        /// Its connection.
        link: LinkId,
        /// Which.
        sid: Sid,
    },
    /// What the speaker does for a stream from now on.
    Serves {
        /// Which stream.
        stream: Arc<str>,
        /// What.
        serves: Serves,
    },
    /// A word of a group.
    Word {
        /// Which group.
        group: GroupId,
        /// The word.
        word: Word<Command>,
    },
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The server that the client is connected to.
    pub server: Peer,
    /// Its connection.
    pub link: LinkId,
    /// Its request.
    pub id: RequestId,
}

impl Asker {
    /// Whether it has asked for nothing, and published.
    pub(super) fn is_publisher(self) -> bool {
        self.id == RequestId::NONE
    }

    /// Whose request a record was.
    pub(super) fn writer(self) -> Option<(LinkId, RequestId)> {
        (!self.is_publisher()).then_some((self.link, self.id))
    }
}

/// Which subjects of a stream a server listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serves {
    /// Those that are written to: as its leader.
    pub writes: bool,
    /// Direct reads: as one that was up to date once.
    pub reads: bool,
}

/// A message that its stream's leader has accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    pub(super) subject: Arc<str>,
    pub(super) head: Head,
    pub(super) payload: Bytes,
    /// What was found about it, with its conditions, when it was proposed.
    pub(super) accepted: Accepted,
    /// How whoever wants it hears of it.
    pub(super) answer: Answer,
}

/// How whoever wants a message stored hears what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// As of a write to a key.
    Write,
    /// As of a message of a stream.
    Store,
    /// By a message there, if anywhere: it was a core publish.
    Message(Option<Arc<str>>),
}

impl Answer {
    /// That to this request.
    pub(super) fn to(asker: Asker, request: &Request) -> Self {
        match request {
            Request::Store(message) if asker.is_publisher() => Self::Message(message.reply.clone()),
            Request::Store(_) => Self::Store,
            _ => Self::Write,
        }
    }
}

/// What servers agree upon.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// There is a stream.
    Create {
        /// Its settings.
        config: StreamConfig,
        /// The servers that keep it.
        holders: Vec<Peer>,
        /// The one of them that is to lead it first.
        first: Peer,
        /// When.
        at: UnixTime,
        /// Who wanted it.
        asker: Asker,
    },
    /// It has other settings.
    Update {
        /// Which.
        config: StreamConfig,
        /// Who wanted it.
        asker: Asker,
    },
    /// It is no more.
    Delete {
        /// Which.
        stream: Arc<str>,
        /// Who wanted it.
        asker: Asker,
    },
    /// A message of a stream, which its leader has accepted.
    Write {
        /// The message.
        proposal: Box<Proposal>,
        /// When it was proposed, by the leader's wall clock.
        at: UnixTime,
        /// Who wanted it.
        asker: Asker,
    },
    /// Messages of a stream go, as somebody wants.
    Remove {
        /// Which.
        removal: Removal,
        /// Who wanted it.
        asker: Asker,
    },
    /// What had aged out by then goes, and leaves its markers.
    Sweep {
        /// The leader's wall clock.
        at: UnixTime,
    },
}
