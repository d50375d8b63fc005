//! A shard's state in memory: for tests, for the log checker's replay, never on the production path.

use std::collections::BTreeMap;

use crate::command::OutboxItem;
use crate::id::{AccountId, DeviceKey, SessionId, TicketId};
use crate::model::{Account, Stub, TicketOutcome, Tombstone};
use crate::state::{Change, Key, ReadError, Record, Timer, View};

/// Records by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Everything the shard holds.
    pub records: BTreeMap<Key, Record>,
    /// For [`View::ended_by_key`]: the session, with the set_version at which it ended.
    keys: BTreeMap<(AccountId, DeviceKey), (u64, SessionId)>,
}

impl Memory {
    /// Takes in the writes of an apply.
    pub fn absorb(&mut self, changes: &[Change]) {
        for (key, record) in changes {
            match (key, record) {
                (Key::KeyIndex(account, device_key), _) => {
                    self.keys.remove(&(account.clone(), *device_key));
                }
                (Key::Tombstone(account, session), Some(Record::Tombstone(tombstone))) => {
                    let at = (account.clone(), tombstone.session.device_key);
                    let latest = self.keys.entry(at).or_insert((tombstone.set_version, *session));
                    if latest.0 <= tombstone.set_version {
                        *latest = (tombstone.set_version, *session);
                    }
                }
                _ => {}
            }
            match record {
                Some(record) => self.records.insert(key.clone(), record.clone()),
                None => self.records.remove(key),
            };
        }
    }
}

impl View for Memory {
    fn get(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        Ok(self.records.get(key).cloned())
    }

    fn timers(&self, until_ms: u64, limit: usize) -> Result<Vec<(u64, Timer)>, ReadError> {
        let due = self.records.keys().filter_map(|key| match key {
            Key::Timer(due_ms, timer) if *due_ms <= until_ms => Some((*due_ms, timer.clone())),
            _ => None,
        });
        Ok(due.take(limit).collect())
    }

    fn outbox(&self, from: u64, limit: usize) -> Result<Vec<OutboxItem>, ReadError> {
        let items =
            self.records.range(Key::Outbox(from)..=Key::Outbox(u64::MAX)).filter_map(|(_, record)| match record {
                Record::Outbox(item) => Some(item.clone()),
                _ => None,
            });
        Ok(items.take(limit).collect())
    }

    fn accounts(&self, after: Option<&AccountId>, limit: usize) -> Result<Vec<Account>, ReadError> {
        let all = self.records.values().filter_map(|record| match record {
            Record::Account(account) => Some(account),
            _ => None,
        });
        Ok(all.filter(|account| after.is_none_or(|after| account.id > *after)).take(limit).cloned().collect())
    }

    fn stubs(&self, account: &AccountId, limit: usize) -> Result<Vec<Stub>, ReadError> {
        let all = self.records.iter().filter_map(|(key, record)| match (key, record) {
            (Key::Stub(of, _), Record::Stub(stub)) if of == account => Some(*stub),
            _ => None,
        });
        Ok(all.take(limit).collect())
    }

    fn outcomes(&self, account: &AccountId, limit: usize) -> Result<Vec<(TicketId, TicketOutcome)>, ReadError> {
        let all = self.records.iter().filter_map(|(key, record)| match (key, record) {
            (Key::Outcome(of, ticket), Record::Outcome(outcome)) if of == account => Some((*ticket, outcome.clone())),
            _ => None,
        });
        Ok(all.take(limit).collect())
    }

    fn ended_by_key(&self, account: &AccountId, key: &DeviceKey) -> Result<Option<SessionId>, ReadError> {
        Ok(self.keys.get(&(account.clone(), *key)).map(|(_, session)| *session))
    }

    fn tombstones(&self, account: &AccountId, limit: usize) -> Result<Vec<Tombstone>, ReadError> {
        let from = Key::Tombstone(account.clone(), SessionId([0; 16]));
        let to = Key::Tombstone(account.clone(), SessionId([0xFF; 16]));
        let found = self.records.range(from..=to).filter_map(|(_, record)| match record {
            Record::Tombstone(tombstone) => Some(tombstone.clone()),
            _ => None,
        });
        Ok(found.take(limit).collect())
    }

    fn ended_keys(&self, account: &AccountId, limit: usize) -> Result<Vec<DeviceKey>, ReadError> {
        let found = self.keys.keys().filter(|(of, _)| of == account).map(|(_, key)| *key);
        Ok(found.take(limit).collect())
    }
}
