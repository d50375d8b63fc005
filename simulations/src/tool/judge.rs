//! `sim judge`: the checkers over a recorded history.

use std::path::PathBuf;

use kindred_check::{Report, judge, read_file};

use super::output::{self, Exit, Output, exit, fields, print, thousands};

/// Arguments of `sim judge`.
#[derive(clap::Args)]
pub struct Args {
    /// A history as in docs/history.md: one JSON object per line.
    file: PathBuf,
}

/// Judges a file.
pub fn run(args: &Args, output: Output) -> anyhow::Result<u8> {
    let events =
        read_file(&args.file).map_err(|error| Exit::usage(format!("{error}; docs/history.md has the format")))?;
    let report = judge(&events);
    match output {
        Output::Json => output::json(&report)?,
        Output::Table => print(text(&report, events.len())),
    }
    Ok(if report.is_clean() { exit::OK } else { exit::VIOLATION })
}

fn text(report: &Report, events: usize) -> String {
    let figure = |figure: u64| thousands(figure);
    let mut text = fields(&[
        ("events", figure(events as u64)),
        (
            "operations",
            format!(
                "{} ({} answered, {} refused, {} unknown)",
                figure(report.operations),
                figure(report.answered),
                figure(report.refused),
                figure(report.unknown)
            ),
        ),
        ("links", format!("{} of {} completed", figure(report.links_completed), figure(report.links_attempted))),
        ("siblings lost", figure(report.siblings_lost)),
        ("signed out without tombstone", figure(report.signed_out_without_tombstone)),
        ("duplicate sessions", figure(report.duplicate_sessions)),
        ("durability lost", figure(report.durability_lost)),
        ("version conflicts", figure(report.version_conflicts)),
    ]);
    for violation in &report.violations {
        let events: Vec<_> = violation.events.iter().map(u64::to_string).collect();
        let cited = if events.is_empty() { String::new() } else { format!("\n  events {}", events.join(", ")) };
        text.push_str(&format!("\nviolation of {}\n  {}{cited}\n", violation.checker, violation.text));
    }
    let verdict =
        if report.is_clean() { "ok".to_owned() } else { format!("failed: {} violations", report.violations.len()) };
    text.push_str(&format!("\n{verdict}\n"));
    text
}
