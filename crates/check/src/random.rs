//! Random histories that are right, single changes that make them wrong, and what the checkers say of both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod changes;
mod good;
mod model;
mod tests;
