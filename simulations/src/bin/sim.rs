//! `sim run SCENARIO --seed N`: one simulated run; prints its trace. The same seed prints the same bytes.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use kindred_simulations::{scenarios, trace};

#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed of a scenario in this process.
    Run {
        /// What happens.
        #[arg(value_enum)]
        scenario: Scenario,
        /// Everything random follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Which events to print.
        #[arg(
            long,
            default_value = "off,kindred_node=debug,kindred_replica=debug,kindred_frontend=debug,kindred_simulations=trace"
        )]
        trace: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Scenario {
    /// Three companions link from three regions; nothing fails.
    Link,
    /// Companions link while each node crashes once, losing what it had not synced.
    Crash,
    /// A node is away while the log that it needs is purged.
    Lag,
    /// A node loses its directory.
    Wipe,
    /// A record of one replica is damaged.
    Rot,
    /// Two of three nodes lose their directories at once.
    TwoWiped,
    /// A companion links by a typed code; the leader that counts wrong ones crashes in between.
    Code,
}

fn main() -> ExitCode {
    let Command::Run { scenario, seed, trace: filter } = Cli::parse().command;
    trace::init(&filter);
    let ran = match scenario {
        Scenario::Link => scenarios::link(seed),
        Scenario::Crash => scenarios::crash(seed),
        Scenario::Lag => scenarios::lag(seed),
        Scenario::Wipe => scenarios::wipe(seed),
        Scenario::Rot => scenarios::rot(seed),
        Scenario::TwoWiped => scenarios::two_wiped(seed),
        Scenario::Code => scenarios::code(seed),
    };
    match ran {
        Ok(()) => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
