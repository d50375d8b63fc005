//! store
#![allow(missing_docs)]
pub mod engine;
