//! What tests of the whole share: a cluster of real `kindred serve` processes with RocksDB on disk and sockets on
//! loopback, people who pair devices through its public rpcs, and eyes for what it did. The tests are in `tests/tests/`.
//!
//! ```text
//!   test ──► Cluster ──spawns, kills, wipes──► kindred serve × 3 ──► RocksDB
//!       ├──► People ──kindred-client──────────► gateway ports
//!       └──► points (who leads, what is applied), trace (system calls)
//! ```
//!
//! **Invariant:** nothing here sleeps to let something happen: [`eventually`] looks until it is so, or fails at a deadline
//! and says what it saw last. **Invariant:** whatever a cluster started dies with it, and with this process.
//!
//! Reading order: [`cluster`], [`people`], [`points`], [`trace`].

pub mod cluster;
pub mod people;
pub mod points;
pub mod trace;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep, timeout_at};

pub use cluster::{Cluster, Options, REGIONS};
pub use people::{People, Told};

/// Whatever has to come about on a busy machine of two cores comes about within this time, or never.
pub const SOON: Duration = Duration::from_secs(45);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Looks until it is so; what it saw last is the error.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let seen = match timeout_at(deadline, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => seen,
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}: {seen}", within.as_secs());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The `kindred` binary that was built with this test.
pub fn binary() -> anyhow::Result<PathBuf> {
    // <target>/debug/deps/<test> → <target>/debug/kindred. Cargo names it only to tests of its own package.
    let test = std::env::current_exe()?;
    let debug = test.parent().and_then(|deps| deps.parent()).context("this test lies in no target directory")?;
    let binary = debug.join("kindred");
    if !binary.is_file() {
        bail!("{} is missing; build it first: cargo build --workspace", binary.display());
    }
    Ok(binary)
}

/// A command of the binary, untouched by what the environment sets for nodes.
pub fn kindred() -> anyhow::Result<std::process::Command> {
    let mut command = std::process::Command::new(binary()?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KINDRED_")) {
        command.env_remove(name);
    }
    Ok(command)
}
