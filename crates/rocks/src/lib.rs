//! The engine on RocksDB; the only crate that links C++.
//!
//! ```text
//!   RocksEngine ── commit ──► one write-ahead log ──► memtables ──► files
//!        │                     (fdatasync if Synced)   log, state, meta
//!        └─ snapshot ──► a thread that holds the engine and a RocksDB snapshot of it
//! ```
//!
//! Owns: options, recovery, what an error of RocksDB means. Must not know: keys, records, shards, Raft.
//!
//! **Invariant:** everything goes through the write-ahead log, and damage there or in the MANIFEST makes `open` fail.
//! Of a log's end only a torn record is tolerated, since no one was told that it was written.
//!
//! Two limits are known. A flipped bit in the *length* of the very last record looks like a torn one. And a power loss
//! in the middle of a sync may leave later sectors without earlier ones; that cannot be told from damage, so the node
//! refuses to start and its replicas are rebuilt from their peers.
//!
//! Reading order: [`RocksEngine`], then `options`, `wal`, `error`, `snapshot`.

mod engine;
mod error;
mod options;
mod read;
mod snapshot;
mod wal;

pub use engine::RocksEngine;
