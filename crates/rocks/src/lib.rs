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
//! **Invariant:** everything goes through the write-ahead log, and damage there or in the MANIFEST makes `open` fail. Of
//! a log's end only a torn record is tolerated, since no one was told that it was written. A flipped bit in the very last
//! record looks the same; that limit is known.
//!
//! Reading order: [`RocksEngine`], then `options`, `error`, `snapshot`.

mod engine;
mod error;
mod options;
mod read;
mod snapshot;

pub use engine::RocksEngine;
