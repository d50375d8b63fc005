//! What a person or a program reads: aligned tables, or one JSON value per line. Exit codes.

use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON value per line.
    Json,
}

/// Exit codes of every command.
pub mod exit {
    /// It worked.
    pub const OK: u8 = 0;
    /// Something failed, or a check found a violation.
    pub const FAILED: u8 = 1;
    /// The command line or the configuration is wrong.
    pub const USAGE: u8 = 2;
    /// The cluster refused, for good: the reason says what to do.
    pub const REFUSED: u8 = 3;
    /// No answer, or an unknown outcome: try the same again.
    pub const UNAVAILABLE: u8 = 4;
}

/// A failure that carries its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exit {
    /// One of [`exit`].
    pub code: u8,
    /// What happened and what to do next.
    pub message: String,
}

impl Exit {
    /// A failure with a code.
    pub fn error(code: u8, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code, message: message.into() })
    }
}

/// Ends the program: prints an error in one line and maps it to its code.
pub fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            eprintln!("kindred: {error:#}");
            let code = error.downcast_ref::<Exit>().map_or(exit::FAILED, |exit| exit.code);
            ExitCode::from(code)
        }
    }
}

/// An aligned table without borders that get in the way of copying.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_header(header.to_vec());
    table
}

/// Aligned `name  value` lines, for one thing with many sides.
pub fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// A wall clock of the cluster for people: `2026-11-27 20:46:16Z`; `-` for none.
pub fn wall(ms: u64) -> String {
    if ms == 0 {
        return "-".to_owned();
    }
    let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Days to a civil date: http://howardhinnant.github.io/date_algorithms.html#civil_from_days, for days after 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Prints a value as one line of JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_reads_as_a_date() {
        assert_eq!(wall(1_000), "1970-01-01 00:00:01Z");
        assert_eq!(wall(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(wall(1_795_812_376_000), "2026-11-27 20:46:16Z");
        assert_eq!(wall(0), "-");
    }

    #[test]
    fn fields_are_aligned() {
        assert_eq!(fields(&[("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2\n");
    }
}
