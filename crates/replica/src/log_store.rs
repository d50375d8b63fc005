//! One replica's log, vote and pointers. Entries are readable as soon as `append` returns, from memory, and acknowledged
//! once the log writer has synced them.
//!
//! Vote, appends and truncations go through the one writer in order, so no later write is durable before an earlier one.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kindred_core::id::ShardId;
use kindred_store::codec;
use kindred_store::engine::{Batch, Column, Engine, Write};
use kindred_store::keys::{self, MetaKey};
use kindred_store::log_writer::LogWriter;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use crate::codec::{Compact, entry_bytes};
use crate::error::{Error, io};
use crate::health::Health;
use crate::points::{APPENDED, LinkPoints, SYNCED};
use crate::state::Opening;
use crate::types::{LogEntry, LogId, Types, Vote};

/// Entries kept in memory beyond those that are not yet durable: what a follower a little behind is sent from.
const TAIL_ENTRIES_MAX: usize = 4_096;
/// Their size.
const TAIL_BYTES_MAX: usize = 16 << 20;
/// One read for replication returns no more than this, and one entry at least.
const READ_BYTES_MAX: usize = 2 << 20;

/// A replica's log; a clone is another handle.
#[derive(Clone)]
pub struct LogStore(Arc<Inner>);

struct Inner {
    shard: ShardId,
    engine: Arc<dyn Engine>,
    writer: LogWriter,
    health: Arc<Health>,
    points: LinkPoints,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Latest entries, without a hole, the last one being `last`.
    tail: VecDeque<LogEntry>,
    tail_bytes: usize,
    /// Highest index that is on disk; never evict above it.
    durable: u64,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl State {
    fn first_cached(&self) -> Option<u64> {
        self.tail.front().map(|entry| entry.log_id.index)
    }

    fn push(&mut self, entry: LogEntry) {
        self.tail_bytes += entry_bytes(&entry);
        self.last = Some(entry.log_id);
        self.tail.push_back(entry);
    }

    fn evict(&mut self) {
        while self.tail.len() > TAIL_ENTRIES_MAX || self.tail_bytes > TAIL_BYTES_MAX {
            match self.tail.front() {
                Some(oldest) if oldest.log_id.index <= self.durable && self.tail.len() > 1 => {
                    self.tail_bytes -= entry_bytes(oldest);
                    self.tail.pop_front();
                }
                _ => return,
            }
        }
    }

    fn drop_cached_while(&mut self, mut drop: impl FnMut(&LogEntry) -> bool) {
        while self.tail.front().is_some_and(&mut drop) {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry_bytes(&entry);
            }
        }
    }
}

impl LogStore {
    /// Reads the pointers of the shard's log.
    pub fn open(opening: Opening, shard: ShardId) -> Result<Self, Error> {
        let Opening { engine, log_writer: writer, health, points, .. } = opening;
        let purged: Option<LogId> = read_meta(engine.as_ref(), shard, MetaKey::Purged)?;
        let last = match engine.last(Column::Log, &keys::log(shard, 0), &keys::log_end(shard))? {
            Some((_, record)) => Some(decode_entry(&record)?.log_id),
            None => None,
        };
        let state = State {
            durable: last.map_or(0, |id| id.index),
            last: last.max(purged),
            purged,
            vote: read_meta(engine.as_ref(), shard, MetaKey::Vote)?,
            committed: read_meta(engine.as_ref(), shard, MetaKey::Committed)?,
            ..State::default()
        };
        Ok(Self(Arc::new(Inner { shard, engine, writer, health, points, state: Mutex::new(state) })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_meta(&self, key: MetaKey, value: &impl Compact) -> Write {
        put_meta(self.0.shard, key, value)
    }

    async fn write(&self, batch: Batch) -> Result<(), io::Error> {
        self.0.health.check().map_err(io)?;
        self.0.writer.write(batch).await.map_err(io)
    }

    fn failed(&self, error: Error) -> io::Error {
        self.0.health.note(&error);
        io(error)
    }

    /// Entries of `[from, to)`, at most `bytes_max` of them but one at least.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>, Error> {
        if from >= to {
            return Ok(Vec::new());
        }
        let (cached_from, mut cached) = {
            let state = self.lock();
            let first = state.first_cached().unwrap_or(u64::MAX);
            let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
            let wanted = state.tail.iter().skip(skip).take_while(|entry| entry.log_id.index < to);
            (first, wanted.cloned().collect::<Vec<_>>())
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        if from < cached_from {
            let mut next = from;
            let stop = to.min(cached_from);
            // In pieces, so that a long range does not build a second copy of itself.
            while next < stop && bytes < bytes_max {
                let pairs = self.0.engine.scan(
                    Column::Log,
                    &keys::log(self.0.shard, next),
                    &keys::log(self.0.shard, stop),
                    64,
                )?;
                for (_, record) in &pairs {
                    let entry = decode_entry(record)?;
                    next = entry.log_id.index + 1;
                    bytes += entry_bytes(&entry);
                    entries.push(entry);
                }
                if pairs.is_empty() {
                    // Nothing there: the range begins before the log does.
                    next = stop;
                }
            }
            if next < stop {
                cached.clear();
            }
        }
        entries.append(&mut cached);
        check_consecutive(&entries)?;
        truncate_to(&mut entries, bytes_max);
        Ok(entries)
    }
}

/// A hole would make a replica skip what the others apply.
fn check_consecutive(entries: &[LogEntry]) -> Result<(), Error> {
    match entries.windows(2).find(|pair| pair[0].log_id.index + 1 != pair[1].log_id.index) {
        Some(pair) => Err(Error::Damaged(format!("no log entry follows index {}", pair[0].log_id.index))),
        None => Ok(()),
    }
}

/// Keeps the first entries up to `bytes_max`, one at least.
fn truncate_to(entries: &mut Vec<LogEntry>, bytes_max: usize) {
    let mut bytes = 0;
    let fits = entries.iter().take_while(|entry| {
        bytes += entry_bytes(entry);
        bytes <= bytes_max
    });
    let keep = fits.count().max(1);
    entries.truncate(keep);
}

fn encode_entry(entry: &LogEntry) -> Bytes {
    codec::seal(codec::Kind::Entry, &entry.encode())
}

fn decode_entry(record: &Bytes) -> Result<LogEntry, Error> {
    Ok(LogEntry::decode(codec::open(codec::Kind::Entry, record)?)?)
}

/// Reads a sealed record of the shard's meta range.
pub fn read_meta<T: Compact>(engine: &dyn Engine, shard: ShardId, key: MetaKey) -> Result<Option<T>, Error> {
    let Some(record) = engine.get(Column::Meta, &keys::meta(shard, key))? else { return Ok(None) };
    Ok(Some(T::decode(codec::open(key.kind(), &record)?)?))
}

/// Writes a sealed record of the shard's meta range.
pub fn put_meta(shard: ShardId, key: MetaKey, value: &impl Compact) -> Write {
    Write::Put(Column::Meta, keys::meta(shard, key), codec::seal(key.kind(), &value.encode()))
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).map_err(|error| self.failed(error))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX).map_err(|error| self.failed(error))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        #[cfg(kindred_mutants)]
        if kindred_core::mutants::is("vote-rides-on-append") {
            self.lock().vote = Some(*vote);
            return Ok(());
        }
        self.write(vec![self.put_meta(MetaKey::Vote, vote)]).await?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    /// Rides on the next append: an older value only means that more is applied again after a restart.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.health.check().map_err(io)?;
        let mut batch = Batch::new();
        let mut links = Vec::new();
        let last = {
            let mut state = self.lock();
            for entry in entries {
                links.append(&mut self.0.points.linked_in(&entry));
                batch.push(Write::Put(Column::Log, keys::log(self.0.shard, entry.log_id.index), encode_entry(&entry)));
                state.push(entry);
            }
            #[cfg(kindred_mutants)]
            if let (true, Some(vote)) = (kindred_core::mutants::is("vote-rides-on-append"), &state.vote) {
                batch.push(self.put_meta(MetaKey::Vote, vote));
            }
            if let Some(committed) = &state.committed {
                batch.push(self.put_meta(MetaKey::Committed, committed));
            }
            state.last.map_or(0, |id| id.index)
        };
        self.0.points.reach(APPENDED, &links, last).await;
        let log = self.clone();
        let done = move |result: Result<(), kindred_store::engine::Error>| {
            if result.is_ok() {
                log.0.points.stand(SYNCED, &links, last);
                let mut state = log.lock();
                // A truncation may have come in between; what it removed must not count as durable.
                let end = state.last.map_or(0, |id| id.index);
                state.durable = state.durable.max(last.min(end));
                state.evict();
            }
            callback.io_completed(result.map_err(io));
        };
        self.0.writer.submit(batch, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        {
            let mut state = self.lock();
            while state.tail.back().is_some_and(|entry| entry.log_id.index >= from) {
                if let Some(entry) = state.tail.pop_back() {
                    state.tail_bytes -= entry_bytes(&entry);
                }
            }
            state.last = state.last.min(last);
            state.durable = state.durable.min(from.saturating_sub(1));
        }
        let shard = self.0.shard;
        self.write(vec![Write::DeleteRange(Column::Log, keys::log(shard, from), keys::log_end(shard))]).await
    }

    /// Not waited for: the state that covers these entries is earlier in the same write-ahead log, so it is durable
    /// whenever this is.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.0.health.check().map_err(io)?;
        {
            let mut state = self.lock();
            if state.purged >= Some(upto) {
                return Ok(());
            }
            state.drop_cached_while(|entry| entry.log_id.index <= upto.index);
            state.purged = Some(upto);
            state.last = state.last.max(Some(upto));
            state.durable = state.durable.max(upto.index);
        }
        let shard = self.0.shard;
        let batch = vec![
            self.put_meta(MetaKey::Purged, &upto),
            Write::DeleteRange(Column::Log, keys::log(shard, 0), keys::log(shard, upto.index + 1)),
        ];
        let done = move |result: Result<(), kindred_store::engine::Error>| {
            if let Err(error) = result {
                tracing::error!(shard = shard.0, %error, "the log could not be purged");
            }
        };
        self.0.writer.submit(batch, Box::new(done));
        Ok(())
    }
}
