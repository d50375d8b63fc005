//! What a person or a program reads: aligned tables, or one JSON value per line. Exit codes.

use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
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
    pub fn new(code: u8, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code, message: message.into() })
    }
}

/// Ends the program: prints an error in one line and maps it to its code.
pub fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
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
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    table
}

/// Prints a value as one line of JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
