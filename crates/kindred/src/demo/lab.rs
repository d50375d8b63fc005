//! Every call of the demo goes through here: written down before it is sent and after its answer was seen, one attempt
//! at a time, and repeated through other nodes until it is answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::bail;
use kindred_check::Recorder;
use kindred_client::{Client, Error, Patience};
use kindred_core::env::Env;
use kindred_core::id::{AccountId, ClusterId, SessionId};
use kindred_core::map::ShardMap;
use kindred_wire::net::Net;
use kindred_witness::{Ask, refusal};
use tokio::time::Instant;

/// Whatever is asked for must be answered within this time, over as many attempts as it takes.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// One attempt; then the same is asked of another node.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(40);

/// The cluster as devices see it, and the history.
pub(super) struct Lab {
    pub(super) recorder: Recorder,
    pub(super) env: Env,
    pub(super) map: ShardMap,
    pub(super) cluster: ClusterId,
    nodes: Vec<(String, Client)>,
    up: Vec<AtomicBool>,
    known: Mutex<Vec<Known>>,
    over: AtomicBool,
}

/// A session that somebody was told of.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) account: AccountId,
    pub(super) session: SessionId,
    /// Whose it is, for people.
    pub(super) name: String,
    /// An unlink of it was acknowledged.
    pub(super) is_unlinked: bool,
}

impl Lab {
    /// Asks the cluster for its id. `nodes` are names and gateway addresses.
    pub(super) async fn new(
        recorder: Recorder,
        env: Env,
        map: ShardMap,
        (net, nodes): (&Arc<dyn Net>, &[(String, String)]),
    ) -> anyhow::Result<Self> {
        let patience = Patience { attempts: 1, attempt: ATTEMPT, ..Patience::default() };
        let connect = |(name, gateway): &(String, String)| {
            let client = Client::connect(net.clone(), std::slice::from_ref(gateway))?.with_patience(patience);
            Ok::<_, Error>((name.clone(), client))
        };
        let nodes = nodes.iter().map(connect).collect::<Result<Vec<_>, _>>()?;
        let up = nodes.iter().map(|_| AtomicBool::new(true)).collect();
        let (known, over) = (Mutex::default(), AtomicBool::new(false));
        let mut lab = Self { recorder, env, map, cluster: ClusterId([0; 16]), nodes, up, known, over };
        let (cluster, _) =
            lab.until_answered("the cluster's id", &lab.from(0), async |client| client.cluster().await).await?;
        lab.cluster = cluster;
        Ok(lab)
    }

    /// One attempt through `client`, in the history.
    pub(super) fn ask<'a>(&'a self, client: &'a Client, who: &'a str) -> Ask<'a> {
        Ask { recorder: &self.recorder, client, who }
    }

    /// Attempts through the nodes in this order, round and round, until there is an answer. A refusal is one, and here
    /// nothing is to be refused.
    pub(super) async fn until_answered<T>(
        &self,
        what: &str,
        nodes: &[usize],
        mut attempt: impl AsyncFnMut(&Client) -> Result<T, Error>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let mut last = None;
        for &node in nodes.iter().cycle() {
            if Instant::now() >= deadline {
                break;
            }
            // The first attempt goes where it is meant to go; later ones pass over what is known to be down.
            if last.is_some() && !self.is_up(node) && nodes.len() > 1 {
                tokio::time::sleep(PAUSE / 4).await;
                continue;
            }
            match attempt(&self.nodes[node].1).await {
                Ok(reply) => return Ok(reply),
                Err(error) if refusal(&error).is_some() => {
                    bail!("{what}: {} answered {error}", self.nodes[node].0)
                }
                Err(error) => last = Some((node, error)),
            }
            tokio::time::sleep(PAUSE).await;
        }
        let why = last.map_or_else(String::new, |(node, error)| format!(": {} said {error}", self.nodes[node].0));
        bail!("waited {} s for {what}{why}", ANSWER_WITHIN.as_secs())
    }

    /// All nodes, this one first.
    pub(super) fn from(&self, first: usize) -> Vec<usize> {
        (0..self.nodes.len()).map(|n| (first + n) % self.nodes.len()).collect()
    }

    /// How many nodes there are.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The client of one node.
    pub(super) fn client(&self, node: usize) -> &Client {
        &self.nodes[node].1
    }

    /// Whether the node is running, as far as the demo itself has to do with it.
    pub(super) fn is_up(&self, node: usize) -> bool {
        self.up[node].load(Ordering::Relaxed)
    }

    /// It was killed, or is ready again.
    pub(super) fn set_up(&self, node: usize, up: bool) {
        self.up[node].store(up, Ordering::Relaxed);
    }

    /// From now on the session is validated again and again.
    pub(super) fn learn(&self, known: Known) {
        let mut all = self.lock();
        if all.iter().all(|k| k.session != known.session) {
            all.push(known);
        }
    }

    /// The session's unlink was acknowledged.
    pub(super) fn unlinked(&self, session: &SessionId) {
        for known in self.lock().iter_mut().filter(|k| k.session == *session) {
            known.is_unlinked = true;
        }
    }

    /// Every session that anybody was told of, in that order.
    pub(super) fn known(&self) -> Vec<Known> {
        self.lock().clone()
    }

    /// Ends the background validators.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether they are to end.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
