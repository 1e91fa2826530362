//! Placeholder.
#[cfg(not(madsim))]
compile_error!("squall-sim needs `--cfg madsim`.");

pub mod broker;
pub mod wire;
