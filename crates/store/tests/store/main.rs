//! Tests of kindred-store through its public face. One binary, since linking is what takes time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod codec;
mod codes;
mod golden;
mod keys;
mod log_writer;
mod samples;
mod simulated;
mod state;
