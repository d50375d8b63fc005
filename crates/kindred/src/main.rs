//! `kindred`: one binary for nodes, devices, the demo and the benchmark.

mod bench;
mod big;
mod certificates;
mod chaos;
mod cluster;
mod companion;
mod config;
mod connect;
mod ctl;
mod demo;
mod dev;
mod env;
#[cfg(test)]
mod fuzz;
mod keys;
mod output;
mod phone;
mod points;
mod qr;
mod records;
mod region_keys;
mod screen;
mod serve;
mod sim;
mod telemetry;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Session coordination for multi-device accounts: linking a device never ends another session.
///
/// Exit codes: 0 it worked · 1 it failed, or a check found a violation · 2 wrong command line or configuration ·
/// 3 refused for good · 4 no answer or unknown outcome, try the same again.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node.
    Serve(serve::Args),
    /// Run a three-region cluster on this machine.
    Dev(dev::Args),
    /// Show the law at work: pair devices while nodes are killed.
    Demo(demo::Args),
    /// Kill nodes of a local cluster again and again, under load, and judge what clients saw.
    Chaos(chaos::Args),
    /// Act as the phone that owns an account.
    Phone(phone::Args),
    /// Act as a device that wants to be linked.
    Companion(companion::Args),
    /// Do what operators do: look at accounts and act upon them, export and import.
    Ctl(ctl::Args),
    /// Measure links, validations, pairings and watches on a local cluster; `compare` puts other systems beside it.
    Bench(Box<bench::Args>),
    /// Play whole clusters in virtual time, by the seed: runs the program `sim` that lies beside this one.
    #[command(disable_help_flag = true)]
    Sim(sim::Args),
    /// Make or seal the ticket keys of a cluster's regions.
    #[command(subcommand)]
    Keys(region_keys::Command),
    /// Make a certificate authority and certificates for development.
    Certificates(certificates::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::finish(run(cli.command))
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Dev(args) => serve::runtime(1)?.block_on(dev::run(args)),
        Command::Demo(args) => serve::runtime(1)?.block_on(demo::run(args)),
        Command::Chaos(args) => serve::runtime(1)?.block_on(chaos::run(args)),
        Command::Phone(args) => serve::runtime(1)?.block_on(phone::run(args)),
        Command::Companion(args) => serve::runtime(1)?.block_on(companion::run(args)),
        Command::Ctl(args) => serve::runtime(1)?.block_on(ctl::run(args)),
        Command::Bench(args) => serve::runtime(1)?.block_on(bench::run(*args)),
        Command::Sim(args) => sim::run(&args),
        Command::Keys(command) => region_keys::run(command),
        Command::Certificates(args) => certificates::run(&args),
    }
}
