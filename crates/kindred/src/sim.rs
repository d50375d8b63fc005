//! `kindred sim`: becomes the simulator, a program of its own, since a seeded runtime and RocksDB do not belong in one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::output::{Exit, exit};

/// Name of the simulator's program.
const PROGRAM: &str = "sim";

/// Arguments of `kindred sim`: all of them are the simulator's.
#[derive(clap::Args)]
pub struct Args {
    /// What `sim` is to do; `kindred sim --help` lists it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Runs the simulator in the place of this process, so that its output and exit code are what the caller sees.
///
/// # Errors
/// If it is not there or cannot be run; otherwise this does not return.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let this = std::env::current_exe()?;
    let sim = this.parent().unwrap_or(Path::new("")).join(PROGRAM);
    let error = Command::new(&sim).args(&args.arguments).exec();
    let hint = if sim.exists() { "" } else { "; build it with `make build`, or put it there from the same release" };
    Err(Exit::error(exit::USAGE, format!("the simulator {} does not run: {error}{hint}", sim.display())))
}
