//! Everybody's way to the cluster: each attempt is written down, and repeated through other frontends, under the same
//! request id, until there is an answer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kindred_client::{Client, Device, Error, Patience};
use kindred_core::env::Env;
use kindred_core::id::{AccountId, ClusterId, SessionId};
use kindred_witness::{Ask, refusal};
use tokio::time::Instant;

use super::Doors;
use super::household::Household;
use super::stage::Stage;
use crate::world::Entrance;

/// After so long without an answer a client gives up; what it asked for stays unknown.
const INSISTS_FOR: Duration = Duration::from_secs(20);
/// One attempt; then the same is asked of another node.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The clients of a run.
pub struct People {
    /// What they share with the world.
    pub stage: Arc<Stage>,
    /// Their entropy, which is no node's.
    pub env: Env,
    /// What they sign for.
    pub cluster: ClusterId,
    /// Names of the regions, by index.
    pub regions: Vec<String>,
    nodes: Vec<Client>,
    anybody: Client,
    known: Mutex<Vec<Known>>,
    households: Mutex<Vec<Arc<Household>>>,
}

/// A session that somebody was told of.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of which account.
    pub account: AccountId,
    /// Which.
    pub session: SessionId,
}

/// Somebody who acts, under a name of its own in the history. After a change whose outcome it does not know it goes on
/// under another name, as the format asks: what it does next may come before that change.
pub struct Actor {
    name: String,
    life: AtomicU32,
}

impl Actor {
    /// With this name at first.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), life: AtomicU32::new(0) }
    }

    /// Its name now.
    pub fn name(&self) -> String {
        match self.life.load(Ordering::Relaxed) {
            0 => self.name.clone(),
            life => format!("{}~{life}", self.name),
        }
    }

    fn goes_on(&self) {
        self.life.fetch_add(1, Ordering::Relaxed);
    }
}

/// What became of a request, over all its attempts.
pub enum Told<T> {
    /// It was answered.
    Ok(T),
    /// It was refused.
    Refused(Error),
    /// Nobody answered.
    Nothing,
}

impl<T> Told<T> {
    /// The answer, if there was one.
    pub fn ok(self) -> Option<T> {
        match self {
            Self::Ok(value) => Some(value),
            Self::Refused(_) | Self::Nothing => None,
        }
    }
}

/// Where a request goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The node that is asked first; then the others in turn.
    pub first: usize,
    /// The first attempt is given up after so long, answered or not: its reply is lost, as far as the client knows.
    pub hasty: Option<Duration>,
    /// Whether it may change something.
    pub is_write: bool,
}

impl Route {
    /// A change, asked for through this node first.
    pub fn write(first: usize) -> Self {
        Self { first, hasty: None, is_write: true }
    }

    /// A question.
    pub fn read(first: usize) -> Self {
        Self { first, hasty: None, is_write: false }
    }

    /// The same, with a first attempt that is given up early.
    #[must_use]
    pub fn hasty(self, after: Option<Duration>) -> Self {
        Self { hasty: after, ..self }
    }
}

impl People {
    /// Asks for the cluster's id until it is told, for the cluster is just being formed.
    pub async fn meet(stage: Arc<Stage>, env: Env, doors: Doors) -> Result<Arc<Self>, Error> {
        let anybody = doors.anybody.connect()?;
        let nodes = doors.nodes.iter().map(Entrance::connect).collect::<Result<Vec<_>, _>>()?;
        let (cluster, reply) = loop {
            match anybody.cluster().await {
                Ok(told) => break told,
                Err(error) if refusal(&error).is_some() => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let patience = Patience { attempts: 1, attempt: ATTEMPT, ..Patience::default() };
        Ok(Arc::new(Self {
            stage,
            env,
            cluster,
            regions: reply.regions,
            nodes: nodes.into_iter().map(|client| client.with_patience(patience)).collect(),
            anybody,
            known: Mutex::default(),
            households: Mutex::default(),
        }))
    }

    /// A new key.
    pub fn device(&self) -> Device {
        Device::new(&self.env.random(), self.cluster)
    }

    /// One attempt through this node.
    pub fn ask<'a>(&'a self, node: usize, who: &'a str) -> Ask<'a> {
        Ask { recorder: &self.stage.recorder, client: self.client(node), who }
    }

    /// Attempts through one node after the other until somebody answers.
    pub async fn insist<T>(
        &self,
        who: &Actor,
        route: Route,
        mut attempt: impl AsyncFnMut(Ask<'_>) -> Result<T, Error>,
    ) -> Told<T> {
        let deadline = Instant::now() + INSISTS_FOR;
        let (mut node, mut hasty) = (route.first, route.hasty);
        while Instant::now() < deadline {
            let name = who.name();
            let asked = attempt(self.ask(node, &name));
            let told = match hasty.take() {
                // Dropped half-way: a call without a return, and a request that may go on without its client.
                Some(after) => match tokio::time::timeout(after, asked).await {
                    Ok(told) => told,
                    Err(_) => Err(Error::from(tonic::Status::deadline_exceeded("given up early"))),
                },
                None => asked.await,
            };
            match told {
                Ok(reply) => return Told::Ok(reply),
                Err(error) if refusal(&error).is_some() => return Told::Refused(error),
                Err(_) if route.is_write => who.goes_on(),
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
            node += 1;
        }
        Told::Nothing
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The client of one node, which tries once.
    pub fn client(&self, node: usize) -> &Client {
        &self.nodes[node % self.nodes.len()]
    }

    /// A client of all nodes, which resumes.
    pub fn anybody(&self) -> &Client {
        &self.anybody
    }

    /// Somebody was told of this session; from now on it is validated.
    pub fn learn(&self, account: &AccountId, session: SessionId) {
        let mut known = lock(&self.known);
        // The other side of the same link may have told already, a moment ago.
        if known.iter().rev().take(256).all(|k| k.session != session) {
            known.push(Known { account: account.clone(), session });
        }
    }

    /// Every session that anybody was told of, oldest first.
    pub fn known(&self) -> Vec<Known> {
        lock(&self.known).clone()
    }

    /// The session `back` before the latest; the oldest there is, at most.
    pub fn known_before_last(&self, back: usize) -> Option<Known> {
        let known = lock(&self.known);
        known.iter().rev().nth(back.min(known.len().saturating_sub(1))).cloned()
    }

    /// Somebody moves in.
    pub fn moves_in(&self, household: &Arc<Household>) {
        lock(&self.households).push(household.clone());
    }

    /// The households so far.
    pub fn households(&self) -> Vec<Arc<Household>> {
        lock(&self.households).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
