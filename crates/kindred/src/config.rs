//! Configuration of `kindred serve`: a TOML file, then environment variables (`KINDRED_NODE__NAME`), then flags. Unknown
//! keys are errors, so that a misspelt limit is never silently the default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// Everything one node needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// Where it listens.
    pub listen: Listen,
    /// The cluster that it belongs to.
    pub cluster: Cluster,
    /// Raft timings.
    #[serde(default)]
    pub raft: Raft,
    /// Logs.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// For tests only.
    #[serde(default)]
    pub testing: Testing,
}

/// This node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name, as in `cluster.peers`.
    pub name: String,
    /// Its region, as in `cluster.regions`.
    pub region: String,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Worker threads; 0 = one per core.
    #[serde(default)]
    pub worker_threads: usize,
}

/// Addresses, `host:port`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// gRPC for gateways.
    #[serde(default = "default_gateway")]
    pub gateway: String,
    /// Between nodes.
    #[serde(default = "default_node")]
    pub node: String,
}

fn default_gateway() -> String {
    "127.0.0.1:7400".into()
}

fn default_node() -> String {
    "127.0.0.1:7401".into()
}

/// The cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Region names; their order gives the region indexes and never changes.
    pub regions: Vec<String>,
    /// Every node, this one included: name = node-to-node address.
    pub peers: BTreeMap<String, String>,
    /// Shards in each region.
    #[serde(default = "default_shards")]
    pub shards_per_region: u32,
    /// File with one line `region = hex of 32 bytes` per region; `kindred keygen` makes one.
    pub ticket_keys: PathBuf,
}

fn default_shards() -> u32 {
    1
}

/// Raft timings, ms.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// Shortest election timeout; also bounds the leader lease.
    pub election_min_ms: u64,
    /// Longest election timeout.
    pub election_max_ms: u64,
    /// Entries between snapshots.
    pub snapshot_every_entries: u64,
}

impl Default for Raft {
    fn default() -> Self {
        Self { heartbeat_ms: 75, election_min_ms: 250, election_max_ms: 500, snapshot_every_entries: 20_000 }
    }
}

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Filter, as in `info,kindred_replica=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info,openraft=error".into(), log_format: "text".into() }
    }
}

/// For tests only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Testing {
    /// Serve kindred.testing.v1.Points on the gateway port, so that a test can hold the saga.
    pub points: bool,
}

/// Flags that override the file and the environment.
#[derive(Debug, Default)]
pub struct Overrides {
    /// `node.name`.
    pub name: Option<String>,
    /// `node.data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `listen.gateway`.
    pub gateway: Option<String>,
    /// `listen.node`.
    pub node: Option<String>,
}

impl Config {
    /// Reads and checks the configuration.
    pub fn load(file: &Path, overrides: Overrides) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder()
            .add_source(config::File::from(file).format(config::FileFormat::Toml))
            .add_source(environment(std::env::vars()));
        for (key, value) in [
            ("node.name", overrides.name),
            ("node.data_dir", overrides.data_dir.map(|p| p.display().to_string())),
            ("listen.gateway", overrides.gateway),
            ("listen.node", overrides.node),
        ] {
            builder = builder.set_override_option(key, value)?;
        }
        let config: Self = builder
            .build()
            .and_then(config::Config::try_deserialize)
            .with_context(|| format!("configuration {}", file.display()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        if !self.cluster.peers.contains_key(&self.node.name) {
            bail!("node.name `{}` is not in cluster.peers; add it or correct the name", self.node.name);
        }
        if !self.cluster.regions.contains(&self.node.region) {
            bail!("node.region `{}` is not in cluster.regions", self.node.region);
        }
        if self.cluster.shards_per_region == 0 || self.cluster.shards_per_region > 64 {
            bail!("cluster.shards_per_region must be 1 to 64");
        }
        let raft = &self.raft;
        if raft.heartbeat_ms == 0 || raft.election_min_ms < 2 * raft.heartbeat_ms {
            bail!("raft.election_min_ms must be at least twice raft.heartbeat_ms");
        }
        if raft.election_max_ms <= raft.election_min_ms {
            bail!("raft.election_max_ms must be above raft.election_min_ms");
        }
        if raft.snapshot_every_entries == 0 {
            bail!("raft.snapshot_every_entries must be at least 1");
        }
        if !matches!(self.telemetry.log_format.as_str(), "text" | "json") {
            bail!("telemetry.log_format `{}` must be `text` or `json`", self.telemetry.log_format);
        }
        Ok(())
    }

    /// The regions' ticket keys.
    pub fn ticket_keys(&self) -> anyhow::Result<BTreeMap<String, [u8; 32]>> {
        let path = &self.cluster.ticket_keys;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("ticket keys {}: make them with `kindred keygen --out {0}`", path.display()))?;
        let mut keys = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let (region, key) = line.split_once('=').context("ticket keys: a line is not `region = hex`")?;
            let key = kindred_core::id::unhex(key.trim()).and_then(|k| k.try_into().ok());
            keys.insert(region.trim().to_owned(), key.context("ticket keys: a key is not 64 hex digits")?);
        }
        for region in &self.cluster.regions {
            if !keys.contains_key(region) {
                bail!("ticket keys {}: none for region `{region}`", path.display());
            }
        }
        Ok(keys)
    }
}

/// `KINDRED_SECTION__KEY` and nothing else: KINDRED_ADDRESS and KINDRED_CONFIG are flags of commands, and no keys.
fn environment(variables: impl Iterator<Item = (String, String)>) -> config::Environment {
    let keys = variables.filter(|(name, _)| name.starts_with("KINDRED_") && name.contains("__"));
    config::Environment::with_prefix("KINDRED").prefix_separator("_").separator("__").source(Some(keys.collect()))
}

/// The text of a ticket key file with fresh keys.
pub fn fresh_ticket_keys(regions: &[String], env: &kindred_core::env::Env) -> String {
    let mut text = String::from("# HMAC-SHA-256 ticket keys, one per region. Keep it secret; give it to every node.\n");
    for region in regions {
        let key: [u8; 32] = env.random();
        text.push_str(&format!("{region} = {}\n", kindred_core::id::hex(&key)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [node]
        name = "a"
        region = "eu"
        data_dir = "/tmp/a"
        [listen]
        [cluster]
        regions = ["eu"]
        ticket_keys = "/tmp/keys"
        [cluster.peers]
        a = "127.0.0.1:1"
    "#;

    fn load(text: &str) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("kindred.toml");
        std::fs::write(&path, text)?;
        Config::load(&path, Overrides::default())
    }

    #[test]
    fn a_plain_file_is_enough() {
        let config = load(FILE).unwrap();
        assert_eq!(config.listen.gateway, "127.0.0.1:7400");
        assert_eq!(config.raft.heartbeat_ms, 75);
    }

    #[test]
    fn the_environment_sets_keys_of_sections_and_nothing_else() {
        let variables =
            [("KINDRED_RAFT__HEARTBEAT_MS", "50"), ("KINDRED_ADDRESS", "x:1"), ("KINDRED_CONFIG", "y"), ("HOME", "z")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let built = config::Config::builder()
            .add_source(config::File::from_str(FILE, config::FileFormat::Toml))
            .add_source(environment(variables.into_iter()))
            .build();
        let config: Config = built.unwrap().try_deserialize().unwrap();
        assert_eq!(config.raft.heartbeat_ms, 50);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = load(&FILE.replace("[listen]", "[listen]\ngatewayy = \"x\"")).unwrap_err();
        assert!(format!("{error:#}").contains("gatewayy"), "{error:#}");
    }

    #[test]
    fn a_node_that_is_not_among_the_peers_is_an_error() {
        assert!(load(&FILE.replace("name = \"a\"", "name = \"b\"")).is_err());
    }
}
