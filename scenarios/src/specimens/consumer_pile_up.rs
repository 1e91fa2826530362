//! `consumer-pile-up`: each reconnect makes a new ephemeral consumer without backoff and leaves the old one.
//!
//! After a reconnect a watcher does not trust the consumer that it has, and makes another; as long as nothing comes it
//! makes one more. None is ever let go of, and as each has a reader the server keeps them all.
//!
//! Right: one consumer at a time, thrown away before another takes its place, and longer waits between the tries.
//! [`squall_core::transport::watcher`] does.

use super::simple_watch::WatchFlaw;

pub(super) const NAME: &str = "consumer-pile-up";
pub(super) const FLAW: WatchFlaw = WatchFlaw::LeavesReaders;
