//! wire
#![allow(missing_docs)]
pub mod net;
pub mod shards;
