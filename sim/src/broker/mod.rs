//! Placeholder: the broker.
