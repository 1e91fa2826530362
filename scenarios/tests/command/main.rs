//! The `squall` program as its users meet it: what it says to bad input, that a seed means one run, and that no hunt loses
//! what it finds.
#![allow(
    clippy::disallowed_methods,
    reason = "starts the program under test, and reads what it wrote"
)]

mod bad_input;
mod browser;
mod chromium;
mod determinism;
mod diagnose;
mod fleet;
mod fuzz;
mod good_input;
mod hunting;
mod servers;
