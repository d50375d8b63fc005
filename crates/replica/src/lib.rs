//! Many Raft groups on one node: log store, state machine, router between nodes, and how a node gets its replicas.
//!
//! ```text
//!   Shards::submit ─► Replica ─admit─► Proposer ─one entry in flight─► openraft ─┬─► LogStore ─► LogWriter (one fsync)
//!        │ forward (once)                                                        ├─► Link ─one stream per peer─► PeerService
//!        └──────────────► leader's node                                          └─► Machine ─core::apply─► State
//!                                                                                              │
//!                                            Duties (leader only): ticks, deadlines, sagas, outbox ◄┘
//! ```
//!
//! Owns: openraft and everything that knows of it. Must not know: RocksDB, sockets, clocks; public rpcs.
//!
//! **Invariant:** a replica id is random, made once per (data directory, shard), and never used again after a loss.
//! **Invariant:** only a leader performs effects, and only what its outbox holds.
//!
//! Reading order: [`host`], [`replica`], [`proposer`], [`machine`], [`log_store`], [`network`], [`peer`], [`forming`].

pub mod cache;
pub mod codec;
mod duties;
mod error;
mod forming;
mod frames;
mod freshness;
pub mod health;
mod homing;
mod host;
pub mod identity;
mod link;
pub mod log_store;
pub mod machine;
pub mod metrics;
mod network;
mod peer;
pub mod points;
mod proposer;
mod ready;
mod replica;
pub mod runtime;
mod snapshot;
pub mod state;
pub mod types;

pub use error::Error;
pub use host::{Options, Replicas, Status, Timings};
pub use ready::Census;
pub use replica::Replica;
