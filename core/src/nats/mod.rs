//! The real Env.
