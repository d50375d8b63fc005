//! Deterministic runs of the real cluster: production nodes, with only wire, disk, clock and entropy swapped.
//!
//! ```text
//!   turmoil ─┬─ host per node: kindred_node::Node over SimNet, SimEngine, simulated Env
//!            └─ client: devices with real keys over kindred_client
//! ```
//!
//! Owns: simulated worlds and what happens in them. Must not know: RocksDB, real sockets, real time.
//!
//! **Invariant:** the same seed gives the same bytes, in every process; one process runs one seed.
//!
//! Reading order: [`world`], [`cluster`], [`pairing`].

#[cfg(not(tokio_unstable))]
compile_error!(
    "simulations need `--cfg tokio_unstable` to seed the runtime; an exported RUSTFLAGS overrides .cargo/config.toml"
);

pub mod cluster;
pub mod faults;
pub mod mutants;
pub mod net;
pub mod pairing;
pub mod run;
pub mod scenarios;
pub mod tool;
pub mod trace;
pub mod workload;
pub mod world;
