//! A local cluster of real processes: three `kindred serve` children on free loopback ports. For `dev`, `demo` and
//! `bench`. Children die with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kindred_core::env::Env;
use kindred_wire::caller::Role;
use kindred_wire::net::{Net, channel};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::region_keys::{self, Kek};
use crate::{certificates, config};

/// Region names of a local cluster, in order of index; one node each.
pub const REGIONS: [&str; 3] = ["amsterdam", "boston", "chennai"];

/// How to start it.
pub struct Options {
    /// Where to keep data; a temporary directory if none.
    pub data: Option<PathBuf>,
    /// Whether the saga can be held.
    pub points: bool,
    /// Log filter of the nodes; their output goes to `node.log` in their directory.
    pub log: String,
    /// Shards per region.
    pub shards_per_region: u32,
    /// Entries between snapshots, if other than usual.
    pub snapshot_every_entries: Option<u64>,
    /// No TLS: whoever reaches a port may use it.
    pub is_plaintext: bool,
    /// Worker threads of each node, which share the machine.
    pub worker_threads: usize,
}

/// One node process.
pub struct NodeProcess {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// gRPC for gateways, `host:port`.
    pub gateway: String,
    /// Operations: plain HTTP, `host:port`.
    pub operations: String,
    /// Its directory: configuration, data, log.
    pub dir: PathBuf,
    child: Option<Child>,
}

/// The running cluster.
pub struct Cluster {
    /// Its nodes, in order of region.
    pub nodes: Vec<NodeProcess>,
    /// Directory of the certificates; none if it is plaintext.
    pub tls: Option<PathBuf>,
    /// Sockets of a gateway of this cluster.
    pub net: Arc<dyn Net>,
    // Removed when dropped.
    _temporary: Option<tempfile::TempDir>,
}

impl Cluster {
    /// Writes the configuration of each node and starts all of them. Returns once all answer; see [`Self::ready`].
    pub async fn start(options: Options, env: &Env) -> anyhow::Result<Self> {
        let (root, temporary) = match &options.data {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = tempfile::Builder::new().prefix("kindred-").tempdir()?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        std::fs::create_dir_all(&root)?;
        let secrets = Secrets::make(&root, options.is_plaintext, env)?;
        let net = crate::connect::net(secrets.tls.as_deref(), Role::Gateway.name())?;
        let ports = free_ports(3 * REGIONS.len())?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let peers: BTreeMap<String, String> =
            REGIONS.iter().zip(&ports[REGIONS.len()..]).map(|(r, p)| (format!("{r}-0"), address(*p))).collect();
        let mut nodes = Vec::new();
        for (index, region) in REGIONS.iter().enumerate() {
            let name = format!("{region}-0");
            let dir = root.join(&name);
            std::fs::create_dir_all(&dir)?;
            let config = config::Config {
                node: config::Node {
                    name: name.clone(),
                    region: (*region).into(),
                    data_dir: dir.join("data"),
                    worker_threads: options.worker_threads,
                },
                listen: config::Listen {
                    gateway: address(ports[index]),
                    node: peers[&name].clone(),
                    operations: address(ports[2 * REGIONS.len() + index]),
                },
                cluster: config::Cluster {
                    regions: REGIONS.map(String::from).to_vec(),
                    peers: peers.clone(),
                    shards_per_region: options.shards_per_region,
                    ticket_keys: secrets.ticket_keys.clone(),
                    key_encryption_key: secrets.kek.clone(),
                },
                tls: Some(match &secrets.tls {
                    Some(dir) => config::Tls::mutual(certificates::files(dir, &name)),
                    None => config::Tls::plaintext(Role::Gateway),
                }),
                limits: config::Limits::default(),
                raft: raft(&options),
                telemetry: config::Telemetry { log: options.log.clone(), ..config::Telemetry::default() },
                testing: config::Testing { points: options.points },
            };
            std::fs::write(dir.join("kindred.toml"), toml_text(&config))?;
            let config::Listen { gateway, operations, .. } = config.listen;
            nodes.push(NodeProcess { name, region: (*region).into(), gateway, operations, dir, child: None });
        }
        let mut cluster = Self { nodes, tls: secrets.tls, net, _temporary: temporary };
        for index in 0..cluster.nodes.len() {
            cluster.nodes[index].spawn()?;
        }
        cluster.ready(Duration::from_secs(60)).await?;
        Ok(cluster)
    }

    /// Gateway addresses of all nodes.
    pub fn gateways(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.gateway.clone()).collect()
    }

    /// Waits until every running node says, over gRPC health, that it serves.
    pub async fn ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + within;
        for node in self.nodes.iter_mut().filter(|node| node.child.is_some()) {
            match tokio::time::timeout_at(deadline, node.serving(self.net.clone())).await {
                Ok(serving) => serving?,
                Err(_) => bail!(
                    "waited {} s for node {} to serve; see {}",
                    within.as_secs(),
                    node.name,
                    node.dir.join("node.log").display()
                ),
            }
        }
        Ok(())
    }

    /// SIGKILL to all of them at once, as when the power fails.
    pub fn kill_all(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill();
        }
        for node in &mut self.nodes {
            node.kill();
        }
    }

    /// SIGTERM to all, then waits for each, at most `within` for all together; what is left is killed.
    pub async fn stop(&mut self, within: Duration) {
        for node in &self.nodes {
            node.signal("TERM");
        }
        let nodes = &mut self.nodes;
        let _ = tokio::time::timeout(within, async {
            for node in nodes.iter_mut() {
                while node.running() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
        .await;
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

impl NodeProcess {
    /// Starts the process.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("node.log"))?;
        let mut command = Command::new(std::env::current_exe()?);
        // What the environment sets is meant for one node, and this file says everything.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KINDRED_")) {
            command.env_remove(name);
        }
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(self.dir.join("kindred.toml"))
            .arg("--lifeline")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start node {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL, and waits for the end of the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether the process still runs.
    pub fn running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGSTOP: it keeps its connections, and does nothing.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        }
    }

    /// Asks for health until it serves; fails if the process has ended.
    async fn serving(&mut self, net: Arc<dyn Net>) -> anyhow::Result<()> {
        loop {
            if !self.running() {
                bail!("node {} ended while starting; see {}", self.name, self.dir.join("node.log").display());
            }
            let mut health = HealthClient::new(channel(net.clone(), &self.gateway)?);
            let check = health.check(HealthCheckRequest { service: String::new() });
            if let Ok(Ok(reply)) = tokio::time::timeout(Duration::from_secs(1), check).await
                && reply.get_ref().status == ServingStatus::Serving as i32
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What a local cluster keeps from others, in its directory.
struct Secrets {
    ticket_keys: PathBuf,
    kek: PathBuf,
    tls: Option<PathBuf>,
}

impl Secrets {
    /// What is there is used again, but for the certificates, which are made anew.
    fn make(root: &Path, is_plaintext: bool, env: &Env) -> anyhow::Result<Self> {
        let (ticket_keys, kek) = (root.join("ticket-keys"), root.join("key-encryption-key"));
        let regions: Vec<_> = REGIONS.map(String::from).to_vec();
        if !ticket_keys.exists() {
            let (kek, _) = Kek::read_or_make(&kek, env)?;
            write_secret(&ticket_keys, &region_keys::fresh(&regions, &kek, env)?)?;
        }
        let tls = (!is_plaintext).then(|| root.join("tls"));
        if let Some(dir) = &tls {
            let nodes: Vec<_> = regions.iter().map(|region| format!("{region}-0")).collect();
            certificates::make(dir, certificates::TRUST_DOMAIN, &nodes, env)?;
        }
        Ok(Self { ticket_keys, kek, tls })
    }
}

fn raft(options: &Options) -> config::Raft {
    let usual = config::Raft::default();
    config::Raft {
        snapshot_every_entries: options.snapshot_every_entries.unwrap_or(usual.snapshot_every_entries),
        ..usual
    }
}

/// Free loopback ports: bound together, then let go, so that no two are the same.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|l| Ok(l.local_addr()?.port())).collect()
}

/// Writes a file that only its owner may read.
pub fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all().with_context(|| format!("write {}", path.display()))
}

fn toml_text(config: &config::Config) -> String {
    let quote = |text: &dyn std::fmt::Display| format!("{:?}", text.to_string());
    let mut text = format!(
        "[node]\nname = {}\nregion = {}\ndata_dir = {}\nworker_threads = {}\n\n[listen]\ngateway = {}\nnode = {}\n\
         operations = {}\n\n",
        quote(&config.node.name),
        quote(&config.node.region),
        quote(&config.node.data_dir.display()),
        config.node.worker_threads,
        quote(&config.listen.gateway),
        quote(&config.listen.node),
        quote(&config.listen.operations),
    );
    let regions: Vec<_> = config.cluster.regions.iter().map(|r| quote(r)).collect();
    text += &format!(
        "[cluster]\nregions = [{}]\nshards_per_region = {}\nticket_keys = {}\nkey_encryption_key = {}\n\n\
         [cluster.peers]\n",
        regions.join(", "),
        config.cluster.shards_per_region,
        quote(&config.cluster.ticket_keys.display()),
        quote(&config.cluster.key_encryption_key.display()),
    );
    for (name, address) in &config.cluster.peers {
        text += &format!("{} = {}\n", quote(name), quote(address));
    }
    if let Some(tls) = &config.tls {
        text += "\n[tls]\n";
        match tls.files() {
            Ok(files) => {
                text += &format!(
                    "mode = \"mutual\"\ncertificate = {}\nkey = {}\ntrust = {}\n",
                    quote(&files.certificate.display()),
                    quote(&files.key.display()),
                    quote(&files.trust.display()),
                );
            }
            Err(_) => text += "mode = \"plaintext\"\n",
        }
    }
    text += &format!(
        "\n[raft]\nsnapshot_every_entries = {}\n\n[telemetry]\nlog = {}\n\n[testing]\npoints = {}\n",
        config.raft.snapshot_every_entries,
        quote(&config.telemetry.log),
        config.testing.points
    );
    text
}
