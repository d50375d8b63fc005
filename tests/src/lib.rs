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
pub mod http;
pub mod people;
pub mod points;
pub mod trace;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep, timeout_at};

pub use cluster::{Cluster, Options, REGIONS};
pub use people::{People, Told};

/// Whatever has to come about on a busy machine of two cores comes about within this time, or never.
pub const SOON: Duration = Duration::from_secs(45);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// No test of a cluster takes longer than this, on any machine.
const STORY_WITHIN: Duration = Duration::from_secs(150);

/// Plays a test, and fails if it does not come to its end.
pub async fn story<T>(story: impl Future<Output = T>) -> T {
    let mut story = std::pin::pin!(story);
    tokio::select! {
        biased;
        told = &mut story => told,
        // While the story is still there: as it goes, its cluster tells what the nodes were at.
        () = sleep(STORY_WITHIN) => panic!("the test did not end within {} s", STORY_WITHIN.as_secs()),
    }
}

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
    if let Some(newer) = newer_than(&binary)? {
        // `cargo test --workspace` builds it; with `--test` of one test only, nothing does. Told where a test fails.
        eprintln!("{} is older than {}; cargo build --workspace", binary.display(), newer.display());
    }
    Ok(binary)
}

/// A source of the binary that was changed after it was built.
fn newer_than(binary: &Path) -> anyhow::Result<Option<PathBuf>> {
    let built = binary.metadata()?.modified()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests/ lies in the workspace")?;
    let mut open = vec![root.join("proto")];
    for entry in std::fs::read_dir(root.join("crates"))? {
        open.push(entry?.path().join("src"));
    }
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            match path.is_dir() {
                true => open.push(path),
                // An editor's file may be gone by now.
                false if path.metadata().is_ok_and(|is| is.modified().is_ok_and(|at| at > built)) => {
                    return Ok(Some(path));
                }
                false => {}
            }
        }
    }
    Ok(None)
}

/// A command of the binary, untouched by what the environment sets for nodes.
pub fn kindred() -> anyhow::Result<std::process::Command> {
    let mut command = std::process::Command::new(binary()?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KINDRED_")) {
        command.env_remove(name);
    }
    Ok(command)
}
