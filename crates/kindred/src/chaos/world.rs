//! The cluster as clients see it, and the history: every attempt is written down before it is sent and after its answer
//! was seen, and repeated through other nodes, under the same request id, until there is an answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kindred_check::Recorder;
use kindred_client::{Client, Error, Patience};
use kindred_core::env::Env;
use kindred_core::id::{AccountId, ClusterId, SessionId, ShardId};
use kindred_core::map::ShardMap;
use kindred_wire::net::Net;
use kindred_witness::{Ask, refusal};
use tokio::time::Instant;

/// After so long without an answer a client gives up; what it asked for stays unknown.
const INSISTS_FOR: Duration = Duration::from_secs(20);
/// One attempt; then the same is asked of another node.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Everybody's view of the cluster.
pub(super) struct World {
    pub(super) recorder: Recorder,
    pub(super) env: Env,
    pub(super) map: ShardMap,
    pub(super) cluster: ClusterId,
    nodes: Vec<(String, Client)>,
    /// Asks whoever answers; for watches.
    anybody: Client,
    up: Vec<AtomicBool>,
    known: Mutex<Vec<Known>>,
    accounts: Mutex<Vec<AccountId>>,
    flights: Mutex<BTreeMap<u64, Flight>>,
    flown: AtomicU64,
    over: AtomicBool,
    gaps: Mutex<Vec<String>>,
}

/// A session that somebody was told of.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) account: AccountId,
    pub(super) session: SessionId,
}

/// A change that is being asked for.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// Through which node.
    pub(super) node: usize,
    /// The shards that decide it.
    pub(super) shards: Vec<ShardId>,
}

/// What became of a request, over all its attempts.
pub(super) enum Told<T> {
    /// It was answered.
    Ok(T),
    /// It was refused.
    Refused(Error),
    /// Nobody answered.
    Nothing,
}

impl<T> Told<T> {
    /// The answer, if there was one.
    pub(super) fn ok(self) -> Option<T> {
        match self {
            Self::Ok(value) => Some(value),
            Self::Refused(_) | Self::Nothing => None,
        }
    }
}

/// Where a request goes.
pub(super) struct Route {
    /// The node that is asked first.
    pub(super) first: usize,
    /// The shards that decide it; none for reads.
    pub(super) shards: Vec<ShardId>,
}

impl World {
    /// Asks the cluster for its id. `nodes` are names and gateway addresses.
    pub(super) async fn new(
        recorder: Recorder,
        env: Env,
        map: ShardMap,
        (net, nodes): (&Arc<dyn Net>, &[(String, String)]),
    ) -> anyhow::Result<Self> {
        let patience = Patience { attempts: 1, attempt: ATTEMPT, ..Patience::default() };
        let connect = |addresses: &[String]| Client::connect(net.clone(), addresses);
        let anybody = connect(&nodes.iter().map(|(_, gateway)| gateway.clone()).collect::<Vec<_>>())?;
        let (cluster, _) = anybody.cluster().await.context("ask for the cluster's id")?;
        let alone = |(name, gateway): &(String, String)| {
            let client = connect(std::slice::from_ref(gateway))?.with_patience(patience);
            Ok::<_, Error>((name.clone(), client))
        };
        let nodes = nodes.iter().map(alone).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            recorder,
            env,
            map,
            cluster,
            up: nodes.iter().map(|_| AtomicBool::new(true)).collect(),
            nodes,
            anybody,
            known: Mutex::default(),
            accounts: Mutex::default(),
            flights: Mutex::default(),
            flown: AtomicU64::new(0),
            over: AtomicBool::new(false),
            gaps: Mutex::default(),
        })
    }

    /// One attempt through `client`, in the history.
    pub(super) fn ask<'a>(&'a self, client: &'a Client, who: &'a str) -> Ask<'a> {
        Ask { recorder: &self.recorder, client, who }
    }

    /// Attempts through one node after the other, those that are known to be down left out, until somebody answers.
    pub(super) async fn insist<T>(
        &self,
        route: Route,
        mut attempt: impl AsyncFnMut(&Client) -> Result<T, Error>,
    ) -> Told<T> {
        let deadline = Instant::now() + INSISTS_FOR;
        let mut node = route.first;
        while Instant::now() < deadline {
            if self.is_up(node) {
                let flight = self.take_off(node, &route.shards);
                let told = attempt(&self.nodes[node].1).await;
                self.land(flight);
                match told {
                    Ok(reply) => return Told::Ok(reply),
                    Err(error) if refusal(&error).is_some() => return Told::Refused(error),
                    Err(_) => {}
                }
            }
            tokio::time::sleep(PAUSE).await;
            node = (node + 1) % self.nodes.len();
        }
        Told::Nothing
    }

    /// A read that must be answered in the end.
    pub(super) async fn learn_at_last<T>(
        &self,
        what: &str,
        first: usize,
        mut attempt: impl AsyncFnMut(&Client) -> Result<T, Error>,
    ) -> anyhow::Result<T> {
        match self.insist(Route { first, shards: Vec::new() }, &mut attempt).await {
            Told::Ok(reply) => Ok(reply),
            Told::Refused(error) => bail!("{what}: {error}"),
            Told::Nothing => bail!("{what}: no answer for {} s", INSISTS_FOR.as_secs()),
        }
    }

    fn take_off(&self, node: usize, shards: &[ShardId]) -> Option<u64> {
        if shards.is_empty() {
            return None;
        }
        let number = self.flown.fetch_add(1, Ordering::Relaxed);
        lock(&self.flights).insert(number, Flight { node, shards: shards.to_vec() });
        Some(number)
    }

    fn land(&self, flight: Option<u64>) {
        if let Some(number) = flight {
            lock(&self.flights).remove(&number);
        }
    }

    /// Every change that is being asked for just now.
    pub(super) fn flights(&self) -> Vec<Flight> {
        lock(&self.flights).values().cloned().collect()
    }

    /// How many nodes there are.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The client of one node; it tries once.
    pub(super) fn client(&self, node: usize) -> &Client {
        &self.nodes[node].1
    }

    /// A client of all nodes, which resumes.
    pub(super) fn anybody(&self) -> &Client {
        &self.anybody
    }

    /// Whether the node was killed and is not ready again.
    pub(super) fn is_up(&self, node: usize) -> bool {
        self.up[node].load(Ordering::Relaxed)
    }

    /// It was killed, or is ready again.
    pub(super) fn set_up(&self, node: usize, up: bool) {
        self.up[node].store(up, Ordering::Relaxed);
    }

    /// Somebody was told of this session; from now on it is validated.
    pub(super) fn learn(&self, account: &AccountId, session: SessionId) {
        let mut known = lock(&self.known);
        // The other side of the same link may have told already, a moment ago.
        if known.iter().rev().take(64).all(|k| k.session != session) {
            known.push(Known { account: account.clone(), session });
        }
    }

    /// An account was acknowledged.
    pub(super) fn add_account(&self, account: &AccountId) {
        lock(&self.accounts).push(account.clone());
    }

    /// Every acknowledged account.
    pub(super) fn accounts(&self) -> Vec<AccountId> {
        lock(&self.accounts).clone()
    }

    /// Every session that anybody was told of, oldest first.
    pub(super) fn known(&self) -> Vec<Known> {
        lock(&self.known).clone()
    }

    /// The session `back` before the latest; the oldest there is, at most.
    pub(super) fn known_before_last(&self, back: usize) -> Option<Known> {
        let known = lock(&self.known);
        known.iter().rev().nth(back.min(known.len().saturating_sub(1))).cloned()
    }

    /// How many sessions anybody was told of.
    pub(super) fn known_count(&self) -> usize {
        lock(&self.known).len()
    }

    /// A watch left something out.
    pub(super) fn gap(&self, text: String) {
        lock(&self.gaps).push(text);
    }

    /// What watches left out.
    pub(super) fn gaps(&self) -> Vec<String> {
        lock(&self.gaps).clone()
    }

    /// The storm is over: everybody finishes what is under way.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
