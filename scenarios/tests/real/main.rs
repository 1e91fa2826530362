//! The adapter for real NATS, on real servers: for each trap of async-nats and of the server, a test that falls into it.
//!
//! Each test has a server of its own, and a bad link where it needs one.

#![allow(
    clippy::disallowed_methods,
    reason = "real servers in real time: nothing here is decided by a seed"
)]

mod buckets;
mod cluster;
mod conformance;
mod connections;
mod consumers;
mod diagnoses;
mod outages;
mod processes;
mod readers;
mod scenarios;
mod sessions;
mod state;
mod streams;
mod watches;
mod world;
