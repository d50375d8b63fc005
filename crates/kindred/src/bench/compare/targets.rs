//! What Kindred must reach (issue 3), and whether it does.

use super::failover::Gaps;
use super::figures::{Figures, Point, System, Work};

/// How many calls are in flight where the number of groups is compared.
pub(super) const GROUPS_IN_FLIGHT: usize = 64;

/// Which number of a point counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    PerSecond,
    P99,
}

/// A ratio that must not be below, or above, a bound.
struct Target {
    what: &'static str,
    number: Number,
    ours: Point,
    theirs: Point,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What became of a target.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Pass(f64),
    Miss(f64),
    /// One of the two points does not count, or was not measured.
    Open(String),
}

/// A line of the table of targets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) what: String,
    pub(super) target: String,
    pub(super) verdict: Verdict,
}

impl Bound {
    fn judge(self, ratio: f64) -> Verdict {
        let is_good = match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
        };
        if is_good { Verdict::Pass(ratio) } else { Verdict::Miss(ratio) }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound:.2}"),
            Self::AtMost(bound) => format!("≤ {bound:.2}"),
        }
    }
}

const fn kindred(work: Work, in_flight: usize) -> Point {
    Point { work, in_flight, system: System::Kindred }
}

const fn etcd(work: Work, in_flight: usize) -> Point {
    Point { work, in_flight, system: System::Etcd }
}

const TARGETS: [Target; 9] = [
    Target {
        what: "public link ÷ etcd compare-and-set, 64 in flight",
        number: Number::PerSecond,
        ours: kindred(Work::Link, 64),
        theirs: etcd(Work::Link, 64),
        bound: Bound::AtLeast(2.5),
    },
    Target {
        what: "public link ÷ etcd compare-and-set, 256 in flight",
        number: Number::PerSecond,
        ours: kindred(Work::Link, 256),
        theirs: etcd(Work::Link, 256),
        bound: Bound::AtLeast(4.0),
    },
    Target {
        what: "p99 of public link ÷ etcd's, 64 in flight",
        number: Number::P99,
        ours: kindred(Work::Link, 64),
        theirs: etcd(Work::Link, 64),
        bound: Bound::AtMost(0.2),
    },
    Target {
        what: "p99 of public link ÷ etcd's, 256 in flight",
        number: Number::P99,
        ours: kindred(Work::Link, 256),
        theirs: etcd(Work::Link, 256),
        bound: Bound::AtMost(0.2),
    },
    Target {
        what: "linearizable validate, unary ÷ etcd read, 64 in flight",
        number: Number::PerSecond,
        ours: kindred(Work::Read, 64),
        theirs: etcd(Work::Read, 64),
        bound: Bound::AtLeast(2.5),
    },
    Target {
        what: "linearizable validate, unary ÷ etcd read, 256 in flight",
        number: Number::PerSecond,
        ours: kindred(Work::Read, 256),
        theirs: etcd(Work::Read, 256),
        bound: Bound::AtLeast(2.5),
    },
    Target {
        what: "linearizable validate, on streams ÷ etcd read, 64 in flight",
        number: Number::PerSecond,
        ours: kindred(Work::ReadStream, 64),
        theirs: etcd(Work::Read, 64),
        bound: Bound::AtLeast(15.0),
    },
    Target {
        what: "linearizable validate, on streams ÷ etcd read, 256 in flight",
        number: Number::PerSecond,
        ours: kindred(Work::ReadStream, 256),
        theirs: etcd(Work::Read, 256),
        bound: Bound::AtLeast(15.0),
    },
    Target {
        what: "shard-level links, 16 groups ÷ 1 group, 64 in flight",
        number: Number::PerSecond,
        ours: kindred(Work::LinkShardManyGroups, GROUPS_IN_FLIGHT),
        theirs: kindred(Work::LinkShard, GROUPS_IN_FLIGHT),
        bound: Bound::AtLeast(2.0 / 3.0),
    },
];

/// Targets of things that do not exist on the wire yet.
const NOT_THERE: [(&str, &str); 1] = [("coalesced links ÷ etcd compare-and-set, 256 in flight", "≥ 6.00")];

/// Every target, in order.
pub(super) fn judge(figures: &Figures, gaps: &Gaps) -> Vec<Judged> {
    let measured = TARGETS.iter().map(|target| {
        let verdict = target.ratio(figures).map_or_else(Verdict::Open, |ratio| target.bound.judge(ratio));
        Judged { what: target.what.to_owned(), target: target.bound.text(), verdict }
    });
    let absent = NOT_THERE.iter().map(|(what, target)| Judged {
        what: (*what).to_owned(),
        target: (*target).to_owned(),
        verdict: Verdict::Open("not on the wire yet".to_owned()),
    });
    let bound = Bound::AtMost(0.8);
    let gap = Judged {
        what: "median gap after SIGKILL of the leader ÷ etcd's".to_owned(),
        target: bound.text(),
        verdict: gaps.ratio().map_or_else(Verdict::Open, |ratio| bound.judge(ratio)),
    };
    measured.chain(absent).chain([gap]).collect()
}

impl Target {
    fn ratio(&self, figures: &Figures) -> Result<f64, String> {
        let number = |point| {
            let summary = figures.summary(point).map_err(|why| format!("{}: {why}", point.system.name()))?;
            Ok::<_, String>(if self.number == Number::P99 { summary.p99_ms } else { summary.per_second })
        };
        ratio(number(self.ours)?, number(self.theirs)?).ok_or_else(|| "no ratio to zero".to_owned())
    }
}

/// Ours by theirs.
pub(super) fn ratio(ours: f64, theirs: f64) -> Option<f64> {
    (theirs > 0.0).then(|| ours / theirs)
}

#[cfg(test)]
mod tests {
    use super::super::figures::Sample;
    use super::super::figures::tests::sample;
    use super::*;

    fn verdict(figures: &Figures, what: &str) -> Verdict {
        judge(figures, &Gaps::default()).into_iter().find(|judged| judged.what == what).unwrap().verdict
    }

    #[test]
    fn a_target_is_met_at_its_bound_and_missed_beyond() {
        let mut figures = Figures::default();
        figures.add(kindred(Work::Link, 64), sample(5_000.0, 21.0));
        figures.add(etcd(Work::Link, 64), sample(2_000.0, 100.0));
        assert_eq!(verdict(&figures, TARGETS[0].what), Verdict::Pass(2.5));
        assert_eq!(verdict(&figures, TARGETS[2].what), Verdict::Miss(0.21), "latency must be low, not high");
        figures.add(kindred(Work::Link, 64), sample(4_000.0, 1.0));
        assert_eq!(verdict(&figures, TARGETS[0].what), Verdict::Miss(2.25), "the median of two");
    }

    #[test]
    fn a_rejected_point_makes_no_ratio_however_good_it_looks() {
        let mut figures = Figures::default();
        figures.add(kindred(Work::Read, 64), sample(90_000.0, 1.0));
        let dead = Sample { rejected: Some("etcd e2 is dead".to_owned()), ..sample(1.0, 1.0) };
        figures.add(etcd(Work::Read, 64), dead);
        assert_eq!(verdict(&figures, TARGETS[4].what), Verdict::Open("etcd: etcd e2 is dead".to_owned()));
    }

    #[test]
    fn what_was_not_measured_is_neither_passed_nor_missed() {
        let all = judge(&Figures::default(), &Gaps::default());
        assert_eq!(all.len(), TARGETS.len() + NOT_THERE.len() + 1);
        assert!(all.iter().all(|judged| matches!(judged.verdict, Verdict::Open(_))), "{all:?}");
        assert_eq!((ratio(3.0, 2.0), ratio(3.0, 0.0)), (Some(1.5), None));
    }
}
