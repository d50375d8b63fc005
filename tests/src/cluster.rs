//! A cluster of three `kindred serve` processes in three regions, from generated TOML, on free loopback ports, under a
//! directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kindred_client::{Client, Patience};
use kindred_core::map::ShardMap;
use kindred_wire::net::{Net, Tcp, channel};
use kindred_wire::tls::{Files, Tls};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::points::{self, Replicas};
use crate::{SOON, eventually, trace};

/// Regions in order of index. Node `n` is `<region n>-0`; the first founds the cluster.
pub const REGIONS: [&str; 3] = ["amsterdam", "boston", "chennai"];

/// Clusters of one test process at a time: three nodes want a core, and a starved one only slows what is tested.
static TURNS: Semaphore = Semaphore::const_new(2);

/// For calls that must be answered in the end, whoever is down just now.
const PATIENT: Patience = Patience {
    attempts: 150,
    attempt: Duration::from_secs(10),
    pause: Duration::from_millis(50),
    pause_max: Duration::from_millis(300),
};

/// How it is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `raft.snapshot_every_entries`.
    pub snapshot_every: u64,
    /// Runs every node under strace.
    pub is_traced: bool,
    /// No TLS.
    pub is_plaintext: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { snapshot_every: 20_000, is_traced: false, is_plaintext: false }
    }
}

/// A running cluster. Dropping it kills its processes and removes its files; while a test panics it first prints the ends
/// of the nodes' logs.
pub struct Cluster {
    /// By index of their region.
    pub nodes: Vec<Node>,
    /// Sockets of a gateway.
    pub net: Arc<dyn Net>,
    root: tempfile::TempDir,
    _turn: SemaphorePermit<'static>,
}

/// One node and its process, if it runs.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address for gateways.
    pub gateway: String,
    /// Its operations port, plain HTTP.
    pub operations: String,
    net: Arc<dyn Net>,
    dir: PathBuf,
    is_traced: bool,
    child: Option<Child>,
}

impl Cluster {
    /// Three nodes that serve.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let turn = TURNS.acquire().await?;
        let root = tempfile::Builder::new().prefix("kindred-test-").tempdir()?;
        make_secrets(root.path())?;
        let net = gateway_net(root.path(), options)?;
        let ports = free_ports(3 * REGIONS.len())?;
        let (peers, others) = ports.split_at(REGIONS.len());
        let mut nodes = Vec::new();
        for (region, mine) in REGIONS.iter().zip(others.chunks_exact(2)) {
            let name = format!("{region}-0");
            let dir = root.path().join(&name);
            std::fs::create_dir_all(&dir)?;
            let text = configuration(root.path(), region, mine, peers, options);
            std::fs::write(dir.join("kindred.toml"), text)?;
            let (gateway, operations) = (format!("127.0.0.1:{}", mine[0]), format!("127.0.0.1:{}", mine[1]));
            let (net, is_traced) = (net.clone(), options.is_traced);
            nodes.push(Node { name, gateway, operations, net, dir, is_traced, child: None });
        }
        let mut cluster = Self { nodes, net, root, _turn: turn };
        for node in &mut cluster.nodes {
            node.start()?;
        }
        cluster.serves().await?;
        Ok(cluster)
    }

    /// Waits until every process that was started serves.
    pub async fn serves(&mut self) -> anyhow::Result<()> {
        for node in self.nodes.iter_mut().filter(|node| node.child.is_some()) {
            eventually(&format!("{} to serve", node.name), SOON, async || node.check_health().await).await?;
        }
        Ok(())
    }

    /// A client that asks these nodes, in this order, until somebody answers.
    pub fn client(&self, nodes: &[usize]) -> anyhow::Result<Client> {
        Ok(self.connect(nodes)?.with_patience(PATIENT))
    }

    /// A client that asks this node once.
    pub fn once(&self, node: usize) -> anyhow::Result<Client> {
        let patience = Patience { attempts: 1, attempt: Duration::from_secs(30), ..PATIENT };
        Ok(self.connect(&[node])?.with_patience(patience))
    }

    fn connect(&self, nodes: &[usize]) -> anyhow::Result<Client> {
        let gateways: Vec<_> = nodes.iter().map(|node| self.nodes[*node].gateway.clone()).collect();
        Ok(Client::connect(self.net.clone(), &gateways)?)
    }

    /// Which shard owns what.
    pub fn map(&self) -> ShardMap {
        ShardMap::fixed(&REGIONS.map(String::from), 1)
    }

    /// SIGKILL to all before any of them is waited for, as when the power fails.
    pub fn kill_all(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill();
        }
        for node in &mut self.nodes {
            node.kill();
        }
    }

    /// Waits until these nodes agree, for every shard, on its leader, on all three nodes as its voters, and on the last
    /// entry applied.
    pub async fn level(&self, nodes: &[usize]) -> anyhow::Result<Vec<Replicas>> {
        let shards = self.map().shards().len();
        eventually("the replicas to be level", SOON, async || {
            let asked = nodes.iter().map(|node| self.nodes[*node].status());
            let seen: Vec<Replicas> = futures::future::try_join_all(asked).await?;
            let is_level = seen.iter().all(|replicas| {
                replicas.len() == shards
                    && replicas.iter().all(|(shard, replica)| {
                        let first = &seen[0][shard];
                        let mut voters = replica.voters.clone();
                        voters.sort();
                        !replica.leader.is_empty()
                            && (&replica.leader, replica.term) == (&first.leader, first.term)
                            && replica.applied_index == first.applied_index
                            && voters.iter().eq(self.nodes.iter().map(|node| &node.name))
                    })
            });
            if is_level { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await
    }

    /// Waits until the node leads its own region's shard.
    pub async fn leads_at_home(&self, node: usize) -> anyhow::Result<()> {
        let home = self.map().regions[node].shards[0];
        eventually("the leader to go home", SOON, async || {
            let seen = self.level(&[0, 1, 2]).await.map_err(|error| error.to_string())?;
            let leader = &seen[node][&home.0].leader;
            if *leader == self.nodes[node].name { Ok(()) } else { Err(format!("{leader} leads shard {home}")) }
        })
        .await
    }

    /// From now on everything here is called with these sockets.
    pub fn set_net(&mut self, net: &Arc<dyn Net>) {
        self.net = net.clone();
        for node in &mut self.nodes {
            node.net = net.clone();
        }
    }

    /// Where the certificates are.
    pub fn tls(&self) -> PathBuf {
        self.root.path().join("tls")
    }

    /// The system calls of a node so far, if it is traced.
    pub fn trace(&self, node: usize) -> anyhow::Result<Vec<trace::Call>> {
        trace::read(&self.nodes[node].dir)
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
            if std::thread::panicking() {
                eprintln!("--- the end of {}'s log ---\n{}", node.name, node.log_end(40));
            }
        }
    }
}

impl Node {
    /// Starts the process.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("node.log"))?;
        let mut command = crate::kindred()?;
        // The lifeline: it ends when this process does, however that ends.
        command.arg("serve").arg("--config").arg(self.config()).arg("--lifeline");
        if self.is_traced {
            command = trace::under_strace(&command, &self.dir);
        }
        let child = command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).spawn();
        self.child = Some(child.with_context(|| format!("start {}", self.name))?);
        Ok(())
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("kindred.toml")
    }

    /// SIGKILL, and waits for the end of the process.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // A killed strace would leave its node behind; the closed lifeline ends both.
        if !self.is_traced {
            let _ = child.kill();
        }
        let _ = child.wait();
    }

    /// SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal("TERM")
    }

    /// SIGSTOP: it keeps its connections, and does nothing.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// SIGCONT.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    /// SIGHUP: look at the certificates now.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        self.signal("HUP")
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.child.as_ref().context("it does not run")?.id();
        // The shell's own: a slim image has no program of that name.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status()?;
        anyhow::ensure!(sent.success(), "kill -{name} {pid}: {sent}");
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().context("it does not run")?;
        let status = eventually(&format!("{} to end", self.name), within, async || {
            child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it runs".to_owned())
        })
        .await?;
        self.child = None;
        Ok(status)
    }

    /// Whether the process runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Removes everything that the node has on its disk.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.runs(), "{} still runs", self.name);
        std::fs::remove_dir_all(self.dir.join("data")).with_context(|| format!("wipe {}", self.name))
    }

    /// Who leads, as this node sees it, and how far its replicas are.
    pub async fn status(&self) -> Result<Replicas, String> {
        points::status(self.net.clone(), &self.gateway).await
    }

    /// Ok once it says SERVING.
    pub async fn check_health(&mut self) -> Result<(), String> {
        if !self.runs() {
            return Err(format!("the process has ended\n{}", self.log_end(20)));
        }
        let channel = channel(self.net.clone(), &self.gateway).map_err(|error| error.to_string())?;
        let check = async { HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await };
        match tokio::time::timeout(Duration::from_secs(2), check).await {
            Ok(Ok(reply)) if reply.get_ref().status == ServingStatus::Serving as i32 => Ok(()),
            Ok(Ok(_)) => Err("it does not serve yet".to_owned()),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("health does not answer".to_owned()),
        }
    }

    fn log_end(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(self.dir.join("node.log")).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Ports on which nobody listens. They lie outside the range from which the kernel takes the ports of outgoing
/// connections: in it a node that comes back may find its port in use, by a peer's attempt to reach it even.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin far from each other.
    let start = u16::try_from(std::process::id() * 97 % u32::from(COUNT))?;
    let mut free = Vec::new();
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(offset)) % COUNT;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            free.push(port);
        }
        if free.len() == count {
            return Ok(free);
        }
    }
    bail!("no {count} ports are free")
}

/// An authority of its own in `dir`, with certificates for everybody.
pub fn make_certificates(dir: &Path) -> anyhow::Result<()> {
    let nodes = REGIONS.map(|region| format!("{region}-0")).join(",");
    let ran = crate::kindred()?.args(["certificates", "--nodes", &nodes, "--out"]).arg(dir).output()?;
    anyhow::ensure!(ran.status.success(), "{ran:?}");
    Ok(())
}

/// Keys of all regions and certificates for everybody, by the commands that everybody has.
fn make_secrets(root: &Path) -> anyhow::Result<()> {
    let mut command = crate::kindred()?;
    command.args(["keys", "new", "--regions", &REGIONS.join(","), "--out"]).arg(root.join("ticket-keys"));
    let ran = command.arg("--kek").arg(root.join("kek")).output()?;
    anyhow::ensure!(ran.status.success(), "{ran:?}");
    make_certificates(&root.join("tls"))
}

/// Sockets of a gateway.
fn gateway_net(root: &Path, options: Options) -> anyhow::Result<Arc<dyn Net>> {
    if options.is_plaintext {
        return Ok(Arc::new(Tcp));
    }
    Ok(Arc::new(Tls::new(Arc::new(Tcp), files(&root.join("tls"), "gateway"))?))
}

/// The files of a holder in a directory that `kindred certificates` made.
pub fn files(dir: &Path, holder: &str) -> Files {
    let of = |name: String| dir.join(name);
    Files { certificate: of(format!("{holder}.pem")), key: of(format!("{holder}.key")), trust: of("ca.pem".into()) }
}

/// The configuration of the node in `region`, which listens on two ports of its own beside that of its peers.
fn configuration(root: &Path, region: &str, mine: &[u16], peers: &[u16], options: Options) -> String {
    let of = |name: &str| REGIONS.iter().position(|region| *region == name).map(|index| peers[index]);
    let book = REGIONS.iter().zip(peers).map(|(region, port)| format!("{region}-0 = \"127.0.0.1:{port}\"\n"));
    let Files { certificate, key, trust } = files(&root.join("tls"), &format!("{region}-0"));
    let tls = match options.is_plaintext {
        true => "mode = \"plaintext\"\n".to_owned(),
        false => format!(
            "mode = \"mutual\"\ncertificate = {certificate:?}\nkey = {key:?}\ntrust = {trust:?}\n\
             reload_interval_ms = 200\n"
        ),
    };
    format!(
        "[node]\nname = \"{region}-0\"\nregion = \"{region}\"\ndata_dir = {data:?}\nworker_threads = 1\n\n\
         [listen]\ngateway = \"127.0.0.1:{gateway}\"\nnode = \"127.0.0.1:{node}\"\n\
         operations = \"127.0.0.1:{operations}\"\n\n\
         [cluster]\nregions = {REGIONS:?}\nticket_keys = {keys:?}\nkey_encryption_key = {kek:?}\n\n\
         [cluster.peers]\n{book}\n[tls]\n{tls}\n\
         [raft]\nsnapshot_every_entries = {snapshots}\n\n\
         [telemetry]\nlog = \"info,openraft=error\"\n\n[testing]\npoints = true\n",
        data = root.join(format!("{region}-0")).join("data"),
        gateway = mine[0],
        operations = mine[1],
        node = of(region).unwrap_or_default(),
        keys = root.join("ticket-keys"),
        kek = root.join("kek"),
        book = book.collect::<String>(),
        snapshots = options.snapshot_every,
    )
}
