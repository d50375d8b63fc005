//! How many seeds it takes to find each bug.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::mutants::Mutant;

use super::super::output::{lines, table};

/// Where the table lies, from the root of the repository.
pub const FILE: &str = "simulations/mutants.md";

/// One hunt that found its bug.
#[derive(Clone, Debug, Serialize)]
pub struct Kill {
    /// Seeds run, the last one included.
    pub seeds: u64,
    /// The rules that were seen broken.
    pub rules: Vec<String>,
    /// The command that repeats the last run; with the binary that has the bugs.
    pub replay: String,
}

/// All hunts for one bug.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The bug.
    #[serde(flatten)]
    pub mutant: Mutant,
    /// Hunts that found it.
    pub kills: Vec<Kill>,
    /// Hunts that did not.
    pub survived: u64,
    /// Median of the seeds to a kill; a hunt without a kill counts as longer than all others.
    pub seeds_median: Option<u64>,
    /// Maximum; none if a hunt found nothing.
    pub seeds_max: Option<u64>,
    /// Rules that were seen broken in any of the kills.
    pub rules: Vec<String>,
    /// Runs.
    pub seeds_run: u64,
    /// Of those, the ones that panicked or did not end; they kill nothing.
    pub broken: u64,
}

impl Trial {
    /// Before its hunts.
    pub fn new(mutant: Mutant) -> Self {
        let (kills, rules) = (Vec::new(), Vec::new());
        Self { mutant, kills, survived: 0, seeds_median: None, seeds_max: None, rules, seeds_run: 0, broken: 0 }
    }

    fn sum_up(&mut self) {
        let mut seeds: Vec<Option<u64>> = self.kills.iter().map(|kill| Some(kill.seeds)).collect();
        seeds.sort_unstable();
        seeds.resize(seeds.len() + self.survived as usize, None);
        self.seeds_median = seeds.get(seeds.len() / 2).copied().flatten();
        self.seeds_max = seeds.last().copied().flatten();
        let rules: BTreeSet<_> = self.kills.iter().flat_map(|kill| kill.rules.iter().cloned()).collect();
        self.rules = rules.into_iter().collect();
    }
}

/// What a whole hunt found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Seeds tried from each start at most.
    pub seeds_max: u64,
    /// Starts.
    pub starts: u64,
    /// Bugs hunted.
    pub mutants: usize,
    /// Bugs that every hunt found.
    pub killed: usize,
    /// Bugs that no hunt found.
    pub survivors: Vec<String>,
    /// Bugs that some hunts found and others did not.
    pub elusive: Vec<String>,
    /// Seeds run without a bug.
    pub clean_runs: u64,
    /// Of those, the ones that raised an alarm.
    pub false_alarms: Vec<String>,
    /// Of those, the ones that broke.
    pub clean_broken: u64,
    /// Each bug.
    pub trials: Vec<Trial>,
}

impl Report {
    /// Sums up.
    pub fn new(
        seeds_max: u64,
        starts: u64,
        mut trials: Vec<Trial>,
        clean_runs: u64,
        false_alarms: Vec<String>,
        clean_broken: u64,
    ) -> Self {
        trials.iter_mut().for_each(Trial::sum_up);
        let names = |is: &dyn Fn(&Trial) -> bool| -> Vec<String> {
            trials.iter().filter(|trial| is(trial)).map(|trial| trial.mutant.name.clone()).collect()
        };
        let survivors = names(&|trial| trial.kills.is_empty());
        let elusive = names(&|trial| !trial.kills.is_empty() && trial.survived > 0);
        let killed = trials.iter().filter(|trial| trial.survived == 0).count();
        let mutants = trials.len();
        Self { seeds_max, starts, mutants, killed, survivors, elusive, clean_runs, false_alarms, clean_broken, trials }
    }

    /// The verdict in one paragraph.
    fn verdict(&self) -> String {
        let mut text = format!(
            "{} mutants: {} killed in all of {} hunts each, {} in some, {} survived {} seeds from each start. {} seeds ran \
             without a bug: {} raised an alarm, {} broke.",
            self.mutants,
            self.killed,
            self.starts,
            self.elusive.len(),
            self.survivors.len(),
            self.seeds_max,
            self.clean_runs,
            self.false_alarms.len(),
            self.clean_broken
        );
        for (what, names) in [("survived", &self.survivors), ("alarm without a bug", &self.false_alarms)] {
            if !names.is_empty() {
                text.push_str(&format!("\n{what}: {}", names.join(", ")));
            }
        }
        text
    }

    fn cells(trial: &Trial) -> [String; 5] {
        let figure = |seeds: Option<u64>| seeds.map_or_else(|| "survived".to_owned(), |seeds| seeds.to_string());
        let hunts = format!("{} of {}", trial.kills.len(), trial.kills.len() as u64 + trial.survived);
        [trial.mutant.name.clone(), figure(trial.seeds_median), figure(trial.seeds_max), hunts, trial.rules.join(", ")]
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut all = table(&["mutant", ">median", ">maximum", ">hunts", "rules broken"]);
        for trial in &self.trials {
            all.add_row(Self::cells(trial));
        }
        format!("{}\n{}\n", lines(&all), self.verdict())
    }

    /// For the repository.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Seeds to kill\n\nGenerated by `sim mutants` (`make sim-mutants`); do not edit. Each bug of \
             [mutants/](mutants/) was put back alone and hunted from {} starts far apart, {} seeds each at most. Median and \
             maximum are seeds until a checker raised an alarm, the last one included.\n\n{}\n\n\
             | mutant | bug | median | maximum | hunts | rules broken | broken runs |\n|---|---|---|---|---|---|---|\n",
            self.starts,
            self.seeds_max,
            self.verdict().replace('\n', "\n\n")
        );
        for trial in &self.trials {
            let [name, median, maximum, hunts, rules] = Self::cells(trial);
            let bug = trial.mutant.bug.replace('|', "\\|");
            text.push_str(&format!(
                "| {name} | {bug} | {median} | {maximum} | {hunts} | {rules} | {} |\n",
                trial.broken
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(name: &str, seeds: &[u64], survived: u64) -> Trial {
        let mutant = Mutant {
            name: name.to_owned(),
            bug: "a | b".to_owned(),
            listed: None,
            breaks: Vec::new(),
            scenario: "default".to_owned(),
            sites: Vec::new(),
            needs: Vec::new(),
            runtime_check: String::new(),
            found_by: String::new(),
            note: None,
        };
        let kill = |seeds: &u64| Kill { seeds: *seeds, rules: vec!["siblings_lost".into()], replay: String::new() };
        Trial { kills: seeds.iter().map(kill).collect(), survived, ..Trial::new(mutant) }
    }

    #[test]
    fn a_hunt_without_a_kill_counts_as_longer_than_all_others() {
        let report = Report::new(
            100,
            3,
            vec![trial("a", &[9, 1, 4], 0), trial("b", &[7, 3], 1), trial("c", &[], 3)],
            0,
            vec![],
            0,
        );
        let told: Vec<_> = report.trials.iter().map(|trial| (trial.seeds_median, trial.seeds_max)).collect();
        assert_eq!(told, [(Some(4), Some(9)), (Some(7), None), (None, None)]);
        assert_eq!(
            (report.killed, &*report.elusive, &*report.survivors),
            (1, &["b".to_owned()][..], &["c".to_owned()][..])
        );
    }

    #[test]
    fn the_table_for_the_repository_has_a_line_for_each() {
        let report = Report::new(100, 3, vec![trial("a", &[9, 1, 4], 0), trial("c", &[], 3)], 5, vec![], 0);
        let text = report.markdown();
        assert!(text.contains("| a | a \\| b | 4 | 9 | 3 of 3 | siblings_lost | 0 |"), "{text}");
        assert!(text.contains("| c | a \\| b | survived | survived | 0 of 3 |  | 0 |"), "{text}");
        assert!(text.contains("survived: c"), "{text}");
    }
}
