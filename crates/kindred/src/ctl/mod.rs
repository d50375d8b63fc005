//! `kindred ctl`: what operators ask for. Who calls is proved by the certificate of the connection.

mod account;

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
}

/// Does one thing.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.nodes.client_as(Role::Operator)?;
    match args.subject {
        Subject::Account(account) => account::run(&client, account, args.output).await,
    }
}
