//! What a node keeps, and how: the engine seam, the key-space, the records, the one log writer, a simulated disk.
//!
//! ```text
//!    replica: log store, machine           readers, queries
//!        │ entries, votes   │ changes           │ View
//!        ▼                  ▼                   ▼
//!    log_writer         state::writes     state::StateView
//!    one synced write        │                  │
//!    for all shards          │  keys, codec     │
//!        └──────────┬────────┴──────────────────┘
//!                   ▼
//!            engine::Engine ──► RocksDB (kindred-rocks)  or  simulated::SimEngine
//! ```
//!
//! Owns: the bytes on disk (which key, which value, which checksum) and when they are durable. Must not know: Raft's
//! rules, sockets, clocks, RocksDB.
//!
//! **Invariant:** every value on disk carries format version, kind and checksum; what cannot be read is an error and
//! never a default.
//!
//! Reading order: [`engine`], [`keys`], [`codec`], [`state`], [`log_writer`], [`simulated`].

pub mod codec;
#[doc(hidden)]
pub mod contract;
pub mod engine;
pub mod keys;
pub mod log_writer;
mod proto;
pub mod simulated;
pub mod state;
