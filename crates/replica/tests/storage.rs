//! openraft's own storage suite over the simulated engine (RocksDB's run is in crates/kindred/tests).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_replica::log_store::LogStore;
use kindred_replica::machine::Machine;
use kindred_replica::types::Types;
use kindred_store::simulated::SimEngine;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

struct Simulated;

impl StoreBuilder<Types, LogStore, Machine> for Simulated {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<Types>> {
        let (log, machine) = support::store(SimEngine::new());
        Ok(((), log, machine))
    }
}

#[test]
fn log_store_and_machine_over_the_simulated_engine_pass_the_suite_of_openraft() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Simulated)).unwrap();
}
