//! The hunt: many seeds of many scenarios, in which nothing that is found gets lost.
//!
//! Each run is a [`Job`], and jobs are numbered: seed by seed over all scenarios, so that a hunt that is stopped has
//! seen something of each. Nothing is shared between runs, so a seed gives the same trace inside a hunt as alone; and
//! the [`Ledger`] counts jobs in the order of their numbers, whoever ran them and when, so that what is counted is the
//! same for any number of threads and machines.
//!
//! ```text
//!   Settings ─▶ Jobs ─▶ threads ─▶ Book ─▶ Ledger    each job counted once, in turn
//!                                    └───▶ Folder    findings first, then the count that includes them
//! ```
//!
//! That order in the [`Folder`] is what makes a killed hunt go on without a loss: a finding that is written and not
//! counted is found again, and is the same; one that is counted is written.
#![allow(
    clippy::disallowed_methods,
    reason = "a hunt takes real time and threads; nothing of it reaches a run"
)]

mod book;
mod file;
mod folder;
mod identity;
mod job;
mod ledger;
mod lock;
mod settings;
mod threads;

pub use self::book::{Book, BookError};
pub use self::file::write_whole;
pub use self::folder::{Folder, FolderError, Kept, SHRUNK, pages};
pub use self::identity::identity;
pub use self::job::{Job, Jobs, reproduce};
pub use self::ledger::Ledger;
pub use self::lock::Lock;
pub use self::settings::{Fleet, Limit, Settings, SettingsError};
pub use self::threads::{hunt, shrink_all};
