//! The one log writer of a node. It drains the appends and votes of all shards into one batch with one synced write,
//! then completes every callback, in order.
//!
//! ```text
//!   shard 1 ─┐
//!   shard 2 ─┼─ submit ─► queue ─► take one, drain what waits ─► commit(Synced) ─► done, done, done
//!   shard 3 ─┘                      └── while this syncs, the queue fills; so batches grow with the load by themselves
//! ```
//!
//! The queue is an unbounded channel, so that [`LogWriter::submit`] never blocks an async caller. It is bounded in
//! practice: a replica has one entry in flight (core's `ENTRY_BYTES_MAX`) as leader, openraft's `max_payload_entries`
//! as follower, and one vote; hence items ≤ a few per replica of this node.
//!
//! **Invariant:** after a failed sync nothing is acknowledged any more and no sync is tried again: the kernel may have
//! dropped the dirty pages and the next fsync would succeed over a hole.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::engine::{Batch, Durability, Engine, Error, Write};

/// Most batches in one write.
const ITEMS_MAX: usize = 1024;
/// No further batch is taken once a write holds this many bytes.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Called with the result once the batch is durable, or is known not to be acknowledged.
pub type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Called once, when the writer gives up.
pub type OnFailure = Box<dyn Fn(Error) + Send>;

/// A handle; clones share the writer. The writer ends when the last handle is gone and the queue is empty.
#[derive(Clone)]
pub struct LogWriter {
    queue: UnboundedSender<Item>,
    counters: Arc<Counters>,
}

/// What the writer has done so far; each number only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Synced writes that succeeded.
    pub syncs: u64,
    /// Batches in them.
    pub batches: u64,
    /// Bytes of keys and values in them.
    pub bytes: u64,
}

impl LogWriter {
    /// Starts the writer on a thread of its own: production. `on_failure` gets the error that ended it, before any
    /// callback hears of it; it should exit the process.
    pub fn run_thread(engine: Arc<dyn Engine>, on_failure: OnFailure) -> io::Result<Self> {
        let (writer, mut queue, mut rounds) = Self::new(engine, Some(on_failure));
        std::thread::Builder::new().name("log-writer".into()).spawn(move || {
            while let Some(first) = queue.blocking_recv() {
                rounds.round(first, &mut queue);
            }
        })?;
        Ok(writer)
    }

    /// Starts the writer as a task of the current runtime: simulations, where a commit does not block. A failed writer
    /// answers every batch with its error.
    pub fn run_task(engine: Arc<dyn Engine>) -> Self {
        Self::run_paced_task(engine, None, Arc::new(|| Duration::ZERO))
    }

    /// The same with `on_failure` as in production, and with syncs that take time: before each, the writer waits for as long
    /// as `pace` says, and what comes meanwhile goes into the same write.
    pub fn run_paced_task(
        engine: Arc<dyn Engine>,
        on_failure: Option<OnFailure>,
        pace: Arc<dyn Fn() -> Duration + Send + Sync>,
    ) -> Self {
        let (writer, mut queue, mut rounds) = Self::new(engine, on_failure);
        tokio::spawn(async move {
            while let Some(first) = queue.recv().await {
                let wait = pace();
                if wait > Duration::ZERO {
                    tokio::time::sleep(wait).await;
                }
                rounds.round(first, &mut queue);
            }
        });
        writer
    }

    fn new(engine: Arc<dyn Engine>, on_failure: Option<OnFailure>) -> (Self, UnboundedReceiver<Item>, Rounds) {
        let (sender, queue) = unbounded_channel();
        let counters = Arc::new(Counters::default());
        let rounds = Rounds { engine, on_failure, counters: counters.clone(), failed: None };
        (Self { queue: sender, counters }, queue, rounds)
    }

    /// Queues `batch`. `done` runs on the writer once the batch is durable; it must neither block nor panic. Batches
    /// become durable in the order in which they were submitted.
    pub fn submit(&self, batch: Batch, done: Done) {
        let bytes = size(&batch);
        if let Err(refused) = self.queue.send(Item { batch, bytes, done }) {
            (refused.0.done)(Err(stopped()));
        }
    }

    /// Writes `batch` and waits until it is durable. An empty batch writes nothing: it waits until what was submitted before
    /// it is done, which tells whether the disk still answers. Dropping the future does not take the batch back.
    pub async fn write(&self, batch: Batch) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        self.submit(batch, Box::new(move |result| drop(sender.send(result))));
        receiver.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            syncs: self.counters.syncs.load(Ordering::Relaxed),
            batches: self.counters.batches.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
        }
    }
}

struct Item {
    batch: Batch,
    bytes: usize,
    done: Done,
}

#[derive(Default)]
struct Counters {
    syncs: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
}

struct Rounds {
    engine: Arc<dyn Engine>,
    on_failure: Option<OnFailure>,
    counters: Arc<Counters>,
    /// Set once and for ever.
    failed: Option<Error>,
}

impl Rounds {
    /// One synced write: `first` and what else has queued.
    fn round(&mut self, first: Item, queue: &mut UnboundedReceiver<Item>) {
        let (mut batch, mut bytes) = (first.batch, first.bytes);
        let mut waiting = vec![first.done];
        while waiting.len() < ITEMS_MAX && bytes < BYTES_MAX {
            let Ok(mut item) = queue.try_recv() else { break };
            batch.append(&mut item.batch);
            bytes += item.bytes;
            waiting.push(item.done);
        }
        let result = self.commit(batch);
        if result.is_ok() && bytes > 0 {
            self.counters.syncs.fetch_add(1, Ordering::Relaxed);
            self.counters.batches.fetch_add(waiting.len() as u64, Ordering::Relaxed);
            self.counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        for done in waiting {
            done(result.clone());
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        // Somebody asks whether the writer still gets through; there is nothing to sync.
        if batch.is_empty() {
            return Ok(());
        }
        let durability = Durability::Synced;
        #[cfg(kindred_mutants)]
        let durability = if kindred_core::mutants::is("ack-before-sync") { Durability::Buffered } else { durability };
        let result = self.engine.commit(batch, durability);
        match &result {
            // Nothing of it is visible and nothing is lost: the next, smaller one may fit.
            Ok(()) | Err(Error::Full) => {}
            Err(error) => {
                tracing::error!(%error, "log writer stops");
                self.failed = Some(error.clone());
                if let Some(on_failure) = &self.on_failure {
                    on_failure(error.clone());
                }
            }
        }
        result
    }
}

impl Drop for Rounds {
    /// A panic of the engine or of a callback ends the writer as well. A node that goes on without one would take part
    /// in elections and never write a vote, so whoever waits for failures hears of this one too.
    fn drop(&mut self) {
        if let (true, None, Some(on_failure)) = (std::thread::panicking(), &self.failed, &self.on_failure) {
            on_failure(Error::Io("the log writer has panicked".into()));
        }
    }
}

fn size(batch: &Batch) -> usize {
    batch
        .iter()
        .map(|write| match write {
            Write::Put(_, key, value) => key.len() + value.len(),
            Write::Delete(_, key) => key.len(),
            Write::DeleteRange(_, from, to) => from.len() + to.len(),
        })
        .sum()
}

fn stopped() -> Error {
    Error::Io("the log writer has stopped".into())
}
