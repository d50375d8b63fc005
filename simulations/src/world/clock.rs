//! Simulated time, and what the clock of one node makes of it.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kindred_core::env::{Clock, Entropy, Env};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

/// Wall clock at the start of every run: 2026-01-01T00:00:00Z.
pub const EPOCH_MS: u64 = 1_767_225_600_000;

/// Where this thread's simulated time comes from. A process has one thread and one world.
#[derive(Clone, Copy)]
enum Source {
    /// Between steps.
    At(Duration),
    /// Within a runtime of the message network, whose clock stood at `started` when the world's stood at `base`.
    Runtime { base: Duration, started: Instant },
    /// Within turmoil, which tells.
    Turmoil,
}

thread_local! {
    static SOURCE: Cell<Source> = const { Cell::new(Source::At(Duration::ZERO)) };
}

/// Simulated time since the start of the run.
pub fn now() -> Duration {
    match SOURCE.get() {
        Source::At(at) => at,
        Source::Runtime { base, started } => base + started.elapsed(),
        // Outside a host (while the world is built) time has not begun.
        Source::Turmoil => turmoil::sim_elapsed().unwrap_or_default(),
    }
}

/// [`now`] in microseconds.
pub fn now_us() -> u64 {
    u64::try_from(now().as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn stand_at(at: Duration) {
    SOURCE.set(Source::At(at));
}

pub(crate) fn follow_runtime(base: Duration, started: Instant) {
    SOURCE.set(Source::Runtime { base, started });
}

pub(crate) fn follow_turmoil() {
    SOURCE.set(Source::Turmoil);
}

/// The clocks of one machine: right until a fault strikes them. They outlive its processes. Timers of tokio do not follow
/// them: what a fault here strikes is what reads `Env`, shard time and nonces above all.
#[derive(Default)]
pub struct NodeClock(Mutex<Dials>);

#[derive(Default)]
struct Dials {
    /// When the rate last changed, and what the monotonic clock showed then.
    since: Duration,
    shown_us: i64,
    ppm: i64,
    /// Wall clock less monotonic clock less [`EPOCH_MS`].
    skew_us: i64,
    /// The monotonic clock never shows less.
    floor_us: i64,
}

impl Dials {
    fn monotonic_us(&mut self) -> i64 {
        let passed = i64::try_from(now().saturating_sub(self.since).as_micros()).unwrap_or(i64::MAX);
        let shown = self.shown_us + passed + passed.saturating_mul(self.ppm) / 1_000_000;
        self.floor_us = self.floor_us.max(shown);
        self.floor_us
    }
}

impl NodeClock {
    fn dials(&self) -> std::sync::MutexGuard<'_, Dials> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock is off by so much from here on.
    pub fn skew(&self, by_ms: i64) {
        let mut dials = self.dials();
        let drifted_us = dials.monotonic_us() - i64::try_from(now().as_micros()).unwrap_or(i64::MAX);
        dials.skew_us = by_ms.saturating_mul(1_000) - drifted_us;
    }

    /// Both clocks run so many millionths too fast from here on.
    pub fn drift(&self, ppm: i64) {
        let mut dials = self.dials();
        dials.shown_us = dials.monotonic_us();
        dials.since = now();
        dials.ppm = ppm;
    }

    /// The wall clock jumps; the monotonic one as well, if it is asked for and forwards.
    pub fn jump(&self, by_ms: i64, monotonic: bool) {
        let mut dials = self.dials();
        let by_us = by_ms.saturating_mul(1_000);
        if monotonic && by_us > 0 {
            dials.shown_us = dials.monotonic_us() + by_us;
            dials.since = now();
        } else {
            dials.skew_us = dials.skew_us.saturating_add(by_us);
        }
    }

    /// Right again, as far as a clock can be that must not run back.
    pub fn mend(&self) {
        self.drift(0);
        self.skew(0);
    }
}

impl Clock for NodeClock {
    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.dials().monotonic_us() / 1_000).unwrap_or(0)
    }

    fn wall_ms(&self) -> u64 {
        let mut dials = self.dials();
        let us = dials.monotonic_us() + dials.skew_us;
        EPOCH_MS.saturating_add_signed(us / 1_000)
    }
}

struct SimEntropy(Mutex<StdRng>);

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

/// A generator of its own for everything that has a number, from the run's seed.
pub fn rng(seed: u64, stream: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(stream))
}

/// True time, and chance of one process: from the run's seed and the process's number.
pub fn env(seed: u64, process: u64) -> Env {
    env_with(Arc::new(NodeClock::default()), seed, process)
}

/// The same on a machine with that clock.
pub fn env_with(clock: Arc<NodeClock>, seed: u64, process: u64) -> Env {
    Env { clock, entropy: Arc::new(SimEntropy(Mutex::new(rng(seed, process)))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_drifts_and_jumps_and_its_monotonic_side_never_runs_back() {
        let clock = NodeClock::default();
        stand_at(Duration::from_secs(100));
        assert_eq!((clock.monotonic_ms(), clock.wall_ms()), (100_000, EPOCH_MS + 100_000));
        clock.drift(1_000);
        stand_at(Duration::from_secs(200));
        assert_eq!(clock.monotonic_ms(), 200_100);
        clock.skew(-2_000);
        assert_eq!((clock.monotonic_ms(), clock.wall_ms()), (200_100, EPOCH_MS + 198_000));
        clock.jump(-3_600_000, true);
        assert_eq!((clock.monotonic_ms(), clock.wall_ms()), (200_100, EPOCH_MS + 198_000 - 3_600_000));
        clock.jump(60_000, true);
        assert_eq!(clock.monotonic_ms(), 260_100);
        clock.drift(-500_000);
        stand_at(Duration::from_secs(201));
        assert_eq!(clock.monotonic_ms(), 260_600);
        clock.mend();
        assert_eq!(clock.wall_ms(), EPOCH_MS + 201_000);
        stand_at(Duration::from_secs(200));
        assert_eq!(clock.monotonic_ms(), 260_600, "even if the world's own time did");
        stand_at(Duration::ZERO);
    }
}
