//! What is said on the wire: generated messages and services, their conversion from and to the domain, why a call is
//! refused, and the two seams through which a node reaches shards and sockets.
//!
//! ```text
//!   proto/ ──build.rs──► pb ◄──convert──► kindred_core
//!                         ▲
//!   Rejection, ShardError ┴─► Failure (Reason, metadata, retry) ─► tonic::Status ─► Reason::of
//! ```
//!
//! Owns: the public protobuf packages, the [`reason::Reason`] table, the encoding of status details. Must not know: how a
//! shard keeps its state, who serves a call.
//!
//! Reading order: [`reason`], [`status`], [`nonce`], [`convert`], [`bundle`], [`shards`], [`net`], [`calls`], [`tls`].

pub mod bundle;
pub mod caller;
pub mod calls;
pub mod convert;
pub mod metrics;
pub mod net;
pub mod nonce;
pub mod pb;
pub mod reason;
pub mod reconcile;
pub mod shards;
pub mod status;
pub mod tls;
