//! Points of the saga that a test may hold (proto/kindred/testing/v1). Off unless the configuration asks for them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use kindred_core::id::AccountId;
use kindred_wire::shards::{BoxFuture, Points};
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status};

/// Generated code of kindred.testing.v1.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    tonic::include_proto!("kindred.testing.v1");
}

/// Most points armed at once on a node.
const ARMED_MAX: usize = 256;

type Armed = Arc<Mutex<BTreeMap<(String, AccountId), Hold>>>;

struct Hold {
    number: u64,
    reached: mpsc::Sender<Result<pb::Reached, Status>>,
    // Dropped with the hold; that is what lets the waiting go on.
    open: watch::Sender<()>,
}

/// The armed points of one node.
#[derive(Clone, Default)]
pub struct Holds {
    node: String,
    armed: Armed,
    numbers: Arc<std::sync::atomic::AtomicU64>,
}

impl Holds {
    /// Nothing armed yet.
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), ..Self::default() }
    }

    /// Arms a point until the returned stream is dropped.
    pub fn arm(&self, request: pb::HoldRequest) -> Result<HoldStream, Status> {
        let account = AccountId::new(&request.account).ok_or_else(|| Status::invalid_argument("account"))?;
        let (reached, events) = mpsc::channel(64);
        let number = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.len() >= ARMED_MAX {
            return Err(Status::resource_exhausted("too many armed points"));
        }
        let _ = reached.try_send(Ok(pb::Reached { node: String::new(), log_index: 0 }));
        let key = (request.point, account);
        armed.insert(key.clone(), Hold { number, reached, open: watch::Sender::new(()) });
        drop(armed);
        Ok(HoldStream { events, armed: self.armed.clone(), key, number })
    }
}

impl Points for Holds {
    fn reach(&self, point: &'static str, account: &AccountId, log_index: u64) -> BoxFuture<'static, ()> {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let held = armed.get(&(point.to_owned(), account.clone())).map(|hold| {
            // A full channel drops the report, never the hold.
            let _ = hold.reached.try_send(Ok(pb::Reached { node: self.node.clone(), log_index }));
            hold.open.subscribe()
        });
        drop(armed);
        Box::pin(async move {
            if let Some(mut held) = held {
                while held.changed().await.is_ok() {}
            }
        })
    }

    fn is_armed(&self) -> bool {
        !self.armed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Arrivals at an armed point; dropping it disarms.
pub struct HoldStream {
    events: mpsc::Receiver<Result<pb::Reached, Status>>,
    armed: Armed,
    key: (String, AccountId),
    number: u64,
}

impl Drop for HoldStream {
    fn drop(&mut self) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.get(&self.key).is_some_and(|hold| hold.number == self.number) {
            armed.remove(&self.key);
        }
    }
}

impl futures::Stream for HoldStream {
    type Item = Result<pb::Reached, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        self.events.poll_recv(cx)
    }
}

/// What [`Service`] reports about the node's replicas.
pub type StatusSource = Arc<dyn Fn() -> Vec<pb::ShardStatus> + Send + Sync>;

/// The gRPC face of [`Holds`].
pub struct Service {
    holds: Holds,
    status: StatusSource,
}

impl Service {
    /// Serves `holds`, and `status` beside them.
    pub fn new(holds: Holds, status: StatusSource) -> pb::points_server::PointsServer<Self> {
        pb::points_server::PointsServer::new(Self { holds, status })
    }
}

#[tonic::async_trait]
impl pb::points_server::Points for Service {
    type HoldStream = HoldStream;

    async fn hold(&self, request: Request<pb::HoldRequest>) -> Result<Response<HoldStream>, Status> {
        Ok(Response::new(self.holds.arm(request.into_inner())?))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        Ok(Response::new(pb::StatusReply { shards: (self.status)() }))
    }
}
