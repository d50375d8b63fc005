use bytes::Bytes;
use kindred_store::contract;
use kindred_store::engine::{Column, Durability, Engine, Error, Read, Write};
use kindred_store::simulated::{Faults, SimEngine};

fn put(key: &[u8]) -> Vec<Write> {
    vec![Write::Put(Column::Log, key.to_vec(), Bytes::copy_from_slice(key))]
}

fn keys(engine: &SimEngine) -> Vec<Vec<u8>> {
    engine.scan(Column::Log, b"", b"\xFF", 100).unwrap().into_iter().map(|(key, _)| key).collect()
}

#[test]
fn the_simulated_engine_keeps_the_contract_of_engines() {
    for lose in [0, 1, usize::MAX] {
        contract::check(SimEngine::new, |engine| {
            engine.crash(lose);
            engine
        });
    }
}

#[test]
fn a_power_loss_takes_unsynced_batches_from_the_end() {
    for (lose, left) in [(0, 4), (1, 3), (2, 2), (3, 1), (99, 1)] {
        let engine = SimEngine::new();
        engine.commit(put(b"1"), Durability::Synced).unwrap();
        for key in [b"2", b"3", b"4"] {
            engine.commit(put(key), Durability::Buffered).unwrap();
        }
        assert_eq!(engine.unsynced(), 3);
        assert_eq!(engine.crash(lose), 4 - left);
        assert_eq!(keys(&engine), [b"1", b"2", b"3", b"4"][..left]);
        assert_eq!(engine.unsynced(), 0, "what is left is durable");
        assert_eq!(engine.crash(99), 0);
        assert_eq!(keys(&engine).len(), left);
    }
}

#[test]
fn a_sync_that_is_tried_again_lies() {
    let engine = SimEngine::new();
    engine.commit(put(b"1"), Durability::Synced).unwrap();
    engine.fail_next_sync();
    assert!(matches!(engine.commit(put(b"2"), Durability::Synced), Err(Error::SyncFailed(_))));
    engine.commit(put(b"3"), Durability::Synced).unwrap();
    assert_eq!(keys(&engine), [b"1", b"2", b"3"], "all of it is visible");
    engine.crash(usize::MAX);
    assert_eq!(keys(&engine), [b"1"], "and none of it was durable");
    engine.commit(put(b"4"), Durability::Synced).unwrap();
    assert_eq!(engine.crash(usize::MAX), 0, "a restarted node syncs as ever");
}

#[test]
fn a_buffered_commit_does_not_meet_the_failing_sync() {
    let engine = SimEngine::new();
    engine.fail_next_sync();
    engine.commit(put(b"1"), Durability::Buffered).unwrap();
    assert!(engine.commit(put(b"2"), Durability::Synced).is_err());
}

#[test]
fn a_full_disk_refuses_whole_batches_and_can_be_given_room() {
    let engine = SimEngine::new();
    engine.set_free_bytes(Some(5));
    engine.commit(put(b"a"), Durability::Buffered).unwrap();
    assert_eq!(engine.free_bytes().unwrap(), Some(3));
    let two = [put(b"b"), put(b"cc")].concat();
    assert!(matches!(engine.commit(two.clone(), Durability::Synced), Err(Error::Full)));
    assert_eq!(keys(&engine), [b"a"], "no half of a batch");
    engine.commit(put(b"d"), Durability::Synced).unwrap();
    engine.set_free_bytes(None);
    engine.commit(two, Durability::Synced).unwrap();
    assert_eq!(keys(&engine).len(), 4);
}

#[test]
fn damage_stays_and_faults_are_counted() {
    let engine = SimEngine::new();
    engine.commit(put(b"\x01"), Durability::Synced).unwrap();
    assert!(!engine.damage(Column::Log, b"none", 0));
    assert!(engine.damage(Column::Log, b"\x01", 9));
    engine.crash(0);
    assert_eq!(engine.get(Column::Log, b"\x01").unwrap().unwrap(), &[3][..]);
    assert_eq!(engine.faults(), Faults { crashes: 1, values_damaged: 1, ..Faults::default() });
}

#[test]
fn a_process_that_dies_leaves_to_the_machine_what_it_had_written() {
    let engine = SimEngine::new();
    engine.commit(put(b"1"), Durability::Buffered).unwrap();
    engine.reopen();
    assert_eq!((keys(&engine).len(), engine.unsynced()), (1, 1), "it is there, and still not durable");
    engine.crash(usize::MAX);
    assert!(keys(&engine).is_empty());
}

#[test]
fn a_sync_that_is_torn_never_returns_and_takes_a_tail_of_whole_batches() {
    let engine = SimEngine::new();
    engine.commit(put(b"1"), Durability::Buffered).unwrap();
    engine.tear_next_sync();
    engine.commit(put(b"2"), Durability::Buffered).unwrap();
    assert!(!engine.is_torn(), "a buffered commit is no sync");
    assert!(engine.commit(put(b"3"), Durability::Synced).is_err());
    assert!(engine.is_torn());
    assert_eq!(keys(&engine), [b"1", b"2"]);
    assert!(engine.commit(put(b"4"), Durability::Buffered).is_err(), "there is no power");
    assert_eq!(engine.crash(1), 1);
    assert_eq!(keys(&engine), [b"1", b"2"]);
    engine.commit(put(b"5"), Durability::Synced).unwrap();
    assert_eq!(engine.faults().writes_torn, 1);
}

#[test]
fn an_observer_sees_every_commit_that_came_to_be_visible_and_no_other() {
    struct Seen(std::sync::Mutex<Vec<(usize, usize)>>);
    impl kindred_store::simulated::Observer for Seen {
        fn committed(&self, batch: &[Write], visible: &dyn Read) {
            let there = visible.scan(Column::Log, b"", b"\xFF", 100).unwrap().len();
            self.0.lock().unwrap().push((batch.len(), there));
        }
    }
    let (engine, seen) = (SimEngine::new(), std::sync::Arc::new(Seen(std::sync::Mutex::default())));
    engine.observe(seen.clone());
    engine.commit(put(b"1"), Durability::Buffered).unwrap();
    engine.commit([put(b"2"), put(b"3")].concat(), Durability::Synced).unwrap();
    engine.set_free_bytes(Some(0));
    assert!(engine.commit(put(b"4"), Durability::Synced).is_err());
    engine.set_free_bytes(None);
    engine.cut();
    assert!(engine.commit(put(b"5"), Durability::Synced).is_err());
    assert_eq!(*seen.0.lock().unwrap(), [(1, 1), (2, 3)]);
}
