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
    /// No TLS: whoever reaches a port may use it.
    #[arg(long)]
    plaintext: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the cluster until SIGINT or SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let is_kept = args.data.is_some();
    let options = Options {
        data: args.data,
        points: false,
        log: args.log,
        shards_per_region: args.shards,
        snapshot_every_entries: None,
        is_plaintext: args.plaintext,
        worker_threads: 1,
    };
    let mut cluster = Cluster::start(options, &crate::env::real()).await?;
    match args.output {
        Output::Json => {
            let nodes: Vec<_> = cluster
                .nodes
                .iter()
                .map(|n| {
                    serde_json::json!({
                        "name": n.name, "region": n.region, "gateway": n.gateway, "operations": n.operations,
                        "pid": n.pid(), "dir": n.dir,
                    })
                })
                .collect();
            json(&serde_json::json!({ "nodes": nodes, "tls": cluster.tls }))?;
        }
        Output::Table => {
            let mut shown = table(&["node", "region", "gRPC for gateways", "operations", "pid", "directory"]);
            for n in &cluster.nodes {
                let pid = n.pid().map_or_else(String::new, |p| p.to_string());
                shown.add_row([&n.name, &n.region, &n.gateway, &n.operations, &pid, &n.dir.display().to_string()]);
            }
            println!("{shown}");
            let addresses = cluster.gateways().join(",");
            println!("Try, in another terminal:");
            println!("  export KINDRED_ADDRESS={addresses}");
            let plainly = match &cluster.tls {
                Some(dir) => {
                    println!("  export KINDRED_TLS={}", dir.display());
                    ""
                }
                None => " --plaintext",
            };
            println!("  kindred phone{plainly} --keys phone.json register alice");
            println!("  kindred companion{plainly} --keys laptop.json            # shows a QR code and its text");
            println!("  kindred phone{plainly} --keys phone.json pair '<text>'   # scans and approves it");
            if let Some(node) = cluster.nodes.first() {
                println!("  curl http://{}/readyz                 # also /livez, /startupz, /metrics", node.operations);
            }
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
