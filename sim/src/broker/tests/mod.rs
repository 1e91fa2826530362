//! Tests of the broker.
