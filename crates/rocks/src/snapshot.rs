//! Snapshots that own what they need.
//!
//! RocksDB's snapshot borrows its database, so an object that holds both would borrow from itself. Instead of unsafe
//! code, a thread holds both on its stack and answers questions; it ends with the object. That costs some tens of
//! microseconds per snapshot and per question: right for streaming a shard's state in chunks, wrong for single reads.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use kindred_store::engine::{Column, Error, Pair, Read};
use rocksdb::DB;

use crate::read;

/// A view that later commits do not change.
pub(crate) struct Snapshot {
    /// `None` only while it is dropped.
    questions: Option<Sender<Question>>,
    thread: Option<JoinHandle<()>>,
}

enum Question {
    Get(Column, Vec<u8>, SyncSender<Result<Option<Bytes>, Error>>),
    Scan(Column, Vec<u8>, Vec<u8>, usize, SyncSender<Result<Vec<Pair>, Error>>),
    Last(Column, Vec<u8>, Vec<u8>, SyncSender<Result<Option<Pair>, Error>>),
}

impl Snapshot {
    /// The view as of now: it stands when this returns.
    pub(crate) fn take(db: Arc<DB>) -> Result<Self, Error> {
        let (questions, inbox) = channel();
        let (taken, ready) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(move || serve(&db, &inbox, &taken))
            .map_err(|error| Error::Io(error.to_string()))?;
        let snapshot = Self { questions: Some(questions), thread: Some(thread) };
        ready.recv().map_err(|_| gone())?;
        Ok(snapshot)
    }

    fn ask<T>(&self, question: impl FnOnce(SyncSender<Result<T, Error>>) -> Question) -> Result<T, Error> {
        let (sender, receiver) = sync_channel(1);
        let questions = self.questions.as_ref().ok_or_else(gone)?;
        questions.send(question(sender)).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())?
    }
}

fn serve(db: &DB, inbox: &Receiver<Question>, taken: &SyncSender<()>) {
    let snapshot = db.snapshot();
    let at = Some(&snapshot);
    // Whoever asked may have gone; then there is nobody to tell.
    let _ = taken.send(());
    for question in inbox {
        match question {
            Question::Get(column, key, answer) => drop(answer.send(read::get(db, at, column, &key))),
            Question::Scan(column, from, to, limit, answer) => {
                drop(answer.send(read::scan(db, at, column, (&from, &to), limit)));
            }
            Question::Last(column, from, to, answer) => drop(answer.send(read::last(db, at, column, (&from, &to)))),
        }
    }
}

impl Read for Snapshot {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.ask(|answer| Question::Get(column, key.to_vec(), answer))
    }

    fn scan(&self, column: Column, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        self.ask(|answer| Question::Scan(column, from.to_vec(), to.to_vec(), limit, answer))
    }

    fn last(&self, column: Column, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        self.ask(|answer| Question::Last(column, from.to_vec(), to.to_vec(), answer))
    }
}

impl Drop for Snapshot {
    /// Waits for the thread, so that an engine whose handles and snapshots are gone is closed and its lock free.
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gone() -> Error {
    Error::Io("the snapshot's thread is gone".into())
}
