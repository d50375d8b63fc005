//! `sim run`: one seed in this process.

use std::path::PathBuf;

use crate::run::{self, Network};
use crate::trace;

use super::child::{Job, NONE};
use super::list;
use super::output::{self, Exit, Output, exit, fields, print, span, thousands};
use super::summary::Summary;

/// What `--trace` prints where its filter is not given.
pub const TRACE_DEFAULT: &str =
    "off,kindred_node=debug,kindred_replica=debug,kindred_frontend=debug,kindred_simulations=trace";

/// Arguments of `sim run`.
#[derive(clap::Args)]
pub struct Args {
    /// A name (`sim scenarios`) or a file; `default` draws everything from the seed.
    #[arg(default_value = "default")]
    scenario: String,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How messages travel: gRPC over HTTP/2 and simulated TCP, or whole messages, several times as fast [default: messages,
    /// if the scenario is made for it].
    #[arg(long, value_enum)]
    network: Option<Network>,
    /// Where to put the history and the summary; what is there is replaced.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Put a known bug back (`sim mutants --list`); needs a build with `--cfg kindred_mutants`.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    #[command(flatten)]
    faults: Faults,
    /// Print events while they happen, those that pass the filter (syntax of `tracing`), with virtual time.
    #[arg(long, value_name = "FILTER", num_args = 0..=1, default_missing_value = TRACE_DEFAULT)]
    trace: Option<String>,
}

/// Which of the faults that a seed draws are let loose.
#[derive(clap::Args, Clone, Default)]
pub struct Faults {
    /// Only these faults, by kind or by number in the plan (`pause,#12`), or `none`; the draws stay the same.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only_faults: Option<Vec<String>>,
    /// All but these faults.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub without_faults: Vec<String>,
    /// No faults after that much simulated time.
    #[arg(long, value_name = "MS")]
    pub until_ms: Option<u64>,
}

impl Faults {
    /// The only ones; an empty list is none at all.
    pub fn only(&self) -> Option<Vec<String>> {
        let chosen =
            |list: &Vec<String>| list.iter().filter(|word| !word.is_empty() && *word != NONE).cloned().collect();
        self.only_faults.as_ref().map(chosen)
    }
}

/// Runs one seed.
pub fn run(args: Args, output: Output) -> anyhow::Result<u8> {
    if args.trace.is_some() && output == Output::Json {
        return Err(Exit::usage("--trace prints lines and --output json one document; choose one of them"));
    }
    let network = args.network.unwrap_or_else(|| list::network_of(&args.scenario));
    let job = Job {
        scenario: args.scenario.clone(),
        seed: args.seed,
        network: network.word().to_owned(),
        mutant: args.mutant.clone(),
        only_faults: args.faults.only(),
        without_faults: args.faults.without_faults.clone(),
        until_ms: args.faults.until_ms,
        trace: None,
    };
    if let Some(filter) = &args.trace {
        trace::init(filter);
    }
    let asked = run::Args {
        scenario: args.scenario,
        seed: args.seed,
        network,
        out: args.out,
        mutant: args.mutant,
        only_faults: args.faults.only(),
        without_faults: args.faults.without_faults,
        until_ms: args.faults.until_ms,
    };
    // A panic is no verdict: it has said its piece on standard error, and the exit code tells it from a violation.
    let Ok(outcome) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run::run(&asked))) else {
        return Err(Exit::broken(format!("the run panicked; repeat it: {}", job.command())));
    };
    let value = serde_json::to_value(&outcome)?;
    let summary: Summary = serde_json::from_value(value.clone())?;
    if let Some(misuse) = summary.misuse {
        return Err(Exit::usage(misuse));
    }
    match output {
        Output::Json => output::json(&value)?,
        Output::Table => print(text(&summary, &job)),
    }
    if let (Some(broken), true) = (&summary.broken, summary.violations.is_empty()) {
        return Err(Exit::broken(format!("{broken}; repeat it: {}", job.command())));
    }
    Ok(if summary.ok { exit::OK } else { exit::VIOLATION })
}

/// A run for people. Holds nothing that depends on the machine; the last line begins with `ok` or `failed`.
fn text(summary: &Summary, job: &Job) -> String {
    let total = summary.operations_total();
    let faults: u64 = summary.faults.values().sum();
    let operations = format!(
        "{} ({} ok, {} refused, {} unknown)",
        thousands(total.total()),
        thousands(total.ok),
        thousands(total.refused),
        thousands(total.unknown)
    );
    let mut kinds: Vec<_> = summary.faults.iter().filter(|(_, times)| **times > 0).collect();
    kinds.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    let kinds: Vec<_> = kinds.into_iter().map(|(kind, times)| format!("{kind} {}", thousands(*times))).collect();
    let mut text = fields(&[
        ("run", job.command().trim_start_matches("sim run ").to_owned()),
        ("simulated", span(summary.simulated_ms)),
        ("operations", operations),
        (
            "faults",
            if kinds.is_empty() { "none".to_owned() } else { format!("{} ({})", thousands(faults), kinds.join(", ")) },
        ),
        ("leader changes", thousands(summary.leader_changes)),
        ("snapshots installed", thousands(summary.snapshots_installed)),
        ("restarts", thousands(summary.restarts)),
        ("entries applied", thousands(summary.entries_applied)),
        ("digest", summary.digest.clone()),
    ]);
    if summary.vacuous {
        text.push_str("\nvacuous: under half of the operations succeeded, so this run proves little\n");
    }
    for violation in &summary.violations {
        let at = violation.at_us.map(|us| format!(" at {:.3} s", us as f64 / 1e6)).unwrap_or_default();
        text.push_str(&format!("\nviolation of {}{at}\n  {}\n", violation.rule, violation.detail));
    }
    if summary.violations.is_empty() && summary.broken.is_none() {
        text.push_str("\nok\n");
        return text;
    }
    let command = job.command();
    text.push_str(&format!("\nreplay   {command}\nlook     {}\n", command.replacen("sim run", "sim explain", 1)));
    text.push_str(&match &summary.broken {
        Some(broken) => format!("failed: {} violations, and the run broke: {broken}\n", summary.violations.len()),
        None => format!("failed: {} violations\n", summary.violations.len()),
    });
    text
}
