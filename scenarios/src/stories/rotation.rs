//! The scenarios of rotation: agents that live on credentials of five minutes. How their stories are told is in
//! `rotation_acts.rs`.

use super::{Scenario, Sometimes, any, rotation_acts, told};
use crate::history::{Call, History, Reply, Tell, What, Wire};

pub(super) const SCENARIOS: [Scenario; 16] = [
    Scenario {
        name: "rotation/calm",
        promise: "Credentials end, again and again, and nobody who lives on them notices.",
        roles: "2 to 4 users of a bucket, and a presence",
        faults: &[],
        sometimes: &[ROTATED, SWAPPED],
        plan: rotation_acts::calm,
    },
    Scenario {
        name: "rotation/kick",
        promise: "The server puts connections out before their time; they come back by themselves.",
        roles: "2 to 4 users, some of which are put out",
        faults: &["kick", "auth-slow"],
        sometimes: &[PUT_OUT, BACK],
        plan: rotation_acts::kick,
    },
    Scenario {
        name: "rotation/revoked-user",
        promise: "What somebody was issued is void at once; the next exchange brings them back, without a command.",
        roles: "3 users, one of which is revoked",
        faults: &["revoke", "auth-slow"],
        sometimes: &[PUT_OUT, BACK],
        plan: rotation_acts::revoked_user,
    },
    Scenario {
        name: "rotation/revoked-signing-key",
        promise: "The key that signed everybody's credentials is withdrawn; all come back with what another key signs.",
        roles: "3 users whose account loses its signing key",
        faults: &["revoke-signer"],
        sometimes: &[REFUSED, BACK],
        plan: rotation_acts::revoked_signing_key,
    },
    Scenario {
        name: "rotation/issuer-down",
        promise: "The auth service is away when credentials are due: they are used as long as they last, and replaced as \
                  soon as it answers.",
        roles: "2 to 4 users and an auth service that fails",
        faults: &["auth-5xx", "auth-slow"],
        sometimes: &[NOT_ISSUED, PUT_OUT, REFUSED, BACK],
        plan: rotation_acts::issuer_down,
    },
    Scenario {
        name: "rotation/skewed-clocks",
        promise: "The issuer's clock, and agents' own, are off: what is issued ends sooner or begins later than is believed.",
        roles: "2 to 4 users whose clocks disagree with the issuer's",
        faults: &["auth-skew", "jump"],
        sometimes: &[ROTATED, PUT_OUT, BACK],
        plan: rotation_acts::skewed_clocks,
    },
    Scenario {
        name: "rotation/racing-callers",
        promise: "Many callers find the connection stale at once: one of them replaces it, for all.",
        roles: "2 users with much to do",
        faults: &["rotate", "kick", "cut"],
        sometimes: &[SWAPPED, BACK],
        plan: rotation_acts::racing_callers,
    },
    Scenario {
        name: "rotation/one-second",
        promise: "Twenty agents whose credentials end in one second: each comes back once, and not all at the same time.",
        roles: "20 users that start together",
        faults: &["auth-5xx"],
        sometimes: &[ROTATED, PUT_OUT],
        plan: rotation_acts::one_second,
    },
    Scenario {
        name: "rotation/server-restart",
        promise: "The server goes away while credentials are exchanged; everybody is back on the newest ones.",
        roles: "3 to 5 users and a server that restarts",
        faults: &["server-stop", "server-pause"],
        sometimes: &[ROTATED, BACK],
        plan: rotation_acts::server_restart,
    },
    Scenario {
        name: "rotation/narrowed-permissions",
        promise: "What is issued does not allow JetStream any more, and later does again: who follows is told, and goes on.",
        roles: "3 users, one of which may do less for a while",
        faults: &["narrow-permissions"],
        sometimes: &[ROTATED, INTERRUPTED, RESUMED],
        plan: rotation_acts::narrowed_permissions,
    },
    Scenario {
        name: "rotation/sleep",
        promise: "A machine sleeps over the end of its credentials: it exchanges them as it wakes.",
        roles: "3 users, one whose machine sleeps",
        faults: &["suspend", "pause"],
        sometimes: &[PUT_OUT, BACK, ROTATED],
        plan: rotation_acts::sleep,
    },
    Scenario {
        name: "rotation/slow-jetstream",
        promise: "JetStream does not answer for a while: that costs nobody a connection on which other things go on.",
        roles: "2 to 4 users and a server whose JetStream falls silent",
        faults: &["jetstream-mute"],
        sometimes: &[ROTATED],
        plan: rotation_acts::slow_jetstream,
    },
    Scenario {
        name: "rotation/half-open",
        promise: "A link swallows what it is given while both its ends believe in it: who follows is told, and comes back.",
        roles: "3 users, one behind such a link",
        faults: &["blackhole"],
        sometimes: &[INTERRUPTED, RESUMED],
        plan: rotation_acts::half_open,
    },
    Scenario {
        name: "rotation/accounts",
        promise: "Agents log out, in, and in to another account, whatever is under way: nothing of one account shows in another.",
        roles: "3 users that change accounts",
        faults: &["logout", "switch-account", "rotate", "auth-slow"],
        sometimes: &[LOGGED_OUT, SWITCHED],
        plan: rotation_acts::accounts,
    },
    Scenario {
        name: "rotation/disk",
        promise: "Disks fail and writes are torn while credentials are saved and read again, and agents die: nobody is logged \
                  out by that, and the next life knows who is logged in.",
        roles: "2 or 3 users whose disks fail",
        faults: &["io-error", "torn-write", "rotate", "crash", "logout"],
        sometimes: &[UNREAD, UNSAVED, REMEMBERED, ROTATED],
        plan: rotation_acts::disk,
    },
    Scenario {
        name: "rotation/storm",
        promise: "Any faults of links, servers, clocks and credentials: all of the above.",
        roles: "2 to 6 users and presences",
        faults: &rotation_acts::STRIKES,
        sometimes: &[
            ROTATED,
            SWAPPED,
            PUT_OUT,
            REFUSED,
            NOT_ISSUED,
            BACK,
            INTERRUPTED,
            RESUMED,
            LOGGED_OUT,
        ],
        plan: rotation_acts::storm,
    },
];

// --- what must happen sometimes ---

fn wired(history: &History, wanted: impl Fn(&Wire) -> bool) -> bool {
    told(
        history,
        |tell| matches!(tell, Tell::Wire { wire, .. } if wanted(wire)),
    )
}

/// How often a process was issued something, for the most frequent.
fn issued_most(history: &History) -> usize {
    let mut callers = std::collections::BTreeMap::new();
    let mut counts = std::collections::BTreeMap::<_, usize>::new();
    for record in &history.0 {
        match &record.what {
            What::Invoke {
                id,
                process,
                call: Call::Exchange { .. },
            } => {
                callers.insert(*id, process);
            }
            What::Ok {
                id,
                reply: Reply::Issued { .. },
            } => {
                if let Some(process) = callers.get(id) {
                    *counts.entry(*process).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    counts.into_values().max().unwrap_or_default()
}

const ROTATED: Sometimes = Sometimes {
    fact: "credentials were exchanged for others",
    reached: |_, history| issued_most(history) > 1,
};
const SWAPPED: Sometimes = Sometimes {
    fact: "a connection took the place of another",
    reached: |_, history| {
        told(
            history,
            |tell| matches!(tell, Tell::Logged { event } if event.swapped().is_some()),
        )
    },
};
const PUT_OUT: Sometimes = Sometimes {
    fact: "the server ended a connection for its credentials",
    reached: |_, history| {
        wired(
            history,
            |wire| matches!(wire, Wire::Down { cause } if cause.starts_with("User Authentication")),
        )
    },
};
const REFUSED: Sometimes = Sometimes {
    fact: "the server refused credentials",
    reached: |_, history| {
        any(history, |what| match what {
            What::Told {
                tell:
                    Tell::Wire {
                        wire: Wire::Refused { text },
                        ..
                    },
                ..
            } => text.eq_ignore_ascii_case("authorization violation"),
            What::Refused { error, .. } | What::Unknown { error, .. } => {
                error.ends_with("Authorization Violation")
            }
            _ => false,
        })
    },
};
const NOT_ISSUED: Sometimes = Sometimes {
    fact: "an exchange failed",
    reached: |_, history| {
        let mut asked = std::collections::BTreeSet::new();
        history.0.iter().any(|record| match &record.what {
            What::Invoke {
                id,
                call: Call::Exchange { .. },
                ..
            } => {
                asked.insert(*id);
                false
            }
            What::Refused { id, .. } | What::Unknown { id, .. } => asked.contains(id),
            _ => false,
        })
    },
};
const BACK: Sometimes = Sometimes {
    fact: "a process that had lost its connection had one again",
    reached: |_, history| {
        let mut down = std::collections::BTreeSet::new();
        let mut dials = std::collections::BTreeMap::new();
        history.0.iter().any(|record| match &record.what {
            What::Told {
                process,
                tell: Tell::Wire { wire, .. },
            } => match wire {
                Wire::Down { .. } => {
                    down.insert(process);
                    false
                }
                Wire::Up { .. } => down.contains(process),
                _ => false,
            },
            What::Invoke {
                id,
                process,
                call: Call::Dial,
            } => {
                dials.insert(*id, process);
                false
            }
            What::Ok { id, .. } => dials.get(id).is_some_and(|process| down.contains(process)),
            _ => false,
        })
    },
};
/// Whether a call of this kind ended like this in a life other than the first.
fn ended(
    history: &History,
    of: impl Fn(&Call) -> bool,
    like: impl Fn(&str, &What) -> bool,
) -> bool {
    let mut calls = std::collections::BTreeMap::new();
    history.0.iter().any(|record| match &record.what {
        What::Invoke { id, process, call } if of(call) => {
            calls.insert(*id, process);
            false
        }
        what @ (What::Ok { id, .. } | What::Refused { id, .. } | What::Unknown { id, .. }) => {
            calls.get(id).is_some_and(|process| like(process, what))
        }
        _ => false,
    })
}

const UNREAD: Sometimes = Sometimes {
    fact: "a file could not be read",
    reached: |_, history| {
        let is_load = |call: &Call| matches!(call, Call::Load { .. });
        ended(history, is_load, |_, what| {
            matches!(what, What::Refused { .. })
        })
    },
};
const UNSAVED: Sometimes = Sometimes {
    fact: "a file could not be written",
    reached: |_, history| {
        let is_save = |call: &Call| matches!(call, Call::Save { .. });
        ended(history, is_save, |_, what| !matches!(what, What::Ok { .. }))
    },
};
const REMEMBERED: Sometimes = Sometimes {
    fact: "a process began with the login of the one before",
    reached: |_, history| {
        let is_load = |call: &Call| matches!(call, Call::Load { .. });
        ended(history, is_load, |process, what| {
            let is_known = matches!(
                what,
                What::Ok {
                    reply: Reply::Loaded { login: Some(_) },
                    ..
                }
            );
            is_known && !process.ends_with("/1")
        })
    },
};
const INTERRUPTED: Sometimes = Sometimes {
    fact: "who follows a bucket was told that it does not any more",
    reached: |_, history| told(history, |tell| matches!(tell, Tell::Interrupted { .. })),
};
const RESUMED: Sometimes = Sometimes {
    fact: "and that it does again",
    reached: |_, history| told(history, |tell| matches!(tell, Tell::Resumed)),
};
const LOGGED_OUT: Sometimes = Sometimes {
    fact: "an agent logged out",
    reached: |_, history| {
        any(history, |what| {
            matches!(
                what,
                What::Invoke {
                    call: Call::LogOut,
                    ..
                }
            )
        })
    },
};
const SWITCHED: Sometimes = Sometimes {
    fact: "an agent logged in to another account",
    reached: |_, history| {
        any(history, |what| {
            matches!(what, What::Invoke { call: Call::LogIn { account }, .. }
                if **account == *crate::authority::ACCOUNTS[1])
        })
    },
};
