//! The simulated disk: everything in memory, nothing by chance, and every fault on demand.
//!
//! ```text
//!   durable ──► batch, batch, batch ──► visible
//!               └── unsynced; a power loss takes some of these, from the end
//! ```
//!
//! A simulated node crash drops the node and keeps its `Arc<SimEngine>`; [`SimEngine::crash`] then decides what the
//! power loss took, and the restarted node opens the same engine. No threads, no clocks.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::engine::{Batch, Column, Durability, Engine, Error, Pair, Read, Write};

/// One column. Shared with snapshots; copied when one of them is alive and a commit comes.
type Map = Arc<BTreeMap<Vec<u8>, Bytes>>;

/// Sees every commit that came to be visible, in order.
pub trait Observer: Send + Sync {
    /// Nothing of `batch` is there yet. If the observer cuts the power now, nothing ever will be.
    fn committing(&self, batch: &[Write]) {
        let _ = batch;
    }
    /// `visible` is the store with `batch` in it. Called under the engine's lock: it must not call the engine.
    fn committed(&self, batch: &[Write], visible: &dyn Read);
}

/// An [`Engine`] without a disk.
#[derive(Default)]
pub struct SimEngine {
    disk: Mutex<Disk>,
    /// Without power nothing is written any more. Beside the lock, so that an observer can pull the plug.
    cut: AtomicBool,
}

/// How often each fault has struck; a sweep in which one never did is worth little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Power losses.
    pub crashes: u64,
    /// Batches that they took.
    pub batches_lost: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Commits refused for lack of space.
    pub commits_refused: u64,
    /// Values damaged.
    pub values_damaged: u64,
    /// Syncs in the middle of which the power went.
    pub writes_torn: u64,
}

#[derive(Default)]
struct Disk {
    visible: Columns,
    durable: Columns,
    unsynced: Vec<Batch>,
    fail_next_sync: bool,
    /// After a failed sync the kernel has forgotten what was dirty: later syncs report success and make nothing
    /// durable. That is what a caller which tries again walks into, and what the crash after it then shows.
    holed: bool,
    free_bytes: Option<u64>,
    tear_next_sync: bool,
    torn: bool,
    observer: Option<Arc<dyn Observer>>,
    faults: Faults,
}

#[derive(Clone, Default)]
struct Columns([Map; Column::ALL.len()]);

impl SimEngine {
    /// An empty disk of unlimited size.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Batches that are visible and not durable.
    pub fn unsynced(&self) -> usize {
        self.disk().unsynced.len()
    }

    /// Power loss: the last `lose` of the unsynced batches (or all, if there are fewer) are gone; what is left is
    /// durable. Returns how many went. Whoever used the engine must be gone before.
    pub fn crash(&self, lose: usize) -> usize {
        let mut disk = self.disk();
        let unsynced = std::mem::take(&mut disk.unsynced);
        let lost = lose.min(unsynced.len());
        for batch in &unsynced[..unsynced.len() - lost] {
            disk.durable.apply(batch);
        }
        disk.visible = disk.durable.clone();
        disk.fail_next_sync = false;
        disk.tear_next_sync = false;
        disk.torn = false;
        disk.holed = false;
        self.cut.store(false, Ordering::SeqCst);
        disk.faults.crashes += 1;
        disk.faults.batches_lost += lost as u64;
        lost
    }

    /// The process that used the engine is gone and the machine is not: what was visible stays so, and what was not durable
    /// still is not.
    pub fn reopen(&self) {
        let mut disk = self.disk();
        disk.fail_next_sync = false;
        disk.tear_next_sync = false;
        self.cut.store(false, Ordering::SeqCst);
    }

    /// The next synced commit fails with [`Error::SyncFailed`]. Its batch is visible and not durable, and until the
    /// crash nothing after it becomes durable either, whatever later syncs report.
    pub fn fail_next_sync(&self) {
        self.disk().fail_next_sync = true;
    }

    /// From here on nothing is written: whoever uses the engine is dead and does not know it yet. [`Self::crash`] ends that.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// The power goes in the middle of the next synced commit, which does not return. Its batch is the last of the
    /// unsynced ones. A write-ahead log keeps a batch whole or not at all, so what tears is a tail of batches: the crash that
    /// follows must take this one at least, and may take any number before it.
    pub fn tear_next_sync(&self) {
        self.disk().tear_next_sync = true;
    }

    /// True once that has happened.
    pub fn is_torn(&self) -> bool {
        self.disk().torn
    }

    /// Shows `observer` every commit from here on. One at most.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.disk().observer = Some(observer);
    }

    /// Sets the space left; `None` is unlimited. Puts use it up, by key and value, and deletes give nothing back.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.disk().free_bytes = free;
    }

    /// Bit rot: flips `bit` (modulo its length) of the value under `key`. False if there is none, or it is empty.
    pub fn damage(&self, column: Column, key: &[u8], bit: usize) -> bool {
        let mut disk = self.disk();
        let hit = disk.visible.damage(column, key, bit);
        if hit {
            disk.durable.damage(column, key, bit);
            disk.faults.values_damaged += 1;
        }
        hit
    }

    /// How often each fault has struck.
    pub fn faults(&self) -> Faults {
        self.disk().faults
    }

    /// A poisoned lock means that a test panicked elsewhere; what it holds is consistent between statements.
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for SimEngine {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.disk().visible.get(column, key)
    }

    fn scan(&self, column: Column, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        self.disk().visible.scan(column, from, to, limit)
    }

    fn last(&self, column: Column, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        self.disk().visible.last(column, from, to)
    }
}

impl Engine for SimEngine {
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Error::Io("no power".into()));
        }
        let mut disk = self.disk();
        if let Some(observer) = &disk.observer {
            observer.committing(&batch);
            if self.cut.load(Ordering::SeqCst) {
                return Err(Error::Io("no power".into()));
            }
        }
        if durability == Durability::Synced && std::mem::take(&mut disk.tear_next_sync) {
            disk.torn = true;
            disk.faults.writes_torn += 1;
            disk.unsynced.push(batch);
            self.cut();
            return Err(Error::Io("no power".into()));
        }
        disk.commit(batch, durability)
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(self.disk().visible.clone()))
    }

    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        Ok(self.disk().free_bytes)
    }
}

impl Disk {
    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), Error> {
        if let Some(free) = self.free_bytes {
            let Some(left) = free.checked_sub(needs(&batch)) else {
                self.faults.commits_refused += 1;
                return Err(Error::Full);
            };
            self.free_bytes = Some(left);
        }
        self.visible.apply(&batch);
        if let Some(observer) = &self.observer {
            observer.committed(&batch, &self.visible);
        }
        self.unsynced.push(batch);
        if durability == Durability::Buffered {
            return Ok(());
        }
        if std::mem::take(&mut self.fail_next_sync) {
            self.holed = true;
            self.faults.syncs_failed += 1;
            return Err(Error::SyncFailed("injected".into()));
        }
        if !self.holed {
            for batch in std::mem::take(&mut self.unsynced) {
                self.durable.apply(&batch);
            }
        }
        Ok(())
    }
}

fn needs(batch: &Batch) -> u64 {
    let put = |write: &Write| match write {
        Write::Put(_, key, value) => (key.len() + value.len()) as u64,
        Write::Delete(..) | Write::DeleteRange(..) => 0,
    };
    batch.iter().map(put).sum()
}

impl Columns {
    fn map(&self, column: Column) -> &BTreeMap<Vec<u8>, Bytes> {
        &self.0[column as usize]
    }

    fn map_mut(&mut self, column: Column) -> &mut BTreeMap<Vec<u8>, Bytes> {
        Arc::make_mut(&mut self.0[column as usize])
    }

    fn apply(&mut self, batch: &Batch) {
        for write in batch {
            match write {
                Write::Put(column, key, value) => {
                    self.map_mut(*column).insert(key.clone(), value.clone());
                }
                Write::Delete(column, key) => {
                    self.map_mut(*column).remove(key);
                }
                Write::DeleteRange(column, from, to) => {
                    let doomed: Vec<_> = range(self.map(*column), from, to).map(|(key, _)| key.clone()).collect();
                    let map = self.map_mut(*column);
                    doomed.iter().for_each(|key| drop(map.remove(key)));
                }
            }
        }
    }

    fn damage(&mut self, column: Column, key: &[u8], bit: usize) -> bool {
        let Some(value) = self.map_mut(column).get_mut(key).filter(|value| !value.is_empty()) else { return false };
        let mut bytes = value.to_vec();
        let at = bit % (bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        *value = bytes.into();
        true
    }
}

/// `BTreeMap::range` panics when the bounds cross; here such a range is empty, as in the engine's contract.
fn range<'a>(
    map: &'a BTreeMap<Vec<u8>, Bytes>,
    from: &'a [u8],
    to: &'a [u8],
) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Bytes)> {
    map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to.max(from))))
}

fn owned((key, value): (&Vec<u8>, &Bytes)) -> Pair {
    (key.clone(), value.clone())
}

impl Read for Columns {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.map(column).get(key).cloned())
    }

    fn scan(&self, column: Column, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        Ok(range(self.map(column), from, to).take(limit).map(owned).collect())
    }

    fn last(&self, column: Column, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        Ok(range(self.map(column), from, to).next_back().map(owned))
    }
}
