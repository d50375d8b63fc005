//! `sim explain`: what happened in a run, as a table of events and as a page with a timeline.
//!
//! ```text
//!   DIR/history.jsonl ─┐           ┌─► table   for a terminal
//!   DIR/summary.json  ─┴─► story ──┼─► JSON
//!                          lanes ──┴─► page    one HTML file, nothing loaded from elsewhere
//! ```
//!
//! It knows the history format only by its JSON (docs/history.md), so operations and notes that are added there are
//! shown without a change here.

pub mod lanes;
pub mod page;
pub mod story;
pub mod table;
pub mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::run::Network;

use super::child::{self, Ended, Job};
use super::list;
use super::output::{self, Exit, Output, exit, print};
use super::run::Faults;
use story::{Row, Story};
use table::Filter;

/// Arguments of `sim explain`.
#[derive(clap::Args)]
pub struct Args {
    /// A name (`sim scenarios`) or a file; `default` draws everything from the seed.
    #[arg(default_value = "default")]
    scenario: String,
    /// The seed to run and explain.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How messages travel [default: as whole messages, if the scenario is made for it].
    #[arg(long, value_enum)]
    network: Option<Network>,
    /// Put a known bug back (`sim mutants --list`); needs a build with `--cfg kindred_mutants`.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    #[command(flatten)]
    faults: Faults,
    /// Explain what lies there instead of running: a directory that `--out` made, or a history by itself.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["seed", "network", "mutant", "only_faults", "without_faults", "until_ms"])]
    dir: Option<PathBuf>,
    /// Keep history and summary of the run there.
    #[arg(long, value_name = "DIR", conflicts_with = "dir")]
    out: Option<PathBuf>,
    /// Write the page there; `none` for no page [default: explain-SCENARIO-SEED.html].
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// Real time that the run may take, in seconds.
    #[arg(long, value_name = "S", default_value_t = 600)]
    seed_limit: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    summary: &'a super::summary::Summary,
    violations: &'a [super::summary::Violation],
    events: Vec<&'a Row>,
    events_left_out: usize,
    page: Option<&'a Path>,
}

/// Explains a run; its exit code says what the run was, as `sim run` would.
pub async fn run(args: Args, output: Output) -> anyhow::Result<u8> {
    let scratch = tempfile::tempdir()?;
    let from = match (&args.dir, &args.out) {
        (Some(path), _) => path.clone(),
        (None, out) => {
            let dir = out.clone().unwrap_or_else(|| scratch.path().to_owned());
            play(&args, dir.clone()).await?;
            dir
        }
    };
    let story = Story::read(&from)?;
    let page = write_page(&args, &story)?;
    let (rows, left_out) = args.filter.choose(&story);
    match output {
        Output::Json => output::json(&Document {
            summary: &story.summary,
            violations: &story.violations,
            events: rows,
            events_left_out: left_out,
            page: page.as_deref(),
        })?,
        Output::Table => {
            print(table::text(&story, &rows, left_out));
            if let Some(page) = &page {
                print(format_args!("\ntimeline: {} (open it in a browser)\n", page.display()));
            }
        }
    }
    Ok(if story.violations.is_empty() { exit::OK } else { exit::VIOLATION })
}

async fn play(args: &Args, dir: PathBuf) -> anyhow::Result<()> {
    let job = Job {
        scenario: args.scenario.clone(),
        seed: args.seed,
        network: args.network.unwrap_or_else(|| list::network_of(&args.scenario)).word().to_owned(),
        mutant: args.mutant.clone(),
        only_faults: args.faults.only(),
        without_faults: args.faults.without_faults.clone(),
        until_ms: args.faults.until_ms,
        trace: None,
    };
    let ran = child::run(&child::this_program()?, job, dir, Duration::from_secs(args.seed_limit)).await?;
    match ran.ended {
        Ended::Ok | Ended::Violated => Ok(()),
        Ended::Refused => Err(Exit::usage(ran.trouble().trim_start_matches("sim: ").to_owned())),
        // Its history up to there says most about why.
        _ if ran.dir.join(super::summary::HISTORY).exists() => {
            eprintln!("the run broke, so this is what it recorded until then: {}", ran.trouble());
            Ok(())
        }
        _ => Err(Exit::broken(format!("the run broke: {}\n  {}", ran.trouble(), ran.job.command()))),
    }
}

fn write_page(args: &Args, story: &Story) -> anyhow::Result<Option<PathBuf>> {
    let path = match &args.html {
        Some(path) if path.as_os_str() == "none" => return Ok(None),
        Some(path) => path.clone(),
        None => PathBuf::from(format!("explain-{}.html", story.name())),
    };
    std::fs::write(&path, page::html(story)?).map_err(|error| {
        Exit::usage(format!("{}: {error}; choose another place with --html FILE, or --html none", path.display()))
    })?;
    Ok(Some(path))
}
