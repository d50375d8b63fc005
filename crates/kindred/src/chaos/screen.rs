//! Progress, on standard error: a bar on a terminal, elsewhere a line now and then.

use std::cell::Cell;
use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::plan::Fault;
use super::world::World;

/// Without a terminal there is a line each so many kills.
const LINE_EVERY: u64 = 25;

/// What a person sees while it goes on.
pub(super) struct Screen {
    bar: Option<ProgressBar>,
    kills: u64,
    started: Instant,
    told: Cell<u64>,
}

impl Screen {
    /// Of a run with so many kills.
    pub(super) fn new(kills: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(kills));
        Self { bar, kills, started: Instant::now(), told: Cell::new(0) }
    }

    /// A stage begins.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// What is tried now.
    pub(super) fn next(&self, fault: Fault) {
        if let Some(bar) = &self.bar {
            bar.set_message(fault.name());
        }
    }

    /// So many processes were killed up to now.
    pub(super) fn killed(&self, killed: u64, world: &World) {
        if let Some(bar) = &self.bar {
            bar.set_position(killed);
        } else if killed / LINE_EVERY > self.told.get() {
            self.told.set(killed / LINE_EVERY);
            let (seconds, sessions) = (self.started.elapsed().as_secs(), world.known_count());
            eprintln!("{killed} of {} kills after {seconds} s; {sessions} sessions were acknowledged", self.kills);
        }
    }

    /// No more kills.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(kills: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(kills), ProgressDrawTarget::stderr());
    let template = "{spinner:.cyan} {bar:24.cyan/white.dim} {pos}/{len} kills, {elapsed}, {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar
}
