//! How old a follower's state is: the time since the last append whose commit index is applied here. openraft shows no
//! such age, so the router notes what it hears.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use kindred_core::env::Env;

/// Appends whose commit index is not applied yet; the oldest ones matter, the newest is kept in any case.
const PENDING_MAX: usize = 256;

/// What one replica heard from its leaders.
pub struct Freshness {
    env: Env,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// (commit index, when), ascending.
    pending: VecDeque<(u64, u64)>,
    /// When the latest append was heard whose commit index is applied.
    fresh_at_ms: Option<u64>,
}

impl Freshness {
    /// Nothing heard yet.
    pub fn new(env: Env) -> Self {
        Self { env, heard: Mutex::default() }
    }

    /// This node's clock, to be read when an append arrives.
    pub fn now_ms(&self) -> u64 {
        self.env.clock.monotonic_ms()
    }

    /// A leader that was accepted knew at `now_ms` that nothing newer than its commit index was acknowledged.
    pub fn heard(&self, now_ms: u64, commit_index: u64, applied_index: u64) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.settle(applied_index);
        let room = heard.pending.len() < PENDING_MAX;
        match heard.pending.back_mut() {
            Some(latest) if latest.0 >= commit_index => latest.1 = latest.1.max(now_ms),
            Some(latest) if !room => *latest = (commit_index, now_ms),
            _ => heard.pending.push_back((commit_index, now_ms)),
        }
        heard.settle(applied_index);
    }

    /// Age in ms; none before anything was heard.
    pub fn age_ms(&self, applied_index: u64) -> Option<u64> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.settle(applied_index);
        heard.fresh_at_ms.map(|at_ms| self.env.clock.monotonic_ms().saturating_sub(at_ms))
    }
}

impl Heard {
    fn settle(&mut self, applied_index: u64) {
        while let Some((index, at_ms)) = self.pending.front().copied() {
            if index > applied_index {
                return;
            }
            self.fresh_at_ms = self.fresh_at_ms.max(Some(at_ms));
            self.pending.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

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

    fn at(world: &World, now_ms: u64) {
        world.0.store(now_ms, Ordering::Relaxed);
    }

    #[test]
    fn an_append_makes_the_state_fresh_only_once_its_commit_index_is_applied() {
        let world = Arc::new(World::default());
        let freshness = Freshness::new(Env { clock: world.clone(), entropy: world.clone() });
        assert_eq!(freshness.age_ms(0), None);
        at(&world, 100);
        freshness.heard(100, 5, 5);
        at(&world, 150);
        freshness.heard(150, 9, 5);
        at(&world, 200);
        assert_eq!(freshness.age_ms(5), Some(100), "what was heard at 150 is not applied");
        assert_eq!(freshness.age_ms(9), Some(50));
    }

    #[test]
    fn a_follower_that_hears_much_and_applies_nothing_stays_bounded() {
        let world = Arc::new(World::default());
        let freshness = Freshness::new(Env { clock: world.clone(), entropy: world.clone() });
        for index in 1..10_000 {
            at(&world, index);
            freshness.heard(index, index, 0);
        }
        assert!(freshness.heard.lock().unwrap().pending.len() <= PENDING_MAX);
        at(&world, 10_000);
        assert_eq!(freshness.age_ms(9_999), Some(1), "the newest is never dropped");
    }
}
