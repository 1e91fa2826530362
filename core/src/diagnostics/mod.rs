//! What happened to the connection, told so that it can be believed afterwards, after the `daemon` package of ppz.
//!
//! [`NatsEvent`] is one line of the log: one transition, with the one who caused it.

mod event;

pub use self::event::{Caller, EventType, NatsEvent, NcId, SCHEMA_VERSION, Swap};
