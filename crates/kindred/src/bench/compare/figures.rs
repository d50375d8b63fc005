//! What was measured of whom, and which of it counts.

use std::collections::BTreeMap;

use super::super::lab::Measured;

/// A system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum System {
    Kindred,
    Etcd,
    Postgres,
    Redis,
}

impl System {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kindred => "Kindred",
            Self::Etcd => "etcd",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// A link; a compare-and-set of a record elsewhere.
    Link,
    /// Below the public rpc, in one group.
    LinkShard,
    /// A linearizable validation; a read elsewhere.
    Read,
    /// Linearizable validations in messages of many.
    ReadStream,
    /// A link on a cluster of many groups.
    LinkManyGroups,
    /// Below the public rpc, spread over many groups.
    LinkShardManyGroups,
}

impl Work {
    pub(super) fn name(self, system: System) -> &'static str {
        match (self, system) {
            (Self::Link, System::Kindred) => "link (public rpc, proofs verified, receipt)",
            (Self::Link, _) => "compare-and-set of a record",
            (Self::LinkShard, _) => "link, shard-level commit",
            (Self::Read, System::Kindred) => "validate, linearizable, unary",
            (Self::Read, System::Etcd) => "linearizable read",
            (Self::ReadStream, _) => "validate, linearizable, on streams",
            (Self::Read, _) => "read at the primary",
            (Self::LinkManyGroups, _) => "link (public rpc), 16 groups",
            (Self::LinkShardManyGroups, _) => "link, shard-level commit, 16 groups",
        }
    }
}

/// A point: who did what, with how many calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) work: Work,
    pub(super) in_flight: usize,
    pub(super) system: System,
}

/// One measurement of a point.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Cores that the system kept busy.
    pub(super) server_cores: f64,
    /// Cores that the generator kept busy.
    pub(super) generator_cores: f64,
    /// Why it does not count.
    pub(super) rejected: Option<String>,
}

impl Sample {
    /// `check`: whether all processes of the system are alive and took part. One error is enough to reject a sample: a
    /// system that refuses work is fast.
    pub(super) fn new(measured: &Measured, check: &anyhow::Result<()>) -> Self {
        let Measured { load, cpu } = measured;
        let errors: Vec<_> = load.errors.iter().map(|(name, count)| format!("{count} × {name}")).collect();
        let rejected = match check {
            Err(error) => Some(format!("{error:#}")),
            Ok(()) if !errors.is_empty() => Some(errors.join(", ")),
            Ok(()) if load.answered() == 0 => Some("nothing was answered".to_owned()),
            Ok(()) => None,
        };
        Self {
            per_second: load.per_second(),
            p50_ms: load.quantile_ms(0.5),
            p99_ms: load.quantile_ms(0.99),
            server_cores: cpu.server_cores(),
            generator_cores: cpu.generator_cores(),
            rejected,
        }
    }
}

/// All measurements of a point in one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    /// Median, and the lowest and highest.
    pub(super) per_second: f64,
    pub(super) spread: (f64, f64),
    /// Medians.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) server_cores: f64,
    pub(super) generator_cores: f64,
}

/// Every measurement, by point.
#[derive(Default)]
pub(super) struct Figures(pub(super) BTreeMap<Point, Vec<Sample>>);

impl Figures {
    pub(super) fn add(&mut self, point: Point, sample: Sample) {
        self.0.entry(point).or_default().push(sample);
    }

    /// The point as a whole; why it does not count if one of its measurements does not, or if there is none.
    pub(super) fn summary(&self, point: Point) -> Result<Summary, String> {
        let samples = self.0.get(&point).ok_or("not measured")?;
        if let Some(why) = samples.iter().find_map(|sample| sample.rejected.clone()) {
            return Err(why);
        }
        let all = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<_>>();
        let per_second = all(|sample| sample.per_second);
        let lowest = per_second.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = per_second.iter().copied().fold(0.0, f64::max);
        Ok(Summary {
            per_second: median(per_second).ok_or("not measured")?,
            spread: (lowest, highest),
            p50_ms: median(all(|sample| sample.p50_ms)).unwrap_or_default(),
            p99_ms: median(all(|sample| sample.p99_ms)).unwrap_or_default(),
            server_cores: median(all(|sample| sample.server_cores)).unwrap_or_default(),
            generator_cores: median(all(|sample| sample.generator_cores)).unwrap_or_default(),
        })
    }

    /// Points with a measurement that does not count, and why.
    pub(super) fn rejected(&self) -> Vec<(Point, String)> {
        self.0.keys().filter_map(|point| Some((*point, self.summary(*point).err()?))).collect()
    }
}

/// The middle one; of two, their mean. None of none.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::super::load::Load;
    use super::*;

    pub(in super::super) fn sample(per_second: f64, p99_ms: f64) -> Sample {
        Sample { per_second, p99_ms, ..Sample::default() }
    }

    const POINT: Point = Point { work: Work::Link, in_flight: 64, system: System::Etcd };

    fn measured(answers: usize, errors: &[&str]) -> Measured {
        let mut load = Load::new().unwrap();
        load.elapsed = Duration::from_secs(1);
        (0..answers).for_each(|_| load.record(Duration::from_millis(3), None));
        errors.iter().for_each(|name| load.fail((*name).to_owned()));
        Measured { load, cpu: Default::default() }
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_point_is_the_median_of_its_measurements_with_their_spread() {
        let mut figures = Figures::default();
        for (per_second, p99_ms) in [(900.0, 30.0), (1_100.0, 20.0), (1_000.0, 90.0)] {
            figures.add(POINT, sample(per_second, p99_ms));
        }
        let summary = figures.summary(POINT).unwrap();
        assert_eq!((summary.per_second, summary.spread, summary.p99_ms), (1_000.0, (900.0, 1_100.0), 30.0));
    }

    #[test]
    fn one_error_a_dead_process_or_no_answer_rejects_the_point() {
        let good = Sample::new(&measured(5, &[]), &Ok(()));
        assert_eq!((good.rejected.clone(), good.per_second), (None, 5.0));
        let dead = Err(anyhow::anyhow!("etcd e1 is dead"));
        for (bad, why) in [
            (Sample::new(&measured(5, &["BUSY", "BUSY"]), &Ok(())), "2 × BUSY"),
            (Sample::new(&measured(5, &[]), &dead), "etcd e1 is dead"),
            (Sample::new(&measured(0, &[]), &Ok(())), "nothing was answered"),
        ] {
            let mut figures = Figures::default();
            figures.add(POINT, good.clone());
            figures.add(POINT, bad);
            figures.add(POINT, good.clone());
            assert_eq!(figures.summary(POINT), Err(why.to_owned()));
            assert_eq!(figures.rejected(), [(POINT, why.to_owned())]);
        }
        assert_eq!(Figures::default().summary(POINT), Err("not measured".to_owned()));
    }
}
