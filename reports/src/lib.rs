//! From a finished run to something a person can read.
//!
//! There is one model in, [`model::Run`] (and [`sweep::Sweep`] for many of them; [`diagnosis::Diagnosis`] for the log
//! of a connection, which is no run), and one module out for each kind of reader: [`terminal`], [`html`] for a browser,
//! [`markdown`] for a pull request, [`spacetime`] for a talk or an issue, [`junit`] for a continuous integration server, [`trace`] for a viewer of traces. The
//! model is plain data with a version, so that a report can also be drawn later, from a file. This crate depends on
//! nothing else of the project: who ran something translates its history into the model, and what is not in the model
//! cannot be in a report.
//!
//! Control flows `model` -> [`excerpt`] (which of a thousand events tell the story) -> `headline` and `story` (the same
//! words for all) -> a face (how they look).

pub mod diagnosis;
pub mod excerpt;
mod headline;
pub mod html;
mod hum;
pub mod junit;
pub mod markdown;
pub mod model;
mod packing;
pub mod spacetime;
pub mod specimen;
mod story;
pub mod sweep;
pub mod terminal;
mod texts;
pub mod trace;
mod words;

pub use words::clean;
