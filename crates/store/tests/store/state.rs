use std::sync::Arc;

use kindred_core::command::{Effect, OutboxItem};
use kindred_core::id::{AccountId, ClaimId, DeviceKey, SessionId, ShardId};
use kindred_core::memory::Memory;
use kindred_core::model::Tombstone;
use kindred_core::state::{Change, Key, Record, Timer, View};
use kindred_store::engine::{Column, Durability, Engine};
use kindred_store::keys;
use kindred_store::simulated::SimEngine;
use kindred_store::state::{StateView, writes};

use crate::samples::{self, Random};

const SHARD: ShardId = ShardId(300);

fn commit(engine: &SimEngine, generation: u32, changes: &[Change]) {
    engine.commit(writes(SHARD, generation, changes), Durability::Buffered).unwrap();
}

/// Both views must answer alike.
fn same(engine: &Arc<SimEngine>, memory: &Memory) {
    let view = StateView::new(&**engine, SHARD, 0);
    for key in memory.records.keys() {
        assert_eq!(view.get(key).unwrap(), memory.get(key).unwrap());
    }
    for until_ms in [0, 1, 76, 77, 78, u64::MAX] {
        for limit in [0, 1, 3, 100] {
            assert_eq!(view.timers(until_ms, limit).unwrap(), memory.timers(until_ms, limit).unwrap());
        }
    }
    for from in [0, 9, 10, 11, u64::MAX] {
        for limit in [0, 1, 100] {
            assert_eq!(view.outbox(from, limit).unwrap(), memory.outbox(from, limit).unwrap());
        }
    }
    for account in ["anna", "bert", "an", "anna\0"] {
        let account = AccountId::new(account.as_bytes()).unwrap();
        for limit in [0, 1, 100] {
            for after in [None, Some(&account)] {
                assert_eq!(view.accounts(after, limit).unwrap(), memory.accounts(after, limit).unwrap());
            }
            assert_eq!(view.tombstones(&account, limit).unwrap(), memory.tombstones(&account, limit).unwrap());
            assert_eq!(view.outcomes(&account, limit).unwrap(), memory.outcomes(&account, limit).unwrap());
        }
    }
    for (account, n) in [("anna", 2), ("anna", 5), ("bert", 2), ("anna", 99)] {
        let (account, key) = (AccountId::new(account.as_bytes()).unwrap(), DeviceKey([n; 32]));
        assert_eq!(view.ended_by_key(&account, &key).unwrap(), memory.ended_by_key(&account, &key).unwrap());
        for limit in [0, 1, 2, 100] {
            assert_eq!(view.tombstones(&account, limit).unwrap(), memory.tombstones(&account, limit).unwrap());
            assert_eq!(view.ended_keys(&account, limit).unwrap(), memory.ended_keys(&account, limit).unwrap());
        }
    }
}

#[test]
fn the_view_over_an_engine_answers_like_the_one_in_memory() {
    let (engine, mut memory) = (SimEngine::new(), Memory::default());
    // Neighbours on both sides, which no range may reach into.
    for shard in [ShardId(299), ShardId(301)] {
        let strangers: Vec<Change> = samples::records().into_iter().map(|(k, r)| (k, Some(r))).collect();
        engine.commit(writes(shard, 0, &strangers), Durability::Buffered).unwrap();
    }
    let mut random = Random(1);
    for _ in 0..200 {
        let changes: Vec<Change> = samples::records()
            .into_iter()
            .filter_map(|(key, record)| match (random.below(4), &key) {
                // Never without a stub in its place, which this does not have.
                (0, Key::Tombstone(..)) => Some((key, Some(record))),
                (0, _) => Some((key, None)),
                (1, _) => Some((key, Some(record))),
                _ => None,
            })
            .collect();
        commit(&engine, 0, &changes);
        memory.absorb(&changes);
        same(&engine, &memory);
    }
}

#[test]
fn timers_come_earliest_first() {
    let engine = SimEngine::new();
    let due = [300, 2, 255, 256, 1, u64::MAX];
    let changes: Vec<Change> = due
        .iter()
        .map(|due| (Key::Timer(*due, Timer::Saga(kindred_core::id::TicketId([1; 16]))), Some(Record::Timer)))
        .collect();
    commit(&engine, 0, &changes);
    let found: Vec<_> =
        StateView::new(&*engine, SHARD, 0).timers(300, 100).unwrap().into_iter().map(|(due, _)| due).collect();
    assert_eq!(found, [1, 2, 255, 256, 300]);
}

fn ended(session: u8, set_version: u64) -> Change {
    let mut tombstone: Tombstone = samples::tombstone(session);
    tombstone.session.device_key = DeviceKey([50; 32]);
    tombstone.set_version = set_version;
    (Key::Tombstone(samples::account_id(), SessionId([session; 16])), Some(Record::Tombstone(tombstone)))
}

fn latest(engine: &Arc<SimEngine>, generation: u32) -> Option<SessionId> {
    let view = StateView::new(&**engine, SHARD, generation);
    view.ended_by_key(&samples::account_id(), &DeviceKey([50; 32])).unwrap()
}

#[test]
fn a_key_that_ended_twice_is_found_by_its_latest_end() {
    let engine = SimEngine::new();
    commit(&engine, 0, &[ended(7, 10)]);
    commit(&engine, 0, &[ended(3, 12)]);
    assert_eq!(latest(&engine, 0), Some(SessionId([3; 16])));
}

#[test]
fn of_two_ends_in_one_entry_the_later_counts_whatever_the_order_of_their_ids() {
    for (first, second) in [((1, 10), (2, 11)), ((1, 11), (2, 10))] {
        let engine = SimEngine::new();
        commit(&engine, 0, &[ended(first.0, first.1), ended(second.0, second.1)]);
        let later = if first.1 > second.1 { first.0 } else { second.0 };
        assert_eq!(latest(&engine, 0), Some(SessionId([later; 16])));
    }
}

#[test]
fn generations_are_apart_and_one_goes_as_a_range() {
    let engine = SimEngine::new();
    commit(&engine, 0, &[ended(1, 10)]);
    commit(&engine, 1, &[ended(2, 11)]);
    assert_eq!((latest(&engine, 0), latest(&engine, 1)), (Some(SessionId([1; 16])), Some(SessionId([2; 16]))));
    let (from, to) = keys::state_range(SHARD, 0);
    let gone = vec![kindred_store::engine::Write::DeleteRange(Column::State, from, to)];
    engine.commit(gone, Durability::Buffered).unwrap();
    assert_eq!((latest(&engine, 0), latest(&engine, 1)), (None, Some(SessionId([2; 16]))));
}

#[test]
fn a_damaged_record_is_an_error_and_not_an_absence() {
    let engine = SimEngine::new();
    let (key, account) = (Key::Account(samples::account_id()), Record::Account(samples::account()));
    let item = OutboxItem {
        id: 1,
        due_ms: 2,
        effect: Effect::ConfirmClaim { account: samples::account_id(), claim: ClaimId([1; 16]), home_epoch: 1 },
    };
    let timer = Key::Timer(5, Timer::Saga(kindred_core::id::TicketId([1; 16])));
    let tombstone = ended(1, 10);
    let changes = [(key.clone(), Some(account)), tombstone.clone(), (timer.clone(), Some(Record::Timer)), {
        (Key::Outbox(1), Some(Record::Outbox(item)))
    }];
    commit(&engine, 0, &changes);
    for (n, damaged) in [&key, &tombstone.0, &timer, &Key::Outbox(1)].into_iter().enumerate() {
        assert!(engine.damage(Column::State, &keys::state(SHARD, 0, damaged), 77 * n));
    }
    let view = StateView::new(&*engine, SHARD, 0);
    assert!(view.get(&key).is_err());
    assert!(view.timers(10, 10).is_err());
    assert!(view.outbox(0, 10).is_err());
    assert!(view.tombstones(&samples::account_id(), 9).is_err());
    assert!(view.ended_by_key(&samples::account_id(), &DeviceKey([50; 32])).is_err());
}

#[test]
fn a_device_key_is_found_through_a_stub_and_forgotten_on_demand() {
    let engine = SimEngine::new();
    let (account, key) = (samples::account_id(), DeviceKey([50; 32]));
    commit(&engine, 0, &[ended(7, 10)]);
    let session = SessionId([7; 16]);
    let stub = kindred_core::model::Stub { session, ..samples::stub() };
    let aged = [
        (Key::Tombstone(account.clone(), session), None),
        (Key::Stub(account.clone(), session), Some(Record::Stub(stub))),
    ];
    commit(&engine, 0, &aged);
    assert_eq!(latest(&engine, 0), Some(session));
    commit(&engine, 0, &[(Key::KeyIndex(account.clone(), key), None)]);
    assert_eq!(latest(&engine, 0), None);

    // A name that leads nowhere is damage, and not an unknown key.
    commit(&engine, 0, &[ended(8, 11)]);
    commit(&engine, 0, &[(Key::Tombstone(account.clone(), SessionId([8; 16])), None)]);
    let view = StateView::new(&*engine, SHARD, 0);
    assert!(view.ended_by_key(&account, &key).is_err());
}
