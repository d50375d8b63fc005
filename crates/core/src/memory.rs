//! A shard's state in memory: for tests, for the log checker's replay, never on the production path.

use std::collections::BTreeMap;

use crate::command::OutboxItem;
use crate::id::{AccountId, DeviceKey, TicketId};
use crate::model::{Account, TicketOutcome, Tombstone};
use crate::state::{Change, Key, ReadError, Record, Timer, View};

/// Records by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Everything the shard holds.
    pub records: BTreeMap<Key, Record>,
}

impl Memory {
    /// Takes in the writes of an apply.
    pub fn absorb(&mut self, changes: &[Change]) {
        for (key, record) in changes {
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

    fn tombstones(&self, account: &AccountId, limit: usize) -> Result<Vec<Tombstone>, ReadError> {
        let all = self.records.iter().filter_map(|(key, record)| match (key, record) {
            (Key::Tombstone(of, _), Record::Tombstone(tombstone)) if of == account => Some(tombstone.clone()),
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

    fn tombstone_by_key(&self, account: &AccountId, key: &DeviceKey) -> Result<Option<Tombstone>, ReadError> {
        let of_key = self.records.values().filter_map(|record| match record {
            Record::Tombstone(t) if t.session.device_key == *key => Some(t),
            _ => None,
        });
        let of_account = of_key.filter(|t| self.records.contains_key(&Key::Tombstone(account.clone(), t.session.id)));
        Ok(of_account.max_by_key(|t| t.set_version).cloned())
    }
}
