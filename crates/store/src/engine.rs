//! The engine: an ordered key-value store with atomic batches. Cut low, so that everything above it is the same over
//! RocksDB and over the simulated disk. Calls block; callers keep them off latency-sensitive tasks. What every engine
//! must do is written down as tests in [`crate::contract`].

use bytes::Bytes;

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Raft entries.
    Log,
    /// Shard state.
    State,
    /// Votes, applied indexes, node identity.
    Meta,
}

impl Column {
    /// All columns.
    pub const ALL: [Self; 3] = [Self::Log, Self::State, Self::Meta];
    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::State => "state",
            Self::Meta => "meta",
        }
    }
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Column, Vec<u8>, Bytes),
    /// Removes a key.
    Delete(Column, Vec<u8>),
    /// Removes `[from, to)`; nothing if `from >= to`.
    DeleteRange(Column, Vec<u8>, Vec<u8>),
}

/// Writes that become visible together, applied in order.
pub type Batch = Vec<Write>;

/// When a commit returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the write-ahead log is on disk (fdatasync), with everything committed before it.
    Synced,
    /// When it is visible; a power loss may take it, in order, from the end.
    Buffered,
}

/// Why the engine failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk is full; nothing of the batch is visible.
    #[error("disk full")]
    Full,
    /// A sync failed: nothing may be acknowledged any more, the node must exit and must not retry.
    #[error("sync failed, the node must stop: {0}")]
    SyncFailed(String),
    /// Stored bytes are damaged.
    #[error("damaged data: {0}")]
    Corrupt(String),
    /// Any other input or output error.
    #[error("storage: {0}")]
    Io(String),
}

/// A pair from a scan.
pub type Pair = (Vec<u8>, Bytes);

/// Reads at one point of the engine's history: a snapshot's, or for the engine itself the point of each call. Keys are
/// in order of their unsigned bytes; a range with `from >= to` is empty.
pub trait Read: Send + Sync {
    /// The value under `key`.
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, Error>;
    /// Pairs with `from <= key < to` in order, at most `limit`.
    fn scan(&self, column: Column, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Error>;
    /// The last pair with `from <= key < to`.
    fn last(&self, column: Column, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error>;
}

/// The store of one node.
pub trait Engine: Read + 'static {
    /// Applies the batch atomically: once this returned, every read sees all of it. After [`Error::SyncFailed`] it may
    /// or may not be there after a restart; after [`Error::Full`] it is not visible.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), Error>;
    /// A view that later commits do not change. Short-lived, since it pins files, and not for single reads, since it
    /// may cost a thread.
    fn snapshot(&self) -> Result<Box<dyn Read>, Error>;
    /// Bytes left for data; `None` if the engine does not know, or nothing limits it.
    fn free_bytes(&self) -> Result<Option<u64>, Error>;
}
