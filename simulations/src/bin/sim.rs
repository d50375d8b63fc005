//! `sim run SCENARIO --seed N`: one simulated run; prints its trace. The same seed prints the same bytes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kindred_simulations::run::{Args, Network, run};
use kindred_simulations::trace;

#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed of a scenario in this process.
    Run(Run),
}

#[derive(clap::Args)]
struct Run {
    /// Name of a scenario, or path of a scenario file.
    #[arg(default_value = "default")]
    scenario: String,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How nodes talk to each other.
    #[arg(long, value_enum, default_value_t)]
    network: Network,
    /// Write history.jsonl and summary.json here.
    #[arg(long)]
    out: Option<PathBuf>,
    /// A known bug to put back.
    #[arg(long)]
    mutant: Option<String>,
    /// Only these faults: kinds, or #12 for the event of this index.
    #[arg(long, value_delimiter = ',')]
    only_faults: Option<Vec<String>>,
    /// Not these.
    #[arg(long, value_delimiter = ',')]
    without_faults: Vec<String>,
    /// No fault from this simulated moment on.
    #[arg(long)]
    until_ms: Option<u64>,
    /// Which events to print.
    #[arg(
        long,
        default_value = "off,kindred_node=debug,kindred_replica=debug,kindred_frontend=debug,kindred_simulations=trace"
    )]
    trace: String,
}

fn main() -> ExitCode {
    let Command::Run(asked) = Cli::parse().command;
    trace::init(&asked.trace);
    let outcome = run(&Args {
        scenario: asked.scenario,
        seed: asked.seed,
        network: asked.network,
        out: asked.out,
        mutant: asked.mutant,
        only_faults: asked.only_faults,
        without_faults: asked.without_faults,
        until_ms: asked.until_ms,
    });
    if let Some(misuse) = &outcome.misuse {
        eprintln!("{misuse}");
    }
    if let Some(broken) = &outcome.broken {
        println!("broken: {broken}");
    }
    for violation in &outcome.violations {
        println!("failed: {}: {}", violation.rule, violation.detail);
    }
    if outcome.ok {
        println!("ok");
    }
    ExitCode::from(outcome.exit_code())
}
