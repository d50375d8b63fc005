//! openraft's own storage suite over RocksDB (the simulated engine's run is in crates/replica/tests).
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../replica/tests/support/mod.rs"]
mod support;

use kindred_replica::log_store::LogStore;
use kindred_replica::machine::Machine;
use kindred_replica::types::Types;
use kindred_rocks::RocksEngine;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

struct Rocks;

impl StoreBuilder<Types, LogStore, Machine, tempfile::TempDir> for Rocks {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, machine) = support::store(RocksEngine::open(dir.path()).unwrap());
        Ok((dir, log, machine))
    }
}

#[test]
fn log_store_and_machine_over_rocksdb_pass_the_suite_of_openraft() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Rocks)).unwrap();
}
