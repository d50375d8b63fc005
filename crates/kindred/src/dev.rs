//! `kindred dev`: a whole cluster on this machine, three processes in three regions.

use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{Cluster, Options};
use crate::output::{Output, json, table};

/// Flags of `dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep data here; without it everything is gone afterwards.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Log filter of the nodes.
    #[arg(long, default_value = "info,openraft=error")]
    log: String,
    /// Shards per region.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the cluster until SIGINT or SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let is_kept = args.data.is_some();
    let options = Options { data: args.data, points: false, log: args.log, shards_per_region: args.shards };
    let mut cluster = Cluster::start(options, &crate::env::real()).await?;
    match args.output {
        Output::Json => {
            let nodes: Vec<_> = cluster
                .nodes
                .iter()
                .map(|n| serde_json::json!({"name": n.name, "region": n.region, "gateway": n.gateway, "pid": n.pid(), "dir": n.dir}))
                .collect();
            json(&serde_json::json!({ "nodes": nodes }))?;
        }
        Output::Table => {
            let mut shown = table(&["node", "region", "gRPC for gateways", "pid", "directory"]);
            for n in &cluster.nodes {
                let pid = n.pid().map_or_else(String::new, |p| p.to_string());
                shown.add_row([&n.name, &n.region, &n.gateway, &pid, &n.dir.display().to_string()]);
            }
            println!("{shown}");
            let addresses = cluster.gateways().join(",");
            println!("Try, in another terminal:");
            println!("  export KINDRED_ADDRESS={addresses}");
            println!("  kindred phone --keys phone.json register alice");
            println!("  kindred companion --keys laptop.json            # shows a QR code and its text");
            println!("  kindred phone --keys phone.json pair '<text>'   # scans and approves it");
            println!(
                "Ctrl-C stops the cluster{}.",
                if is_kept { "; the same --data goes on" } else { " and removes its data" }
            );
        }
    }
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {}
        () = terminated() => {}
    }
    if is_kept {
        cluster.stop(Duration::from_secs(15)).await;
    }
    // Without it nothing is left to be stopped gently: dropping the cluster kills the nodes and removes their data.
    Ok(())
}

async fn terminated() {
    let term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    match term {
        Ok(mut term) => {
            term.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
