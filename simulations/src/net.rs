//! The two networks on which a world can run. Production code meets either through `kindred_wire::net::Net`.
//!
//! ```text
//!   tonic:     client ─ HTTP/2 ─ bytes ─ turmoil's TCP ─ bytes ─ HTTP/2 ─ service       every layer, 1 ms ticks
//!   messages:  client ─ request, each message of a stream, answer ─ service             no HTTP/2, faults per message
//! ```
//!
//! Reading order: [`fabric`], [`calls`], [`rules`], [`lockstep`]; [`tonic`] by itself.

pub mod calls;
pub mod digest;
pub mod fabric;
pub mod lockstep;
pub mod rules;
pub mod tonic;
