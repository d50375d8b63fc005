//! The shard's state in the engine: the view that core reads through, and an apply's changes as writes.

use std::collections::BTreeMap;

use bytes::Bytes;
use kindred_core::command::OutboxItem;
use kindred_core::id::{AccountId, DeviceKey, SessionId, ShardId, TicketId};
use kindred_core::model::{Account, Stub, TicketOutcome, Tombstone};
use kindred_core::state::{Change, Key, ReadError, Record, Timer, View};

use crate::codec::{self, Kind, Malformed};
use crate::engine::{self, Batch, Column, Read, Write};
use crate::keys;

/// One shard's state, in one generation, at whatever point of the engine's history `read` stands.
///
/// Over the engine itself two reads may see two points; over [`crate::engine::Engine::snapshot`] they do not. The
/// machine is the only writer of a shard and may read through the engine.
#[derive(Clone, Copy)]
pub struct StateView<'a> {
    read: &'a dyn Read,
    shard: ShardId,
    generation: u32,
}

impl<'a> StateView<'a> {
    /// A view of `shard` as it is in `generation`.
    pub fn new(read: &'a dyn Read, shard: ShardId, generation: u32) -> Self {
        Self { read, shard, generation }
    }

    fn value(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.read.get(Column::State, key).map_err(unreadable)
    }

    fn range(&self, (from, to): (Vec<u8>, Vec<u8>), limit: usize) -> Result<Vec<(Key, Record)>, ReadError> {
        let pairs = self.read.scan(Column::State, &from, &to, limit).map_err(unreadable)?;
        pairs
            .into_iter()
            .map(|(key, value)| {
                let (_, _, key) = keys::parse_state(&key).map_err(damaged)?;
                let record = codec::decode_record(&key, &value).map_err(damaged)?;
                Ok((key, record))
            })
            .collect()
    }
}

impl View for StateView<'_> {
    fn get(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        let value = self.value(&keys::state(self.shard, self.generation, key))?;
        value.map(|value| codec::decode_record(key, &value).map_err(damaged)).transpose()
    }

    fn timers(&self, until_ms: u64, limit: usize) -> Result<Vec<(u64, Timer)>, ReadError> {
        let due = self.range(keys::timers_range(self.shard, self.generation, until_ms), limit)?;
        due.into_iter()
            .map(|(key, _)| match key {
                Key::Timer(due_ms, timer) => Ok((due_ms, timer)),
                _ => Err(damaged(Malformed("another record among the timers"))),
            })
            .collect()
    }

    fn outbox(&self, from: u64, limit: usize) -> Result<Vec<OutboxItem>, ReadError> {
        let items = self.range(keys::outbox_range(self.shard, self.generation, from), limit)?;
        items
            .into_iter()
            .map(|(_, record)| match record {
                Record::Outbox(item) => Ok(item),
                _ => Err(damaged(Malformed("another record in the outbox"))),
            })
            .collect()
    }

    fn accounts(&self, after: Option<&AccountId>, limit: usize) -> Result<Vec<Account>, ReadError> {
        let all = self.range(keys::accounts_range(self.shard, self.generation, after), limit)?;
        all.into_iter()
            .map(|(_, record)| match record {
                Record::Account(account) => Ok(account),
                _ => Err(damaged(Malformed("another record among the accounts"))),
            })
            .collect()
    }

    fn stubs(&self, account: &AccountId, limit: usize) -> Result<Vec<Stub>, ReadError> {
        let all = self.range(keys::stubs_range(self.shard, self.generation, account), limit)?;
        all.into_iter()
            .map(|(_, record)| match record {
                Record::Stub(stub) => Ok(stub),
                _ => Err(damaged(Malformed("another record among the stubs"))),
            })
            .collect()
    }

    fn outcomes(&self, account: &AccountId, limit: usize) -> Result<Vec<(TicketId, TicketOutcome)>, ReadError> {
        let all = self.range(keys::outcomes_range(self.shard, self.generation, account), limit)?;
        all.into_iter()
            .map(|pair| match pair {
                (Key::Outcome(_, ticket), Record::Outcome(outcome)) => Ok((ticket, outcome)),
                _ => Err(damaged(Malformed("another record among the outcomes"))),
            })
            .collect()
    }

    fn ended_by_key(&self, account: &AccountId, key: &DeviceKey) -> Result<Option<SessionId>, ReadError> {
        let Some(entry) =
            self.value(&keys::state(self.shard, self.generation, &Key::KeyIndex(account.clone(), *key)))?
        else {
            return Ok(None);
        };
        let session = decode_key_index(&entry).map_err(damaged)?;
        let is_there = |key: &Key| self.get(key).map(|found| found.is_some());
        if is_there(&Key::Tombstone(account.clone(), session))? || is_there(&Key::Stub(account.clone(), session))? {
            return Ok(Some(session));
        }
        // What has ended is told of for ever. One that is gone must not look like a key that never was here.
        Err(damaged(Malformed("the index names a session of which nothing is left")))
    }

    fn tombstones(&self, account: &AccountId, limit: usize) -> Result<Vec<Tombstone>, ReadError> {
        let found = self.range(keys::tombstones_range(self.shard, self.generation, account), limit)?;
        found
            .into_iter()
            .map(|(_, record)| match record {
                Record::Tombstone(tombstone) => Ok(tombstone),
                _ => Err(damaged(Malformed("another record among the tombstones"))),
            })
            .collect()
    }

    fn ended_keys(&self, account: &AccountId, limit: usize) -> Result<Vec<DeviceKey>, ReadError> {
        let (from, to) = keys::key_index_range(self.shard, self.generation, account);
        let pairs = self.read.scan(Column::State, &from, &to, limit).map_err(unreadable)?;
        pairs
            .into_iter()
            .map(|(key, _)| match keys::parse_state(&key).map_err(damaged)? {
                (_, _, Key::KeyIndex(_, device_key)) => Ok(device_key),
                _ => Err(damaged(Malformed("another record in the index of device keys"))),
            })
            .collect()
    }
}

fn unreadable(error: engine::Error) -> ReadError {
    ReadError { what: error.to_string(), damaged: matches!(error, engine::Error::Corrupt(_)) }
}

fn damaged(malformed: Malformed) -> ReadError {
    ReadError { what: malformed.to_string(), damaged: malformed.is_damage() }
}

/// An apply's changes as writes of the shard's state, with the index of device keys kept in step. The caller adds what
/// else belongs into the batch (the applied index).
///
/// Changes come in the order of their keys, which says nothing about the order of events: if one entry ends two
/// sessions of one key, the index must name the one with the greater set_version.
pub fn writes(shard: ShardId, generation: u32, changes: &[Change]) -> Batch {
    let mut batch = Batch::with_capacity(changes.len() + 1);
    let mut ended: BTreeMap<(&AccountId, &DeviceKey), &Tombstone> = BTreeMap::new();
    for (key, record) in changes {
        let at = keys::state(shard, generation, key);
        let Some(record) = record else {
            batch.push(Write::Delete(Column::State, at));
            continue;
        };
        batch.push(Write::Put(Column::State, at, codec::encode_record(record)));
        if let (Key::Tombstone(account, _), Record::Tombstone(tombstone)) = (key, record) {
            let latest = ended.entry((account, &tombstone.session.device_key)).or_insert(tombstone);
            if latest.set_version <= tombstone.set_version {
                *latest = tombstone;
            }
        }
    }
    for ((account, key), tombstone) in ended {
        let at = keys::state(shard, generation, &Key::KeyIndex(account.clone(), *key));
        batch.push(Write::Put(Column::State, at, encode_key_index(&tombstone.session.id)));
    }
    batch
}

fn encode_key_index(session: &SessionId) -> Bytes {
    codec::seal(Kind::KeyIndex, session.as_bytes())
}

fn decode_key_index(value: &Bytes) -> Result<SessionId, Malformed> {
    SessionId::from_slice(&codec::open(Kind::KeyIndex, value)?).ok_or(Malformed("width of a session id"))
}
