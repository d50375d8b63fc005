//! `kindred bench`: links and validations per second, through the public rpcs, on a local cluster of three processes.
//!
//! A closed loop: so many calls are in flight, and the next one starts when one is answered. What is not measured (making
//! accounts, opening and scanning tickets, signing) is done before, in rounds, because a ticket lives only 160 s.

mod load;
mod prepare;
mod replicas;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kindred_client::{Client, Patience};
use kindred_core::limits::COMPANION_LIMIT_DEFAULT;
use kindred_wire::convert::raw;
use kindred_wire::net::Net;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::load::{Load, closed_loop, name_of};
use self::prepare::{Live, Opened, Ready, Workshop};
use crate::cluster::{Cluster, Options};
use crate::output::{self, Exit, Output, exit, table};
use crate::points::Doors;

/// Flags of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Calls in flight.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    in_flight: u32,
    /// Links to make of each kind: with tickets opened in the account's home region, and elsewhere.
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    links: u32,
    /// Links that are prepared and then measured in one go.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    round: u32,
    /// How long to validate, at each level.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Connections to each node.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// Regions that are home to accounts; with 1 and one shard per region all links meet in one Raft group.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    homes: u32,
    /// Shards per region.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,
    /// Keep the nodes' data and logs here.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Log filter of the nodes.
    #[arg(long, default_value = "warn,openraft=error")]
    log: String,
    /// No TLS between the nodes, nor to them.
    #[arg(long)]
    plaintext: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The replicas are level within this time.
const LEVEL_WITHIN: Duration = Duration::from_secs(30);

/// What was measured, by name.
type Measured = Vec<(&'static str, Load)>;

/// Runs it on a cluster of its own.
pub async fn run(args: Args) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Exit::error(exit::FAILED, "interrupted; the nodes are stopped")),
        done = bench(&args) => done,
    }
}

async fn bench(args: &Args) -> anyhow::Result<()> {
    let env = crate::env::real();
    let options = Options {
        data: args.data.clone(),
        points: true,
        log: args.log.clone(),
        shards_per_region: args.shards,
        snapshot_every_entries: None,
        is_plaintext: args.plaintext,
    };
    let mut cluster = Cluster::start(options, &env).await?;
    let doors = Doors::new(&cluster.net, cluster.nodes.iter().map(|n| (n.name.as_str(), n.gateway.as_str())))?;
    let gateways = cluster.gateways();
    let workshop =
        Workshop::new(&env, connect(&cluster.net, &gateways, Patience::default())?, args.homes as usize).await?;
    // In a measurement a failure is a figure, so nothing is tried twice.
    let patience = Patience { attempts: 1, attempt: Duration::from_secs(20), ..Patience::default() };
    let connections = (0..args.connections)
        .map(|_| connect(&cluster.net, &gateways, patience))
        .collect::<anyhow::Result<Vec<_>>>()?;

    let before = doors.level(LEVEL_WITHIN).await?;
    let mut measured = Measured::new();
    let mut live = Vec::new();
    for (name, opened) in [("link at home", Opened::AtHome), ("link across regions", Opened::Elsewhere)] {
        let (load, linked) = link(args, &workshop, &connections, opened).await?;
        measured.push((name, load));
        live.extend(linked);
    }
    for (name, level) in
        [("validate linearizable", session::Level::Linearizable), ("validate local", session::Level::Local)]
    {
        measured.push((name, validate(args, &connections, &live, level).await?));
    }
    let after = doors.level(LEVEL_WITHIN).await?;
    let entries = replicas::same_work(&before, &after)?;
    cluster.kill_all();
    match args.output {
        Output::Json => output::json(&json!({
            "in_flight": args.in_flight,
            "nodes": gateways.len(),
            "connections_per_node": args.connections,
            "shards_per_region": args.shards,
            "homes": args.homes,
            "operations": measured.iter().map(|(name, load)| in_json(name, load)).collect::<Vec<_>>(),
            "entries_applied_by_every_replica": entries,
        }))?,
        Output::Table => print_table(args, &measured, &entries.values().sum()),
    }
    match measured.iter().map(|(_, load)| load.failed()).sum() {
        0 => Ok(()),
        failed => Err(Exit::error(exit::FAILED, format!("{failed} calls got no good answer; the errors are above"))),
    }
}

/// One client for each node, which calls no other.
fn connect(net: &Arc<dyn Net>, gateways: &[String], patience: Patience) -> anyhow::Result<Vec<Client>> {
    let client = |gateway: &String| {
        let client = Client::connect(net.clone(), std::slice::from_ref(gateway))?;
        Ok(client.with_patience(patience))
    };
    gateways.iter().map(client).collect()
}

/// Links in rounds; only the time between the first approval of a round and its last receipt counts. Phones are connected
/// to the node of their account's home region.
async fn link(
    args: &Args,
    workshop: &Workshop<'_>,
    connections: &[Vec<Client>],
    opened: Opened,
) -> anyhow::Result<(Load, Vec<Live>)> {
    let mut total = Load::new()?;
    let live = RefCell::new(Vec::new());
    let mut left = args.links as usize;
    while left > 0 {
        let count = left.min(args.round as usize);
        let bar = progress(count, "tickets opened and scanned");
        let (ready, owners) = workshop.prepare(opened, count, COMPANION_LIMIT_DEFAULT as usize, &bar).await?;
        bar.finish_and_clear();
        live.borrow_mut().extend(owners);

        let bar = progress(count, "links");
        let at = Cell::new(0);
        let next = || ready.get(at.replace(at.get() + 1));
        let call = async |worker: usize, item: &Ready| {
            let client = &connections[worker % connections.len()][item.home];
            let receipt = client.send_approval(item.message.clone()).await.map_err(|error| name_of(&error))?;
            bar.inc(1);
            let account = item.account.clone();
            live.borrow_mut().push(Live { home: item.home, account, session: receipt.session });
            Ok(())
        };
        total.add(&closed_loop(args.in_flight as usize, next, call).await?)?;
        bar.finish_and_clear();
        left -= count;
    }
    Ok((total, live.into_inner()))
}

/// Validates all live sessions in turn, each through the node of its account's home region.
async fn validate(
    args: &Args,
    connections: &[Vec<Client>],
    live: &[Live],
    level: session::Level,
) -> anyhow::Result<Load> {
    let within = Duration::from_secs(u64::from(args.seconds));
    let deadline = Instant::now() + within;
    let bar = progress(args.seconds as usize, &format!("s of validations, {}", level.as_str_name()));
    let at = Cell::new(0);
    let next = || {
        let left = deadline.saturating_duration_since(Instant::now());
        bar.set_position((within - left).as_secs());
        (!left.is_zero()).then(|| live.get(at.replace(at.get() + 1) % live.len().max(1))).flatten()
    };
    let call = async |worker: usize, item: &Live| {
        let request = session::ValidateRequest {
            account: raw(item.account.as_bytes()),
            session: raw(item.session.as_bytes()),
            level: level.into(),
            ..session::ValidateRequest::default()
        };
        let client = &connections[worker % connections.len()][item.home];
        match client.validate(request).await.map_err(|error| name_of(&error))?.verdict {
            Some(Verdict::Valid(_)) => Ok(()),
            Some(Verdict::Undetermined(doubt)) => Err(format!("UNDETERMINED {}", doubt.reason().as_str_name())),
            _ => Err("wrong verdict".to_owned()),
        }
    };
    let load = closed_loop(args.in_flight as usize, next, call).await?;
    bar.finish_and_clear();
    Ok(load)
}

/// On standard error, and only if that is a terminal: standard output is for the figures.
fn progress(length: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {bar:32.cyan/white.dim} {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

fn print_table(args: &Args, measured: &Measured, entries: &u64) {
    let mut header = vec!["", "per second", "answered", "errors"];
    let names: Vec<_> = QUANTILES.iter().map(|(name, _)| format!("{name} ms")).collect();
    header.extend(names.iter().map(String::as_str));
    let mut shown = table(&header);
    for (name, load) in measured {
        let mut row = vec![
            (*name).to_owned(),
            format!("{:.0}", load.per_second()),
            load.answered().to_string(),
            load.failed().to_string(),
        ];
        row.extend(QUANTILES.iter().map(|(_, quantile)| format!("{:.1}", load.quantile_ms(*quantile))));
        shown.add_row(row);
    }
    for column in shown.column_iter_mut().skip(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    println!("{shown}");
    println!(
        "{} in flight over {} connections; link: ApproveTicket to receipt, by tickets opened there",
        args.in_flight,
        args.connections as usize * crate::cluster::REGIONS.len()
    );
    println!("every replica of every shard applied every entry: {entries} on each node");
    for (name, load) in measured {
        for (error, count) in &load.errors {
            println!("{name}: {count} × {error}");
        }
    }
}

fn in_json(name: &str, load: &Load) -> Value {
    let quantiles: serde_json::Map<_, _> =
        QUANTILES.iter().map(|(name, quantile)| (format!("{name}_ms"), json!(load.quantile_ms(*quantile)))).collect();
    json!({
        "name": name,
        "per_second": load.per_second(),
        "answered": load.answered(),
        "elapsed_ms": u64::try_from(load.elapsed.as_millis()).unwrap_or(u64::MAX),
        "latency": quantiles,
        "errors": load.errors,
    })
}
