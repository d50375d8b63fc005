//! The cluster that is measured, and the ways to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kindred_client::{Client, Patience};
use kindred_core::env::Env;
use kindred_core::map::ShardMap;
use kindred_wire::net::{Net, channel};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::args::Local;
use super::cpu::{Cpu, Stopwatch};
use super::load::Load;
use super::prepare::{Live, Workshop};
use super::replicas;
use crate::cluster::{Cluster, NodeProcess, Options};
use crate::points::{Doors, Replicas};

/// The replicas are level within this time.
const LEVEL_WITHIN: Duration = Duration::from_secs(30);

/// Leaders are in their home regions within this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A running cluster.
pub(super) struct Lab<'a> {
    pub(super) cluster: Cluster,
    pub(super) doors: Doors,
    pub(super) workshop: Workshop<'a>,
    /// Raw connections to the gateways' port: connection, then node.
    pub(super) channels: Vec<Vec<Channel>>,
    /// Sessions that can be validated.
    pub(super) live: RefCell<Vec<Live>>,
    /// Links that are prepared in one go.
    pub(super) round: usize,
    pub(super) shards_per_region: u32,
    /// Sockets of a gateway.
    pub(super) net: Arc<dyn Net>,
}

/// A figure, and what it cost.
pub(super) struct Measured {
    pub(super) load: Load,
    pub(super) cpu: Cpu,
}

impl Measured {
    /// Nothing yet.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { load: Load::new()?, cpu: Cpu::default() })
    }

    /// Adds another run of the same work.
    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.cpu.add(other.cpu);
        self.load.add(&other.load)
    }
}

impl<'a> Lab<'a> {
    /// Starts the nodes. `name` is a directory for them below `--data`.
    pub(super) async fn start(
        env: &'a Env,
        local: &Local,
        name: &str,
        homes: u32,
        shards_per_region: u32,
    ) -> anyhow::Result<Self> {
        let data = local.data.as_ref().map(|dir| dir.join(name));
        let options = Options {
            data,
            points: true,
            log: local.log.clone(),
            shards_per_region,
            snapshot_every_entries: None,
            is_plaintext: local.plaintext,
            worker_threads: local.threads as usize,
        };
        let cluster = Cluster::start(options, env).await?;
        let net = cluster.net.clone();
        let gateways = cluster.gateways();
        let doors = Doors::new(&net, cluster.nodes.iter().map(|n| (n.name.as_str(), n.gateway.as_str())))?;
        let workshop = Workshop::new(env, clients(&net, &gateways, Patience::default())?, homes as usize).await?;
        let to_all = || gateways.iter().map(|gateway| to(&net, gateway)).collect::<anyhow::Result<Vec<_>>>();
        let channels = (0..local.connections).map(|_| to_all()).collect::<anyhow::Result<_>>()?;
        let (live, round) = (RefCell::default(), local.round as usize);
        let lab = Self { cluster, doors, workshop, channels, live, round, shards_per_region, net };
        lab.settle().await?;
        Ok(lab)
    }

    /// Shards of this cluster.
    pub(super) fn map(&self) -> ShardMap {
        ShardMap::fixed(&self.workshop.regions, self.shards_per_region)
    }

    /// Waits until every shard is led from its home region. Leaders go there after a start, and a hand-over while
    /// something is measured would cost it errors.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        for (shard, home) in self.map().shards() {
            while let Some(home) = home.map(|home| usize::from(home.0))
                && self.doors.leader(shard, SETTLED_WITHIN).await? != home
            {
                anyhow::ensure!(Instant::now() < deadline, "shard {shard} is not led from its home region");
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// The connection of a worker to a node.
    pub(super) fn channel(&self, worker: usize, node: usize) -> &Channel {
        &self.channels[worker % self.channels.len()][node]
    }

    /// Process ids of the nodes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.cluster.nodes.iter().filter_map(NodeProcess::pid).collect()
    }

    /// Where all replicas are, once they are level.
    pub(super) async fn level(&self) -> anyhow::Result<Replicas> {
        self.doors.level(LEVEL_WITHIN).await
    }

    /// Fails unless every replica of every shard has applied every entry since `before`; tells how many, for each node.
    pub(super) async fn all_applied(&self, before: &Replicas) -> anyhow::Result<u64> {
        let after = self.level().await?;
        Ok(replicas::same_work(before, &after)?.values().sum())
    }

    /// The highest term of each shard that a node knows of.
    pub(super) async fn terms(&self) -> BTreeMap<u32, u64> {
        let mut terms = BTreeMap::new();
        for status in self.doors.status().await.into_iter().flatten().flatten() {
            let term = terms.entry(status.shard).or_default();
            *term = status.term.max(*term);
        }
        terms
    }

    /// Measures what `run` does, and what it costs.
    pub(super) async fn measure(&self, run: impl Future<Output = anyhow::Result<Load>>) -> anyhow::Result<Measured> {
        measure(self.pids(), run).await
    }
}

/// Terms that began between two looks: elections, false ones too, and hand-overs.
pub(super) fn terms_begun(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> u64 {
    after.iter().map(|(shard, term)| term.saturating_sub(before.get(shard).copied().unwrap_or(*term))).sum()
}

/// Measures what `run` does, and what it costs the servers `pids`.
pub(super) async fn measure(
    pids: Vec<u32>,
    run: impl Future<Output = anyhow::Result<Load>>,
) -> anyhow::Result<Measured> {
    let watch = Stopwatch::start(pids);
    let load = run.await?;
    Ok(Measured { load, cpu: watch.stop() })
}

/// A raw connection.
pub(super) fn to(net: &Arc<dyn Net>, address: &str) -> anyhow::Result<Channel> {
    Ok(channel(net.clone(), address)?)
}

/// One client for each node, which calls no other.
pub(super) fn clients(net: &Arc<dyn Net>, gateways: &[String], patience: Patience) -> anyhow::Result<Vec<Client>> {
    let client = |gateway: &String| {
        let client = Client::connect(net.clone(), std::slice::from_ref(gateway))?;
        Ok(client.with_patience(patience))
    };
    gateways.iter().map(client).collect()
}

/// On standard error, and only if that is a terminal: standard output is for the figures.
pub(super) fn progress(length: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {bar:32.cyan/white.dim} {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A spinner where nobody can tell how much is left.
pub(super) fn busy(what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Tells where the run is, in a line of its own.
pub(super) fn tell(line: &str) {
    let dim = if std::io::stderr().is_terminal() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    eprintln!("{}{line}{}", dim.0, dim.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_counted_for_the_shards_that_were_there() {
        let before = BTreeMap::from([(100, 3), (200, 7)]);
        assert_eq!(terms_begun(&before, &BTreeMap::from([(100, 5), (200, 7), (300, 9)])), 2);
        assert_eq!(terms_begun(&before, &before), 0);
    }
}
