//! The comparison, for people and for programs.

use std::path::Path;
use std::process::Command;

use kindred_core::env::Env;
use serde_json::{Value, json};

use super::failover::Gaps;
use super::figures::{Figures, Point, System, Work, median};
use super::targets::{Judged, Verdict, judge, ratio};
use super::{Args, Programs};
use crate::output::{self, Output, table, wall};

/// Everything that is told at the end.
pub(super) struct Report {
    pub(super) figures: Figures,
    pub(super) gaps: Gaps,
    /// Name and value: where, when and how this was measured.
    pub(super) facts: Vec<(&'static str, String)>,
}

/// One line of the table of points.
pub(super) struct Row {
    pub(super) point: Point,
    /// Cells after system, work and calls in flight; or why there are none.
    pub(super) cells: Result<[String; 6], String>,
}

/// Headings of [`Row::cells`].
pub(super) const CELLS: [&str; 6] = ["per second", "lowest to highest", "Kindred ÷ it", "p50 ms", "p99 ms", "cores"];

impl Report {
    /// Puts it together, with what is known of this machine.
    pub(super) fn new(args: &Args, programs: &Programs, env: &Env, figures: Figures, gaps: Gaps) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let mut facts = vec![
            ("measured", wall(env.clock.wall_ms())),
            ("commit", said(Command::new("git").args(["rev-parse", "--short", "HEAD"]))),
            ("optimisation", optimisation()),
            ("machine", format!("{cores} cores, Linux {}", first_line("/proc/sys/kernel/osrelease"))),
            ("load average at the end", first_line("/proc/loadavg")),
            ("command", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
            ("rounds", format!("{}, the systems in turn; {} s each", args.rounds, args.seconds)),
        ];
        let mut version = |name, program: Option<&Path>| {
            if let Some(program) = program {
                facts.push((name, said(Command::new(program).arg("--version"))));
            }
        };
        version("etcd", programs.etcd.as_deref());
        version("PostgreSQL", programs.postgres.as_deref());
        version("Redis", programs.redis.as_deref());
        Self { figures, gaps, facts }
    }

    /// Points and kills that do not count.
    pub(super) fn rejected(&self) -> usize {
        self.figures.rejected().len() + self.gaps.rejected.len()
    }

    /// Targets of issue 3.
    pub(super) fn judged(&self) -> Vec<Judged> {
        judge(&self.figures, &self.gaps)
    }

    /// Points in order: by work, calls in flight, system.
    pub(super) fn rows(&self) -> Vec<Row> {
        let ours = |point: Point| self.figures.summary(Point { system: System::Kindred, ..point }).ok();
        let row = |point: &Point| {
            let cells = self.figures.summary(*point).map(|summary| {
                let ratio = match point.system {
                    System::Kindred => None,
                    _ => ours(*point).and_then(|ours| ratio(ours.per_second, summary.per_second)),
                };
                [
                    format!("{:.0}", summary.per_second),
                    format!("{:.0} to {:.0}", summary.spread.0, summary.spread.1),
                    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                    format!("{:.1}", summary.p50_ms),
                    format!("{:.1}", summary.p99_ms),
                    format!("{:.2} + {:.2}", summary.server_cores, summary.generator_cores),
                ]
            });
            Row { point: *point, cells }
        };
        self.figures.0.keys().map(row).collect()
    }

    /// On standard output.
    pub(super) fn print(&self, how: Output) -> anyhow::Result<()> {
        if how == Output::Json {
            return output::json(&self.to_json());
        }
        let mut shown = table(&[&["", "", "in flight"][..], &CELLS].concat());
        for Row { point, cells } in self.rows() {
            let mut row = vec![
                point.work.name(point.system).to_owned(),
                point.system.name().to_owned(),
                point.in_flight.to_string(),
            ];
            match cells {
                Ok(cells) => row.extend(cells),
                Err(why) => row.push(format!("REJECTED: {why}")),
            }
            shown.add_row(row);
        }
        println!("{shown}\n");
        if let Some(line) = self.gap_line() {
            println!("{line}\n");
        }
        let mut shown = table(&["", "ratio", "target", ""]);
        for judged in self.judged() {
            let (ratio, word) = verdict(&judged.verdict);
            shown.add_row(vec![judged.what, ratio, judged.target, word]);
        }
        println!("{shown}\n");
        let facts: Vec<_> = self.facts.iter().map(|(name, value)| (*name, value.clone())).collect();
        print!("{}", output::fields(&facts));
        println!("cores: those of the servers, and of the generator, which has one thread; {SILENT}");
        Ok(())
    }

    /// Gaps after kills in one line; none if nobody was killed.
    pub(super) fn gap_line(&self) -> Option<String> {
        let side = |name: &str, gaps: &[f64]| {
            let worst = gaps.iter().copied().fold(0.0, f64::max);
            let middle = median(gaps.to_vec()).unwrap_or_default();
            format!("{name} median {middle:.0} ms, worst {worst:.0} ms of {}", gaps.len())
        };
        if self.gaps.ours_ms.is_empty() && self.gaps.rejected.is_empty() {
            return None;
        }
        let rejected = self.gaps.rejected.iter().map(|why| format!("; REJECTED: {why}")).collect::<String>();
        Some(format!(
            "gap in writes after SIGKILL of the leader, 64 writers: {}; {}{rejected}",
            side("Kindred", &self.gaps.ours_ms),
            side("etcd", &self.gaps.etcd_ms)
        ))
    }

    fn to_json(&self) -> Value {
        let point = |(point, samples): (&Point, &Vec<super::figures::Sample>)| {
            let mut value = match self.figures.summary(*point) {
                Ok(summary) => json!({ "per_second": summary.per_second, "p50_ms": summary.p50_ms,
                    "p99_ms": summary.p99_ms, "server_cores": summary.server_cores,
                    "generator_cores": summary.generator_cores }),
                Err(why) => json!({ "rejected": why }),
            };
            value["system"] = json!(point.system.name());
            value["work"] = json!(point.work.name(point.system));
            value["in_flight"] = json!(point.in_flight);
            value["samples_per_second"] = samples.iter().map(|sample| sample.per_second).collect();
            value
        };
        let judged = |judged: Judged| {
            let (ratio, word) = match judged.verdict {
                Verdict::Pass(ratio) => (json!(ratio), "PASS".to_owned()),
                Verdict::Miss(ratio) => (json!(ratio), "MISS".to_owned()),
                Verdict::Open(why) => (Value::Null, why),
            };
            json!({ "what": judged.what, "target": judged.target, "ratio": ratio, "verdict": word })
        };
        json!({
            "facts": self.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>(),
            "points": self.figures.0.iter().map(point).collect::<Vec<_>>(),
            "gaps_ms": { "kindred": self.gaps.ours_ms, "etcd": self.gaps.etcd_ms, "rejected": self.gaps.rejected },
            "targets": self.judged().into_iter().map(judged).collect::<Vec<_>>(),
        })
    }
}

/// What all the figures share.
pub(super) const SILENT: &str = "the other systems run idle meanwhile";

/// Ratio and word of a verdict.
pub(super) fn verdict(verdict: &Verdict) -> (String, String) {
    match verdict {
        Verdict::Pass(ratio) => (format!("{ratio:.2}"), "PASS".to_owned()),
        Verdict::Miss(ratio) => (format!("{ratio:.2}"), "MISS".to_owned()),
        Verdict::Open(why) => (String::new(), why.clone()),
    }
}

/// True for work that only some systems do.
pub(super) fn is_ours_alone(work: Work) -> bool {
    matches!(work, Work::LinkShard | Work::ReadStream | Work::LinkManyGroups | Work::LinkShardManyGroups)
}

fn optimisation() -> String {
    match env!("BUILT_WITH_OPT_LEVEL") {
        "0" | "1" => "opt-level 0 or 1: our figures say NOTHING, build with opt-level 2".to_owned(),
        level => format!("opt-level {level}"),
    }
}

/// First line that a command prints.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").to_owned()
}

fn first_line(file: &str) -> String {
    std::fs::read_to_string(file).ok().and_then(|text| Some(text.lines().next()?.to_owned())).unwrap_or_default()
}
