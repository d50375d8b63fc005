//! openraft's state machine: decodes entries, has the core apply them, commits what changed.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kindred_core::apply::apply;
use kindred_core::state::Applied;
use kindred_store::codec::decode_entry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use crate::error::{Error, io};
use crate::points::APPLIED;
use crate::snapshot::SnapshotData;
use crate::state::{Committing, State};
use crate::types::{LogEntry, LogId, Replies, SnapshotMeta, StoredMembership, Types};

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;

/// Applies committed entries; a clone is another handle on the same state.
#[derive(Clone)]
pub struct Machine(Arc<State>);

impl Machine {
    /// Over this state.
    pub fn new(state: Arc<State>) -> Self {
        Self(state)
    }

    fn apply_one(&self, entry: LogEntry) -> Result<Replies, Error> {
        let log_id = entry.log_id;
        let mut change = Committing {
            log_id,
            changes: Vec::new(),
            membership: None,
            time_ms: None,
            touched: Vec::new(),
            effects: false,
        };
        let mut replies = Replies::default();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                change.membership = Some(StoredMembership::new(Some(log_id), membership));
            }
            EntryPayload::Normal(data) => {
                let applied = self.decide(&data.0, log_id.index)?;
                replies = Replies { replies: applied.replies, time_ms: applied.time_ms };
                change.changes = applied.changes;
                change.time_ms = Some(applied.time_ms);
                change.touched = applied.touched;
                change.effects = applied.effects;
            }
        }
        self.0.commit(change)?;
        Ok(replies)
    }

    /// A broken invariant stops this replica and leaves the process and its other replicas alone.
    fn decide(&self, data: &bytes::Bytes, log_index: u64) -> Result<Applied, Error> {
        let entry = decode_entry(data)?;
        #[cfg(kindred_mutants)]
        let entry = self.0.stamped_by_mistake(entry);
        let applied =
            self.0.read(|view, _| catch_unwind(AssertUnwindSafe(|| apply(view, &entry, log_index, self.0.region))));
        match applied {
            Ok(applied) => applied.map_err(Error::from),
            Err(_) => {
                tracing::error!(shard = self.0.shard.0, log_index, "an invariant was broken; this replica stops");
                Err(Error::Raft(format!("an invariant was broken at log index {log_index}")))
            }
        }
    }

    fn failed(&self, error: Error) -> io::Error {
        self.0.health().note(&error);
        io(error)
    }

    fn frozen(&self) -> Result<Snapshot, Error> {
        let frozen = self.0.freeze()?;
        let meta = SnapshotMeta { last_log_id: frozen.applied, last_membership: frozen.membership };
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::frozen(frozen.read, (self.0.shard, frozen.generation), self.0.health().clone()),
        })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok(self.0.read(|_, live| (live.applied, live.membership.clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let (links, index) = (self.0.points().linked_in(&entry), entry.log_id.index);
            let replies = self.apply_one(entry).map_err(|error| self.failed(error))?;
            self.0.points().reach(APPLIED, &links, index).await;
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let generation = match snapshot.staged() {
            Some(generation) => generation,
            None => snapshot.copy_into(&self.0).map_err(|error| self.failed(error))?,
        };
        let installed = self.0.install(generation, meta.last_log_id, meta.last_membership.clone()).await;
        installed.map_err(|error| self.failed(error))?;
        tracing::info!(shard = self.0.shard.0, index = meta.last_log_id.map(|id| id.index), "snapshot installed");
        metrics::counter!(crate::metrics::SNAPSHOTS_INSTALLED).increment(1);
        Ok(())
    }

    /// The state as it is now: it costs no more than an older one, and covers at least as much.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshot = self.frozen().map_err(|error| self.failed(error))?;
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.frozen().map_err(|error| self.failed(error))
    }
}
