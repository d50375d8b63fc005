//! What every engine must do, as one suite that runs over each of them. Panics with a sentence where one does not.
//!
//! `make` gives an empty engine. `reopen` gives the engine that is there after a loss of power: the old one is gone,
//! what was not durable may be gone too.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Batch, Column, Durability, Engine, Error, Pair, Read, Write};

/// Runs the whole suite.
pub fn check<E: Engine>(make: impl Fn() -> Arc<E>, reopen: impl Fn(Arc<E>) -> Arc<E>) {
    an_empty_engine_holds_nothing(&*make());
    a_batch_is_applied_in_order(&*make());
    columns_are_apart(&*make());
    scans_go_in_order_of_bytes(&*make());
    scans_respect_bounds_and_limits(&*make());
    last_finds_the_greatest_key_of_a_range(&*make());
    a_range_is_deleted_without_its_end(&*make());
    a_crossed_range_is_empty(&*make());
    an_empty_batch_and_an_empty_value_are_fine(&*make());
    a_snapshot_does_not_change(make());
    readers_and_writers_work_at_once(&make());
    synced_batches_survive(make(), &reopen);
    a_sync_covers_what_was_buffered_before(make(), &reopen);
    deletions_survive(make(), &reopen);
    a_large_batch_is_whole_or_absent(make(), &reopen);
}

fn put(column: Column, key: &[u8], value: &[u8]) -> Write {
    Write::Put(column, key.to_vec(), Bytes::copy_from_slice(value))
}

fn delete(column: Column, key: &[u8]) -> Write {
    Write::Delete(column, key.to_vec())
}

fn delete_range(column: Column, from: &[u8], to: &[u8]) -> Write {
    Write::DeleteRange(column, from.to_vec(), to.to_vec())
}

fn ok<T>(what: &str, result: Result<T, Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what} failed: {error}"),
    }
}

fn commit(engine: &dyn Engine, batch: Batch, durability: Durability) {
    ok("commit", engine.commit(batch, durability));
}

fn fill(engine: &dyn Engine, keys: &[&[u8]]) {
    commit(engine, keys.iter().map(|key| put(Column::State, key, key)).collect(), Durability::Buffered);
}

fn get(read: &dyn Read, column: Column, key: &[u8]) -> Option<Vec<u8>> {
    ok("get", read.get(column, key)).map(|value| value.to_vec())
}

fn scan(read: &dyn Read, from: &[u8], to: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let pairs: Vec<Pair> = ok("scan", read.scan(Column::State, from, to, limit));
    pairs.into_iter().map(|(key, _)| key).collect()
}

fn last(read: &dyn Read, from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    ok("last", read.last(Column::State, from, to)).map(|(key, _)| key)
}

fn an_empty_engine_holds_nothing(engine: &dyn Engine) {
    for column in Column::ALL {
        assert_eq!(get(engine, column, b"a"), None);
        assert!(ok("scan", engine.scan(column, b"", &[0xFF; 8], 10)).is_empty());
        assert_eq!(ok("last", engine.last(column, b"", &[0xFF; 8])), None);
    }
    ok("free_bytes", engine.free_bytes());
}

fn a_batch_is_applied_in_order(engine: &dyn Engine) {
    let batch = vec![
        put(Column::State, b"twice", b"first"),
        put(Column::State, b"twice", b"second"),
        put(Column::State, b"gone", b"x"),
        delete(Column::State, b"gone"),
        delete(Column::State, b"back"),
        put(Column::State, b"back", b"y"),
        put(Column::State, b"r1", b"x"),
        delete_range(Column::State, b"r0", b"r9"),
        put(Column::State, b"r2", b"z"),
        delete(Column::State, b"never there"),
    ];
    commit(engine, batch, Durability::Synced);
    assert_eq!(get(engine, Column::State, b"twice").as_deref(), Some(&b"second"[..]), "the later put wins");
    assert_eq!(get(engine, Column::State, b"gone"), None, "deleted after its put");
    assert_eq!(get(engine, Column::State, b"back").as_deref(), Some(&b"y"[..]), "put after its delete");
    assert_eq!(get(engine, Column::State, b"r1"), None, "a range deletion covers earlier puts of its batch");
    assert_eq!(get(engine, Column::State, b"r2").as_deref(), Some(&b"z"[..]), "and spares later ones");
}

fn columns_are_apart(engine: &dyn Engine) {
    let batch = Column::ALL.map(|column| put(column, b"k", column.name().as_bytes())).to_vec();
    commit(engine, batch, Durability::Buffered);
    commit(engine, vec![delete(Column::Meta, b"k"), delete_range(Column::Log, b"", b"z")], Durability::Buffered);
    assert_eq!(get(engine, Column::State, b"k").as_deref(), Some(&b"state"[..]));
    assert_eq!(get(engine, Column::Meta, b"k"), None);
    assert_eq!(get(engine, Column::Log, b"k"), None);
}

fn scans_go_in_order_of_bytes(engine: &dyn Engine) {
    let sorted: [&[u8]; 8] = [b"\0", b"\0\0", b"\x01", b"a", b"a\0", b"a\xFF", b"\xFF", b"\xFF\xFF"];
    let mut shuffled = sorted;
    shuffled.reverse();
    shuffled.swap(1, 5);
    fill(engine, &shuffled);
    assert_eq!(scan(engine, b"", &[0xFF; 4], 100), sorted, "order of unsigned bytes, shorter first");
}

fn scans_respect_bounds_and_limits(engine: &dyn Engine) {
    fill(engine, &[b"a", b"b", b"b\0", b"c", b"\xFF"]);
    assert_eq!(scan(engine, b"b", b"c", 100), [&b"b"[..], b"b\0"], "from is inside, to is not");
    assert_eq!(scan(engine, b"aa", b"bb", 100), [&b"b"[..], b"b\0"], "bounds need not exist");
    assert_eq!(scan(engine, b"a", b"z", 2), [b"a", b"b"]);
    assert!(scan(engine, b"a", b"z", 0).is_empty());
    assert!(scan(engine, b"b", b"b", 100).is_empty());
    assert_eq!(scan(engine, b"d", &[0xFF; 2], 100), [b"\xFF"]);
    assert!(scan(engine, b"d", b"\xFF", 100).is_empty());
}

fn last_finds_the_greatest_key_of_a_range(engine: &dyn Engine) {
    fill(engine, &[b"a", b"b", b"d", b"\xFF"]);
    assert_eq!(last(engine, b"a", b"d"), Some(b"b".to_vec()), "to is not inside");
    assert_eq!(last(engine, b"a", b"c"), Some(b"b".to_vec()));
    assert_eq!(last(engine, b"a", b"d\0"), Some(b"d".to_vec()));
    assert_eq!(last(engine, b"b\0", b"d"), None, "nothing below from");
    assert_eq!(last(engine, b"a", &[0xFF; 2]), Some(b"\xFF".to_vec()));
    commit(engine, vec![delete(Column::State, b"d")], Durability::Buffered);
    assert_eq!(last(engine, b"a", b"e"), Some(b"b".to_vec()), "deleted keys do not count");
}

fn a_range_is_deleted_without_its_end(engine: &dyn Engine) {
    fill(engine, &[b"a", b"b", b"b\xFF", b"c", b"d"]);
    commit(engine, vec![delete_range(Column::State, b"b", b"c")], Durability::Synced);
    assert_eq!(scan(engine, b"", b"z", 100), [b"a", b"c", b"d"]);
    assert_eq!(get(engine, Column::State, b"b\xFF"), None);
    assert_eq!(last(engine, b"a\0", b"c"), None);
    fill(engine, &[b"b"]);
    assert_eq!(scan(engine, b"", b"z", 100), [b"a", b"b", b"c", b"d"], "later puts stand");
}

fn a_crossed_range_is_empty(engine: &dyn Engine) {
    fill(engine, &[b"a", b"b", b"c"]);
    assert!(scan(engine, b"c", b"a", 100).is_empty());
    assert_eq!(last(engine, b"c", b"a"), None);
    let crossed = [delete_range(Column::State, b"c", b"a"), delete_range(Column::State, b"b", b"b")];
    commit(engine, crossed.to_vec(), Durability::Synced);
    assert_eq!(scan(engine, b"", b"z", 100).len(), 3, "and deletes nothing");
}

fn an_empty_batch_and_an_empty_value_are_fine(engine: &dyn Engine) {
    commit(engine, Vec::new(), Durability::Buffered);
    commit(engine, Vec::new(), Durability::Synced);
    commit(engine, vec![put(Column::Meta, b"empty", b"")], Durability::Synced);
    assert_eq!(get(engine, Column::Meta, b"empty"), Some(Vec::new()), "empty is not absent");
}

fn a_snapshot_does_not_change<E: Engine>(engine: Arc<E>) {
    fill(&*engine, &[b"a", b"b", b"c"]);
    let snapshot = ok("snapshot", engine.snapshot());
    let batch = vec![
        put(Column::State, b"a", b"new"),
        delete_range(Column::State, b"b", b"c"),
        put(Column::State, b"d", b"new"),
    ];
    commit(&*engine, batch, Durability::Synced);
    assert_eq!(get(&*snapshot, Column::State, b"a").as_deref(), Some(&b"a"[..]));
    assert_eq!(scan(&*snapshot, b"", b"z", 100), [b"a", b"b", b"c"]);
    assert_eq!(last(&*snapshot, b"", b"z"), Some(b"c".to_vec()));
    let second = ok("snapshot", engine.snapshot());
    assert_eq!(scan(&*second, b"", b"z", 100), [b"a", b"c", b"d"]);
    drop(engine);
    assert_eq!(scan(&*snapshot, b"", b"z", 100).len(), 3, "a snapshot outlives the handle of its engine");
}

fn readers_and_writers_work_at_once<E: Engine>(engine: &Arc<E>) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..200u32 {
                // Both keys in one batch: whoever reads a snapshot sees them equal.
                let value = n.to_be_bytes();
                let batch = vec![put(Column::State, b"x", &value), put(Column::Meta, b"x", &value)];
                commit(&**engine, batch, Durability::Buffered);
            }
        });
        scope.spawn(|| {
            for _ in 0..20 {
                let snapshot = ok("snapshot", engine.snapshot());
                let (state, meta) = (get(&*snapshot, Column::State, b"x"), get(&*snapshot, Column::Meta, b"x"));
                assert_eq!(state, meta, "a snapshot shows no half of a batch");
            }
        });
    });
}

fn synced_batches_survive<E: Engine>(engine: Arc<E>, reopen: &impl Fn(Arc<E>) -> Arc<E>) {
    for n in 0..10u8 {
        let batch = Column::ALL.map(|column| put(column, &[n], &[n, n])).to_vec();
        commit(&*engine, batch, Durability::Synced);
    }
    let engine = reopen(engine);
    for n in 0..10u8 {
        for column in Column::ALL {
            assert_eq!(get(&*engine, column, &[n]), Some(vec![n, n]), "a synced batch is lost");
        }
    }
    commit(&*engine, vec![put(Column::Meta, b"later", b"1")], Durability::Synced);
    let engine = reopen(engine);
    assert_eq!(get(&*engine, Column::Meta, b"later").as_deref(), Some(&b"1"[..]), "a second life loses nothing either");
}

fn a_sync_covers_what_was_buffered_before<E: Engine>(engine: Arc<E>, reopen: &impl Fn(Arc<E>) -> Arc<E>) {
    for n in 0..10u8 {
        commit(&*engine, vec![put(Column::State, &[n], &[n])], Durability::Buffered);
    }
    commit(&*engine, vec![put(Column::Meta, b"vote", b"1")], Durability::Synced);
    commit(&*engine, vec![put(Column::State, b"maybe", b"1")], Durability::Buffered);
    let engine = reopen(engine);
    assert_eq!(scan(&*engine, &[0], &[10], 100).len(), 10, "buffered before a sync is as durable as the sync");
}

fn deletions_survive<E: Engine>(engine: Arc<E>, reopen: &impl Fn(Arc<E>) -> Arc<E>) {
    fill(&*engine, &[b"a", b"b", b"c", b"d"]);
    let batch = vec![delete(Column::State, b"a"), delete_range(Column::State, b"c", b"d")];
    commit(&*engine, batch, Durability::Synced);
    let engine = reopen(engine);
    assert_eq!(scan(&*engine, b"", b"z", 100), [b"b", b"d"]);
}

fn a_large_batch_is_whole_or_absent<E: Engine>(engine: Arc<E>, reopen: &impl Fn(Arc<E>) -> Arc<E>) {
    let value = vec![7; 4096];
    let batch: Batch = (0..1024u32).map(|n| put(Column::State, &n.to_be_bytes(), &value)).collect();
    commit(&*engine, batch.clone(), Durability::Buffered);
    let engine = reopen(engine);
    let found = scan(&*engine, &[0; 4], &[0xFF; 4], 2000).len();
    assert!(found == 0 || found == 1024, "{found} of 1024 keys of one batch");
    commit(&*engine, batch, Durability::Synced);
    let engine = reopen(engine);
    assert_eq!(scan(&*engine, &[0; 4], &[0xFF; 4], 2000).len(), 1024);
}
