//! `sim twice`: the same seed in two processes must give the same bytes. A run that cannot be repeated proves nothing, so
//! this comes before everything else.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use futures::StreamExt as _;
use serde::Serialize;

use crate::run::Network;

use super::child::{self, Ended, Job, Ran, TRACE_FILE};
use super::output::{self, Exit, Output, exit, print};
use super::progress::Progress;
use super::run::TRACE_DEFAULT;
use super::seeds::Seeds;
use super::summary::{FILE, HISTORY};
use super::{list, sweep};

/// Lines shown above the first that differs.
const CONTEXT_LINES: usize = 3;
/// Bytes of a line that are shown.
const LINE_BYTES_MAX: usize = 300;

/// Arguments of `sim twice`.
#[derive(clap::Args)]
pub struct Args {
    /// Names (`sim scenarios`) or files; `all` for every scenario that there is.
    #[arg(default_value = "default")]
    scenarios: Vec<String>,
    /// Which seeds, both ends included.
    #[arg(long, value_name = "A..B", default_value = "1..3")]
    seeds: Seeds,
    /// How messages travel; `both` plays each seed in each network.
    #[arg(long, value_enum, default_value_t = Networks::Both)]
    network: Networks,
    /// Processes at a time; one per core if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Which events are printed and so compared.
    #[arg(long, value_name = "FILTER", default_value = TRACE_DEFAULT)]
    trace: String,
    /// Real time that one run may take, in seconds.
    #[arg(long, value_name = "S", default_value_t = 600)]
    seed_limit: u64,
    /// Put both traces, histories and summaries of a seed that differs there.
    #[arg(long, value_name = "DIR")]
    keep_failures: Option<PathBuf>,
}

/// One network or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Networks {
    /// gRPC over HTTP/2 over simulated TCP.
    Tonic,
    /// Whole messages.
    Messages,
    /// First one, then the other.
    Both,
}

impl Networks {
    fn each(self) -> &'static [Network] {
        match self {
            Self::Tonic => &[Network::Tonic],
            Self::Messages => &[Network::Messages],
            Self::Both => &[Network::Tonic, Network::Messages],
        }
    }
}

/// What two processes said of one seed.
#[derive(Debug, Serialize)]
struct Pair {
    scenario: String,
    seed: u64,
    network: String,
    /// Whether every byte was the same.
    identical: bool,
    /// How both ended, if they ended alike.
    ended: Ended,
    /// Lines compared.
    lines: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
    /// The command that repeats one of them.
    replay: String,
    /// What went wrong where the runs agree and are no good.
    #[serde(skip_serializing_if = "String::is_empty")]
    trouble: String,
}

/// Where two files part.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    /// Which of the files.
    file: String,
    /// The line, counted from 1.
    line: u64,
    /// The lines above it, the same in both.
    above: Vec<String>,
    /// The line in the first process; none if the file ends before it.
    first: Option<String>,
    /// And in the second.
    second: Option<String>,
}

/// Runs every seed twice.
pub async fn run(args: Args, output: Output) -> anyhow::Result<u8> {
    let program = child::this_program()?;
    let scratch = tempfile::tempdir()?;
    let limit = Duration::from_secs(args.seed_limit);
    let jobs = jobs(&args)?;
    let at_a_time = args.jobs.unwrap_or_else(child::cores).max(1);
    let mut progress = Progress::new(jobs.len() as u64, "seeds, each twice");
    let mut pairs: Vec<Pair> = Vec::new();
    let keep = args.keep_failures.as_deref();
    let runs = jobs.into_iter().enumerate().map(|(index, job)| {
        let dir = scratch.path().join(index.to_string());
        pair(&program, job, dir, limit, keep)
    });
    let mut runs = futures::stream::iter(runs).buffered(at_a_time);
    while let Some(pair) = runs.next().await {
        let pair = pair?;
        let bad = pairs.iter().filter(|pair| !pair.is_good()).count() + usize::from(!pair.is_good());
        if !pair.is_good() {
            progress.say(&pair.text());
        }
        pairs.push(pair);
        progress.step(if bad == 0 { "all the same so far".to_owned() } else { format!("{bad} bad") });
    }
    progress.end();
    match output {
        Output::Json => output::json(&pairs)?,
        Output::Table => print(text(&pairs)),
    }
    Ok(if pairs.iter().any(|pair| !pair.identical || pair.ended == Ended::Violated) {
        exit::VIOLATION
    } else if pairs.iter().any(|pair| pair.ended != Ended::Ok) {
        exit::BROKEN
    } else {
        exit::OK
    })
}

fn jobs(args: &Args) -> anyhow::Result<Vec<Job>> {
    let mut scenarios = Vec::new();
    for scenario in &args.scenarios {
        if scenario == "all" {
            scenarios.extend(list::scenarios()?.into_iter().map(|scenario| scenario.name));
        } else {
            scenarios.push(scenario.clone());
        }
    }
    let mut jobs = Vec::new();
    for scenario in &scenarios {
        for network in args.network.each().iter().filter(|network| list::can_run(scenario, **network)) {
            jobs.extend(args.seeds.iter().map(|seed| Job {
                scenario: scenario.clone(),
                seed,
                network: network.word().to_owned(),
                trace: Some(args.trace.clone()),
                ..Job::default()
            }));
        }
    }
    Ok(jobs)
}

async fn pair(program: &Path, job: Job, dir: PathBuf, limit: Duration, keep: Option<&Path>) -> anyhow::Result<Pair> {
    let first = child::run(program, job.clone(), dir.join("first"), limit).await?;
    if first.ended == Ended::Refused {
        return Err(Exit::usage(first.trouble().trim_start_matches("sim: ").to_owned()));
    }
    let second = child::run(program, job.clone(), dir.join("second"), limit).await?;
    let (lines, difference) = compare(&first, &second)?;
    let replay = Job { trace: None, ..job.clone() }.command();
    let identical = difference.is_none() && first.ended == second.ended;
    if let (Some(keep), false) = (keep, identical) {
        let to = keep.join(format!("{}-{}-{}", job.scenario.replace('/', "_"), job.network, job.seed));
        sweep::copy_dir(&first.dir, &to.join("first"))?;
        sweep::copy_dir(&second.dir, &to.join("second"))?;
    }
    std::fs::remove_dir_all(&dir)?;
    let ended = if first.ended == Ended::Ok { second.ended } else { first.ended };
    let trouble = if first.ended == Ended::Ok { second.trouble() } else { first.trouble() };
    let Job { scenario, seed, network, .. } = job;
    Ok(Pair { scenario, seed, network, identical, ended, lines, difference, replay, trouble })
}

/// Trace, history and summary, line by line.
fn compare(first: &Ran, second: &Ran) -> anyhow::Result<(u64, Option<Difference>)> {
    let mut lines = 0;
    for file in [TRACE_FILE, HISTORY, FILE] {
        let (compared, difference) = compare_files(&first.dir.join(file), &second.dir.join(file), file)?;
        lines += compared;
        if difference.is_some() {
            return Ok((lines, difference));
        }
    }
    Ok((lines, None))
}

/// Files that are absent are empty.
fn compare_files(first: &Path, second: &Path, file: &str) -> std::io::Result<(u64, Option<Difference>)> {
    let open = |path: &Path| match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let (mut first, mut second) = (open(first)?, open(second)?);
    let next = |source: &mut Option<BufReader<File>>| -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if let Some(source) = source {
            source.read_until(b'\n', &mut line)?;
        }
        Ok(line)
    };
    let mut above = std::collections::VecDeque::new();
    for line in 1.. {
        let (a, b) = (next(&mut first)?, next(&mut second)?);
        if a != b {
            let (first, second) = (shown(&a), shown(&b));
            let above = above.into_iter().filter_map(|line: Vec<u8>| shown(&line)).collect();
            return Ok((line, Some(Difference { file: file.to_owned(), line, above, first, second })));
        }
        if a.is_empty() {
            return Ok((line - 1, None));
        }
        above.push_back(a);
        if above.len() > CONTEXT_LINES {
            above.pop_front();
        }
    }
    Ok((0, None))
}

/// A line for people; none at the end of the file.
fn shown(line: &[u8]) -> Option<String> {
    let cut = &line[..line.len().min(LINE_BYTES_MAX)];
    let more = if cut.len() < line.len() { "…" } else { "" };
    (!line.is_empty()).then(|| format!("{}{more}", String::from_utf8_lossy(cut).trim_end()))
}

impl Pair {
    fn is_good(&self) -> bool {
        self.identical && self.ended == Ended::Ok
    }

    fn text(&self) -> String {
        let Self { replay, trouble, .. } = self;
        let Some(difference) = &self.difference else {
            let said = if self.identical { "the same twice, and no good" } else { "two processes ended differently" };
            return format!("{replay}\n  {said}: {trouble}");
        };
        let mut text = format!("{replay}\n  two processes part at line {} of {}\n", difference.line, difference.file);
        for line in &difference.above {
            text.push_str(&format!("      {line}\n"));
        }
        for (mark, line) in [("1st", &difference.first), ("2nd", &difference.second)] {
            text.push_str(&format!("  {mark} {}\n", line.as_deref().unwrap_or("(ends here)")));
        }
        text.trim_end().to_owned()
    }
}

fn text(pairs: &[Pair]) -> String {
    let mut table = output::table(&["scenario", "network", ">seeds", ">the same", ">lines"]);
    let mut groups: Vec<(&str, &str, u64, u64, u64)> = Vec::new();
    for pair in pairs {
        let (same, lines) = (u64::from(pair.identical), pair.lines);
        match groups.iter_mut().find(|group| group.0 == pair.scenario && group.1 == pair.network) {
            Some(group) => (group.2, group.3, group.4) = (group.2 + 1, group.3 + same, group.4 + lines),
            None => groups.push((&pair.scenario, &pair.network, 1, same, lines)),
        }
    }
    for (scenario, network, seeds, same, lines) in groups {
        let figures = [seeds, same, lines].map(output::thousands);
        table.add_row([[scenario.to_owned(), network.to_owned()].as_slice(), &figures].concat());
    }
    let bad = pairs.iter().filter(|pair| !pair.is_good()).count();
    let last = if bad == 0 { "ok: every byte was the same".to_owned() } else { format!("failed: {bad} seeds") };
    format!("{}\n{last}\n", output::lines(&table))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn compared(first: &str, second: Option<&str>) -> (u64, Option<Difference>) {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, first).unwrap();
        if let Some(second) = second {
            std::fs::write(&b, second).unwrap();
        }
        compare_files(&a, &b, "trace.txt").unwrap()
    }

    fn paired(scenario: &str) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let job = Job { scenario: scenario.into(), seed: 3, network: "messages".into(), ..Job::default() };
        let (program, limit) = (super::super::fake::program(), Duration::from_secs(20));
        let mut found = None;
        super::super::tokio(async {
            found = Some(pair(&program, job, dir.path().join("0"), limit, None).await?);
            Ok(0)
        })
        .unwrap();
        found.unwrap()
    }

    #[test]
    fn two_processes_that_say_the_same_are_told_from_two_that_do_not() {
        assert!(paired("two").is_good());
        let bad = paired("unsteady");
        assert!(!bad.identical && bad.text().contains("history.jsonl"), "{}", bad.text());
        let same_but_bad = paired("always");
        assert!(same_but_bad.identical && !same_but_bad.is_good(), "{}", same_but_bad.text());
    }

    #[test]
    fn equal_files_do_not_part() {
        assert_eq!(compared("one\ntwo\n", Some("one\ntwo\n")), (2, None));
        assert_eq!(compared("", None), (0, None));
    }

    #[test]
    fn the_first_line_that_differs_is_shown_with_what_stands_above_it() {
        let (_, found) = compared("1\n2\n3\n4\nx\n", Some("1\n2\n3\n4\ny\n"));
        let found = found.unwrap();
        assert_eq!((found.line, found.above), (5, vec!["2".to_owned(), "3".to_owned(), "4".to_owned()]));
        assert_eq!((found.first.as_deref(), found.second.as_deref()), (Some("x"), Some("y")));
    }

    #[test]
    fn a_file_that_ends_early_or_is_missing_differs() {
        let (_, found) = compared("1\n2\n", Some("1\n"));
        assert_eq!(found.unwrap().second, None);
        let (_, found) = compared("1\n", None);
        assert_eq!(found.unwrap().line, 1);
        // Without its line end, a last line is another one.
        assert!(compared("1\n", Some("1")).1.is_some());
    }
}
