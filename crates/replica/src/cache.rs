//! Records as they were last read or written, decoded: the account and the ticket that one call reads, the next one and
//! the entry behind it read again. One cache for all replicas of a node.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kindred_core::command::OutboxItem;
use kindred_core::id::{AccountId, DeviceKey, SessionId, TicketId};
use kindred_core::model::{Account, Stub, Ticket, TicketOutcome, TicketState, Tombstone};
use kindred_core::state::{Change, Key, ReadError, Record, Timer, View};
use kindred_store::state::StateView;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

/// Memory for all records of a node, in bytes as [`Weight`] estimates them.
const BYTES_MAX: u64 = 64 << 20;
/// Records that are expected; more only cost some growing.
const RECORDS: usize = 64 * 1024;

/// A fixed hash: a simulation must not depend on chance, and a crowded bucket costs speed only.
type Hasher = BuildHasherDefault<DefaultHasher>;
type At = (Space, Key);

/// The records of one state in one generation; numbers are never used again in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Space(u64);

/// The cache.
pub struct Records {
    cache: Cache<At, Arc<Record>, Weight, Hasher>,
    spaces: AtomicU64,
}

impl Default for Records {
    fn default() -> Self {
        let cache = Cache::with(RECORDS, BYTES_MAX, Weight, Hasher::default(), DefaultLifecycle::default());
        Self { cache, spaces: AtomicU64::new(0) }
    }
}

impl Records {
    /// A space that nothing is cached in.
    pub fn space(&self) -> Space {
        Space(self.spaces.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes over what was committed. Nobody may read the space meanwhile.
    pub fn committed(&self, space: Space, changes: Vec<Change>) {
        for (key, record) in changes {
            match record {
                Some(record) if is_kept(&key) => self.cache.insert((space, key), Arc::new(record)),
                None if is_kept(&key) => {
                    self.cache.remove(&(space, key));
                }
                _ => {}
            }
        }
    }
}

/// What is read again soon. Everything else is read once, if at all.
fn is_kept(key: &Key) -> bool {
    matches!(key, Key::Shard | Key::Directory(_) | Key::Account(_) | Key::Ticket(_))
}

/// Estimates the memory of a record, with its key.
#[derive(Clone)]
struct Weight;

impl Weighter<At, Arc<Record>> for Weight {
    fn weight(&self, _: &At, record: &Arc<Record>) -> u64 {
        const PLAIN: usize = 1024;
        const SESSION: usize = 512;
        let bytes = match record.as_ref() {
            Record::Account(account) => PLAIN + SESSION * account.sessions.len(),
            Record::Ticket(Ticket {
                state: TicketState::Approved { envelope, .. } | TicketState::Linked { envelope, .. },
                ..
            }) => PLAIN + envelope.len(),
            _ => PLAIN,
        };
        bytes as u64
    }
}

/// A state as it is stored, through the cache.
pub struct CachedView<'a> {
    stored: StateView<'a>,
    records: &'a Records,
    space: Space,
}

impl<'a> CachedView<'a> {
    /// Reads `stored`, which is what `space` stands for.
    pub fn new(stored: StateView<'a>, records: &'a Records, space: Space) -> Self {
        Self { stored, records, space }
    }

    /// A record of a kind that is kept.
    fn kept(&self, key: &Key) -> Result<Option<Arc<Record>>, ReadError> {
        let at = (self.space, key.clone());
        if let Some(record) = self.records.cache.get(&at) {
            return Ok(Some(record));
        }
        let found = self.stored.get(key)?.map(Arc::new);
        if let Some(record) = &found {
            self.records.cache.insert(at, record.clone());
        }
        Ok(found)
    }
}

impl View for CachedView<'_> {
    fn get(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        if !is_kept(key) {
            return self.stored.get(key);
        }
        Ok(self.kept(key)?.map(Arc::unwrap_or_clone))
    }

    fn look_at_account(&self, id: &AccountId, look: &mut dyn FnMut(&Account)) -> Result<(), ReadError> {
        if let Some(Record::Account(account)) = self.kept(&Key::Account(id.clone()))?.as_deref() {
            look(account);
        }
        Ok(())
    }

    fn timers(&self, until_ms: u64, limit: usize) -> Result<Vec<(u64, Timer)>, ReadError> {
        self.stored.timers(until_ms, limit)
    }

    fn outbox(&self, from: u64, limit: usize) -> Result<Vec<OutboxItem>, ReadError> {
        self.stored.outbox(from, limit)
    }

    fn accounts(&self, after: Option<&AccountId>, limit: usize) -> Result<Vec<Account>, ReadError> {
        self.stored.accounts(after, limit)
    }

    fn ended_by_key(&self, account: &AccountId, key: &DeviceKey) -> Result<Option<SessionId>, ReadError> {
        self.stored.ended_by_key(account, key)
    }

    fn tombstones(&self, account: &AccountId, limit: usize) -> Result<Vec<Tombstone>, ReadError> {
        self.stored.tombstones(account, limit)
    }

    fn stubs(&self, account: &AccountId, limit: usize) -> Result<Vec<Stub>, ReadError> {
        self.stored.stubs(account, limit)
    }

    fn outcomes(&self, account: &AccountId, limit: usize) -> Result<Vec<(TicketId, TicketOutcome)>, ReadError> {
        self.stored.outcomes(account, limit)
    }

    fn ended_keys(&self, account: &AccountId, limit: usize) -> Result<Vec<DeviceKey>, ReadError> {
        self.stored.ended_keys(account, limit)
    }
}
