//! When calls of an open loop start, and which key a call takes. Repeatable: the same seed gives the same.

use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, Zipf};

/// How calls of an open loop follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Default)]
pub(super) enum Arrivals {
    /// Independent of each other, as calls of many strangers are.
    #[default]
    Poisson,
    /// All equally far apart.
    Constant,
}

/// When calls of an open loop start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    per_second: f64,
    seed: u64,
}

impl Schedule {
    /// Starts per second must be above 0.
    pub(super) fn new(arrivals: Arrivals, per_second: f64, seed: u64) -> Self {
        Self { arrivals, per_second, seed }
    }

    /// The starts, counted from the start of the run; without end.
    pub(super) fn starts(self) -> impl Iterator<Item = Duration> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut at_seconds = 0.0;
        std::iter::from_fn(move || {
            let gap: f64 = match self.arrivals {
                Arrivals::Constant => 1.0,
                Arrivals::Poisson => Exp1.sample(&mut rng),
            };
            at_seconds += gap / self.per_second;
            Duration::try_from_secs_f64(at_seconds).ok()
        })
    }

    /// When so many calls will have started, on average.
    pub(super) fn expected(&self, calls: u64) -> Duration {
        Duration::try_from_secs_f64(calls as f64 / self.per_second).unwrap_or(Duration::MAX)
    }

    /// Starts per second.
    pub(super) fn per_second(&self) -> f64 {
        self.per_second
    }
}

/// Which of so many keys a call takes.
pub(super) struct Keys {
    count: usize,
    zipf: Option<Zipf<f64>>,
    rng: StdRng,
}

impl Keys {
    /// Over `count` keys, the first being the most popular: key k is taken in proportion to 1 / k^exponent. With exponent
    /// 0 all are equally popular.
    pub(super) fn new(count: usize, exponent: f64, seed: u64) -> anyhow::Result<Self> {
        anyhow::ensure!(count > 0, "there are no keys to choose from");
        let zipf = (exponent > 0.0).then(|| Zipf::new(count as f64, exponent)).transpose();
        Ok(Self { count, zipf: zipf.context("Zipf exponent")?, rng: StdRng::seed_from_u64(seed) })
    }

    /// The next key, below the count.
    pub(super) fn pick(&mut self) -> usize {
        match &self.zipf {
            // A sample is a whole number from 1 to the count.
            Some(zipf) => (zipf.sample(&mut self.rng) as usize).clamp(1, self.count) - 1,
            None => self.rng.random_range(0..self.count),
        }
    }

    /// A number from 0 to 99, each equally likely: which part of a mix comes next.
    pub(super) fn percent(&mut self) -> u32 {
        self.rng.random_range(0..100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_equally_far_apart() {
        let starts: Vec<_> = Schedule::new(Arrivals::Constant, 200.0, 1).starts().take(3).collect();
        assert_eq!(starts, [5, 10, 15].map(Duration::from_millis));
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_scatter_as_they_should_and_repeat_by_seed() {
        let starts: Vec<_> = Schedule::new(Arrivals::Poisson, 1_000.0, 7).starts().take(20_000).collect();
        assert_eq!(starts, Schedule::new(Arrivals::Poisson, 1_000.0, 7).starts().take(20_000).collect::<Vec<_>>());
        assert_ne!(starts[..9], Schedule::new(Arrivals::Poisson, 1_000.0, 8).starts().take(9).collect::<Vec<_>>());
        assert!(starts.is_sorted());
        let seconds = starts[starts.len() - 1].as_secs_f64();
        assert!((19.5..20.5).contains(&seconds), "20,000 at 1,000 per second took {seconds} s");
        // Of exponential gaps, 1/e are longer than the mean; of equal ones, none.
        let long = starts.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_millis(1)).count();
        assert!((7_000..7_700).contains(&long), "{long} of 20,000 gaps are longer than the mean");
    }

    #[test]
    fn zipf_keys_are_as_popular_as_their_rank_says() {
        let mut keys = Keys::new(1_000, 1.0, 3).unwrap();
        let mut taken = vec![0_u32; 1_000];
        for _ in 0..100_000 {
            taken[keys.pick()] += 1;
        }
        // The sum of 1/k up to 1,000 is 7.485, so the first gets 13.4 % and the tenth a tenth of that.
        assert!((12_900..13_900).contains(&taken[0]), "first: {}", taken[0]);
        assert!((1_200..1_480).contains(&taken[9]), "tenth: {}", taken[9]);
    }

    #[test]
    fn without_an_exponent_all_keys_are_equal() {
        let mut keys = Keys::new(10, 0.0, 3).unwrap();
        let mut taken = [0_u32; 10];
        (0..10_000).for_each(|_| taken[keys.pick()] += 1);
        assert!(taken.iter().all(|count| (850..1_150).contains(count)), "{taken:?}");
        assert!(Keys::new(0, 1.0, 3).is_err());
    }
}
