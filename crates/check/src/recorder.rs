//! Writes a history while it happens. Safe to share between threads and tasks.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::history::{Answer, Body, EVENTS_MAX, Event, Note, Operation, Outcome, Refusal, Tombstone};

/// Collects events in memory and, if it has a file, writes each as a line at once, so that a crash of the recording
/// process leaves everything up to it.
///
/// Recording never fails in the middle of a scenario; the first trouble is kept and told by [`Recorder::finish`].
pub struct Recorder {
    now_us: Box<dyn Fn() -> u64 + Send + Sync>,
    inner: Mutex<Inner>,
}

struct Inner {
    file: Option<(String, File)>,
    events: Vec<Event>,
    next_id: u64,
    last_us: u64,
    trouble: Option<Error>,
}

/// An operation under way. Dropped without an answer it stays in the history as a call without a return: unknown.
#[derive(Debug)]
#[must_use = "an operation that is never answered counts as unknown"]
pub struct Pending {
    id: u64,
    client: String,
    op: &'static str,
}

impl Recorder {
    /// Records into memory only. `now_us` is monotonic; readings that run back are lifted to the last one.
    pub fn in_memory(now_us: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            now_us: Box::new(now_us),
            inner: Mutex::new(Inner { file: None, events: Vec::new(), next_id: 1, last_us: 0, trouble: None }),
        }
    }

    /// Records into memory and into `path`, which is made anew together with its directory.
    pub fn to_file(path: &Path, now_us: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Self, Error> {
        let name = path.display().to_string();
        let io = |source| Error::Io { path: name.clone(), source };
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let file = File::create(path).map_err(io)?;
        let recorder = Self::in_memory(now_us);
        recorder.lock().file = Some((name, file));
        Ok(recorder)
    }

    /// To be called *before* anything of the operation is sent.
    pub fn call(&self, client: &str, op: Operation) -> Pending {
        let name = op.name();
        let mut inner = self.lock();
        let id = inner.take_id();
        inner.push(&self.now_us, id, client, Body::Call(op));
        Pending { id, client: client.to_owned(), op: name }
    }

    /// To be called *after* the answer was seen.
    pub fn done(&self, pending: Pending, outcome: Outcome) {
        let body = Body::Return { op: pending.op.to_owned(), outcome };
        self.lock().push(&self.now_us, pending.id, &pending.client, body);
    }

    /// It was answered.
    pub fn ok(&self, pending: Pending, answer: Answer) {
        self.done(pending, Outcome::Ok(Box::new(answer)));
    }

    /// It was refused without any effect, now or later.
    pub fn refused(&self, pending: Pending, reason: &str, tombstone: Option<Tombstone>) {
        self.done(pending, Outcome::Refused(Refusal { reason: reason.to_owned(), tombstone }));
    }

    /// It may have happened.
    pub fn unknown(&self, pending: Pending) {
        self.done(pending, Outcome::Unknown);
    }

    /// Something that is no operation.
    pub fn note(&self, client: &str, note: Note) {
        let mut inner = self.lock();
        let id = inner.take_id();
        inner.push(&self.now_us, id, client, Body::Note(note));
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Brings the file to the disk; the first trouble of the whole recording, if there was any.
    pub fn finish(&self) -> Result<(), Error> {
        let mut inner = self.lock();
        if let Some(trouble) = inner.trouble.take() {
            return Err(trouble);
        }
        match &inner.file {
            Some((path, file)) => file.sync_all().map_err(|source| Error::Io { path: path.clone(), source }),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// The clock is read under the lock: the order of lines and of times is one.
    fn push(&mut self, now_us: &(dyn Fn() -> u64 + Send + Sync), id: u64, client: &str, body: Body) {
        if self.events.len() >= EVENTS_MAX {
            self.trouble.get_or_insert(Error::TooLong { max: EVENTS_MAX });
            return;
        }
        self.last_us = now_us().max(self.last_us);
        let event = Event { id, client: client.to_owned(), at_us: self.last_us, body };
        if let Err(error) = self.write(&event) {
            self.trouble.get_or_insert(error);
        }
        self.events.push(event);
    }

    fn write(&mut self, event: &Event) -> Result<(), Error> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let mut line =
            serde_json::to_vec(event).map_err(|source| Error::Line { line: self.events.len() + 1, source })?;
        line.push(b'\n');
        file.write_all(&line).map_err(|source| Error::Io { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn ticks() -> impl Fn() -> u64 + Send + Sync + 'static {
        let now = AtomicU64::new(0);
        move || now.fetch_add(1, Ordering::SeqCst)
    }

    #[test]
    fn what_was_recorded_is_what_is_read() {
        let path = std::env::temp_dir().join(format!("kindred-check-{}", std::process::id())).join("one.jsonl");
        let recorder = Recorder::to_file(&path, ticks()).unwrap();
        let open = recorder.call("web", Operation::Open { device_key: "k".into() });
        recorder.ok(open, Answer { ticket: Some("t".into()), ..Answer::default() });
        let cancel = recorder.call("web", Operation::Cancel { ticket: "t".into() });
        recorder.refused(cancel, "TICKET_EXPIRED", None);
        recorder.note("demo", Note::Restart { node: "n2".into() });
        drop(recorder.call("phone", Operation::List { account: "a".into(), level: Default::default() }));
        recorder.finish().unwrap();
        assert_eq!(crate::read_file(&path).unwrap(), recorder.events());
        assert_eq!(recorder.events().len(), 6);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn many_threads_make_one_order() {
        let recorder = Recorder::in_memory(ticks());
        std::thread::scope(|scope| {
            for client in ["a", "b", "c", "d"] {
                let recorder = &recorder;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let pending = recorder.call(client, Operation::Open { device_key: client.into() });
                        recorder.unknown(pending);
                    }
                });
            }
        });
        let events = recorder.events();
        assert_eq!(events.len(), 800);
        assert!(events.windows(2).all(|pair| pair[0].at_us < pair[1].at_us));
        crate::timeline::Timeline::new(&events).unwrap();
    }
}
