use kindred_core::id::{AccountId, DeviceKey, RequestId, SessionId, ShardId, TicketId};
use kindred_core::state::{Key, Timer};
use kindred_store::keys::{self, MetaKey};

use crate::samples::Random;

/// Ids of few values and many zeros, so that prefixes and escapes are frequent.
fn account(random: &mut Random) -> AccountId {
    let bytes: Vec<u8> = (0..1 + random.below(4)).map(|_| [0, 1, 0xFF][random.below(3)]).collect();
    AccountId::new(&bytes).unwrap()
}

fn id<const N: usize>(random: &mut Random) -> [u8; N] {
    [[0, 1, 0xFF][random.below(3)]; N]
}

fn key(random: &mut Random) -> Key {
    let number = [0, 1, 255, 256, u64::MAX][random.below(5)];
    let (ticket, request) = (TicketId(id(random)), RequestId(id(random)));
    let account = account(random);
    match random.below(14) {
        0 => Key::Shard,
        1 => Key::Directory(account),
        2 => Key::Account(account),
        3 => Key::Tombstone(account, SessionId(id(random))),
        4 => Key::Change(account, number),
        5 => Key::Outcome(account, ticket),
        6 => Key::Ticket(ticket),
        7 => Key::AccountReply(account, request),
        8 => Key::TicketReply(ticket, request),
        9 => Key::Timer(
            number,
            match random.below(9) {
                0 => Timer::TicketDeadline(ticket),
                1 => Timer::Saga(ticket),
                2 => Timer::TicketRemoval(ticket),
                3 => Timer::AccountReplyRemoval(account, request),
                4 => Timer::TicketReplyRemoval(ticket, request),
                5 => Timer::OutcomeRemoval(account, ticket),
                6 => Timer::TombstoneAgeing(account, SessionId(id(random))),
                7 => Timer::Erasure(account),
                _ => Timer::Removals(number),
            },
        ),
        10 => Key::Outbox(number),
        11 => Key::Stub(account, SessionId(id(random))),
        12 => Key::Deleted(account),
        _ => Key::KeyIndex(account, DeviceKey(id(random))),
    }
}

#[test]
fn the_order_of_keys_on_disk_is_the_order_of_keys_in_core() {
    let mut random = Random(1);
    let mut keys: Vec<_> = (0..3_000).map(|_| key(&mut random)).collect();
    keys.sort();
    let bytes: Vec<_> = keys.iter().map(|key| keys::state(ShardId(7), 3, key)).collect();
    for (keys, bytes) in keys.windows(2).zip(bytes.windows(2)) {
        assert_eq!(keys[0].cmp(&keys[1]), bytes[0].cmp(&bytes[1]), "{keys:?}");
    }
}

#[test]
fn every_key_reads_back_as_itself() {
    let mut random = Random(2);
    for _ in 0..3_000 {
        let key = key(&mut random);
        let bytes = keys::state(ShardId(7), 3, &key);
        assert_eq!(keys::parse_state(&bytes), Ok((ShardId(7), 3, key)));
    }
}

#[test]
fn a_key_that_is_cut_or_extended_is_malformed() {
    let mut random = Random(3);
    for _ in 0..300 {
        let mut bytes = keys::state(ShardId(7), 3, &key(&mut random));
        for end in 0..bytes.len() {
            assert!(keys::parse_state(&bytes[..end]).is_err(), "{end} bytes of {bytes:?}");
        }
        bytes.push(0);
        assert!(keys::parse_state(&bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_mutated_key_never_panics_and_reads_only_as_what_it_spells() {
    let mut random = Random(4);
    for _ in 0..20_000 {
        let mut bytes = keys::state(ShardId(7), 3, &key(&mut random));
        let at = random.below(bytes.len());
        bytes[at] = u8::try_from(random.below(256)).unwrap();
        if let Ok((shard, generation, key)) = keys::parse_state(&bytes) {
            assert_eq!(keys::state(shard, generation, &key), bytes, "one key, one spelling");
        }
    }
}

#[test]
fn ranges_hold_exactly_their_shard_and_generation() {
    let mut random = Random(5);
    for (shard, generation) in [(1, 0), (1, u32::MAX), (0xFF, 3), (u32::MAX - 1, u32::MAX)] {
        let (from, to) = keys::state_range(ShardId(shard), generation);
        for _ in 0..200 {
            let key = key(&mut random);
            let inside = keys::state(ShardId(shard), generation, &key);
            assert!(from <= inside && inside < to);
            let next = match generation.checked_add(1) {
                Some(next) => keys::state(ShardId(shard), next, &key),
                None => keys::state(ShardId(shard + 1), 0, &key),
            };
            assert!(next >= to);
        }
    }
}

#[test]
fn a_log_is_a_range_from_its_first_possible_index_to_its_end() {
    let shard = ShardId(5);
    assert_eq!(keys::log(shard, 258), [0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert!(keys::log(shard, 9) < keys::log(shard, 10));
    assert!(keys::log(shard, u64::MAX) < keys::log_end(shard));
    assert!(keys::log_end(shard) < keys::log(ShardId(6), 0));
    assert_eq!(keys::parse_log(&keys::log(shard, 258)), Ok((shard, 258)));
    assert!(keys::parse_log(&keys::log_end(shard)).is_err());
}

#[test]
fn meta_keys_differ_and_lie_in_the_range_of_their_shard() {
    let shard = ShardId(5);
    let (from, to) = keys::meta_range(shard);
    let mut all: Vec<_> = MetaKey::ALL.iter().map(|key| keys::meta(shard, *key)).collect();
    assert!(all.iter().all(|key| from <= *key && *key < to));
    assert!(keys::meta(ShardId(6), MetaKey::Replica) >= to);
    assert!(keys::node_identity() >= to);
    all.push(keys::node_identity());
    all.sort();
    all.dedup();
    assert_eq!(all.len(), MetaKey::ALL.len() + 1);
}
