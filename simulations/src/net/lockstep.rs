//! The scheduler of the message-level network: runtimes that walk in step.
//!
//! Each node, and all clients together, have a tokio runtime with a clock of their own, which stands still unless it is
//! told to move. A step moves them all by one tick, one after the other. Nothing that is sent within a tick arrives within
//! it, since no message is faster than a tick; so the order in which the runtimes walk cannot matter, and cause comes
//! before effect (conservative parallel simulation: Chandy and Misra, with the shortest latency as the lookahead).
//!
//! A crash drops the runtime, and with it every task. A pause leaves it where it is; when it goes on, its clock jumps.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, RngSeed, Runtime};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::net::fabric::Fabric;
use crate::net::rules::LATENCY_US;
use crate::world::clock;

/// Length of a step.
pub const TICK: Duration = Duration::from_micros(LATENCY_US.0);
/// Length of a step that begins with nothing on its way to anybody. What is sent in it arrives at its end, so the first
/// message after a silence may take longer; cause still comes before effect, and idle time costs a third.
pub const QUIET_TICK: Duration = Duration::from_micros(3 * LATENCY_US.0);

/// The runtimes of one world.
pub struct Lockstep {
    fabric: Arc<Fabric>,
    groups: Vec<Option<Group>>,
    now: Duration,
}

struct Group {
    runtime: Runtime,
    local: LocalSet,
    /// Simulated time, and the runtime's clock, when it was made.
    base: Duration,
    started: Instant,
    /// Where its clock stands.
    at: Duration,
    paused: bool,
}

impl Lockstep {
    /// No runtimes yet.
    pub fn new(fabric: Arc<Fabric>) -> Self {
        clock::stand_at(Duration::ZERO);
        Self { fabric, groups: Vec::new(), now: Duration::ZERO }
    }

    /// Simulated time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Starts `main` in a new runtime as the group of that number; its chance follows from `seed`.
    pub fn start(&mut self, group: usize, seed: u64, main: impl Future<Output = ()> + 'static) -> std::io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&seed.to_be_bytes()))
            .build()?;
        let local = LocalSet::new();
        local.spawn_local(main);
        let started = runtime.block_on(async { Instant::now() });
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, || None);
        }
        self.groups[group] = Some(Group { runtime, local, base: self.now, started, at: self.now, paused: false });
        Ok(())
    }

    /// Adds a task to a running group.
    pub fn spawn(&mut self, group: usize, task: impl Future<Output = ()> + 'static) {
        if let Some(Some(group)) = self.groups.get(group) {
            group.local.spawn_local(task);
        }
    }

    /// Ends every task of the group, wherever it stands.
    pub fn stop(&mut self, group: usize) {
        if let Some(gone) = self.groups.get_mut(group) {
            drop(gone.take());
        }
    }

    /// True while the group has a runtime.
    pub fn is_running(&self, group: usize) -> bool {
        matches!(self.groups.get(group), Some(Some(_)))
    }

    /// From now on the group stands still, or walks again.
    pub fn pause(&mut self, group: usize, paused: bool) {
        if let Some(Some(group)) = self.groups.get_mut(group) {
            group.paused = paused;
        }
    }

    /// One tick.
    pub fn step(&mut self) {
        let is_quiet = self.fabric.sort(u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX));
        let until = self.now + if is_quiet { QUIET_TICK } else { TICK };
        for (number, group) in self.groups.iter_mut().enumerate() {
            if let Some(group) = group.as_mut().filter(|group| !group.paused) {
                group.walk(number, &self.fabric, (self.now, until));
            }
        }
        self.now = until;
        clock::stand_at(until);
    }
}

impl Group {
    fn walk(&mut self, number: usize, fabric: &Arc<Fabric>, (from, until): (Duration, Duration)) {
        clock::follow_runtime(self.base, self.started);
        // All at once, as for a process that was stopped: what was due meanwhile is late.
        let missed = from.saturating_sub(self.at);
        let end = self.started + until.saturating_sub(self.base);
        let mail = if fabric.has_mail(number) { fabric.take_mail(number) } else { Default::default() };
        self.runtime.block_on(self.local.run_until(async {
            if missed > Duration::ZERO {
                tokio::time::advance(missed).await;
            }
            mail.into_iter().for_each(|packet| fabric.deliver(packet));
            tokio::time::sleep_until(end).await;
        }));
        self.at = until;
        clock::stand_at(until);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Destructors of tasks may ask for the time; there is one only while the world stands.
        clock::stand_at(self.at);
    }
}
