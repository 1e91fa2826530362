//! What servers of a cluster say to each other over their routes.

use std::sync::Arc;

use bytes::Bytes;
use squall_core::UnixTime;
use squall_core::transport::{BucketConfig, Message, Operation};

use crate::cluster::{Peer, Word};
use crate::wire::{LinkId, Request, RequestId, ServerOp, Sid};

/// A replicated log of the cluster: 0 is the cluster's own, the others are numbered by the entry that created them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The log of what buckets there are.
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
    /// What the speaker does for a bucket from now on.
    Serves {
        /// Which bucket.
        bucket: Arc<str>,
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

/// Which subjects of a bucket a server listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serves {
    /// Those that are written to: as its leader.
    pub writes: bool,
    /// Direct reads: as one that was up to date once.
    pub reads: bool,
}

/// What servers agree upon.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// There is a bucket.
    Create {
        /// Its settings.
        config: BucketConfig,
        /// The servers that keep it.
        holders: Vec<Peer>,
        /// When.
        at: UnixTime,
        /// Who wanted it.
        asker: Asker,
    },
    /// It has other settings.
    Update {
        /// Which.
        config: BucketConfig,
        /// Who wanted it.
        asker: Asker,
    },
    /// It is no more.
    Delete {
        /// Which.
        bucket: Arc<str>,
        /// Who wanted it.
        asker: Asker,
    },
    /// A record of a bucket; its condition was met when it was proposed.
    Write {
        /// Its key.
        key: Arc<str>,
        /// Its value.
        value: Bytes,
        /// What it says.
        operation: Operation,
        /// Bytes of its headers.
        headers: usize,
        /// When it was proposed, by the leader's wall clock.
        at: UnixTime,
        /// Who wanted it.
        asker: Asker,
    },
    /// What had aged out by then goes, and leaves its markers.
    Sweep {
        /// The leader's wall clock.
        at: UnixTime,
    },
}
