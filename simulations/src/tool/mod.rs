//! The command line `sim`: runs seeds, many seeds, the same seed twice; explains a run; tests the checkers.
//!
//! ```text
//!   sim run      one seed, in this process ──────────────► run::run
//!   sim sweep ┐
//!   sim twice ├─ one child process per seed: child ─► `sim run … --out DIR` ─► DIR/{summary.json,history.jsonl}
//!   sim mutants ┘
//!   sim explain  DIR ─► table, page          sim judge  FILE ─► kindred_check
//! ```
//!
//! Owns: child processes, totals over many runs, what people read. Must not know: how a run works. It reads what a run
//! leaves behind, so it can never change what a seed does.
//!
//! Reading order: [`child`], [`sweep`], [`totals`], [`minimise`], [`explain`].

pub mod child;
pub mod explain;
#[cfg(test)]
mod fake;
pub mod judge;
pub mod list;
pub mod minimise;
pub mod mutants;
pub mod output;
pub mod progress;
pub mod run;
pub mod seeds;
pub mod summary;
pub mod sweep;
pub mod totals;
pub mod twice;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use output::{Exit, Output, exit};

/// Plays whole Kindred clusters in virtual time: the production node, a simulated network, disks that lie, clocks that
/// jump. Everything random follows from the seed, so what went wrong once can be run again.
///
/// Exit codes: 0 all is well · 1 a promise was broken (a violation, two runs that differ, a mutant that survived) ·
/// 2 wrong command line or file · 3 a run broke (panic, no end in its time) · 4 a sweep that proves nothing.
#[derive(Parser)]
#[command(name = "sim", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// For people (table) or programs (json: one document on standard output).
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed of a scenario in this process.
    Run(run::Args),
    /// Run many seeds, each in a process of its own, and add up what happened.
    Sweep(sweep::Args),
    /// Run each seed in two processes and compare every byte.
    Twice(twice::Args),
    /// Show what happened in a run: a table of events, and a timeline as an HTML page.
    Explain(explain::Args),
    /// Put known bugs back, one at a time, and see that each is found.
    Mutants(mutants::Args),
    /// List the scenarios.
    Scenarios,
    /// Judge a recorded history (docs/history.md), whoever recorded it.
    Judge(judge::Args),
}

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    let Cli { command, output } = Cli::parse();
    let done = match command {
        Command::Run(args) => run::run(args, output),
        Command::Sweep(args) => tokio(sweep::run(args, output)),
        Command::Twice(args) => tokio(twice::run(args, output)),
        Command::Explain(args) => tokio(explain::run(args, output)),
        Command::Mutants(args) => tokio(mutants::run(args, output)),
        Command::Scenarios => list::run(output),
        Command::Judge(args) => judge::run(&args, output),
    };
    output::finish(done)
}

/// Runs a command that waits for child processes. Never used by `sim run`, whose world has runtimes of its own.
fn tokio(command: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
