//! The `squall` program as its users meet it: what it says to bad input, and that a seed means one run.
#![allow(
    clippy::disallowed_methods,
    reason = "starts the program under test, and reads what it wrote"
)]

mod bad_input;
mod determinism;
mod diagnose;
mod fuzz;
mod good_input;
mod hunting;
