//! `kindred serve`: one node.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kindred_core::map::ShardMap;
use kindred_node::{NamedPoints, Node, Options};
use kindred_wire::net::{Net, Tcp};
use kindred_wire::tls::Tls;

use crate::config::{Config, Mode, OFF, Overrides};
use crate::output::{Exit, exit};
use crate::region_keys::Keys;

/// Looks for others that still hold the store, and the pause between two: three seconds in all.
const CLOSE_LOOKS_MAX: u32 = 300;
const CLOSE_PAUSE: Duration = Duration::from_millis(10);
/// Between two clearings of what was counted.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "KINDRED_CONFIG")]
    config: PathBuf,
    /// Overrides node.name.
    #[arg(long)]
    name: Option<String>,
    /// Overrides node.data_dir.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Overrides listen.gateway.
    #[arg(long, value_name = "HOST:PORT")]
    listen_gateway: Option<String>,
    /// Overrides listen.node.
    #[arg(long, value_name = "HOST:PORT")]
    listen_node: Option<String>,
    /// Stops when standard input closes: for a parent that must not leave nodes behind.
    #[arg(long, hide = true)]
    lifeline: bool,
    /// Checks the configuration and exits.
    #[arg(long)]
    check: bool,
}

/// Runs the node until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    let overrides =
        Overrides { name: args.name, data_dir: args.data_dir, gateway: args.listen_gateway, node: args.listen_node };
    let (config, keys, wires) =
        prepare(&args.config, overrides).map_err(|error| Exit::error(exit::USAGE, format!("{error:#}")))?;
    if args.check {
        println!("{}: the configuration is good", args.config.display());
        return Ok(());
    }
    if args.lifeline {
        watch_parent();
    }
    crate::telemetry::init(&config.telemetry)?;
    let runtime = runtime(config.node.worker_threads)?;
    let engine = runtime.block_on(serve(config, keys, wires))?;
    // Every task goes, and with the last of them the log writer's thread.
    drop(runtime);
    close(engine);
    Ok(())
}

/// Everything that can be wrong before anything is touched.
fn prepare(file: &std::path::Path, overrides: Overrides) -> anyhow::Result<(Config, Keys, Wires)> {
    let config = Config::load(file, overrides)?;
    let keys = config.ticket_keys()?;
    let wires = Wires::new(&config)?;
    config.check_data_dir()?;
    Ok((config, keys, wires))
}

/// How this node is reached and reaches others.
struct Wires {
    net: Arc<dyn Net>,
    tls: Option<Arc<Tls>>,
    granted: Option<kindred_node::Plaintext>,
}

impl Wires {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let section = config.tls.as_ref().context("no section [tls]")?;
        if section.mode == Mode::Plaintext {
            let granted = Some(kindred_node::Plaintext { gateway: section.granted()? });
            return Ok(Self { net: Arc::new(Tcp), tls: None, granted });
        }
        let tls = Tls::new(Arc::new(Tcp), section.files()?).context("tls")?;
        tls.for_node(&config.node.name).context("tls.certificate")?;
        let tls = Arc::new(tls);
        Ok(Self { net: tls.clone(), tls: Some(tls), granted: None })
    }

    /// Takes new certificates as they come, and on SIGHUP at once. SIGHUP never ends the process, TLS or not.
    fn follow(&self, every: Duration) -> anyhow::Result<()> {
        let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        let nudge = Arc::new(tokio::sync::Notify::new());
        if let Some(tls) = &self.tls {
            tracing::info!(identity = %tls.identity(), "mutual TLS");
            tokio::spawn(tls.clone().follow(every, nudge.clone()));
        } else {
            tracing::warn!("plaintext: whoever reaches a listener has its role");
        }
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                nudge.notify_one();
            }
        });
        Ok(())
    }
}

/// Closes the store here, before the process ends: RocksDB must not be at work in another thread while the C library
/// takes its statics down.
fn close(engine: Arc<kindred_rocks::RocksEngine>) {
    for _ in 0..CLOSE_LOOKS_MAX {
        if Arc::strong_count(&engine) == 1 {
            break;
        }
        std::thread::park_timeout(CLOSE_PAUSE);
    }
    drop(engine);
    tracing::info!("stopped");
}

/// A Tokio runtime with this many workers; 0 = one per core.
pub fn runtime(workers: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    Ok(builder.enable_all().build()?)
}

async fn serve(config: Config, keys: Keys, wires: Wires) -> anyhow::Result<Arc<kindred_rocks::RocksEngine>> {
    let env = crate::env::real();
    let operations = operations(&config.listen.operations)?;
    wires.follow(Duration::from_millis(config.tls.as_ref().map_or(5_000, |tls| tls.reload_interval_ms)))?;
    std::fs::create_dir_all(&config.node.data_dir)?;
    let engine = kindred_rocks::RocksEngine::open(&config.node.data_dir)
        .with_context(|| format!("open data directory {}", config.node.data_dir.display()))?;
    // A write that may not have reached the disk must never be acknowledged, and a failed sync is never retried.
    let log_writer = kindred_store::log_writer::LogWriter::run_thread(
        engine.clone(),
        Box::new(|error| {
            eprintln!("kindred: {error}; this node stops");
            std::process::exit(i32::from(exit::FAILED));
        }),
    )?;
    let map = ShardMap::fixed(&config.cluster.regions, config.cluster.shards_per_region);
    let ticket_keys = keys.into_ticket_keys().filter_map(|(region, key)| Some((map.region(&region)?, key))).collect();
    let node = Node::start(Options {
        engine: engine.clone(),
        log_writer,
        env: env.clone(),
        net: wires.net.clone(),
        name: config.node.name.clone(),
        region: config.node.region.clone(),
        peers: config.cluster.peers.clone(),
        map,
        ticket_keys,
        listen_gateway: config.listen.gateway.clone(),
        listen_node: config.listen.node.clone(),
        raft: kindred_node::Raft {
            heartbeat_ms: config.raft.heartbeat_ms,
            election_min_ms: config.raft.election_min_ms,
            election_max_ms: config.raft.election_max_ms,
            snapshot_every_entries: config.raft.snapshot_every_entries,
        },
        points: if config.testing.points { NamedPoints::Served } else { NamedPoints::Off },
        limits: config.limits.for_node(),
        plaintext: wires.granted,
        operations,
    })
    .await?;
    tracing::info!(
        name = %config.node.name, region = %config.node.region, gateway = %node.gateway_address(),
        "node started"
    );
    stop_signal().await?;
    tracing::info!("stopping: handing leadership over");
    node.shutdown(Duration::from_secs(10)).await;
    Ok(engine)
}

/// The operations port, and the counting that it shows. Without a port nothing is counted.
fn operations(listen: &str) -> anyhow::Result<Option<kindred_node::operations::Options>> {
    if listen == OFF {
        return Ok(None);
    }
    let handle = crate::telemetry::metrics()?;
    let kept = handle.clone();
    tokio::spawn(async move {
        // What histograms were told waits in buffers until somebody looks.
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            kept.run_upkeep();
        }
    });
    let render = crate::telemetry::render(handle);
    Ok(Some(kindred_node::operations::Options { net: Arc::new(Tcp), listen: listen.to_owned(), render }))
}

async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Ends the process when standard input closes, which it does when the parent dies, however it dies.
fn watch_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(i32::from(exit::FAILED));
    });
}
