//! One node of a cluster that never forms, in this process, on real sockets: enough to see what its listeners take.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kindred_core::env::{Clock, Entropy, Env};
use kindred_core::map::ShardMap;
use kindred_node::{Limits, Node, Options, Plaintext, Raft};
use kindred_store::log_writer::LogWriter;
use kindred_store::simulated::SimEngine;
use kindred_wire::caller::{Caller, Role};
use kindred_wire::net::{Listener, Net, Stream, Tcp, channel};
use kindred_wire::shards::BoxFuture;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Whatever has to come about comes about within this time, or never.
pub const SOON: Duration = Duration::from_secs(30);

struct Time(Instant);

impl Clock for Time {
    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.monotonic_ms()
    }
}

struct Chance(AtomicU64);

impl Entropy for Chance {
    fn fill(&self, bytes: &mut [u8]) {
        let drawn = kindred_core::canonical::sha256(&[&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes()]);
        bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = drawn.0[at % 32]);
    }
}

/// What becomes of a connection before it is used.
#[derive(Clone)]
pub enum Handshake {
    /// Nothing.
    None,
    /// It proves to be this one.
    Proves(Caller),
    /// It never ends.
    Stalls,
}

/// TCP that counts, and does what a test wants of handshakes.
pub struct TestNet {
    pub handshake: Handshake,
    pub accepted: Arc<AtomicU64>,
}

struct TestListener {
    inner: Box<dyn Listener>,
    handshake: Handshake,
    accepted: Arc<AtomicU64>,
}

impl Net for TestNet {
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        Tcp.dial(address)
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (bound, handshake, accepted) = (Tcp.listen(address), self.handshake.clone(), self.accepted.clone());
        Box::pin(
            async move { Ok(Box::new(TestListener { inner: bound.await?, handshake, accepted }) as Box<dyn Listener>) },
        )
    }
}

impl Listener for TestListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        self.inner.accept()
    }
    fn local_addr(&self) -> io::Result<String> {
        self.inner.local_addr()
    }
    fn secure(&self, stream: Stream) -> BoxFuture<'static, io::Result<Stream>> {
        let handshake = self.handshake.clone();
        Box::pin(async move {
            match handshake {
                Handshake::None => Ok(stream),
                Handshake::Proves(caller) => Ok(stream.with_caller(caller)),
                Handshake::Stalls => std::future::pending().await,
            }
        })
    }
}

/// The node.
pub struct Alone {
    pub node: Node,
    pub gateway: String,
    pub peer: String,
    /// Calls of accept on either listener.
    pub accepted: Arc<AtomicU64>,
}

impl Alone {
    /// Plaintext, with these limits.
    pub async fn start(limits: Limits) -> Self {
        Self::start_with(limits, Handshake::None, Some(Plaintext { gateway: Role::Gateway })).await
    }

    pub async fn start_with(limits: Limits, handshake: Handshake, plaintext: Option<Plaintext>) -> Self {
        let engine = SimEngine::new();
        let accepted = Arc::new(AtomicU64::new(0));
        let peer = format!("127.0.0.1:{}", free_port());
        // Nobody listens at b's, so no cluster ever comes to be.
        let peers = [("a".to_owned(), peer.clone()), ("b".to_owned(), "127.0.0.1:1".to_owned())];
        let options = Options {
            engine: engine.clone(),
            log_writer: LogWriter::run_task(engine),
            env: Env { clock: Arc::new(Time(Instant::now())), entropy: Arc::new(Chance(AtomicU64::new(0))) },
            net: Arc::new(TestNet { handshake, accepted: accepted.clone() }),
            name: "a".into(),
            region: "eu".into(),
            peers: BTreeMap::from(peers),
            map: ShardMap::fixed(&["eu".to_owned()], 1),
            ticket_keys: BTreeMap::new(),
            listen_gateway: "127.0.0.1:0".into(),
            listen_node: peer.clone(),
            raft: Raft { heartbeat_ms: 75, election_min_ms: 250, election_max_ms: 500, snapshot_every_entries: 1_000 },
            points: kindred_node::NamedPoints::Off,
            limits,
            plaintext,
            operations: None,
        };
        let node = Node::start(options).await.unwrap();
        let gateway = node.gateway_address().to_owned();
        Self { node, gateway, peer, accepted }
    }

    /// A client with a connection of its own.
    pub fn client(&self) -> Channel {
        channel(Arc::new(Tcp), &self.gateway).unwrap()
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether the node answers on this connection. It may say that it does not serve, for it never will.
pub async fn answers(channel: &Channel) -> Result<(), tonic::Status> {
    let check = async { HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await };
    tokio::time::timeout(SOON, check).await.expect("neither an answer nor an end").map(drop)
}

/// Looks until it is so.
pub async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !look().await {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
