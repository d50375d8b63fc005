//! A closed loop, and what it measured.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use kindred_client::Error;
use tokio::time::Instant;

/// Longest latency that is told apart, in µs.
const LATENCY_US_MAX: u64 = 120_000_000;

/// What calls of one kind did.
pub(super) struct Load {
    /// Time during which they were made.
    pub(super) elapsed: Duration,
    /// Latency of those that were answered well, in µs.
    pub(super) latency_us: Histogram<u64>,
    /// The others, by what they were told.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Load {
    /// Nothing yet.
    pub(super) fn new() -> anyhow::Result<Self> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        Ok(Self { elapsed: Duration::ZERO, latency_us, errors: BTreeMap::new() })
    }

    /// Adds another run of the same kind.
    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.elapsed += other.elapsed;
        self.latency_us.add(&other.latency_us)?;
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        Ok(())
    }

    /// Good answers.
    pub(super) fn answered(&self) -> u64 {
        self.latency_us.len()
    }

    /// Good answers per second.
    pub(super) fn per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        // A count of calls is far below what a double holds exactly.
        if seconds > 0.0 { self.answered() as f64 / seconds } else { 0.0 }
    }

    /// A quantile in ms.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency_us.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// All that were not answered well.
    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Keeps `in_flight` calls under way until `next` has nothing more. A call that fails is counted, not repeated.
pub(super) async fn closed_loop<T>(
    in_flight: usize,
    next: impl Fn() -> Option<T>,
    call: impl AsyncFn(usize, T) -> Result<(), String>,
) -> anyhow::Result<Load> {
    let load = RefCell::new(Load::new()?);
    let started = Instant::now();
    let workers = (0..in_flight).map(async |worker| {
        while let Some(item) = next() {
            let sent = Instant::now();
            let answer = call(worker, item).await;
            let us = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut load = load.borrow_mut();
            match answer {
                Ok(()) => load.latency_us.saturating_record(us),
                Err(name) => *load.errors.entry(name).or_default() += 1,
            }
        }
    });
    futures::future::join_all(workers).await;
    let mut load = load.into_inner();
    load.elapsed = started.elapsed();
    Ok(load)
}

/// What an error is counted as.
pub(super) fn name_of(error: &Error) -> String {
    match (error.reason(), error.status()) {
        (Some(reason), _) => reason.name().to_owned(),
        (None, Some(status)) => format!("{:?}", status.code()),
        (None, None) => "malformed answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn every_item_is_called_once_and_failures_are_counted() {
        let (next, flying, most) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let items = || {
            next.set(next.get() + 1);
            (next.get() <= 100).then_some(next.get())
        };
        let call = async |_: usize, item: u32| {
            flying.set(flying.get() + 1);
            most.set(most.get().max(flying.get()));
            tokio::task::yield_now().await;
            flying.set(flying.get() - 1);
            if item.is_multiple_of(10) { Err("BUSY".to_owned()) } else { Ok(()) }
        };
        let load = closed_loop(8, items, call).await.unwrap();
        assert_eq!((load.answered(), load.errors["BUSY"], load.failed(), most.get()), (90, 10, 10, 8));
    }
}
