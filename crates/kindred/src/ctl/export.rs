//! `kindred ctl export`: all accounts into a file.

use std::path::PathBuf;
use std::time::Duration;

use kindred_client::Client;
use kindred_core::id::hex;
use kindred_wire::pb::admin::v1 as pb;
use serde_json::json;
use tokio::time::Instant;

use super::file::{Error, Extent, FORMAT, Reader, Writer};
use crate::connect::failed;
use crate::output::{self, Exit, Output, exit, fields};

/// Where nobody looks at a bar, a line is told so often.
pub(super) const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Flags of `export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write; it must not be there, unless --resume is given.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Go on where an export into this file broke off.
    #[arg(long)]
    resume: bool,
}

/// Writes the file.
pub async fn run(client: &Client, args: &Args, output: Output) -> anyhow::Result<()> {
    let started = Instant::now();
    let (cluster, known) = client.cluster().await.map_err(|error| failed("ask for the cluster", &error))?;
    let is_begun = args.out.exists();
    if is_begun && !args.resume {
        let message = format!("{} is there already; --resume goes on with it", args.out.display());
        return Err(Exit::error(exit::USAGE, message));
    }
    let mut writer = if is_begun {
        let reader = Reader::open(&args.out).map_err(unusable)?;
        if reader.header.cluster != cluster.as_bytes() {
            let message = format!("{} is an export of another cluster than {cluster}", args.out.display());
            return Err(Exit::error(exit::USAGE, message));
        }
        Writer::resume(&args.out).map_err(unusable)?
    } else {
        let export_id: [u8; 16] = crate::env::real().random();
        let header = pb::ExportHeader {
            format: FORMAT,
            export_id: export_id.to_vec().into(),
            cluster: cluster.as_bytes().to_vec().into(),
            regions: known.regions,
        };
        Writer::create(&args.out, header).map_err(unusable)?
    };
    let before = writer.extent.accounts;
    if !writer.extent.is_complete {
        write(client, &mut writer).await?;
    }
    told(args, &writer.extent, before, started.elapsed(), output)
}

async fn write(client: &Client, writer: &mut Writer) -> anyhow::Result<()> {
    let bar = super::spinner("accounts");
    let mut told = Instant::now();
    let mut export = client.export_accounts(writer.extent.cursor.clone());
    while let Some(reply) = export.next().await.map_err(|error| failed("export", &error))? {
        for account in &reply.too_large {
            bar.suspend(|| eprintln!("left out, too many ended sessions: {}", shown(account)));
        }
        writer.add(reply)?;
        bar.set_position(writer.extent.accounts);
        if bar.is_hidden() && told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            eprintln!("{} accounts exported", writer.extent.accounts);
        }
        // What was told as written must be there when this process is killed.
        writer.flush()?;
    }
    bar.finish_and_clear();
    Ok(writer.finish()?)
}

fn told(args: &Args, extent: &Extent, before: u64, took: Duration, output: Output) -> anyhow::Result<()> {
    let per_s = (extent.accounts - before) as f64 / took.as_secs_f64().max(0.001);
    match output {
        Output::Json => output::json(&json!({
            "file": args.out.display().to_string(),
            "accounts": extent.accounts,
            "too_large": extent.too_large,
            "bytes": extent.offset,
            "resumed_at": before,
            "seconds": took.as_secs_f64(),
            "accounts_per_s": per_s,
        }))?,
        Output::Table => print!(
            "{}",
            fields(&[
                ("file", args.out.display().to_string()),
                ("accounts", extent.accounts.to_string()),
                ("left out", extent.too_large.to_string()),
                ("bytes", extent.offset.to_string()),
                ("rate", format!("{per_s:.0} accounts/s")),
            ])
        ),
    }
    if extent.too_large > 0 {
        let message = format!("{} accounts were left out; the file is good for all others", extent.too_large);
        return Err(Exit::error(exit::FAILED, message));
    }
    Ok(())
}

/// An account id for people.
pub(super) fn shown(account: &[u8]) -> String {
    kindred_core::id::AccountId::new(account).map_or_else(|| format!("0x{}", hex(account)), |id| id.to_string())
}

pub(super) fn unusable(error: Error) -> anyhow::Error {
    Exit::error(exit::USAGE, error.to_string())
}
