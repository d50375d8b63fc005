//! A cluster without Raft: every shard is `kindred_core::apply` over records in memory, served by real frontends over
//! in-memory connections.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kindred_client::{Approve, Client, Device, Member, Qr};
use kindred_core::admit::{Gate, admit};
use kindred_core::apply::apply;
use kindred_core::canonical::TicketKey;
use kindred_core::command::{
    Aggregate, Command, Committed, Effect, Entry, Envelope, OutboxItem, Proven, Query, Submission,
};
use kindred_core::env::{Clock, Entropy, Env};
use kindred_core::id::{AccountId, ClusterId, RegionIndex, RequestId, ShardId};
use kindred_core::map::ShardMap;
use kindred_core::memory::Memory;
use kindred_core::model::{Receipt, Requester};
use kindred_core::query::answer;
use kindred_core::state::{Key, Record, View};
use kindred_wire::caller::{Caller, Role};
use kindred_wire::net::{Listener, Net, Stream, incoming};
use kindred_wire::shards::{BoxFuture, Consistency, Observed, Points, ShardError, Shards};
use tokio::sync::{mpsc, watch};

pub const CLUSTER: ClusterId = ClusterId([0xC1; 16]);
pub const REGIONS: [&str; 3] = ["north", "east", "west"];
/// A node in the east, to which an operator called root is connected.
pub const OPS: &str = "ops";

/// Time and chance of the test.
pub struct World {
    now_ms: AtomicU64,
    drawn: AtomicU64,
}

impl Clock for World {
    fn monotonic_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.monotonic_ms()
    }
}

impl Entropy for World {
    fn fill(&self, bytes: &mut [u8]) {
        let number = self.drawn.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = kindred_core::canonical::sha256(&[&number]).0[at % 32];
        }
    }
}

/// When an injected error strikes.
#[derive(Clone, Copy, PartialEq)]
pub enum Strike {
    Before,
    After,
}

#[derive(Default)]
struct Group {
    memory: Memory,
    index: u64,
    time_ms: u64,
    submit_errors: VecDeque<(Strike, ShardError)>,
    query_error: Option<ShardError>,
}

/// All shards.
pub struct Groups {
    map: Arc<ShardMap>,
    groups: Mutex<BTreeMap<ShardId, Group>>,
    touched: watch::Sender<u64>,
    /// Whether the account's outbox is performed at once.
    settles: Mutex<bool>,
}

impl Groups {
    pub fn new() -> Arc<Self> {
        let map = Arc::new(ShardMap::fixed(&REGIONS.map(str::to_owned), 2));
        let groups = Mutex::new(map.shards().into_iter().map(|(id, _)| (id, Group::default())).collect());
        Arc::new(Self { map, groups, touched: watch::Sender::new(0), settles: Mutex::new(true) })
    }

    fn region_of(&self, shard: ShardId) -> RegionIndex {
        let found = self.map.shards().into_iter().find(|(id, _)| *id == shard).unwrap();
        found.1.unwrap_or(RegionIndex(0))
    }

    fn key_of(&self, shard: ShardId) -> TicketKey {
        TicketKey([u8::try_from(self.region_of(shard).0).unwrap(); 32])
    }

    pub fn account_shard(&self, home: &str, account: &AccountId) -> ShardId {
        self.map.account(self.map.region(home).unwrap(), account).unwrap()
    }

    /// Every record of every shard.
    pub fn picture(&self) -> Vec<(ShardId, Memory)> {
        self.groups.lock().unwrap().iter().map(|(id, group)| (*id, group.memory.clone())).collect()
    }

    pub fn all(&self) -> Vec<ShardId> {
        self.map.shards().into_iter().map(|(id, _)| id).collect()
    }

    pub fn fail_submits(&self, shard: ShardId, errors: &[(Strike, ShardError)]) {
        self.groups.lock().unwrap().get_mut(&shard).unwrap().submit_errors.extend(errors);
    }

    pub fn fail_queries(&self, shard: ShardId, error: Option<ShardError>) {
        self.groups.lock().unwrap().get_mut(&shard).unwrap().query_error = error;
    }

    pub fn set_settles(&self, settles: bool) {
        *self.settles.lock().unwrap() = settles;
        if settles {
            self.perform();
        }
    }

    /// Moves shard time everywhere and expires what is due, as leaders would.
    pub fn advance(&self, ms: u64) {
        for shard in self.all() {
            let mut left_ms = ms;
            while left_ms > 0 {
                let step_ms = left_ms.min(5_000);
                left_ms -= step_ms;
                self.propose(shard, step_ms, vec![by_cluster(Command::Tick)]);
            }
            let due: Vec<_> = {
                let groups = self.groups.lock().unwrap();
                let group = &groups[&shard];
                let timers = group.memory.timers(group.time_ms, 100).unwrap();
                timers
                    .into_iter()
                    .filter_map(|(_, timer)| match timer {
                        kindred_core::state::Timer::TicketDeadline(ticket) => Some(ticket),
                        _ => None,
                    })
                    .collect()
            };
            self.propose(shard, 0, vec![by_cluster(Command::Expire { tickets: due })]);
        }
    }

    fn propose(&self, shard: ShardId, elapsed_ms: u64, commands: Vec<Envelope>) -> Vec<Committed> {
        let region = self.region_of(shard);
        let mut groups = self.groups.lock().unwrap();
        let group = groups.get_mut(&shard).unwrap();
        group.index += 1;
        let entry = Entry { elapsed_ms, wall_ms: 1_700_000_000_000, entropy: [7; 32], commands };
        let applied = apply(&group.memory, &entry, group.index, region).unwrap();
        group.memory.absorb(&applied.changes);
        group.time_ms = applied.time_ms;
        let shard_time_ms = applied.time_ms;
        let committed = applied.replies.into_iter().map(|(reply, log_index)| Committed {
            reply,
            log_index,
            shard_time_ms,
            nonce: Vec::new(),
        });
        let committed = committed.collect();
        drop(groups);
        self.touched.send_modify(|n| *n += 1);
        committed
    }

    /// The account's shard; the directory's where there is no such account, which takes no notice.
    fn home(&self, account: &AccountId) -> ShardId {
        let directory = self.map.directory(account).unwrap();
        let groups = self.groups.lock().unwrap();
        match groups[&directory].memory.get(&Key::Directory(account.clone())).unwrap() {
            Some(Record::Directory(entry)) => self.map.account(entry.home, account).unwrap(),
            _ => directory,
        }
    }

    /// What leaders do with their outboxes.
    fn perform(&self) {
        if !*self.settles.lock().unwrap() {
            return;
        }
        for shard in self.all() {
            let items: Vec<OutboxItem> = self.groups.lock().unwrap()[&shard].memory.outbox(0, 100).unwrap();
            for item in items {
                let (target, command) = match item.effect {
                    Effect::Settle { ticket, outcome } => {
                        (self.map.ticket(&ticket).unwrap(), Command::Settle { ticket, outcome })
                    }
                    Effect::ConfirmClaim { account, claim, home_epoch } => {
                        (self.map.directory(&account).unwrap(), Command::ConfirmClaim { account, claim, home_epoch })
                    }
                    Effect::MarkDeleted { account, claim } => {
                        (self.map.directory(&account).unwrap(), Command::MarkDeleted { account, claim })
                    }
                    Effect::AttachCode { account, ticket, requester } => {
                        (self.home(&account), Command::AttachCode { account, ticket, requester })
                    }
                    Effect::HoldCode { account, ticket } => {
                        (self.home(&account), Command::HoldCode { account, ticket })
                    }
                    Effect::DetachCode { account, ticket } => {
                        (self.home(&account), Command::DetachCode { account, ticket })
                    }
                };
                self.propose(target, 0, vec![by_cluster(command)]);
                self.propose(shard, 0, vec![by_cluster(Command::AckEffects { effects: vec![item.id] })]);
            }
        }
    }
}

fn by_cluster(command: Command) -> Envelope {
    Envelope { request: RequestId([0; 16]), policy_version: 0, proven: Proven::Cluster, command }
}

/// The shards as one node sees them.
pub struct MemoryShards {
    groups: Arc<Groups>,
    region: RegionIndex,
}

impl MemoryShards {
    pub fn at(groups: Arc<Groups>, region: RegionIndex) -> Self {
        Self { groups, region }
    }
}

impl Shards for MemoryShards {
    fn cluster(&self) -> Option<ClusterId> {
        Some(CLUSTER)
    }
    fn map(&self) -> Arc<ShardMap> {
        self.groups.map.clone()
    }
    fn region(&self) -> RegionIndex {
        self.region
    }

    fn submit(&self, shard: ShardId, submission: Submission) -> BoxFuture<'_, Result<Committed, ShardError>> {
        Box::pin(async move {
            let strike = self.groups.groups.lock().unwrap().get_mut(&shard).unwrap().submit_errors.pop_front();
            if let Some((Strike::Before, error)) = strike {
                return Err(error);
            }
            let key = self.groups.key_of(shard);
            let gate = |now_ms| Gate { cluster: &CLUSTER, shard, ticket_key: Some(&key), now_ms };
            let admitted = {
                let groups = self.groups.groups.lock().unwrap();
                let group = &groups[&shard];
                admit(&group.memory, &gate(group.time_ms), &submission).unwrap()
            };
            let committed = match admitted {
                Ok(envelope) => {
                    let committed = self.groups.propose(shard, 1, vec![envelope]).remove(0);
                    let nonce = gate(committed.shard_time_ms).next_nonce(&submission);
                    Committed { nonce, ..committed }
                }
                Err(committed) => committed,
            };
            self.groups.perform();
            match strike {
                Some((Strike::After, error)) => Err(error),
                _ => Ok(committed),
            }
        })
    }

    fn query(&self, shard: ShardId, query: Query, _: Consistency) -> BoxFuture<'_, Result<Observed, ShardError>> {
        Box::pin(async move {
            let key = self.groups.key_of(shard);
            let groups = self.groups.groups.lock().unwrap();
            let group = &groups[&shard];
            if let Some(error) = group.query_error {
                return Err(error);
            }
            let answer = answer(&group.memory, Some(&key), group.time_ms, &query).unwrap();
            Ok(Observed { answer, age_ms: 0, shard_time_ms: group.time_ms, applied_index: group.index })
        })
    }

    fn changed(&self, _: ShardId, _: Aggregate, timeout_ms: u64) -> BoxFuture<'static, ()> {
        let mut touched = self.groups.touched.subscribe();
        Box::pin(async move {
            let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), touched.changed()).await;
        })
    }
}

/// Records the points that were reached.
#[derive(Default)]
pub struct Seen(pub Mutex<Vec<&'static str>>);

impl Points for Seen {
    fn reach(&self, point: &'static str, _: &AccountId, _: u64) -> BoxFuture<'static, ()> {
        self.0.lock().unwrap().push(point);
        Box::pin(std::future::ready(()))
    }
}

type Accepting = mpsc::UnboundedSender<Stream>;

/// Connections that never leave the process.
#[derive(Default)]
struct Wires(Arc<Mutex<BTreeMap<String, Accepting>>>);

struct Accept(mpsc::UnboundedReceiver<Stream>, String);

impl Listener for Accept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move { self.0.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into()) })
    }
    fn local_addr(&self) -> io::Result<String> {
        Ok(self.1.clone())
    }
}

impl Net for Wires {
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        let to = self.0.lock().unwrap().get(&address).cloned();
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(1 << 20);
            match to.map(|to| to.send(Stream::new(far))) {
                Some(Ok(())) => Ok(Stream::new(near)),
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (tx, rx) = mpsc::unbounded_channel();
        self.0.lock().unwrap().insert(address.clone(), tx);
        Box::pin(async move { Ok(Box::new(Accept(rx, address)) as Box<dyn Listener>) })
    }
}

/// Three frontends in three regions over the same shards.
pub struct Cluster {
    pub groups: Arc<Groups>,
    pub seen: Arc<Seen>,
    pub env: Env,
    world: Arc<World>,
    pub net: Arc<dyn Net>,
    servers: BTreeMap<&'static str, tokio::task::JoinHandle<()>>,
}

impl Cluster {
    pub async fn start() -> Self {
        let world = Arc::new(World { now_ms: AtomicU64::new(5), drawn: AtomicU64::new(0) });
        let env = Env { clock: world.clone(), entropy: world.clone() };
        let (groups, seen) = (Groups::new(), Arc::new(Seen::default()));
        let net: Arc<dyn Net> = Arc::new(Wires::default());
        let mut servers = BTreeMap::new();
        for (region, index, is_ops) in [("north", 0, false), ("east", 1, false), ("west", 2, false), (OPS, 1, true)] {
            let shards = Arc::new(MemoryShards { groups: groups.clone(), region: RegionIndex(index) });
            let mut routes = kindred_frontend::services(shards, seen.clone(), env.clone());
            if is_ops {
                // What a certificate would have shown.
                let caller = Caller { role: Role::Operator, name: "root".into() };
                let known = tower::util::MapRequestLayer::new(move |mut request: http::Request<_>| {
                    request.extensions_mut().insert(caller.clone());
                    request
                });
                routes = tonic::service::Routes::from(routes.into_axum_router().layer(known));
            }
            let listener = net.listen(region.to_owned()).await.unwrap();
            let server = tonic::transport::Server::builder().add_routes(routes);
            servers.insert(
                region,
                tokio::spawn(async move { server.serve_with_incoming(incoming(listener)).await.unwrap() }),
            );
        }
        Self { groups, seen, env, world, net, servers }
    }

    /// A client of these regions' nodes, in that order.
    pub fn client(&self, regions: &[&str]) -> Client {
        let addresses: Vec<_> = regions.iter().map(|r| (*r).to_owned()).collect();
        Client::connect(self.net.clone(), &addresses).unwrap()
    }

    /// A bare connection, for requests that are made by hand.
    pub fn channel(&self, region: &str) -> tonic::transport::Channel {
        kindred_wire::net::channel(self.net.clone(), region).unwrap()
    }

    pub fn stop(&self, region: &str) {
        self.servers[region].abort();
    }

    pub fn request(&self) -> RequestId {
        kindred_client::request_id(&self.env)
    }

    pub fn device(&self) -> Device {
        Device::new(&self.env.random(), CLUSTER)
    }

    /// Moves all clocks.
    pub fn advance(&self, ms: u64) {
        self.world.now_ms.fetch_add(ms, Ordering::SeqCst);
        self.groups.advance(ms);
    }

    pub async fn register(&self, name: &str, home: &str) -> Member {
        let account = AccountId::new(name.as_bytes()).unwrap();
        let about = kindred_core::model::Device { platform: "android".into(), ..Default::default() };
        let client = self.client(&["north"]);
        client.register(&self.device(), &account, &about, home, self.request()).await.unwrap().0
    }

    /// Opens in `region` and has `phone` scan what the QR code says.
    pub async fn scanned(&self, region: &str, phone: &mut Member) -> (Device, Approve) {
        let (client, device) = (self.client(&[region]), self.device());
        let opened = client.open(&device, &Requester::default(), self.request()).await.unwrap();
        let qr = Qr::parse(&opened.qr_payload).unwrap();
        assert_eq!((qr.region.as_str(), qr.device_key), (region, device.key()));
        client.scan(phone, &qr.reference, self.request()).await.unwrap();
        let envelope = b"for the companion".to_vec();
        (device, Approve { ticket: qr.ticket().unwrap(), device_key: qr.device_key, replaces: None, envelope })
    }

    /// Links one companion through `region`.
    pub async fn linked(&self, region: &str, phone: &mut Member) -> (Member, Receipt) {
        let (device, what) = self.scanned(region, phone).await;
        let receipt = self.client(&["west"]).approve(phone, &what, self.request()).await.unwrap();
        let companion = Member { device, session: receipt.session, ..phone.clone() };
        (companion, receipt)
    }
}
