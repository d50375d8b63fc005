//! What a person or a program reads, and exit codes.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Output {
    /// Aligned text.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Exit codes of every command.
pub mod exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// A promise was broken: a violation, two runs that differ, a mutant that nobody found.
    pub const VIOLATION: u8 = 1;
    /// The command line or a file is wrong.
    pub const USAGE: u8 = 2;
    /// A run broke: it panicked, was killed, or did not end in its time.
    pub const BROKEN: u8 = 3;
    /// A sweep proves nothing: too little happened in it.
    pub const VACUOUS: u8 = 4;
}

/// A failure that carries its exit code.
#[derive(Debug)]
pub struct Exit {
    /// One of [`exit`].
    pub code: u8,
    /// What happened and what to do next.
    pub message: String,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}

impl Exit {
    /// The caller's mistake; the message says what to do instead.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code: exit::USAGE, message: message.into() })
    }

    /// Something broke that is no verdict on Kindred.
    pub fn broken(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code: exit::BROKEN, message: message.into() })
    }
}

/// Ends the program: an error is one line on standard error. What carries no code of its own is wrong use or a broken
/// machine, never a verdict.
pub fn finish(done: anyhow::Result<u8>) -> ExitCode {
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::from(error.downcast_ref::<Exit>().map_or(exit::BROKEN, |exit| exit.code))
        }
    }
}

/// Prints to standard output. Whoever reads it may have gone (`sim … | head`); that is no failure.
pub fn print(text: impl std::fmt::Display) {
    let _ = write!(std::io::stdout(), "{text}");
}

/// Prints one JSON document.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print(format_args!("{}\n", serde_json::to_string(value)?));
    Ok(())
}

/// An aligned table without borders; columns whose header begins with `>` hold figures, to the right.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_header(header.iter().map(|name| name.trim_start_matches('>')).collect::<Vec<_>>());
    for (index, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(index)
            && name.starts_with('>')
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table as lines without blanks at their ends.
pub fn lines(table: &Table) -> String {
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Aligned `name  value` lines.
pub fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// A figure with its thousands apart: `1,234,567`.
pub fn thousands(figure: u64) -> String {
    let digits = figure.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time for people: `3.2 s`, `4 min 20 s`, `2 h 5 min`.
pub fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{}.{} s", s, ms % 1000 / 100),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_easily() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1_000, 1_234_567].map(thousands).each_ref().map(|s| &**s)
        );
        assert_eq!(span(3_250), "3.2 s");
        assert_eq!(span(260_000), "4 min 20 s");
        assert_eq!(span(7_500_000), "2 h 5 min");
    }

    #[test]
    fn figures_stand_to_the_right_and_lines_end_where_text_ends() {
        let mut table = table(&["fault", ">times"]);
        table.add_row(vec!["pause", "7"]).add_row(vec!["message_loss", "1,000"]);
        let text = lines(&table);
        assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
        let ends: Vec<_> = text.lines().filter(|line| !line.contains('─')).map(|line| line.chars().count()).collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
