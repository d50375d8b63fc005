//! Where a long command is: a bar on a terminal, now and then a line where standard error is a file.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// Lines that a log gets over a whole command.
const LINES: u64 = 20;

/// The bar or its stand-in.
pub struct Progress {
    bar: ProgressBar,
    total: u64,
    done: u64,
    on_terminal: bool,
}

impl Progress {
    /// Of so many steps, each a `what`.
    pub fn new(total: u64, what: &str) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let bar = if on_terminal { ProgressBar::new(total) } else { ProgressBar::hidden() };
        let template = format!("{{bar:24}} {{pos}}/{{len}} {what} · {{msg}} · {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self { bar, total, done: 0, on_terminal }
    }

    /// One step is done; `message` says what it all came to so far.
    pub fn step(&mut self, message: String) {
        self.done += 1;
        if !self.on_terminal && self.done * LINES / self.total.max(1) != (self.done - 1) * LINES / self.total.max(1) {
            eprintln!("{}/{} · {message}", self.done, self.total);
        }
        self.bar.set_message(message);
        self.bar.inc(1);
    }

    /// Something that cannot wait for the end, on standard error, above the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
