//! The contract of engines, the log writer over a real disk, and what damage does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use kindred_rocks::RocksEngine;
use kindred_store::contract;
use kindred_store::engine::{Column, Durability, Engine, Error, Read, Write};
use kindred_store::log_writer::LogWriter;
use tempfile::TempDir;

#[test]
fn rocksdb_keeps_the_contract_of_engines() {
    let directories = RefCell::new(Vec::new());
    let make = || {
        let directory = TempDir::new().unwrap();
        let engine = RocksEngine::open(directory.path()).unwrap();
        directories.borrow_mut().push(directory);
        engine
    };
    contract::check(make, reopen);
    contract::check(make, |engine| {
        engine.flush().unwrap();
        reopen(engine)
    });
}

fn reopen(engine: Arc<RocksEngine>) -> Arc<RocksEngine> {
    let path = engine.path().to_owned();
    drop(engine);
    RocksEngine::open(&path).unwrap()
}

fn put(n: u32) -> Vec<Write> {
    vec![Write::Put(Column::Log, n.to_be_bytes().to_vec(), Bytes::from(vec![7; 200]))]
}

/// A directory with `count` synced entries of the log column, closed.
fn stored(count: u32, flushed: bool) -> TempDir {
    let directory = TempDir::new().unwrap();
    let engine = RocksEngine::open(directory.path()).unwrap();
    for n in 0..count {
        engine.commit(put(n), Durability::Synced).unwrap();
    }
    if flushed {
        engine.flush().unwrap();
    }
    directory
}

/// The largest file that `pick` wants.
fn file(directory: &Path, pick: impl Fn(&str) -> bool) -> PathBuf {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let wanted = files.filter(|path| pick(path.file_name().unwrap().to_str().unwrap()));
    wanted.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn write_ahead_log(directory: &Path) -> PathBuf {
    file(directory, |name| name.ends_with(".log"))
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn count(engine: &RocksEngine) -> usize {
    engine.scan(Column::Log, &[0], &[1], 10_000).unwrap().len()
}

fn refused(directory: &Path) -> String {
    match RocksEngine::open(directory) {
        Err(Error::Corrupt(why)) => why,
        Err(other) => panic!("not corrupt but {other}"),
        Ok(engine) => panic!("opened with {} entries", count(&engine)),
    }
}

#[test]
fn damage_in_the_middle_of_the_write_ahead_log_stops_the_node() {
    for part in [3, 10, 90] {
        let directory = stored(100, false);
        flip(&write_ahead_log(directory.path()), |len| len * part / 100);
        refused(directory.path());
    }
}

/// Where the records of a log begin, if it is shorter than a block.
fn records(log: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at + 7 <= log.len() {
        starts.push(at);
        at += 7 + usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
    }
    starts
}

#[test]
fn a_hole_of_zeros_in_the_write_ahead_log_stops_the_node() {
    // One block, and several: RocksDB alone would open these with 50 entries, and with a gap.
    for (count, hole) in [(100, 300), (100, 7), (1_000, 300), (1_000, 40_000)] {
        let directory = stored(count, false);
        let log = write_ahead_log(directory.path());
        let mut bytes = fs::read(&log).unwrap();
        let start = records(&bytes[..20_000])[50];
        bytes[start..start + hole].fill(0);
        fs::write(&log, bytes).unwrap();
        refused(directory.path());
    }
}

#[test]
fn a_flipped_length_in_the_last_block_is_not_taken_for_a_torn_tail() {
    let directory = stored(100, false);
    let log = write_ahead_log(directory.path());
    let start = records(&fs::read(&log).unwrap())[50];
    let mut bytes = fs::read(&log).unwrap();
    bytes[start + 5] ^= 0x40;
    fs::write(&log, bytes).unwrap();
    refused(directory.path());
}

#[test]
fn zeros_behind_the_end_of_the_write_ahead_log_are_an_end() {
    for zeros in [1, 7, 5_000, 70_000] {
        let directory = stored(100, false);
        let log = write_ahead_log(directory.path());
        let mut bytes = fs::read(&log).unwrap();
        bytes.resize(bytes.len() + zeros, 0);
        fs::write(&log, bytes).unwrap();
        assert_eq!(count(&RocksEngine::open(directory.path()).unwrap()), 100);
    }
}

#[test]
fn a_flip_in_the_last_record_of_the_write_ahead_log_is_seen_unless_it_is_in_the_length() {
    for (back, seen) in [(1, true), (100, true)] {
        let directory = stored(100, false);
        flip(&write_ahead_log(directory.path()), |len| len - back);
        assert_eq!(matches!(RocksEngine::open(directory.path()), Err(Error::Corrupt(_))), seen);
    }
    // The known limit: nobody can tell this from a batch that was being written when the power went.
    let directory = stored(100, false);
    let log = write_ahead_log(directory.path());
    let start = *records(&fs::read(&log).unwrap()).last().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[start + 5] ^= 0x40;
    fs::write(&log, bytes).unwrap();
    assert_eq!(count(&RocksEngine::open(directory.path()).unwrap()), 99);
}

#[test]
fn a_torn_tail_of_the_write_ahead_log_takes_the_torn_batch_only() {
    for torn in [1, 50, 200] {
        let directory = stored(100, false);
        let log = write_ahead_log(directory.path());
        let bytes = fs::read(&log).unwrap();
        fs::write(&log, &bytes[..bytes.len() - torn]).unwrap();
        let engine = RocksEngine::open(directory.path()).unwrap();
        assert_eq!(count(&engine), 99);
        engine.commit(put(99), Durability::Synced).unwrap();
        assert_eq!(count(&reopen(engine)), 100, "and the store goes on from there");
    }
}

#[test]
fn damage_in_the_manifest_stops_the_node() {
    let directory = stored(10, true);
    flip(&file(directory.path(), |name| name.starts_with("MANIFEST-")), |len| len / 2);
    refused(directory.path());
}

#[test]
fn a_store_without_current_is_not_taken_for_a_new_one() {
    let directory = stored(10, true);
    fs::remove_file(directory.path().join("CURRENT")).unwrap();
    assert!(refused(directory.path()).contains("CURRENT"));
}

#[test]
fn a_flipped_bit_in_a_file_is_found_when_it_is_read() {
    let directory = stored(100, true);
    flip(&file(directory.path(), |name| name.ends_with(".sst")), |_| 40);
    let engine = match RocksEngine::open(directory.path()) {
        Ok(engine) => engine,
        Err(Error::Corrupt(_)) => return,
        Err(other) => panic!("{other}"),
    };
    assert!(matches!(engine.get(Column::Log, &5u32.to_be_bytes()), Err(Error::Corrupt(_))));
    assert!(
        matches!(engine.scan(Column::Log, &[0], &[1], 1_000), Err(Error::Corrupt(_))),
        "never just a shorter answer"
    );
    assert!(matches!(engine.last(Column::Log, &[0], &[0, 0, 0, 9]), Err(Error::Corrupt(_))));
}

#[test]
fn a_directory_belongs_to_one_engine() {
    let directory = TempDir::new().unwrap();
    let engine = RocksEngine::open(directory.path()).unwrap();
    assert!(matches!(RocksEngine::open(directory.path()), Err(Error::Io(_))));
    let snapshot = engine.snapshot().unwrap();
    drop(engine);
    drop(snapshot);
    RocksEngine::open(directory.path()).unwrap();
}

#[test]
fn concurrent_batches_share_their_syncs() {
    let directory = TempDir::new().unwrap();
    let engine = RocksEngine::open(directory.path()).unwrap();
    let writer = LogWriter::run_thread(engine.clone(), Box::new(|error| panic!("{error}"))).unwrap();
    let (sender, receiver) = mpsc::channel();
    for n in 0..500 {
        let sender = sender.clone();
        writer.submit(put(n), Box::new(move |result| sender.send(result.map(|()| n)).unwrap()));
    }
    drop(sender);
    let done: Vec<_> = receiver.iter().map(Result::unwrap).collect();
    assert_eq!(done, (0..500).collect::<Vec<_>>(), "in order");
    let stats = writer.stats();
    assert_eq!(stats.batches, 500);
    assert!(stats.syncs < 250, "{} syncs", stats.syncs);
    drop(writer);
    assert_eq!(count(&engine), 500);
}
