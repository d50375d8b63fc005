//! For lines in the log that strangers can cause: one in a while says it, and a counter has the rest.

use std::sync::atomic::{AtomicU64, Ordering};

use kindred_core::env::Env;

/// Between two lines.
const PAUSE_MS: u64 = 1_000;

/// Lets one line in a second pass.
pub struct Seldom {
    env: Env,
    next_ms: AtomicU64,
}

impl Seldom {
    /// The first line passes.
    pub fn new(env: Env) -> Self {
        Self { env, next_ms: AtomicU64::new(0) }
    }

    /// True if a line may be written now.
    pub fn may(&self) -> bool {
        let now_ms = self.env.clock.monotonic_ms();
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let turn = |from| self.next_ms.compare_exchange(from, now_ms + PAUSE_MS, Ordering::Relaxed, Ordering::Relaxed);
        now_ms >= next_ms && turn(next_ms).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kindred_core::env::{Clock, Entropy};

    use super::*;

    #[derive(Default)]
    struct World(AtomicU64);

    impl Clock for World {
        fn monotonic_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        fn wall_ms(&self) -> u64 {
            0
        }
    }

    impl Entropy for World {
        fn fill(&self, _: &mut [u8]) {}
    }

    #[test]
    fn one_line_in_a_second_passes() {
        let world = Arc::new(World::default());
        let seldom = Seldom::new(Env { clock: world.clone(), entropy: world.clone() });
        assert_eq!([seldom.may(), seldom.may(), seldom.may()], [true, false, false]);
        world.0.store(PAUSE_MS, Ordering::Relaxed);
        assert_eq!([seldom.may(), seldom.may()], [true, false]);
    }
}
