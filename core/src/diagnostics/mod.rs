//! What happened to the connection, told so that it can be believed afterwards, after the `daemon` package of ppz.
//!
//! ```text
//!   session ── NatsEvent ──▶ EventLog ──▶ Ring (the last 256) ──┐
//!                               └──▶ nats-events.jsonl ─────────┴──▶ Diagnosis: state, drops, patterns, events
//!   readings of watches and consumers, logs of other clients ───────▶
//! ```
//!
//! [`NatsEvent`] is one line of the log: one transition, with the one who caused it. [`EventLog`] keeps them, in memory
//! and on disk. [`Diagnosis`] says what they amount to: it is a pure function of a log, so that `squall diagnose` says
//! the same of a log that another program wrote. The [detectors](patterns::DETECTORS) are explained in
//! `docs/diagnostics.md`.

mod diagnosis;
mod drops;
mod event;
mod log;
pub mod patterns;
mod read;
mod redact;
mod ring;
mod summary;

pub use self::diagnosis::Diagnosis;
pub use self::drops::{PLANNED_WITHIN, drops_last_hour};
pub use self::event::{Caller, EventType, NatsEvent, NcId, SCHEMA_VERSION, Swap};
pub use self::log::{EVENTS_FILE, EVENTS_FILE_MAX, EVENTS_FILES_KEPT, EventLog};
pub use self::patterns::{Evidence, PatternHit};
pub use self::read::{BrokenLine, EventsRead, read_events};
pub use self::redact::{REDACTED, redact};
pub use self::ring::{REFRESH_ERROR_EVERY, RING_CAPACITY, Ring};
pub use self::summary::{NatsState, REFRESH_AHEAD, Summary};
