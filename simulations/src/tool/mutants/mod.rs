//! `sim mutants`: known bugs are put back, one at a time, and each must be found. A suite that finds none of them is broken.
//!
//! The bugs are compiled in only under `--cfg kindred_mutants`, in a target directory of their own; this program itself
//! holds none, and not even their names: they are read from `simulations/mutants/*.toml`.

pub mod build;
pub mod hunt;
pub mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::run::Network;

use super::child;
use super::output::{self, Exit, Output, exit, lines, print, table};
use crate::mutants::{Mutant, Registry, Waiting};

use report::Report;

/// Where the lists of bugs lie, from the root of the repository.
const LISTS: &str = "simulations/mutants";

/// Arguments of `sim mutants`.
#[derive(clap::Args)]
pub struct Args {
    /// Name the bugs, run nothing.
    #[arg(long)]
    list: bool,
    /// Only these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Network to hunt in.
    #[arg(long, value_enum, default_value_t = Network::Messages)]
    network: Network,
    /// Seeds tried from each start before the bug counts as survived.
    #[arg(long, value_name = "N", default_value_t = 200)]
    seeds_max: u64,
    /// Hunts for each bug, from seeds far apart: the figures are the median and the maximum of them.
    #[arg(long, value_name = "N", default_value_t = 5)]
    starts: u64,
    /// Processes at a time; one per core if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Real time that one seed may take, in seconds.
    #[arg(long, value_name = "S", default_value_t = 600)]
    seed_limit: u64,
    /// Use this binary, built with `--cfg kindred_mutants`, instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The repository; found from the current directory, or where this program was built.
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
    /// Write the table there [default: simulations/mutants.md of the repository, if all bugs are hunted]; `none` for nowhere.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct List<'a> {
    mutants: &'a [Mutant],
    waiting: &'a [Waiting],
}

/// Lists or hunts.
pub async fn run(args: Args, output: Output) -> anyhow::Result<u8> {
    let repository = repository(args.repository.as_deref())?;
    let lists = repository.join(LISTS);
    let Registry { mut mutants, waiting } =
        Registry::load(&lists).map_err(|error| Exit::usage(format!("{error:#}; see {}/README.md", lists.display())))?;
    if !args.only.is_empty() {
        if let Some(unknown) = args.only.iter().find(|name| mutants.iter().all(|mutant| mutant.name != **name)) {
            return Err(Exit::usage(format!("no mutant `{unknown}`: see sim mutants --list")));
        }
        mutants.retain(|mutant| args.only.contains(&mutant.name));
    }
    if args.list {
        match output {
            Output::Json => output::json(&List { mutants: &mutants, waiting: &waiting })?,
            Output::Table => print(listing(&mutants, &waiting)),
        }
        return Ok(exit::OK);
    }
    let mutated = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::build(&repository).await?,
    };
    let scratch = tempfile::tempdir()?;
    let plan = hunt::Plan {
        mutated,
        clean: child::this_program()?,
        network: args.network,
        seeds_max: args.seeds_max.max(1),
        starts: args.starts.max(1),
        jobs: args.jobs.unwrap_or_else(child::cores).max(1),
        limit: Duration::from_secs(args.seed_limit),
        scratch: scratch.path().to_owned(),
    };
    let report = hunt::hunt(&plan, mutants).await?;
    let file = match &args.report {
        Some(path) if path.as_os_str() == "none" => None,
        Some(path) => Some(path.clone()),
        None => args.only.is_empty().then(|| repository.join(report::FILE)),
    };
    if let Some(file) = file {
        std::fs::write(&file, report.markdown())
            .map_err(|error| Exit::usage(format!("{}: {error}", file.display())))?;
    }
    match output {
        Output::Json => output::json(&report)?,
        Output::Table => print(report.text()),
    }
    Ok(code(&report))
}

fn code(report: &Report) -> u8 {
    if !report.survivors.is_empty() || !report.false_alarms.is_empty() {
        exit::VIOLATION
    } else if report.clean_broken > 0 {
        exit::BROKEN
    } else {
        exit::OK
    }
}

fn listing(mutants: &[Mutant], waiting: &[Waiting]) -> String {
    let mut all = table(&["mutant", "bug", "breaks", "scenario"]);
    for mutant in mutants {
        all.add_row([mutant.name.clone(), mutant.bug.clone(), mutant.breaks.join(", "), mutant.scenario.clone()]);
    }
    let mut text = lines(&all);
    if !waiting.is_empty() {
        let mut all = table(&["listed in testing.md, not yet possible", "waits for"]);
        for entry in waiting {
            all.add_row([entry.listed.clone(), entry.feature.clone()]);
        }
        text.push_str(&format!("\n{}", lines(&all)));
    }
    text.push_str(&format!("\n{} mutants, {} wait for features\n", mutants.len(), waiting.len()));
    text
}

/// The repository: as asked for, above the current directory, or where this program was built.
pub fn repository(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    let is_it = |dir: &Path| dir.join("simulations/Cargo.toml").is_file();
    let candidates: Vec<PathBuf> = match asked {
        Some(dir) => vec![dir.to_owned()],
        None => {
            let here = std::env::current_dir().unwrap_or_default();
            let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
            here.ancestors().map(Path::to_owned).chain(built).collect()
        }
    };
    candidates.into_iter().find(|dir| is_it(dir)).ok_or_else(|| {
        Exit::usage(
            "Kindred's sources are not here: run this in a checkout of the repository, or give --repository DIR",
        )
    })
}
