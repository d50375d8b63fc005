//! `kindred ctl`: what operators ask for. Who calls is proved by the certificate of the connection.

mod account;
mod export;
pub(crate) mod file;
pub(crate) mod import;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kindred_wire::caller::Role;

use crate::connect::Nodes;
use crate::output::Output;

/// Flags of `ctl`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// How to print.
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, clap::Subcommand)]
enum Subject {
    /// Look at an account, or act upon it.
    Account(account::Args),
    /// Write all accounts to a file; where one was begun, --resume goes on.
    Export(export::Args),
    /// Install the accounts of a file; those that are there already are left alone. Run again, it goes on.
    Import(import::Args),
}

/// Does one thing.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.nodes.client_as(Role::Operator)?;
    match args.subject {
        Subject::Account(account) => account::run(&client, account, args.output).await,
        Subject::Export(export) => export::run(&client, &export, args.output).await,
        Subject::Import(import) => import::run(&client, &import, args.output).await,
    }
}

/// A bar on standard error, for work of a known size.
fn bar(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} {msg}, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(what)
}

/// A count on standard error, for work of a size that nobody knows.
fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {human_pos} {msg}, {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.with_message(what)
}
