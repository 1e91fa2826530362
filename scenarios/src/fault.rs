//! Faults as data: what a plan may do to its world, to whom, and how it is written down.

use std::fmt;
use std::time::Duration;

use squall_sim::Direction;

use crate::parse::SERVER;

/// What is done. Verbs; what each means is said in `squall_sim`'s faults and, for a real server, in the testbed's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing gets through; it waits.
    Partition(Directions),
    /// Bytes are swallowed while sockets stay open.
    Blackhole(Directions),
    /// Connections are reset.
    Cut,
    /// Everything takes this much longer each way.
    Delay(Duration),
    /// The next write while it lasts is applied, and its acknowledgement lost.
    LoseReply,
    /// The process stands still (SIGSTOP); its clocks go on.
    Pause,
    /// The machine sleeps: its monotonic clock stands, its wall clock goes on.
    Suspend,
    /// The process dies, and another takes its place at the end of the fault.
    Crash,
    /// A second incarnation starts beside the first, which is closed at the end of the fault.
    Overlap,
    /// The wall clock jumps by so many nanoseconds, and back at the end of the fault.
    Jump(i64),
    /// Both clocks run fast by so many parts per million.
    Drift(i64),
    /// The server is killed, and started again at the end of the fault.
    ServerStop,
    /// The server's machine loses its power, and with it the end of what was acknowledged and not synced; the server is
    /// started again at the end of the fault.
    PowerLoss,
    /// The server stands still (SIGSTOP).
    ServerPause,
    /// JetStream answers nobody; core messaging goes on.
    JetstreamMute,
    /// The agent exchanges its credential for another, before its time.
    Rotate,
    /// The server puts the agent's connections out, and lets them in again at once.
    Kick,
    /// What the agent has been issued so far is void.
    Revoke,
    /// The key that has signed what the agents have been issued so far is no longer the account's.
    RevokeSigner,
    /// The auth service knows nobody (401).
    Auth401,
    /// The auth service is out of order (503).
    Auth5xx,
    /// The auth service takes this much longer.
    AuthSlow(Duration),
    /// The clock of the auth service is off by so many nanoseconds.
    AuthSkew(i64),
    /// The agent is issued credentials that do not allow JetStream, and exchanges its own for such.
    NarrowPermissions,
    /// The next bytes that are written to the agent's disk arrive in part, and the writer is told of an error.
    TornWrite,
    /// The agent's disk does so many steps more, of which an operation has several, and then fails all of them.
    IoError(u32),
    /// The agent logs out, and in again at the end of the fault.
    Logout,
    /// The agent logs in to the other account, and back at the end of the fault.
    SwitchAccount,
    /// The server that leads the bucket hands over to another of its cluster.
    LeaderChange,
    /// Nothing gets through between the server and this other one of its cluster; it waits.
    RoutePartition(Member),
}

/// Servers of a cluster.
pub const CLUSTER_SIZE: usize = 3;

/// One of the servers of a plan, counted from 0: the only one, called `server`, or `n1` to `n3` of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member(pub usize);

impl Member {
    /// All that a plan with so many servers has.
    pub fn all(servers: usize) -> impl Iterator<Item = Self> {
        (0..servers).map(Self)
    }

    /// As plans with so many servers write it.
    pub fn name(self, servers: usize) -> String {
        match servers {
            1 => SERVER.to_owned(),
            _ => self.to_string(),
        }
    }

    /// Reads what [`name`](Self::name) gives.
    pub fn from_name(name: &str, servers: usize) -> Option<Self> {
        Self::all(servers).find(|member| member.name(servers) == name)
    }
}

/// As one of a cluster.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0 + 1)
    }
}

/// What a kind of fault acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An agent.
    Agent,
    /// One of the servers.
    Server,
    /// A cluster as a whole, and whoever leads the bucket in it.
    Cluster,
    /// Whoever issues credentials.
    Auth,
}

/// Which ways a partition or a blackhole cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Directions {
    /// Both.
    Both,
    /// What the agent sends.
    ToServer,
    /// What the agent would hear.
    ToAgent,
}

impl Directions {
    /// The single directions it consists of.
    pub const fn each(self) -> &'static [Direction] {
        match self {
            Self::Both => &[Direction::ToServer, Direction::ToHost],
            Self::ToServer => &[Direction::ToServer],
            Self::ToAgent => &[Direction::ToHost],
        }
    }

    /// As plans write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::ToServer => "to-server",
            Self::ToAgent => "to-agent",
        }
    }

    /// Reads what [`name`](Self::name) gives.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Both, Self::ToServer, Self::ToAgent]
            .into_iter()
            .find(|way| way.name() == name)
    }
}

/// The names of all kinds, as plans write them.
pub const KINDS: [&str; 30] = [
    "partition",
    "blackhole",
    "cut",
    "delay",
    "lose-reply",
    "pause",
    "suspend",
    "crash",
    "overlap",
    "jump",
    "drift",
    "server-stop",
    "server-pause",
    "jetstream-mute",
    "power-loss",
    "leader-change",
    "route-partition",
    "rotate",
    "kick",
    "revoke",
    "revoke-signer",
    "auth-401",
    "auth-5xx",
    "auth-slow",
    "auth-skew",
    "narrow-permissions",
    "logout",
    "switch-account",
    "torn-write",
    "io-error",
];

impl FaultKind {
    /// As plans write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Partition(_) => "partition",
            Self::Blackhole(_) => "blackhole",
            Self::Cut => "cut",
            Self::Delay(_) => "delay",
            Self::LoseReply => "lose-reply",
            Self::Pause => "pause",
            Self::Suspend => "suspend",
            Self::Crash => "crash",
            Self::Overlap => "overlap",
            Self::Jump(_) => "jump",
            Self::Drift(_) => "drift",
            Self::ServerStop => "server-stop",
            Self::PowerLoss => "power-loss",
            Self::ServerPause => "server-pause",
            Self::JetstreamMute => "jetstream-mute",
            Self::LeaderChange => "leader-change",
            Self::RoutePartition(_) => "route-partition",
            Self::Rotate => "rotate",
            Self::Kick => "kick",
            Self::Revoke => "revoke",
            Self::RevokeSigner => "revoke-signer",
            Self::Auth401 => "auth-401",
            Self::Auth5xx => "auth-5xx",
            Self::AuthSlow(_) => "auth-slow",
            Self::AuthSkew(_) => "auth-skew",
            Self::NarrowPermissions => "narrow-permissions",
            Self::TornWrite => "torn-write",
            Self::IoError(_) => "io-error",
            Self::Logout => "logout",
            Self::SwitchAccount => "switch-account",
        }
    }

    /// What it acts on.
    pub const fn scope(self) -> Scope {
        match self {
            Self::ServerStop
            | Self::PowerLoss
            | Self::ServerPause
            | Self::JetstreamMute
            | Self::RoutePartition(_) => Scope::Server,
            Self::LeaderChange => Scope::Cluster,
            _ if self.is_of_auth() => Scope::Auth,
            _ => Scope::Agent,
        }
    }

    /// True where it needs a cluster.
    pub const fn is_of_cluster(self) -> bool {
        matches!(self, Self::LeaderChange | Self::RoutePartition(_))
    }

    /// True where it acts on whoever issues credentials, and not on an agent.
    pub const fn is_of_auth(self) -> bool {
        matches!(
            self,
            Self::RevokeSigner
                | Self::Auth401
                | Self::Auth5xx
                | Self::AuthSlow(_)
                | Self::AuthSkew(_)
        )
    }

    /// True where it acts on the disk of an agent: only who lives on credentials keeps files.
    pub const fn is_of_disk(self) -> bool {
        matches!(self, Self::TornWrite | Self::IoError(_))
    }

    /// True where there is nothing to do it to without credentials.
    pub const fn needs_auth(self) -> bool {
        self.is_of_auth()
            || matches!(
                self,
                Self::Rotate
                    | Self::Kick
                    | Self::Revoke
                    | Self::NarrowPermissions
                    | Self::Logout
                    | Self::SwitchAccount
            )
    }

    /// True where it is over as soon as it has happened.
    pub const fn is_instant(self) -> bool {
        matches!(
            self,
            Self::Cut
                | Self::LeaderChange
                | Self::Rotate
                | Self::Kick
                | Self::Revoke
                | Self::RevokeSigner
        )
    }
}

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins, from the start of the run.
    pub at: Duration,
    /// How long it lasts before it mends itself; zero for instant ones.
    pub lasts: Duration,
    /// To whom: an agent, one of the servers, the cluster, or `auth`.
    pub target: String,
    /// What.
    pub kind: FaultKind,
}

impl Fault {
    /// When it is mended.
    pub fn ends(&self) -> Duration {
        self.at + self.lasts
    }
}

/// `partition of alice (to-server)`, for people.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind.name(), self.target)?;
        match self.kind {
            FaultKind::Partition(ways) | FaultKind::Blackhole(ways) if ways != Directions::Both => {
                write!(f, " ({})", ways.name())
            }
            FaultKind::RoutePartition(other) => write!(f, " and {other}"),
            FaultKind::Delay(by) | FaultKind::AuthSlow(by) => write!(f, " by {by:?}"),
            FaultKind::Jump(nanos) | FaultKind::AuthSkew(nanos) => {
                write!(f, " by {}", signed(nanos))
            }
            FaultKind::Drift(ppm) => write!(f, " by {ppm} ppm"),
            FaultKind::IoError(steps) if steps > 0 => write!(f, " after {steps} steps"),
            _ => Ok(()),
        }
    }
}

/// A signed duration as plans write it: `-1h`, `90s`.
pub(crate) fn signed(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let by = humantime::format_duration(Duration::from_nanos(nanos.unsigned_abs()));
    format!("{sign}{by}")
}
