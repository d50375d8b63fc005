//! What a person sees: on a terminal a guided tour with a bar for its progress, elsewhere one plain line per event.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kindred_check::{Note, Recorder};
use serde::Serialize;
use tokio::time::Instant;

use crate::output::Output;

/// One step, as it is told in the last line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    /// Its name.
    pub(super) name: String,
    /// When it began, from the start of the demo.
    pub(super) at_ms: u64,
    /// How long it took.
    pub(super) ms: u64,
    /// Who was killed in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) kills: Vec<Kill>,
}

/// A kill, as it is told in the last line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kill {
    /// Which node.
    pub(super) node: String,
    /// The shard that it led, for which it was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shard: Option<u32>,
    /// Where the saga stood.
    pub(super) point: String,
    /// Log index of the step before that point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_index: Option<u64>,
    /// From the kill until the phone was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phone_told_ms: Option<u64>,
    /// From the kill until the companion was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) companion_told_ms: Option<u64>,
}

enum Look {
    /// On a terminal.
    Guided(ProgressBar),
    /// Lines on standard output.
    Plain,
    /// Lines on standard error: standard output is for a program.
    Aside,
}

/// The tour.
pub(super) struct Tour {
    look: Look,
    total: usize,
    started: Instant,
    begun: Option<(Step, Instant)>,
    steps: Vec<Step>,
}

impl Tour {
    /// A tour of so many steps.
    pub(super) fn new(output: Output, total: usize) -> Self {
        let look = match output {
            Output::Json => Look::Aside,
            Output::Table if std::io::stdout().is_terminal() => Look::Guided(bar(total)),
            Output::Table => Look::Plain,
        };
        Self { look, total, started: Instant::now(), begun: None, steps: Vec::new() }
    }

    /// Before the first step; only for a person who watches.
    pub(super) fn welcome(&self, lines: &[&str]) {
        if matches!(self.look, Look::Guided(_)) {
            for line in lines {
                self.print(line);
            }
        }
    }

    /// A step begins. `why` tells a person what to look for.
    pub(super) fn begin(&mut self, name: &str, title: &str, why: &[&str]) {
        let number = self.steps.len() + 1;
        if let Look::Guided(bar) = &self.look {
            bar.set_message("");
            bar.println("");
            bar.println(format!("\x1b[1m[{number}/{}] {title}\x1b[0m", self.total));
            for line in why {
                bar.println(format!("      \x1b[2m{line}\x1b[0m"));
            }
        } else {
            self.print(&format!("[{number}/{}] {title}", self.total));
        }
        let at_ms = millis(self.started.elapsed());
        let step = Step { name: name.to_owned(), at_ms, ms: 0, kills: Vec::new() };
        self.begun = Some((step, Instant::now()));
    }

    /// What is waited for just now.
    pub(super) fn wait(&self, what: &str) {
        if let Look::Guided(bar) = &self.look {
            bar.set_message(format!("waiting for {what}"));
        }
    }

    /// Something has come of it.
    pub(super) fn say(&self, line: &str) {
        self.print(&format!("      {line}"));
    }

    /// Somebody was killed in this step.
    pub(super) fn killed(&mut self, kill: Kill) {
        if let Some((step, _)) = &mut self.begun {
            step.kills.push(kill);
        }
    }

    /// The step is over.
    pub(super) fn end(&mut self, recorder: &Recorder) {
        let Some((mut step, begun)) = self.begun.take() else { return };
        step.ms = millis(begun.elapsed());
        recorder.note("demo", Note::Step { name: step.name.clone(), ms: step.ms });
        match &self.look {
            Look::Guided(bar) => {
                bar.println(format!("      \x1b[32m✓\x1b[0m {}", spell(step.ms)));
                bar.inc(1);
            }
            Look::Plain | Look::Aside => self.print(&format!("      done in {}", spell(step.ms))),
        }
        self.steps.push(step);
    }

    /// The tour is over, whether or not it came to its end.
    pub(super) fn close(self) -> Vec<Step> {
        if let Look::Guided(bar) = &self.look {
            bar.finish_and_clear();
        }
        let mut steps = self.steps;
        if let Some((mut broken, begun)) = self.begun {
            broken.ms = millis(begun.elapsed());
            steps.push(broken);
        }
        steps
    }

    fn print(&self, line: &str) {
        match &self.look {
            Look::Guided(bar) => bar.println(line),
            Look::Plain => println!("{line}"),
            Look::Aside => eprintln!("{line}"),
        }
    }
}

fn bar(total: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stdout());
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {bar:24.cyan/white.dim} {pos}/{len}  {msg}") {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `812 ms` or `2.4 s`.
pub(super) fn spell(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_broke_off_is_told_too() {
        let recorder = Recorder::in_memory(|| 0);
        let mut tour = Tour::new(Output::Json, 2);
        tour.begin("one", "One", &[]);
        tour.end(&recorder);
        tour.begin("two", "Two", &[]);
        let names: Vec<_> = tour.close().into_iter().map(|step| step.name).collect();
        assert_eq!(names, ["one", "two"]);
    }

    #[test]
    fn times_are_short() {
        assert_eq!((spell(812), spell(2_450)), ("812 ms".to_owned(), "2.4 s".to_owned()));
    }
}
