//! The coordination core of squall: presence, chat, shared state, locks and sessions, and the seam they stand on.
//!
//! Everything here is written once, over an abstract clock and transport, and runs unchanged in two worlds: the
//! simulated one of `squall-sim`, where a seed decides every delay and fault, and a real nats-server through
//! [`nats`] (feature `nats`). Control flows like this:
//!
//! ```text
//!   your code ── handle ──▶ shell (async, thin) ── events ──▶ Machine (pure)
//!                             ▲   │                              │
//!                             │   └──────── effects ◀────────────┘
//!                 Env: Clock + Transport + Rng + spawn
//!                      │                        │
//!                 simulated world          tokio + async-nats
//! ```
//!
//! A [`Machine`] never reads a clock, draws a number or awaits: time and chance are arguments.

pub mod chat;
pub mod diagnostics;
pub mod env;
pub mod files;
#[cfg(feature = "http")]
pub mod http_auth;
pub mod jwt;
pub mod machine;
pub mod moment;
#[cfg(feature = "nats")]
pub mod nats;
pub mod presence;
pub mod session;
pub mod state;
pub mod time;
pub mod transport;
pub mod who;

pub use env::{Env, Rng, Task};
pub use machine::{Machine, Shell, drive};
pub use moment::Moment;
pub use time::{Clock, Instant, UnixTime};
pub use transport::{Bucket, Connection, Outcome, Transport};
