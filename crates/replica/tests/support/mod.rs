//! A replica's store over any engine.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use kindred_core::env::{Clock, Entropy, Env};
use kindred_core::id::{RegionIndex, ShardId};
use kindred_replica::log_store::LogStore;
use kindred_replica::machine::Machine;
use kindred_replica::state::{Opening, State};
use kindred_store::engine::Engine;
use kindred_store::log_writer::LogWriter;

/// Time stands still and chance is a constant.
pub struct Still;

impl Clock for Still {
    fn monotonic_ms(&self) -> u64 {
        1
    }
    fn wall_ms(&self) -> u64 {
        1
    }
}

impl Entropy for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

pub const SHARD: ShardId = ShardId(100);

pub fn env() -> Env {
    Env { clock: Arc::new(Still), entropy: Arc::new(Still) }
}

/// Log and machine of one shard. Inside a runtime.
pub fn store(engine: Arc<dyn Engine>) -> (LogStore, Machine) {
    let writer = LogWriter::run_task(engine.clone());
    let opening = || Opening {
        engine: engine.clone(),
        log_writer: writer.clone(),
        env: env(),
        health: Arc::default(),
        records: Arc::default(),
        points: Default::default(),
    };
    let log = LogStore::open(opening(), SHARD).unwrap();
    let state = Arc::new(State::open(opening(), SHARD, RegionIndex(0)).unwrap());
    (log, Machine::new(state))
}
