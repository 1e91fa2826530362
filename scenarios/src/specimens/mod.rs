//! Planted flaws: wrong variants of presence, sessions, locks, stores and chats that the harness must find, each with its
//! mechanism in its header.
//!
//! They are written against the same traits as the right one, mostly around it, so that each differs from it by its flaw
//! alone; none can be reached from `squall-core`. Each must be found (some seed's verdict names one of its codes), and the
//! right one, its twin, must pass the same seeds: [`search`] does both.
//!
//! | specimen | level | flaw | module |
//! |---|---|---|---|
//! | `presence-up-on-every-heartbeat` | 0 | P3 | `up_on_every_heartbeat.rs` |
//! | `bucket-ttl-clobber` | 0 | P2 | `bucket_ttl_clobber.rs` |
//! | `presence-who-poisoned` | 0 | R1 | `who_poisoned.rs` |
//! | `presence-no-down-on-ttl` | 2 | P1 | `no_down_on_ttl.rs` |
//! | `presence-zombie-after-max-reconnects` | 2 | P5, C3 | `zombie_after_max_reconnects.rs` |
//! | `presence-close-deletes-successor` | 3 | P4 | `close_deletes_successor.rs` |
//! | `burst-swap-storm` | 1 | C1 | `burst_swap_storm.rs` |
//! | `cold-start-double-exchange` | 1 | C1, R1 | `cold_start_double_exchange.rs` |
//! | `cold-exchange-5xx-terminal` | 2 | C3 | `cold_exchange_5xx_terminal.rs` |
//! | `healthy-conn-amputated` | 2 | C2, C6 | `healthy_conn_amputated.rs` |
//! | `creds-transient-read-as-logout` | 2 | S1 | `creds_transient_read_as_logout.rs` |
//! | `half-open-deafness` | 2 | M1, C3 | `half_open_deafness.rs` |
//! | `watch-lost-on-swap` | 3 | M1 | `watch_lost_on_swap.rs` |
//! | `stamp-after-dial` | 3 | C4 | `stamp_after_dial.rs` |
//! | `who-cross-account-ghosts` | 4 | C5 | `who_cross_account_ghosts.rs` |
//! | `lock-get-then-put` | 1 | L1 | `lock_get_then_put.rs` |
//! | `lock-clock-skew-expiry` | 2 | L4, L1 | `lock_clock_skew_expiry.rs` |
//! | `lock-no-fencing-token` | 2 | L2 | `lock_no_fencing_token.rs` |
//! | `lock-ambiguous-acquire` | 2 | L5, L6 | `lock_ambiguous_acquire.rs` |
//! | `lock-unlock-not-owner` | 3 | L3, L1 | `lock_unlock_not_owner.rs` |
//! | `put-ttl-ignored` | 0 | E3 | `put_ttl_ignored.rs` |
//! | `watch-close-send-panic` | 1 | R1, M3 | `watch_close_send_panic.rs` |
//! | `chat-no-message-id` | 2 | M2 | `chat_no_message_id.rs` |
//! | `chat-ordered-new-gap` | 3 | M1 | `chat_ordered_new_gap.rs` |
//! | `scan-hang-or-truncate` | 3 | R1, M1 | `scan_hang_or_truncate.rs` |
//! | `stdin-replay-on-resume` | 4 | M2, E4 | `stdin_replay_on_resume.rs` |
//! | `consumer-pile-up` | 4 | R1 | `consumer_pile_up.rs` |

mod bucket_ttl_clobber;
mod burst_swap_storm;
mod chat_no_message_id;
mod chat_ordered_new_gap;
mod close_deletes_successor;
mod cold_exchange_5xx_terminal;
mod cold_start_double_exchange;
mod consumer_pile_up;
pub(crate) mod creds_transient_read_as_logout;
mod half_open_deafness;
mod healthy_conn_amputated;
mod lock_ambiguous_acquire;
mod lock_clock_skew_expiry;
mod lock_get_then_put;
mod lock_no_fencing_token;
mod lock_unlock_not_owner;
mod no_down_on_ttl;
mod put_ttl_ignored;
mod scan_hang_or_truncate;
pub mod search;
mod simple_lock;
pub(crate) mod simple_session;
pub(crate) mod simple_transport;
mod simple_watch;
mod spoilt;
mod spoilt_chat;
mod stamp_after_dial;
mod stdin_replay_on_resume;
mod up_on_every_heartbeat;
mod watch_close_send_panic;
mod watch_lost_on_swap;
mod who_cross_account_ghosts;
mod who_poisoned;
mod zombie_after_max_reconnects;

use std::sync::{Arc, Mutex};

use squall_core::presence::{Config, OpenError};
use squall_core::state::StateStore;
use squall_core::transport::ConnectOptions;
use squall_core::{Env, chat};

use self::lock_no_fencing_token::PutsWhateverIsThere;
use self::lock_unlock_not_owner::UnlocksWhateverIsThere;
use self::put_ttl_ignored::IgnoresTtl;
use self::simple_lock::{LockFlaw, SimpleLocks};
use self::watch_close_send_panic::ClosesWhileDelivering;
use crate::variant::lock::{Exclusive, Right};
use crate::variant::state::Keeps;
use crate::variant::talk::Talk;
use crate::variant::{ConnectionOf, Present};

/// What is made wrong of a session. Each is told of where it is a specimen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    EveryCallerSwaps,
    LogsInTwice,
    FailureIsFinal,
    AmputatesOnSlowAnswer,
    NoSignsOfLife,
    ClosesBeforeRearming,
    StampsAfterDial,
    WatchesOutliveLogins,
}

/// One planted flaw.
#[derive(Clone, Copy, Debug)]
pub struct Specimen {
    /// Its name.
    pub name: &'static str,
    /// How deep it hides: 0 no fault at all, 1 one interleaving, 2 one fault, 3 a fault inside a window, 4 two in order.
    pub level: u8,
    /// What is wrong, as a sentence.
    pub flaw: &'static str,
    /// The invariants that may tell it.
    pub codes: &'static [&'static str],
    /// The scenarios whose seeds are searched, in turn.
    pub scenarios: &'static [&'static str],
}

/// All specimens, the easy ones first.
pub const fn all() -> &'static [Specimen] {
    &[
        Specimen {
            name: up_on_every_heartbeat::NAME,
            level: 0,
            flaw: "Every put of an entry is told as Up.",
            codes: &["P3"],
            scenarios: &["presence/calm"],
        },
        Specimen {
            name: bucket_ttl_clobber::NAME,
            level: 0,
            flaw: "Opening the bucket rewrites its TTL to 3 x one's own interval, peers use another.",
            codes: &["P2"],
            scenarios: &["presence/mixed-intervals"],
        },
        Specimen {
            name: who_poisoned::NAME,
            level: 0,
            flaw: "One undecodable entry makes who() fail for everybody.",
            codes: &["R1"],
            scenarios: &["presence/calm"],
        },
        Specimen {
            name: no_down_on_ttl::NAME,
            level: 2,
            flaw: "Down only from delete events, on a bucket whose expiry says nothing.",
            codes: &["P1"],
            scenarios: &["presence/missed-heartbeats"],
        },
        Specimen {
            name: zombie_after_max_reconnects::NAME,
            level: 2,
            flaw: "Bounded reconnects, heartbeat errors swallowed.",
            codes: &["P5", "C3"],
            scenarios: &["presence/server-restart"],
        },
        Specimen {
            name: close_deletes_successor::NAME,
            level: 3,
            flaw: "Close of an old incarnation deletes the entry of the new one.",
            codes: &["P4"],
            scenarios: &["presence/restart-overlap"],
        },
        Specimen {
            name: burst_swap_storm::NAME,
            level: 1,
            flaw: "Every caller that finds the connection stale dials and swaps, nobody coalesces.",
            codes: &["C1"],
            scenarios: &["rotation/calm"],
        },
        Specimen {
            name: cold_start_double_exchange::NAME,
            level: 1,
            flaw: "Start-up and the first command both log in and start a refresh loop.",
            codes: &["C1", "R1"],
            scenarios: &["rotation/calm"],
        },
        Specimen {
            name: cold_exchange_5xx_terminal::NAME,
            level: 2,
            flaw: "One 503 of the auth service ends recovery for good.",
            codes: &["C3"],
            scenarios: &["rotation/issuer-down"],
        },
        Specimen {
            name: healthy_conn_amputated::NAME,
            level: 2,
            flaw: "One slow JetStream reply closes a healthy connection under its other users.",
            codes: &["C2", "C6"],
            scenarios: &["rotation/slow-jetstream"],
        },
        Specimen {
            name: creds_transient_read_as_logout::NAME,
            level: 2,
            flaw: "An I/O error while reloading credentials counts as a logout.",
            codes: &["S1"],
            scenarios: &["rotation/disk"],
        },
        Specimen {
            name: half_open_deafness::NAME,
            level: 2,
            flaw: "A watcher on a link that swallows bytes believes that nothing happens.",
            codes: &["M1", "C3"],
            scenarios: &["rotation/half-open"],
        },
        Specimen {
            name: watch_lost_on_swap::NAME,
            level: 3,
            flaw: "The old connection is closed before watches are re-armed and flushed on the new.",
            codes: &["M1"],
            scenarios: &["rotation/racing-callers"],
        },
        Specimen {
            name: stamp_after_dial::NAME,
            level: 3,
            flaw: "The connection is stamped with the credential current after the dial, not the one dialled with.",
            codes: &["C4"],
            scenarios: &["rotation/racing-callers"],
        },
        Specimen {
            name: who_cross_account_ghosts::NAME,
            level: 4,
            flaw: "A late message of account A lands after login to B and is shown.",
            codes: &["C5"],
            scenarios: &["rotation/accounts"],
        },
        Specimen {
            name: lock_get_then_put::NAME,
            level: 1,
            flaw: "Acquire reads, sees free, puts without a revision.",
            codes: &["L1"],
            scenarios: &["lock/contention"],
        },
        Specimen {
            name: lock_clock_skew_expiry::NAME,
            level: 2,
            flaw: "Expiry is written by one wall clock and judged by another.",
            codes: &["L4", "L1"],
            scenarios: &["lock/clock-chaos"],
        },
        Specimen {
            name: lock_no_fencing_token::NAME,
            level: 2,
            flaw: "A paused holder's late write is accepted.",
            codes: &["L2"],
            scenarios: &["lock/partition", "lock/paused-holder"],
        },
        Specimen {
            name: lock_ambiguous_acquire::NAME,
            level: 2,
            flaw: "The acquire applied, its reply was lost, the caller is told no and nobody can release.",
            codes: &["L5", "L6"],
            scenarios: &["lock/lost-reply"],
        },
        Specimen {
            name: lock_unlock_not_owner::NAME,
            level: 3,
            flaw: "Unlock deletes whatever is there.",
            codes: &["L3", "L1"],
            scenarios: &["lock/partition", "lock/paused-holder"],
        },
        Specimen {
            name: put_ttl_ignored::NAME,
            level: 0,
            flaw: "The ttl of a put is dropped on one backend.",
            codes: &["E3"],
            scenarios: &["state/calm"],
        },
        Specimen {
            name: watch_close_send_panic::NAME,
            level: 1,
            flaw: "Close ends the channel while a callback is delivering.",
            codes: &["R1", "M3"],
            scenarios: &["state/calm"],
        },
        Specimen {
            name: chat_no_message_id::NAME,
            level: 2,
            flaw: "A retry after a lost acknowledgement stores the message twice.",
            codes: &["M2"],
            scenarios: &["chat/lost-reply"],
        },
        Specimen {
            name: chat_ordered_new_gap::NAME,
            level: 3,
            flaw: "A live subscription that is reset before its first delivery starts again at \"new\".",
            codes: &["M1"],
            scenarios: &["chat/young-watch"],
        },
        Specimen {
            name: scan_hang_or_truncate::NAME,
            level: 3,
            flaw: "A scan waits for a count that expiry has made unreachable.",
            codes: &["R1", "M1"],
            scenarios: &["chat/scan-under-expiry"],
        },
        Specimen {
            name: stdin_replay_on_resume::NAME,
            level: 4,
            flaw: "A restarted consumer with its dedupe set in memory executes retained commands again.",
            codes: &["M2", "E4"],
            scenarios: &["chat/crash-and-resume"],
        },
        Specimen {
            name: consumer_pile_up::NAME,
            level: 4,
            flaw: "Each reconnect makes a new ephemeral consumer without backoff and leaves the old one.",
            codes: &["R1"],
            scenarios: &["chat/server-restart"],
        },
    ]
}

/// The specimen of this name.
pub fn find(name: &str) -> Option<&'static Specimen> {
    all().iter().find(|specimen| specimen.name == name)
}

/// How programs with this specimen connect, where the right ones connect like this.
pub(crate) fn options(name: &str, right: ConnectOptions) -> ConnectOptions {
    match name {
        zombie_after_max_reconnects::NAME => zombie_after_max_reconnects::options(right),
        _ => right,
    }
}

/// What is wrong with the session of programs with this specimen, if it is one of sessions.
pub(crate) fn flaw(name: &str) -> Option<Flaw> {
    Some(match name {
        burst_swap_storm::NAME => burst_swap_storm::FLAW,
        cold_start_double_exchange::NAME => cold_start_double_exchange::FLAW,
        cold_exchange_5xx_terminal::NAME => cold_exchange_5xx_terminal::FLAW,
        healthy_conn_amputated::NAME => healthy_conn_amputated::FLAW,
        half_open_deafness::NAME => half_open_deafness::FLAW,
        watch_lost_on_swap::NAME => watch_lost_on_swap::FLAW,
        stamp_after_dial::NAME => stamp_after_dial::FLAW,
        who_cross_account_ghosts::NAME => who_cross_account_ghosts::FLAW,
        _ => return None,
    })
}

/// What is wrong with the simple lock of programs with this specimen, if it is one of these.
fn lock_flaw(name: &str) -> Option<LockFlaw> {
    Some(match name {
        lock_get_then_put::NAME => lock_get_then_put::FLAW,
        lock_clock_skew_expiry::NAME => lock_clock_skew_expiry::FLAW,
        lock_ambiguous_acquire::NAME => lock_ambiguous_acquire::FLAW,
        _ => return None,
    })
}

/// Locks of programs with this specimen: wrong, if it is one of locks.
pub(crate) fn open_locks<E: Env>(name: &str, env: &E, right: Right<E>) -> Arc<dyn Exclusive> {
    match (name, lock_flaw(name)) {
        (_, Some(flaw)) => Arc::new(SimpleLocks::new(env, right, flaw)),
        (lock_no_fencing_token::NAME, _) => Arc::new(PutsWhateverIsThere(right)),
        (lock_unlock_not_owner::NAME, _) => Arc::new(UnlocksWhateverIsThere(right)),
        _ => Arc::new(right),
    }
}

/// The store of programs with this specimen: wrong, if it is one of stores.
pub(crate) fn open_store<E: Env>(name: &str, env: &E, right: StateStore) -> Arc<dyn Keeps> {
    match name {
        put_ttl_ignored::NAME => Arc::new(IgnoresTtl(right)),
        watch_close_send_panic::NAME => Arc::new(ClosesWhileDelivering {
            env: env.clone(),
            right,
            channels: Mutex::default(),
        }),
        _ => Arc::new(right),
    }
}

/// Whether this specimen is a presence.
pub(crate) fn is_presence(name: &str) -> bool {
    is_of("presence/", name)
}

/// Whether this specimen is a chat.
pub(crate) fn is_chat(name: &str) -> bool {
    is_of("chat/", name)
}

fn is_of(room: &str, name: &str) -> bool {
    let specimen = find(name);
    specimen.is_some_and(|specimen| specimen.scenarios[0].starts_with(room))
}

/// Opens the specimen of this name.
///
/// # Panics
/// If there is none: plans that are read have been checked for that.
pub(crate) async fn open<E: Env>(
    name: &str,
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    match name {
        up_on_every_heartbeat::NAME => up_on_every_heartbeat::open(env, connection, config).await,
        bucket_ttl_clobber::NAME => bucket_ttl_clobber::open(env, connection, config).await,
        who_poisoned::NAME => who_poisoned::open(env, connection, config).await,
        no_down_on_ttl::NAME => no_down_on_ttl::open(env, connection, config).await,
        zombie_after_max_reconnects::NAME => {
            zombie_after_max_reconnects::open(env, connection, config).await
        }
        close_deletes_successor::NAME => {
            close_deletes_successor::open(env, connection, config).await
        }
        _ => panic!("there is no specimen {name:?}"),
    }
}

/// Opens the specimen of this name, one of chats.
///
/// # Panics
/// If there is none: plans that are read have been checked for that.
pub(crate) async fn talk<E: Env>(
    name: &str,
    env: &E,
    connection: &ConnectionOf<E>,
    config: chat::Config,
) -> Result<Box<dyn Talk>, chat::OpenError> {
    let flaw = match name {
        chat_no_message_id::NAME => return chat_no_message_id::open(env, connection, config).await,
        scan_hang_or_truncate::NAME => {
            return scan_hang_or_truncate::open(env, connection, config).await;
        }
        chat_ordered_new_gap::NAME => chat_ordered_new_gap::FLAW,
        stdin_replay_on_resume::NAME => stdin_replay_on_resume::FLAW,
        consumer_pile_up::NAME => consumer_pile_up::FLAW,
        _ => panic!("there is no specimen {name:?}"),
    };
    simple_watch::open(env, connection, config, flaw).await
}
