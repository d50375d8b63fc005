//! How far a run has come: the world and the clients tell each other.

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kindred_check::Recorder;
use serde::Serialize;

use super::plan::Trouble;
use crate::faults::{Counts, Fault, Injection};

/// The parts of a run, in order. The world moves to those marked *w*, the clients to those marked *c*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Faults happen, people go about their business.
    Storm = 0,
    /// *w* Nothing is broken any more; people finish what they are at, and learn what became of the rest.
    Heal = 1,
    /// *c* Nobody changes anything, so that replicas can be compared.
    Quiet = 2,
    /// *w* All replicas were seen equal. Everybody links once more, and every session is asked about.
    Serve = 3,
    /// *c* It is over.
    Done = 4,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Storm, Self::Heal, Self::Quiet, Self::Serve, Self::Done];
}

/// Something that must not be, found while a run goes on or when it is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule: the name of a checker, or `liveness`, `convergence`, `scenario`, `tickets`.
    pub rule: String,
    /// What was seen.
    pub detail: String,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When, in simulated microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_us: Option<u64>,
}

impl Violation {
    /// One that says only what.
    pub fn new(rule: &str, detail: impl Into<String>) -> Self {
        Self { rule: rule.to_owned(), detail: detail.into(), account: None, session: None, at_us: None }
    }
}

/// Shared by the world and the clients of one run.
pub struct Stage {
    phase: AtomicU8,
    now_us: Arc<AtomicU64>,
    /// The history.
    pub recorder: Recorder,
    found: Mutex<Vec<Violation>>,
    fired: Mutex<Counts>,
    errands: Mutex<Vec<(usize, Trouble)>>,
    orders: Mutex<Orders>,
}

/// What a story asks of the world.
#[derive(Default)]
struct Orders {
    open: Vec<Order>,
    /// How many were carried out, or refused.
    done: usize,
    given: usize,
    is_told: bool,
}

/// Something that a story asks of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// This is to go wrong.
    Inject(Injection),
    /// Everything is to be whole again.
    Heal,
}

impl Stage {
    /// With a history that is kept in memory, and written to this file as well if there is one.
    pub fn new(history: Option<&Path>) -> Result<Arc<Self>, kindred_check::Error> {
        let now_us = Arc::new(AtomicU64::new(0));
        let clock = now_us.clone();
        let read = move || clock.load(Ordering::Relaxed);
        let recorder = match history {
            Some(path) => Recorder::to_file(path, read)?,
            None => Recorder::in_memory(read),
        };
        Ok(Arc::new(Self {
            phase: AtomicU8::new(0),
            now_us,
            recorder,
            found: Mutex::default(),
            fired: Mutex::default(),
            errands: Mutex::default(),
            orders: Mutex::default(),
        }))
    }

    /// Where the run stands.
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed)).min(Phase::ALL.len() - 1)]
    }

    /// It goes on; never back.
    pub fn reach(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Completes once the run has come so far.
    pub async fn wait(&self, phase: Phase) {
        while self.phase() < phase {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Something that must not be.
    pub fn violates(&self, mut violation: Violation) {
        violation.at_us.get_or_insert(self.now_us.load(Ordering::Relaxed));
        lock(&self.found).push(violation);
    }

    /// What was found so far.
    pub fn found(&self) -> Vec<Violation> {
        lock(&self.found).clone()
    }

    /// Clients did something of this kind: it counts.
    pub fn fired(&self, fault: Fault) {
        lock(&self.fired).add(fault);
    }

    /// What clients did, by kind.
    pub fn faults(&self) -> Counts {
        lock(&self.fired).clone()
    }

    /// An event of the plan, with its index, that clients bring about.
    pub fn errand(&self, index: usize, trouble: Trouble) {
        lock(&self.errands).push((index, trouble));
    }

    /// The next errand of this account.
    pub fn take_errand(&self, account: usize) -> Option<(usize, Trouble)> {
        let mut errands = lock(&self.errands);
        let at = errands.iter().position(|(_, trouble)| trouble.account == account)?;
        Some(errands.remove(at))
    }

    /// Completes once the world has carried it out.
    pub async fn order(&self, order: Order) {
        let number = {
            let mut orders = lock(&self.orders);
            orders.open.push(order);
            orders.given += 1;
            orders.given
        };
        while lock(&self.orders).done < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What a story asked for; the world carries it out at once.
    pub fn take_orders(&self) -> Vec<Order> {
        let mut orders = lock(&self.orders);
        orders.done = orders.given;
        std::mem::take(&mut orders.open)
    }

    /// The story is told to its end.
    pub fn story_is_over(&self) {
        lock(&self.orders).is_told = true;
    }

    /// Whether it is.
    pub fn is_story_over(&self) -> bool {
        lock(&self.orders).is_told
    }

    /// Moves the clock of the history, which stands still within a step of the world.
    pub fn set_now_us(&self, now_us: u64) {
        self.now_us.store(now_us, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
