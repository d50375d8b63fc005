//! Builds the simulator with the known bugs in it. This graph has no RocksDB, so it takes a minute or two.

use std::path::{Path, PathBuf};

use super::super::output::Exit;

/// The flags of the ordinary build (.cargo/config.toml, which an exported RUSTFLAGS overrides) and the one that lets the
/// bugs in.
const FLAGS: &str = "--cfg tokio_unstable --cfg kindred_mutants";

/// Builds, and says where the binary lies.
///
/// # Errors
/// If cargo is not there or the build fails; what it said is on standard error.
pub async fn build(repository: &Path) -> anyhow::Result<PathBuf> {
    let target = target_dir();
    eprintln!("building the simulator with the bugs in it, in {}", target.display());
    let status = tokio::process::Command::new("cargo")
        .args(["build", "--quiet", "-p", "kindred-simulations", "--bin", "sim"])
        .current_dir(repository)
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| Exit::usage(format!("cargo does not run: {error}")))?;
    if !status.success() {
        return Err(Exit::broken(format!(
            "the build with bugs failed; repeat it: cd {} && CARGO_TARGET_DIR={} RUSTFLAGS='{FLAGS}' cargo build -p \
             kindred-simulations --bin sim",
            repository.display(),
            target.display()
        )));
    }
    Ok(target.join("debug/sim"))
}

/// A target directory of its own, for other flags would compile everything anew again and again.
fn target_dir() -> PathBuf {
    let named = std::env::var_os("KINDRED_MUTANTS_TARGET_DIR").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(std::env::temp_dir);
    named.unwrap_or_else(|| home().join(".cache/kindred/mutants"))
}
