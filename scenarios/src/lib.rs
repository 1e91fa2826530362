//! Placeholder.

pub mod real;
