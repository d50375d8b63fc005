use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use kindred_store::engine::{Batch, Column, Durability, Engine, Error, Pair, Read, Write};
use kindred_store::log_writer::{LogWriter, Stats};
use kindred_store::simulated::SimEngine;

fn put(n: u32, size: usize) -> Batch {
    vec![Write::Put(Column::Log, n.to_be_bytes().to_vec(), Bytes::from(vec![7; size]))]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn what_queues_while_nobody_looks_becomes_one_sync() {
    runtime().block_on(async {
        let engine = SimEngine::new();
        let writer = LogWriter::run_task(engine.clone());
        let order = Arc::new(Mutex::new(Vec::new()));
        for n in 0..100 {
            let order = order.clone();
            writer.submit(put(n, 4), Box::new(move |result| order.lock().unwrap().push((n, result.is_ok()))));
        }
        writer.write(put(100, 4)).await.unwrap();
        assert_eq!(writer.stats(), Stats { syncs: 1, batches: 101, bytes: 808 });
        let expected: Vec<_> = (0..100).map(|n| (n, true)).collect();
        assert_eq!(*order.lock().unwrap(), expected, "completed in order, before the one behind them");
        assert_eq!(engine.unsynced(), 0);
    });
}

#[test]
fn one_write_is_bounded_in_bytes_and_in_batches() {
    runtime().block_on(async {
        let writer = LogWriter::run_task(SimEngine::new());
        for n in 0..20 {
            writer.submit(put(n, 1024 * 1024), Box::new(|_| ()));
        }
        writer.write(Vec::new()).await.unwrap();
        assert_eq!(writer.stats().syncs, 3, "8 MiB each");
        for n in 0..2_500 {
            writer.submit(put(n, 0), Box::new(|_| ()));
        }
        writer.write(Vec::new()).await.unwrap();
        assert_eq!(writer.stats().syncs, 6, "1,024 each");
    });
}

#[test]
fn a_failed_sync_fails_everything_queued_and_everything_later() {
    runtime().block_on(async {
        let engine = SimEngine::new();
        let writer = LogWriter::run_task(engine.clone());
        writer.write(put(0, 1)).await.unwrap();
        engine.fail_next_sync();
        let failed = Arc::new(AtomicUsize::new(0));
        for n in 1..10 {
            let failed = failed.clone();
            writer.submit(
                put(n, 1),
                Box::new(move |result| {
                    assert!(matches!(result, Err(Error::SyncFailed(_))));
                    failed.fetch_add(1, Ordering::Relaxed);
                }),
            );
        }
        assert!(matches!(writer.write(put(10, 1)).await, Err(Error::SyncFailed(_))));
        assert_eq!(failed.load(Ordering::Relaxed), 9);
        let before = engine.unsynced();
        assert!(matches!(writer.write(put(11, 1)).await, Err(Error::SyncFailed(_))));
        assert_eq!(engine.unsynced(), before, "the engine is not asked again");
        assert_eq!(writer.stats().syncs, 1);
    });
}

#[test]
fn a_slow_sync_gathers_what_comes_meanwhile_and_a_failed_one_is_told_before_anybody_hears_of_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (engine, told) = (SimEngine::new(), Arc::new(AtomicUsize::new(0)));
        let heard = told.clone();
        let on_failure: kindred_store::log_writer::OnFailure =
            Box::new(move |_| _ = heard.fetch_add(1, Ordering::Relaxed));
        let pace = Arc::new(|| std::time::Duration::from_millis(100));
        let writer = LogWriter::run_paced_task(engine.clone(), Some(on_failure), pace);
        let began = tokio::time::Instant::now();
        let second = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            writer.write(put(1, 1)).await.unwrap();
        };
        let (first, ()) = tokio::join!(writer.write(put(0, 1)), second);
        first.unwrap();
        assert_eq!(began.elapsed().as_millis(), 100);
        assert_eq!(writer.stats().syncs, 1);
        engine.fail_next_sync();
        let seen = told.clone();
        writer.submit(put(2, 1), Box::new(move |_| assert_eq!(seen.load(Ordering::Relaxed), 1)));
        assert!(writer.write(put(3, 1)).await.is_err());
        assert_eq!(told.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_full_disk_is_told_and_the_writer_goes_on() {
    runtime().block_on(async {
        let engine = SimEngine::new();
        let writer = LogWriter::run_task(engine.clone());
        engine.set_free_bytes(Some(10));
        assert!(matches!(writer.write(put(0, 100)).await, Err(Error::Full)));
        writer.write(put(1, 1)).await.unwrap();
        engine.set_free_bytes(None);
        writer.write(put(0, 100)).await.unwrap();
    });
}

#[test]
fn the_thread_writes_and_ends_with_its_last_handle() {
    let engine = SimEngine::new();
    let writer = LogWriter::run_thread(engine.clone(), Box::new(|error| panic!("{error}"))).unwrap();
    let other = writer.clone();
    runtime().block_on(async move { other.write(put(0, 1)).await }).unwrap();
    let (sender, receiver) = mpsc::channel();
    writer.submit(put(1, 1), Box::new(move |result| sender.send(result.is_ok()).unwrap()));
    drop(writer);
    assert_eq!(receiver.recv(), Ok(true), "what was queued before is still written");
    assert_eq!(engine.scan(Column::Log, &[0], &[1], 10).unwrap().len(), 2);
}

/// An engine whose every commit fails.
struct Broken;

impl Read for Broken {
    fn get(&self, _: Column, _: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(None)
    }
    fn scan(&self, _: Column, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Pair>, Error> {
        Ok(Vec::new())
    }
    fn last(&self, _: Column, _: &[u8], _: &[u8]) -> Result<Option<Pair>, Error> {
        Ok(None)
    }
}

impl Engine for Broken {
    fn commit(&self, _: Batch, _: Durability) -> Result<(), Error> {
        Err(Error::Io("gone".into()))
    }
    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Err(Error::Io("gone".into()))
    }
    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
}

#[test]
fn the_failure_is_reported_once_and_before_any_callback() {
    let (sender, receiver) = mpsc::channel();
    let failures = sender.clone();
    let writer =
        LogWriter::run_thread(Arc::new(Broken), Box::new(move |error| failures.send(error.to_string()).unwrap()))
            .unwrap();
    for n in 0..3 {
        let sender = sender.clone();
        writer.submit(put(n, 1), Box::new(move |result| sender.send(format!("{n} {}", result.is_err())).unwrap()));
    }
    drop((writer, sender));
    let told: Vec<_> = receiver.iter().collect();
    assert_eq!(told, ["storage: gone", "0 true", "1 true", "2 true"]);
}

#[test]
fn a_writer_that_panics_does_not_vanish_in_silence() {
    let (sender, receiver) = mpsc::channel();
    let writer =
        LogWriter::run_thread(SimEngine::new(), Box::new(move |error| sender.send(error.to_string()).unwrap()))
            .unwrap();
    writer.submit(put(1, 1), Box::new(|_| panic!("meant")));
    assert_eq!(receiver.recv().unwrap(), "storage: the log writer has panicked");
    let late = runtime().block_on(writer.write(put(2, 1)));
    assert!(matches!(late, Err(Error::Io(_))), "{late:?}");
}
