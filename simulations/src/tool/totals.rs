//! What many runs add up to, and whether it proves anything.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;

use super::child::{Ended, Ran};
use super::output::{fields, lines, span, table, thousands};
use super::summary::Counts;

/// Sums over runs. Figures of runs that are no verdict (broken, stopped) do not count.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Runs that began.
    pub runs: u64,
    /// Of those, the ones in which nothing contradicts a promise.
    pub ok: u64,
    /// The ones with a violation.
    pub violated: u64,
    /// The ones that panicked, were killed, or did not end in time.
    pub broken: u64,
    /// The ones in which under half of the operations succeeded; they count as `ok` or `violated` too.
    pub vacuous: u64,
    /// Simulated time, ms.
    pub simulated_ms: u64,
    /// Faults by kind; kinds that never fired are here with 0.
    pub faults: BTreeMap<String, u64>,
    /// Operations by name and outcome.
    pub operations: BTreeMap<String, Counts>,
    /// Times that a shard got another leader.
    pub leader_changes: u64,
    /// Snapshots that a replica took from another.
    pub snapshots_installed: u64,
    /// Starts of a node after its first.
    pub restarts: u64,
    /// Log entries applied, over all replicas.
    pub entries_applied: u64,
}

/// What must have happened in a sweep for it to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Gate {
    /// Every kind of fault fired.
    Faults,
    /// At least half of all operations succeeded.
    Operations,
    /// A shard changed its leader.
    Leaders,
    /// A replica installed a snapshot.
    Snapshots,
}

impl Totals {
    /// Nothing yet, of these kinds of faults.
    pub fn new(kinds: &[&str]) -> Self {
        Self { faults: kinds.iter().map(|kind| ((*kind).to_owned(), 0)).collect(), ..Self::default() }
    }

    /// Adds a run.
    pub fn add(&mut self, ran: &Ran) {
        self.runs += 1;
        match ran.ended {
            Ended::Ok => self.ok += 1,
            Ended::Violated => self.violated += 1,
            Ended::Broken | Ended::TimedOut | Ended::Refused => {
                self.broken += 1;
                return;
            }
        }
        let Some(summary) = &ran.summary else { return };
        self.vacuous += u64::from(summary.vacuous);
        self.simulated_ms += summary.simulated_ms;
        self.leader_changes += summary.leader_changes;
        self.snapshots_installed += summary.snapshots_installed;
        self.restarts += summary.restarts;
        self.entries_applied += summary.entries_applied;
        for (kind, times) in &summary.faults {
            *self.faults.entry(kind.clone()).or_default() += times;
        }
        for (op, counts) in &summary.operations {
            self.operations.entry(op.clone()).or_default().add(*counts);
        }
    }

    /// All faults.
    pub fn faults_total(&self) -> u64 {
        self.faults.values().sum()
    }

    /// All operations.
    pub fn operations_total(&self) -> Counts {
        let mut total = Counts::default();
        self.operations.values().for_each(|counts| total.add(*counts));
        total
    }

    /// Which of these gates the sweep did not pass, each with the reason.
    pub fn fails(&self, gates: &[Gate]) -> Vec<String> {
        let mut fails = Vec::new();
        if gates.contains(&Gate::Faults) {
            let silent: Vec<_> =
                self.faults.iter().filter(|(_, times)| **times == 0).map(|(kind, _)| &**kind).collect();
            if !silent.is_empty() {
                fails.push(format!("faults: these kinds never fired: {}", silent.join(", ")));
            }
        }
        let total = self.operations_total();
        if gates.contains(&Gate::Operations) && total.ok * 2 < total.total().max(1) {
            fails.push(format!("operations: {} of {} succeeded, under half", total.ok, total.total()));
        }
        if gates.contains(&Gate::Leaders) && self.leader_changes == 0 {
            fails.push("leaders: no shard ever changed its leader".to_owned());
        }
        if gates.contains(&Gate::Snapshots) && self.snapshots_installed == 0 {
            fails.push("snapshots: no replica ever installed one".to_owned());
        }
        fails
    }

    /// For people: sums, faults, operations.
    pub fn text(&self, rate: f64) -> String {
        let mut text = fields(&[
            (
                "runs",
                format!(
                    "{} ({} ok, {} with violations, {} broken; {} vacuous)",
                    thousands(self.runs),
                    thousands(self.ok),
                    thousands(self.violated),
                    thousands(self.broken),
                    thousands(self.vacuous)
                ),
            ),
            ("simulated", format!("{}, {rate:.0} s per second", span(self.simulated_ms))),
            ("leader changes", thousands(self.leader_changes)),
            ("snapshots installed", thousands(self.snapshots_installed)),
            ("restarts", thousands(self.restarts)),
            ("entries applied", thousands(self.entries_applied)),
        ]);
        let mut operations = table(&["operation", ">ok", ">refused", ">unknown"]);
        let all = ("all".to_owned(), self.operations_total());
        for (op, counts) in self.operations.iter().map(|(op, counts)| (op, *counts)).chain([(&all.0, all.1)]) {
            operations.add_row([
                op.clone(),
                thousands(counts.ok),
                thousands(counts.refused),
                thousands(counts.unknown),
            ]);
        }
        let mut faults = table(&["fault", ">times"]);
        for (kind, times) in &self.faults {
            faults.add_row([kind.clone(), thousands(*times)]);
        }
        faults.add_row(["all".to_owned(), thousands(self.faults_total())]);
        text.push_str(&format!("\n{}\n{}", lines(&operations), lines(&faults)));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::child::Job;
    use super::super::summary::Summary;
    use super::*;

    const ALL: [Gate; 4] = [Gate::Faults, Gate::Operations, Gate::Leaders, Gate::Snapshots];

    fn ran(ended: Ended, change: impl FnOnce(&mut Summary)) -> Ran {
        let mut summary =
            Summary { simulated_ms: 1_000, leader_changes: 2, snapshots_installed: 1, ..Summary::default() };
        summary.faults = [("pause".to_owned(), 3)].into();
        summary.operations = [("list".to_owned(), Counts { ok: 5, refused: 3, unknown: 1 })].into();
        change(&mut summary);
        Ran { job: Job::default(), ended, summary: Some(summary), wall: Duration::ZERO, dir: "".into() }
    }

    fn fails(kinds: &[&str], change: impl FnOnce(&mut Summary)) -> Vec<String> {
        let mut totals = Totals::new(kinds);
        totals.add(&ran(Ended::Ok, change));
        totals.fails(&ALL)
    }

    #[test]
    fn a_sweep_in_which_everything_happened_passes_every_gate() {
        assert_eq!(fails(&["pause"], |_| ()), [""; 0]);
    }

    #[test]
    fn each_gate_closes_for_its_own_reason() {
        let one = |fails: Vec<String>, word: &str| {
            assert_eq!(fails.len(), 1, "{fails:?}");
            assert!(fails[0].contains(word), "{fails:?}");
        };
        one(fails(&["pause", "wipe"], |_| ()), "wipe");
        one(fails(&["pause"], |s| s.leader_changes = 0), "leader");
        one(fails(&["pause"], |s| s.snapshots_installed = 0), "snapshots");
        one(
            fails(&["pause"], |s| {
                s.operations = [("list".to_owned(), Counts { ok: 4, refused: 5, unknown: 0 })].into()
            }),
            "4 of 9",
        );
        one(fails(&["pause"], |s| s.operations.clear()), "0 of 0");
    }

    #[test]
    fn runs_that_broke_are_counted_and_nothing_of_them_is_added() {
        let mut totals = Totals::new(&["pause"]);
        totals.add(&ran(Ended::TimedOut, |_| ()));
        totals.add(&ran(Ended::Violated, |_| ()));
        assert_eq!((totals.runs, totals.broken, totals.violated, totals.simulated_ms), (2, 1, 1, 1_000));
    }
}
