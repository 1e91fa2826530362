//! What there is to be reached: the states, events and effects of the machines, the errors of the seam, and what goes over
//! the wire. A test compares it with the code.

/// Marks that are alike.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// A machine, a client or a server.
    pub who: &'static str,
    /// What it does.
    pub verb: &'static str,
    /// To what.
    pub whats: &'static [&'static str],
}

const fn group(who: &'static str, verb: &'static str, whats: &'static [&'static str]) -> Group {
    Group { who, verb, whats }
}

/// All there are.
pub const GROUPS: &[Group] = &[
    group(
        "presence::Keeper",
        "becomes",
        &["present", "unsure", "cut off", "evicted", "yielded"],
    ),
    group(
        "presence::Keeper",
        "hears",
        &[
            "Written",
            "Looked",
            "Attached",
            "Disconnected",
            "Reconnected",
            "Probe",
        ],
    ),
    group("presence::Keeper", "is", &["due"]),
    group(
        "presence::Keeper",
        "wants",
        &["Write", "Look", "Attach", "Tell", "Renewed"],
    ),
    group(
        "presence::Roster",
        "becomes",
        &["listening", "seeing", "doubting", "interrupted", "blind"],
    ),
    group("presence::Roster", "hears", &["Watch", "Renewed", "Room"]),
    group("presence::Roster", "is", &["due"]),
    group("presence::Roster", "wants", &["Snapshot", "Tell", "Probe"]),
    group(
        "session::Keeper",
        "becomes",
        &[
            "logged out",
            "asking",
            "dialling",
            "probing",
            "backing off",
            "moving over",
            "connected",
            "without a connection",
        ],
    ),
    group(
        "session::Keeper",
        "hears",
        &[
            "Begun",
            "Login",
            "Logout",
            "Exchanged",
            "Force",
            "Clock",
            "Swapper Issued",
            "Swapper Unauthorized",
            "Swapper Logout",
            "Swapper Dialled",
            "Swapper Armed",
            "Swapper Heard",
            "Swapper Failed",
            "Swapper Probed",
            "Swapper Woke",
            "Swapper Retired",
        ],
    ),
    group("session::Keeper", "is", &["due"]),
    group(
        "session::Keeper",
        "wants",
        &[
            "Exchange",
            "Accepted",
            "Refused",
            "LookAtClock",
            "Tell",
            "Swapper Dial",
            "Swapper Arm",
            "Swapper Install",
            "Swapper Retire",
            "Swapper Close",
            "Swapper Abandon",
            "Swapper Probe",
            "Swapper Refresh",
            "Swapper Tell",
            "Swapper Over",
        ],
    ),
    group(
        "session::Splice",
        "becomes",
        &["reading", "describing", "opening", "draining", "adrift"],
    ),
    group(
        "session::Splice",
        "hears",
        &["Offered", "Described", "Opened", "Drained", "Told", "Ended"],
    ),
    group("session::Splice", "is", &["due"]),
    group(
        "session::Splice",
        "wants",
        &[
            "Describe", "Open", "Drain", "Keep", "Tell", "Answered", "Seek",
        ],
    ),
    group(
        "state::Contender",
        "becomes",
        &[
            "looking", "writing", "waiting", "retrying", "in turn", "over",
        ],
    ),
    group(
        "state::Contender",
        "hears",
        &[
            "Looked",
            "Written",
            "Queued",
            "Seen",
            "Blind",
            "Disconnected",
            "Reconnected",
            "Abandoned",
        ],
    ),
    group("state::Contender", "is", &["due"]),
    group(
        "state::Contender",
        "wants",
        &["Look", "Write", "Queue", "Acquired", "Failed", "Settle"],
    ),
    group(
        "state::Holder",
        "becomes",
        &["resting", "looking", "writing", "deleting", "lost", "over"],
    ),
    group(
        "state::Holder",
        "hears",
        &[
            "Refresh",
            "Keep",
            "Unlock",
            "Disconnected",
            "Reconnected",
            "Clock",
            "Looked",
            "Written",
            "Deleted",
        ],
    ),
    group("state::Holder", "is", &["due"]),
    group(
        "state::Holder",
        "wants",
        &[
            "Look",
            "Write",
            "Delete",
            "ReadClock",
            "Renewed",
            "Lost",
            "Refreshed",
            "Unlocked",
            "Settle",
        ],
    ),
    group(
        "state::Tracker",
        "becomes",
        &[
            "waiting",
            "looking",
            "retrying",
            "comparing",
            "live",
            "over",
        ],
    ),
    group(
        "state::Tracker",
        "hears",
        &[
            "Looking",
            "Blind",
            "Record",
            "SnapshotEnd",
            "Interrupted",
            "Resumed",
            "Swept",
            "Lagged",
        ],
    ),
    group("state::Tracker", "is", &["due"]),
    group(
        "state::Tracker",
        "wants",
        &["Look", "Begun", "Failed", "Tell", "Sweep"],
    ),
    group("chat::Follower", "becomes", &["following", "checking"]),
    group("chat::Follower", "hears", &["Reader", "Checked"]),
    group("chat::Follower", "wants", &["Tell", "Check"]),
    group(
        "an error",
        "is",
        &[
            "InvalidAddress",
            "Unreachable",
            "TimedOut",
            "Auth",
            "InvalidSubject",
            "InvalidHeader",
            "TooLarge",
            "Closed",
            "NoConnection",
            "NoResponders",
            "ClosedWhileWaiting",
            "InvalidName",
            "NotFound",
            "Exists",
            "Rejected",
            "Unavailable",
            "InvalidKey",
            "NoBucket",
            "AlreadyExists",
            "WrongRevision",
            "InvalidFilter",
        ],
    ),
    group(
        "client",
        "sends",
        &[
            "Connect",
            "Ping",
            "Pong",
            "Subscribe",
            "Unsubscribe",
            "Publish",
            "Pull",
        ],
    ),
    group(
        "client",
        "asks",
        &[
            "CreateStream",
            "UpdateStream",
            "DeleteStream",
            "StreamInfo",
            "Purge",
            "DeleteMessage",
            "Write Put",
            "Write Delete",
            "Write Purge",
            "Store",
            "Entry",
            "Get",
            "LastOf",
            "CreateConsumer",
            "EndConsumer",
            "CreatePullConsumer",
            "ConsumerInfo",
            "DeleteConsumer",
        ],
    ),
    group(
        "client",
        "hears",
        &[
            "Info",
            "Ping",
            "Pong",
            "Err",
            "Message",
            "NoResponders",
            "Delivery",
            "Pulled",
            "PullStatus",
            "Heartbeat",
        ],
    ),
    group(
        "client",
        "is answered",
        &[
            "Stored",
            "Acked",
            "WrongRevision",
            "WrongMessageId",
            "NoResponders",
            "Entry",
            "Message",
            "Messages",
            "Stream",
            "Deleted",
            "Purged",
            "PullConsumer",
            "Consumer",
        ],
    ),
    group(
        "server",
        "refuses with",
        &[
            "10003", "10008", "10012", "10014", "10028", "10039", "10043", "10047", "10052",
            "10054", "10057", "10058", "10059", "10060", "10065", "10070", "10071", "10074",
            "10077", "10083", "10084", "10094", "10098", "10110", "10111", "10116", "10138",
            "10139", "10148", "10149", "10165", "10166", "10193",
        ],
    ),
    group(
        "server",
        "removes",
        &[
            "Expired",
            "Evicted",
            "Limited",
            "Purged",
            "Deleted",
            "Settled",
            "BucketDeleted",
            "LostAtRestart",
            "PowerLost",
        ],
    ),
    group(
        "server",
        "does",
        &[
            "Close", "Route", "Exit", "Commit", "Stored", "Dropped", "LostTail",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The variants of an enum, as its source has them.
    fn variants(source: &str, name: &str) -> Vec<String> {
        let begin = source.find(&format!("enum {name}")).expect("it is there");
        let body = source[begin..].split_once('{').expect("a body").1;
        let (mut depth, mut names) = (0, Vec::new());
        for line in body.lines() {
            let code = line.split("//").next().unwrap_or_default();
            if depth == 0 {
                let word: String = code
                    .trim()
                    .chars()
                    .take_while(char::is_ascii_alphanumeric)
                    .collect();
                if word.starts_with(|letter: char| letter.is_ascii_uppercase()) {
                    names.push(word);
                }
            }
            for letter in code.chars() {
                depth += i32::from("({[".contains(letter)) - i32::from(")}]".contains(letter));
            }
            if depth < 0 {
                break;
            }
        }
        names
    }

    #[test]
    fn the_list_is_that_of_the_code() {
        let of_machines = [
            (
                "presence::Keeper",
                include_str!("../../../core/src/presence/keeper.rs"),
            ),
            (
                "presence::Roster",
                include_str!("../../../core/src/presence/roster.rs"),
            ),
            (
                "session::Keeper",
                include_str!("../../../core/src/session/keeper.rs"),
            ),
            (
                "session::Splice",
                include_str!("../../../core/src/session/splice.rs"),
            ),
            (
                "state::Contender",
                include_str!("../../../core/src/state/lock/contending.rs"),
            ),
            (
                "state::Holder",
                include_str!("../../../core/src/state/lock/holder.rs"),
            ),
            (
                "state::Tracker",
                include_str!("../../../core/src/state/tracker.rs"),
            ),
            (
                "chat::Follower",
                include_str!("../../../core/src/chat/follower.rs"),
            ),
        ];
        let listed = |who: &str, verb: &str| {
            let group = GROUPS
                .iter()
                .find(|group| (group.who, group.verb) == (who, verb));
            let whats = group.map(|group| group.whats.to_vec()).unwrap_or_default();
            let first = |what: &str| what.split(' ').next().unwrap_or_default().to_owned();
            let mut whats: Vec<String> = whats.into_iter().map(first).collect();
            whats.dedup();
            whats.sort();
            whats
        };
        let check = |who: &str, verb: &str, source: &str, name: &str, without: &[&str]| {
            let mut known = variants(source, name);
            known.retain(|name| !without.contains(&name.as_str()));
            known.sort();
            assert_eq!(listed(who, verb), known, "{who} {verb}");
        };
        for (who, source) in of_machines {
            let machine = who.rsplit(':').next().unwrap_or_default();
            check(who, "hears", source, &format!("{machine}Event"), &[]);
            check(who, "wants", source, &format!("{machine}Effect"), &[]);
        }
        let wire = include_str!("../../../sim/src/wire.rs");
        check("client", "sends", wire, "ClientOp", &["Request"]);
        check("client", "asks", wire, "Request", &[]);
        check("client", "hears", wire, "ServerOp", &["Response"]);
        check("client", "is answered", wire, "Response", &["Error"]);
        let effects = include_str!("../../../sim/src/broker/effect.rs");
        check("server", "removes", effects, "Cause", &[]);
        check("server", "does", effects, "Effect", &["Send", "Removed"]);
    }
}
