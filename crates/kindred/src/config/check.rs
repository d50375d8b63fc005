//! What a node refuses to start with, told in one line that names the key. `serve --check` runs the very same.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::{Config, OFF};

/// Most regions.
const REGIONS_MAX: usize = 64;
/// Most nodes.
const PEERS_MAX: usize = 256;
/// Longest name of a node or region.
const NAME_BYTES_MAX: usize = 64;
/// Most worker threads.
const WORKERS_MAX: usize = 1_024;
/// Longest election timeout, ms: a shard without a leader for longer than this is no setting, it is a mistake.
const ELECTION_MS_MAX: u64 = 60_000;
/// Most entries between two snapshots.
const SNAPSHOT_EVERY_MAX: u64 = 10_000_000;

impl Config {
    /// Says what is wrong first.
    pub fn check(&self) -> anyhow::Result<()> {
        self.check_node()?;
        self.check_listen()?;
        self.check_cluster()?;
        self.check_raft()?;
        self.limits.check()?;
        self.tls.as_ref().with_context(|| format!("no section [tls]; {}", super::tls::WHAT_TO_WRITE))?.check()?;
        if !matches!(self.telemetry.log_format.as_str(), "text" | "json") {
            bail!("telemetry.log_format `{}` must be `text` or `json`", self.telemetry.log_format);
        }
        crate::telemetry::filter(&self.telemetry.log).map(drop)
    }

    fn check_node(&self) -> anyhow::Result<()> {
        check_name("node.name", &self.node.name)?;
        if !self.cluster.peers.contains_key(&self.node.name) {
            bail!("node.name `{}` is not in cluster.peers; add it or correct the name", self.node.name);
        }
        if !self.cluster.regions.contains(&self.node.region) {
            bail!("node.region `{}` is not in cluster.regions", self.node.region);
        }
        if self.node.worker_threads > WORKERS_MAX {
            bail!("node.worker_threads must be 0 to {WORKERS_MAX}; 0 is one per core");
        }
        Ok(())
    }

    fn check_listen(&self) -> anyhow::Result<()> {
        let mut taken = BTreeSet::new();
        for (key, address) in [
            ("listen.gateway", &self.listen.gateway),
            ("listen.node", &self.listen.node),
            ("listen.operations", &self.listen.operations),
        ] {
            if key == "listen.operations" && address == OFF {
                continue;
            }
            let port = check_address(key, address)?;
            if port != 0 && !taken.insert(address) {
                bail!("{key} `{address}` is the address of another listener; give each its own port");
            }
        }
        Ok(())
    }

    fn check_cluster(&self) -> anyhow::Result<()> {
        let cluster = &self.cluster;
        if cluster.regions.len() > REGIONS_MAX || cluster.peers.len() > PEERS_MAX {
            bail!("cluster.regions has at most {REGIONS_MAX} and cluster.peers at most {PEERS_MAX}");
        }
        let mut regions = BTreeSet::new();
        for region in &cluster.regions {
            check_name("cluster.regions", region)?;
            if !regions.insert(region) {
                bail!("cluster.regions names `{region}` twice; each region has one place in the order");
            }
        }
        let mut addresses = BTreeSet::new();
        for (name, address) in &cluster.peers {
            let key = format!("cluster.peers.{name}");
            check_name("cluster.peers", name)?;
            if check_address(&key, address)? == 0 {
                bail!("{key} `{address}`: give the port on which that node listens");
            }
            if !addresses.insert(address) {
                bail!("{key} `{address}` is the address of another node; every node has its own");
            }
        }
        if cluster.shards_per_region == 0 || cluster.shards_per_region > 64 {
            bail!("cluster.shards_per_region must be 1 to 64");
        }
        Ok(())
    }

    fn check_raft(&self) -> anyhow::Result<()> {
        let raft = &self.raft;
        if raft.heartbeat_ms == 0 || raft.election_min_ms < raft.heartbeat_ms.saturating_mul(2) {
            bail!("raft.election_min_ms must be at least twice raft.heartbeat_ms, which is at least 1");
        }
        if raft.election_max_ms <= raft.election_min_ms || raft.election_max_ms > ELECTION_MS_MAX {
            bail!("raft.election_max_ms must be above raft.election_min_ms and at most {ELECTION_MS_MAX}");
        }
        if raft.snapshot_every_entries == 0 || raft.snapshot_every_entries > SNAPSHOT_EVERY_MAX {
            bail!("raft.snapshot_every_entries must be 1 to {SNAPSHOT_EVERY_MAX}");
        }
        Ok(())
    }

    /// Whether the node can keep its data where it is told to. Leaves nothing behind.
    pub fn check_data_dir(&self) -> anyhow::Result<()> {
        let dir = &self.node.data_dir;
        let failed = || format!("node.data_dir `{}` cannot be written; give a directory that can", dir.display());
        if dir.as_os_str().is_empty() {
            bail!("node.data_dir is empty; give a directory");
        }
        if dir.symlink_metadata().is_ok() {
            return tempfile::tempfile_in(dir).map(drop).with_context(failed);
        }
        // It would be made within the nearest directory that is there.
        let above =
            dir.ancestors().skip(1).map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
        let nearest = above.into_iter().find(|above| above.symlink_metadata().is_ok()).with_context(failed)?;
        tempfile::tempdir_in(nearest).map(drop).with_context(failed)
    }
}

/// Names go into identities, paths of metrics and messages.
fn check_name(key: &str, name: &str) -> anyhow::Result<()> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_good) {
        bail!("{key}: `{name}` is no name; give 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ -");
    }
    Ok(())
}

/// The port of `host:port`.
fn check_address(key: &str, address: &str) -> anyhow::Result<u16> {
    let parts = address.rsplit_once(':').filter(|(host, port)| {
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        let is_host =
            !host.is_empty() && (is_bracketed || !host.contains([':', '[', ']'])) && !host.contains(['/', ' ']);
        is_host && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let port = parts.and_then(|(_, port)| port.parse().ok());
    port.with_context(|| format!("{key} `{address}` is no address; write host:port, with a port of at most 65535"))
}
