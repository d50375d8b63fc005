//! One replica's state as everybody but the applier sees it: reads at one point of the log, and news of changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use bytes::{Bytes, BytesMut};
use kindred_core::command::Aggregate;
use kindred_core::env::Env;
use kindred_core::id::{RegionIndex, ShardId};
use kindred_core::limits::SHARD_TIME_STEP_MS_MAX;
use kindred_core::state::{Key, Record, View as _};
use kindred_store::engine::{Batch, Column, Durability, Engine, Read, Write};
use kindred_store::keys::{self, MetaKey};
use kindred_store::log_writer::LogWriter;
use kindred_store::state::{StateView, writes};
use tokio::sync::watch;

use crate::cache::{CachedView, Records, Space};
use crate::codec::{Compact, Malformed, take_option};
use crate::error::Error;
use crate::health::Health;
use crate::log_store::{put_meta, read_meta};
use crate::points::LinkPoints;
use crate::types::{LogId, StoredMembership};

/// The state of one shard on this node.
pub struct State {
    /// The shard.
    pub shard: ShardId,
    /// Its home region.
    pub region: RegionIndex,
    engine: Arc<dyn Engine>,
    env: Env,
    live: RwLock<Live>,
    watchers: Watchers,
    effects: watch::Sender<u64>,
    applied: watch::Sender<u64>,
    entries_applied: AtomicU64,
    health: Arc<Health>,
    log_writer: LogWriter,
    records: Arc<Records>,
    points: LinkPoints,
    /// Next generation to stage a snapshot in; never one that was used before by this process.
    next_generation: Mutex<u32>,
    #[cfg(kindred_mutants)]
    before_latest: Mutex<Option<Box<dyn Read>>>,
}

/// What a state is opened with.
pub struct Opening {
    /// Where it is kept.
    pub engine: Arc<dyn Engine>,
    /// For what must be durable.
    pub log_writer: LogWriter,
    /// Time and chance.
    pub env: Env,
    /// Flags that the replica's parts share.
    pub health: Arc<Health>,
    /// The node's cache of records.
    pub records: Arc<Records>,
    /// Where tests hold links.
    pub points: LinkPoints,
}

/// Where the state stands.
pub struct Live {
    /// The generation of keys in use; an installed snapshot brings a new one.
    pub generation: u32,
    /// Last applied.
    pub applied: Option<LogId>,
    /// Membership as applied.
    pub membership: StoredMembership,
    /// Shard time.
    pub time_ms: u64,
    /// This node's monotonic clock when that shard time was applied.
    seen_at_ms: u64,
    /// Where its records are cached.
    space: Space,
}

/// The durable part of [`Live`].
pub(crate) struct Applied {
    pub(crate) generation: u32,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Compact for Applied {
    fn put(&self, out: &mut BytesMut) {
        self.generation.put(out);
        self.applied.put(out);
        self.membership.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self {
            generation: u32::take(input)?,
            applied: take_option(input)?,
            membership: StoredMembership::take(input)?,
        })
    }
}

/// Generation and last applied entry in a value of [`MetaKey::Applied`], for whoever looks at a disk from outside; none if
/// it does not read.
pub fn stood_at(record: &Bytes) -> Option<(u32, Option<LogId>)> {
    let stored = kindred_store::codec::open(MetaKey::Applied.kind(), record).ok()?;
    Applied::decode(stored).ok().map(|stored| (stored.generation, stored.applied))
}

impl State {
    /// Opens the shard's state, and clears what an interrupted snapshot left behind.
    pub fn open(opening: Opening, shard: ShardId, region: RegionIndex) -> Result<Self, Error> {
        let Opening { engine, log_writer, env, health, records, points } = opening;
        let stored = read_meta::<Applied>(engine.as_ref(), shard, MetaKey::Applied)?;
        let (generation, applied, membership) = match stored {
            Some(stored) => (stored.generation, stored.applied, stored.membership),
            None => (1, None, StoredMembership::default()),
        };
        engine.commit(others(shard, generation), Durability::Buffered)?;
        let time_ms = shard_time(engine.as_ref(), shard, generation)?;
        let (seen_at_ms, space) = (env.clock.monotonic_ms(), records.space());
        let live = Live { generation, applied, membership, time_ms, seen_at_ms, space };
        Ok(Self {
            shard,
            region,
            engine,
            env,
            applied: watch::Sender::new(live.applied.map_or(0, |id| id.index)),
            live: RwLock::new(live),
            watchers: Watchers::default(),
            effects: watch::Sender::new(0),
            entries_applied: AtomicU64::new(0),
            health,
            log_writer,
            records,
            points,
            next_generation: Mutex::new(generation + 1),
            #[cfg(kindred_mutants)]
            before_latest: Mutex::default(),
        })
    }

    /// Where tests hold links.
    pub fn points(&self) -> &LinkPoints {
        &self.points
    }

    fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads at one point of the log: nothing is applied meanwhile. Keep it short.
    pub fn read<T>(&self, look: impl FnOnce(&CachedView<'_>, &Live) -> T) -> T {
        let live = self.live();
        let stored = StateView::new(self.engine.as_ref(), self.shard, live.generation);
        look(&CachedView::new(stored, &self.records, live.space), &live)
    }

    /// Shard time as it would be if an entry were proposed now.
    pub fn now_ms(&self) -> u64 {
        self.estimate(&self.live())
    }

    /// [`Self::now_ms`] for who already reads. A replica that hears nothing does not run ahead.
    pub fn estimate(&self, live: &Live) -> u64 {
        let since_ms = self.env.clock.monotonic_ms().saturating_sub(live.seen_at_ms);
        live.time_ms + since_ms.min(SHARD_TIME_STEP_MS_MAX)
    }

    /// Index of the last applied entry; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.live().applied.map_or(0, |id| id.index)
    }

    /// Follows [`Self::applied_index`].
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Changes when the outbox gained items.
    pub fn watch_effects(&self) -> watch::Receiver<u64> {
        self.effects.subscribe()
    }

    /// Entries applied since this process started.
    pub fn entries_applied(&self) -> u64 {
        self.entries_applied.load(Ordering::Relaxed)
    }

    /// See [`kindred_wire::shards::Shards::changed`].
    pub fn watch(&self, aggregate: Aggregate) -> Watching {
        self.watchers.watch(aggregate)
    }

    /// From here on nothing is written; what is being written just now is waited for.
    pub fn retire(&self) {
        let _writing = self.live.write().unwrap_or_else(PoisonError::into_inner);
        self.health.retire();
    }

    /// How the replica is.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Commits what one entry changed, together with the applied index, in one batch.
    pub fn commit(&self, change: Committing) -> Result<(), Error> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        self.health.check()?;
        let membership = change.membership.unwrap_or_else(|| live.membership.clone());
        let mut batch = writes(self.shard, live.generation, &change.changes);
        let record = Applied { generation: live.generation, applied: Some(change.log_id), membership };
        batch.push(put_meta(self.shard, MetaKey::Applied, &record));
        #[cfg(kindred_mutants)]
        let batch = self.written_by_mistake(batch)?;
        self.engine.commit(batch, Durability::Buffered)?;
        self.records.committed(live.space, change.changes);
        live.membership = record.membership;
        live.applied = Some(change.log_id);
        if let Some(time_ms) = change.time_ms {
            live.time_ms = time_ms;
            live.seen_at_ms = self.env.clock.monotonic_ms();
        }
        drop(live);
        self.entries_applied.fetch_add(1, Ordering::Relaxed);
        self.applied.send_replace(change.log_id.index);
        self.watchers.touch(&change.touched);
        if change.effects {
            self.effects.send_modify(|n| *n += 1);
        }
        Ok(())
    }

    /// The state as it is, whatever is applied later.
    pub fn freeze(&self) -> Result<Frozen, Error> {
        let live = self.live();
        let (applied, membership, generation) = (live.applied, live.membership.clone(), live.generation);
        #[cfg(kindred_mutants)]
        if let Some(read) = self.before_latest.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(Frozen { read, applied, membership, generation });
        }
        Ok(Frozen { read: self.engine.snapshot()?, applied, membership, generation })
    }

    /// A fresh generation to stage a snapshot in.
    pub fn stage(&self) -> u32 {
        let mut next = self.next_generation.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = *next;
        *next += 1;
        generation
    }

    /// Adds pairs (key without its prefix, value) to a staged generation.
    pub fn stage_pairs(&self, generation: u32, pairs: Vec<(Bytes, Bytes)>) -> Result<(), Error> {
        self.health.check()?;
        let (prefix, _) = keys::state_range(self.shard, generation);
        let batch = pairs
            .into_iter()
            .map(|(key, value)| Write::Put(Column::State, [&prefix[..], &key[..]].concat(), value))
            .collect();
        Ok(self.engine.commit(batch, Durability::Buffered)?)
    }

    /// Deletes what was staged under a generation that will not be installed.
    pub fn unstage(&self, generation: u32) -> Result<(), Error> {
        let (first, last) = keys::state_range(self.shard, generation);
        Ok(self.engine.commit(vec![Write::DeleteRange(Column::State, first, last)], Durability::Buffered)?)
    }

    /// Makes a staged generation the live one, durably, and deletes all others.
    pub async fn install(
        &self,
        generation: u32,
        applied: Option<LogId>,
        membership: StoredMembership,
    ) -> Result<(), Error> {
        self.health.check()?;
        let time_ms = shard_time(self.engine.as_ref(), self.shard, generation)?;
        let record = Applied { generation, applied, membership: membership.clone() };
        // Through the log writer, which ends the node if a sync fails. Until the switch below, readers see the old state.
        self.log_writer.write(vec![put_meta(self.shard, MetaKey::Applied, &record)]).await?;
        {
            let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
            let (seen_at_ms, space) = (self.env.clock.monotonic_ms(), self.records.space());
            #[cfg(kindred_mutants)]
            let space = if kindred_core::mutants::is("cache-outlives-install") { live.space } else { space };
            *live = Live { generation, applied, membership, time_ms, seen_at_ms, space };
            self.engine.commit(others(self.shard, generation), Durability::Buffered)?;
        }
        self.applied.send_replace(applied.map_or(0, |id| id.index));
        self.watchers.touch_all();
        self.effects.send_modify(|n| *n += 1);
        Ok(())
    }
}

/// Where somebody could have gone wrong.
#[cfg(kindred_mutants)]
impl State {
    /// The entry as each replica would stamp it for itself.
    pub fn stamped_by_mistake(&self, entry: kindred_core::command::Entry) -> kindred_core::command::Entry {
        use kindred_core::command::Entry;
        if kindred_core::mutants::is("apply-local-clock") {
            let live = self.live();
            return Entry { elapsed_ms: self.estimate(&live) - live.time_ms, ..entry };
        }
        if kindred_core::mutants::is("apply-local-entropy") {
            return Entry { entropy: self.env.random(), ..entry };
        }
        entry
    }

    /// What is left to be written of the batch of one entry.
    fn written_by_mistake(&self, mut batch: Batch) -> Result<Batch, Error> {
        if kindred_core::mutants::is("snapshot-label-late") {
            let before = self.engine.snapshot()?;
            *self.before_latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        }
        if kindred_core::mutants::is("applied-index-apart") {
            let applied = batch.pop().into_iter().collect();
            self.engine.commit(batch, Durability::Buffered)?;
            return Ok(applied);
        }
        Ok(batch)
    }

    /// Takes in what another replica has answered.
    pub fn remember_by_mistake(&self, answer: &kindred_core::command::Answer) {
        if let (true, kindred_core::command::Answer::Account(Some(account))) =
            (kindred_core::mutants::is("forwarded-read-cached"), answer)
        {
            let record = Some(Record::Account(account.as_ref().clone()));
            self.records.committed(self.live().space, vec![(Key::Account(account.id.clone()), record)]);
        }
    }
}

/// Deletes every generation but this one.
fn others(shard: ShardId, generation: u32) -> Batch {
    let (first, _) = keys::state_range(shard, 0);
    let (from, to) = keys::state_range(shard, generation);
    let (_, last) = keys::state_range(shard, u32::MAX);
    vec![Write::DeleteRange(Column::State, first, from), Write::DeleteRange(Column::State, to, last)]
}

/// A state that nothing changes any more.
pub struct Frozen {
    /// Reads it.
    pub read: Box<dyn Read>,
    /// Last applied.
    pub applied: Option<LogId>,
    /// Membership as applied.
    pub membership: StoredMembership,
    /// The generation of its keys.
    pub generation: u32,
}

/// What one entry changed.
pub struct Committing {
    /// The entry.
    pub log_id: LogId,
    /// Records.
    pub changes: Vec<kindred_core::state::Change>,
    /// A new membership.
    pub membership: Option<StoredMembership>,
    /// Shard time, if the entry moved it.
    pub time_ms: Option<u64>,
    /// Whose watchers look again.
    pub touched: Vec<Aggregate>,
    /// Whether the outbox gained items.
    pub effects: bool,
}

fn shard_time(engine: &dyn Read, shard: ShardId, generation: u32) -> Result<u64, Error> {
    let record = StateView::new(engine, shard, generation).get(&Key::Shard);
    match record? {
        Some(Record::Shard(shard)) => Ok(shard.time_ms),
        _ => Ok(0),
    }
}

type Senders = Arc<Mutex<BTreeMap<Aggregate, watch::Sender<u64>>>>;

/// Who waits for a change of which aggregate. As many entries as there are open watches.
#[derive(Default)]
struct Watchers(Senders);

impl Watchers {
    fn watch(&self, aggregate: Aggregate) -> Watching {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders.entry(aggregate.clone()).or_insert_with(|| watch::Sender::new(0));
        Watching { changes: sender.subscribe(), senders: self.0.clone(), aggregate }
    }

    fn touch(&self, touched: &[Aggregate]) {
        let senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in touched.iter().filter_map(|aggregate| senders.get(aggregate)) {
            sender.send_modify(|n| *n += 1);
        }
    }

    fn touch_all(&self) {
        let senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders.values().for_each(|sender| sender.send_modify(|n| *n += 1));
    }
}

/// Waits for changes of one aggregate.
pub struct Watching {
    changes: watch::Receiver<u64>,
    senders: Senders,
    aggregate: Aggregate,
}

impl Watching {
    /// Completes at the next change since this was made.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.get(&self.aggregate).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.aggregate);
        }
    }
}
