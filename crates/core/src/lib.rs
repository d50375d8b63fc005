//! The domain of Kindred: types, limits, and `apply`, a pure function of (state, entry).
//!
//! ```text
//!   Submission ─admit(view, …)→ Envelope ─┐ batched by the leader into an Entry
//!                                         ▼
//!   View ─────► apply(view, entry, log_index, region) ──► Applied { changes, replies, touched, time_ms, effects }
//!    ▲                                                        │
//!    └──────────────── written with the applied index ◄───────┘ changes
//!    └─► answer(view, …, query) ──► Answer
//! ```
//!
//! Owns: what a session set is and what may happen to it. Must not know: clocks, sockets, disks, Raft, protobuf,
//! async. **Invariant:** no iteration over hash maps, no randomness, no time but the entry's.
//!
//! Reading order: [`model`], [`command`], [`state`], [`mod@apply`], [`invariants`], [`mod@admit`], [`query`]. What is signed
//! is in [`canonical`], [`arguments`] and [`nonce`], what people type and compare in [`code`]; who may do what in [`rules`];
//! every bound in [`limits`]. How views are compared is in [`reconcile`], how accounts come and go as a whole in [`bundle`].

pub mod admit;
pub mod apply;
pub mod arguments;
pub mod bundle;
pub mod canonical;
pub mod code;
pub mod command;
pub mod digest;
pub mod env;
pub mod id;
pub mod invariants;
pub mod limits;
pub mod map;
pub mod memory;
pub mod model;
#[cfg(kindred_mutants)]
pub mod mutants;
pub mod nonce;
pub mod query;
pub mod reconcile;
pub mod rules;
pub mod state;
