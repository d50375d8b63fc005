//! Configuration of `kindred serve`: a TOML file, then environment variables (`KINDRED_NODE__NAME`), then flags. Unknown
//! keys are errors, so that a misspelt limit is never silently the default.

mod check;
mod limits;
mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::limits::Limits;
pub use self::tls::{Mode, Tls};

/// In place of an address: no operations port.
pub const OFF: &str = "off";

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
    /// Who may connect. Must be there, and is checked rather than defaulted so that the message can say what to write.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// What listeners take.
    #[serde(default)]
    pub limits: Limits,
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
    #[serde(default, deserialize_with = "whole")]
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
    /// Operations: plain HTTP; `off` for none.
    #[serde(default = "default_operations")]
    pub operations: String,
}

fn default_operations() -> String {
    "127.0.0.1:7402".into()
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
    #[serde(default = "default_shards", deserialize_with = "whole")]
    pub shards_per_region: u32,
    /// The regions' ticket keys, sealed; `kindred keys new` makes such a file (docs/region-keys.md).
    pub ticket_keys: PathBuf,
    /// The key that they are sealed under: 64 hex digits in a file that only its owner may read.
    pub key_encryption_key: PathBuf,
}

fn default_shards() -> u32 {
    1
}

/// Raft timings, ms.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    /// Between heartbeats.
    #[serde(deserialize_with = "whole")]
    pub heartbeat_ms: u64,
    /// Shortest election timeout; also bounds the leader lease.
    #[serde(deserialize_with = "whole")]
    pub election_min_ms: u64,
    /// Longest election timeout.
    #[serde(deserialize_with = "whole")]
    pub election_max_ms: u64,
    /// Entries between snapshots.
    #[serde(deserialize_with = "whole")]
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

    /// The regions' ticket keys.
    pub fn ticket_keys(&self) -> anyhow::Result<crate::region_keys::Keys> {
        let kek =
            crate::region_keys::Kek::read(&self.cluster.key_encryption_key).context("cluster.key_encryption_key")?;
        let keys = crate::region_keys::open(&self.cluster.ticket_keys, &kek).context("cluster.ticket_keys")?;
        let path = self.cluster.ticket_keys.display();
        for region in &self.cluster.regions {
            if !keys.has(region) {
                anyhow::bail!("cluster.ticket_keys: {path} has no key for region `{region}`");
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

/// A whole number, or the text of one (the environment has only texts). The configuration library would round fractions
/// and take `true` for 1.
fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(deserializer: D) -> Result<T, D::Error> {
    struct Whole;
    impl serde::de::Visitor<'_> for Whole {
        type Value = i128;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a whole number")
        }
        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<i128, E> {
            Ok(value.into())
        }
        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<i128, E> {
            Ok(value.into())
        }
        fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<i128, E> {
            Ok(value)
        }
        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<i128, E> {
            value.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(value), &self))
        }
    }
    let value = deserializer.deserialize_any(Whole)?;
    T::try_from(value).map_err(|_| serde::de::Error::custom(format!("{value} is out of bounds")))
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
        key_encryption_key = "/tmp/kek"
        [tls]
        mode = "plaintext"
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
