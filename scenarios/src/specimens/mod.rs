//! Planted flaws: wrong variants of presence that the harness must find, each with its mechanism in its header.
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

mod bucket_ttl_clobber;
mod close_deletes_successor;
mod no_down_on_ttl;
pub mod search;
mod spoilt;
mod up_on_every_heartbeat;
mod who_poisoned;
mod zombie_after_max_reconnects;

use squall_core::Env;
use squall_core::presence::{Config, OpenError};
use squall_core::transport::ConnectOptions;

use crate::variant::{ConnectionOf, Present};

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
