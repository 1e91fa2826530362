//! State that agents share, after the `state` package of agentkit: locks today.

pub mod lock;
