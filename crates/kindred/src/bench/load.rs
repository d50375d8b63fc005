//! What calls of one kind did.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use kindred_wire::reason::Reason;
use serde_json::{Value, json};
use tonic::Status;

/// Longest latency that is told apart, in µs.
const LATENCY_US_MAX: u64 = 120_000_000;

/// Quantiles that are printed.
pub(super) const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Latencies and errors of calls.
#[derive(Clone)]
pub(super) struct Load {
    /// Time in which the measured calls were answered.
    pub(super) elapsed: Duration,
    /// Answers that each call brings: 1, but for messages of many questions.
    pub(super) answers_per_call: u64,
    /// Latency of the calls that were answered well, in µs.
    latency_us: Histogram<u64>,
    /// The same by kind, where a run mixes kinds.
    pub(super) kinds: BTreeMap<&'static str, Histogram<u64>>,
    /// Failed calls by what they were told; those of the warm-up too.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Load {
    /// Nothing yet.
    pub(super) fn new() -> anyhow::Result<Self> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        let (elapsed, answers_per_call) = (Duration::ZERO, 1);
        Ok(Self { elapsed, answers_per_call, latency_us, kinds: BTreeMap::new(), errors: BTreeMap::new() })
    }

    /// A good answer after this long.
    pub(super) fn record(&mut self, latency: Duration, kind: Option<&'static str>) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(us);
        if let Some(kind) = kind {
            let empty = || Histogram::new_from(&self.latency_us);
            self.kinds.entry(kind).or_insert_with(empty).saturating_record(us);
        }
    }

    /// A call that failed.
    pub(super) fn fail(&mut self, name: String) {
        *self.errors.entry(name).or_default() += 1;
    }

    /// Adds another run of the same work.
    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.elapsed += other.elapsed;
        self.answers_per_call = other.answers_per_call;
        self.latency_us.add(&other.latency_us)?;
        for (kind, histogram) in &other.kinds {
            match self.kinds.get_mut(kind) {
                Some(ours) => ours.add(histogram)?,
                None => drop(self.kinds.insert(kind, histogram.clone())),
            }
        }
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        Ok(())
    }

    /// The calls of one kind alone; they share time and errors with the rest.
    pub(super) fn of_kind(&self, histogram: &Histogram<u64>) -> Self {
        let (latency_us, kinds, errors) = (histogram.clone(), BTreeMap::new(), BTreeMap::new());
        Self { latency_us, kinds, errors, ..*self }
    }

    /// Measured good answers.
    pub(super) fn answered(&self) -> u64 {
        self.latency_us.len() * self.answers_per_call
    }

    /// Measured good answers per second.
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

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let quantile = |(name, quantile): &(&str, f64)| (format!("{name}_ms"), json!(self.quantile_ms(*quantile)));
        json!({
            "per_second": self.per_second(),
            "answered": self.answered(),
            "elapsed_ms": u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            "latency": QUANTILES.iter().map(quantile).collect::<serde_json::Map<_, _>>(),
            "errors": self.errors,
        })
    }
}

/// What a failed call is counted as: the reason that it was given, else the bare code.
pub(super) fn name_of(status: &Status) -> String {
    Reason::of(status).map_or_else(|| format!("{:?}", status.code()), |reason| reason.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up_by_kind_and_by_error() {
        let mut one = Load::new().unwrap();
        one.elapsed = Duration::from_secs(1);
        one.record(Duration::from_millis(2), Some("link"));
        let mut two = one.clone();
        two.record(Duration::from_millis(8), Some("list"));
        two.fail("BUSY".into());
        one.add(&two).unwrap();
        assert_eq!((one.answered(), one.per_second(), one.failed()), (3, 1.5, 1));
        let lists = one.of_kind(&one.kinds["list"]);
        assert_eq!((lists.answered(), lists.quantile_ms(1.0).round()), (1, 8.0));
        assert_eq!(one.kinds["link"].len(), 2);
    }
}
