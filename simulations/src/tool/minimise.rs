//! The least that still fails: delta debugging (Zeller and Hildebrandt, 2002) over the faults that a seed drew.
//!
//! Leaving faults out changes no other draw of the seed, but it changes what follows, so a smaller run may fail in
//! another way. It counts only if it breaks one of the rules that the whole run broke.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use serde::Serialize;

use super::child::{self, Ended, Job, Ran};
use super::summary::{Planned, Summary};

/// What minimising one seed may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Runs.
    pub runs: usize,
    /// Real time for each of them.
    pub limit: Duration,
    /// Processes at a time.
    pub jobs: usize,
}

/// What is left of a failing run.
#[derive(Debug, Serialize)]
pub struct Minimised {
    /// The command that runs it.
    pub replay: String,
    /// Its faults, in the order of time.
    pub faults: Vec<Planned>,
    /// Faults of the whole run.
    pub faults_before: usize,
    /// Runs that it took to find.
    pub runs: usize,
    /// Whether leaving out any one of these faults makes the failure go away; false if the budget ended before.
    pub is_least: bool,
}

impl Minimised {
    /// For people.
    pub fn text(&self) -> String {
        let least = if self.is_least { "" } else { ", and maybe fewer would do" };
        let (left, before, runs) = (self.faults.len(), self.faults_before, self.runs);
        let mut text = format!("{left} of {before} faults are enough ({runs} runs{least}): {}", self.replay);
        for fault in &self.faults {
            let at = fault.at_ms as f64 / 1000.0;
            let detail = fault.detail.as_deref().unwrap_or_default();
            let number = fault.index.map(|index| format!("#{index}")).unwrap_or_default();
            text.push_str(format!("\n  {number:>5} {at:>8.3} s  {} {detail}", fault.fault).trim_end());
        }
        text
    }
}

/// Runs the job once for its plan, then ever smaller parts of the plan.
///
/// # Errors
/// If processes cannot be started, or if the job does not fail.
pub async fn minimise(program: &Path, job: &Job, dir: &Path, budget: Budget) -> anyhow::Result<Minimised> {
    let whole = child::run(program, job.clone(), dir.join("whole"), budget.limit).await?;
    let (Ended::Violated, Some(summary)) = (whole.ended, &whole.summary) else {
        return Err(anyhow::anyhow!("it does not fail again, so it cannot be minimised: {}", job.command()));
    };
    let mut plan = plan(summary);
    let faults_before = plan.len();
    let rules = summary.violations.iter().map(|violation| violation.rule.clone()).collect();
    let mut search = Search { program, dir, budget, rules, job: job.clone(), runs: 1 };

    // What struck after the failure cannot have caused it.
    if let Some(at_us) = summary.violations.iter().filter_map(|violation| violation.at_us).min() {
        let until = at_us / 1000 + 1;
        let earlier: Vec<_> = plan.iter().filter(|fault| fault.at_ms < until).cloned().collect();
        let before = search.job.until_ms.replace(until);
        if before.is_none_or(|before| until < before)
            && search.first_failing(std::slice::from_ref(&earlier)).await?.is_some()
        {
            plan = earlier;
        } else {
            search.job.until_ms = before;
        }
    }
    if search.first_failing(&[Vec::new()]).await?.is_some() {
        plan.clear();
    }
    let plan = ddmin(plan, async |candidates: &[Vec<Planned>]| search.first_failing(candidates).await).await?;
    let is_least = search.runs < budget.runs;
    Ok(Minimised { replay: search.job_of(&plan).command(), faults: plan, faults_before, runs: search.runs, is_least })
}

/// The events of the plan, and the kinds that fired without being an event of it (knobs, or all of them in a run without a
/// plan).
fn plan(summary: &Summary) -> Vec<Planned> {
    let is_planned = |kind: &String| summary.plan.iter().any(|planned| planned.fault == *kind);
    let others = summary.faults.iter().filter(|(kind, times)| **times > 0 && !is_planned(kind));
    let others = others.map(|(kind, _)| Planned { fault: kind.clone(), ..Planned::default() });
    others.chain(summary.plan.iter().cloned()).collect()
}

struct Search<'a> {
    program: &'a Path,
    dir: &'a Path,
    budget: Budget,
    rules: BTreeSet<String>,
    job: Job,
    runs: usize,
}

impl Search<'_> {
    fn job_of(&self, faults: &[Planned]) -> Job {
        Job { only_faults: Some(faults.iter().map(Planned::word).collect()), ..self.job.clone() }
    }

    /// The first of these sets of faults with which the run still fails.
    async fn first_failing(&mut self, candidates: &[Vec<Planned>]) -> anyhow::Result<Option<usize>> {
        let left = self.budget.runs.saturating_sub(self.runs);
        let jobs: Vec<(Job, PathBuf)> = candidates
            .iter()
            .take(left)
            .enumerate()
            .map(|(index, faults)| (self.job_of(faults), self.dir.join(format!("{}-{index}", self.runs))))
            .collect();
        let (program, limit) = (self.program, self.budget.limit);
        let runs = jobs.into_iter().map(|(job, dir)| child::run(program, job, dir, limit));
        let mut runs = futures::stream::iter(runs).buffered(self.budget.jobs.max(1)).enumerate();
        while let Some((index, ran)) = runs.next().await {
            let ran = ran?;
            self.runs += 1;
            let fails = self.is_it(&ran);
            std::fs::remove_dir_all(&ran.dir)?;
            if fails {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn is_it(&self, ran: &Ran) -> bool {
        let violations = ran.summary.iter().flat_map(|summary| &summary.violations);
        ran.ended == Ended::Violated && violations.into_iter().any(|violation| self.rules.contains(&violation.rule))
    }
}

/// The smallest part of `items` that still fails, as far as halving and leaving out find it. `first_failing` gets lists of
/// candidates and says which is the first that fails.
async fn ddmin<T: Clone>(
    mut items: Vec<T>,
    mut first_failing: impl AsyncFnMut(&[Vec<T>]) -> anyhow::Result<Option<usize>>,
) -> anyhow::Result<Vec<T>> {
    let mut parts = 2;
    while items.len() >= 2 {
        let chunks: Vec<Vec<T>> = items.chunks(items.len().div_ceil(parts)).map(<[T]>::to_vec).collect();
        let without = |left_out: usize| {
            let rest = chunks.iter().enumerate().filter(|(index, _)| *index != left_out);
            rest.flat_map(|(_, chunk)| chunk.iter().cloned()).collect::<Vec<T>>()
        };
        // Of two parts, each is what is left without the other.
        let complements = if chunks.len() > 2 { chunks.len() } else { 0 };
        let candidates: Vec<Vec<T>> = chunks.iter().cloned().chain((0..complements).map(without)).collect();
        match first_failing(&candidates).await? {
            Some(index) => {
                parts = if index < chunks.len() { 2 } else { (chunks.len() - 1).max(2) };
                items = candidates.into_iter().nth(index).unwrap_or(items);
            }
            None if parts >= items.len() => break,
            None => parts = (parts * 2).min(items.len()),
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn minimised(scenario: &str, runs: usize) -> anyhow::Result<Minimised> {
        let dir = tempfile::tempdir().unwrap();
        let job = Job { scenario: scenario.into(), seed: 1, network: "messages".into(), ..Job::default() };
        let budget = Budget { runs, limit: Duration::from_secs(20), jobs: 2 };
        let mut found = None;
        super::super::tokio(async {
            found = Some(minimise(&super::super::fake::program(), &job, dir.path(), budget).await?);
            Ok(0)
        })?;
        Ok(found.unwrap())
    }

    #[test]
    fn a_failing_seed_is_cut_down_to_the_faults_that_it_needs() {
        let found = minimised("two-faults", 100).unwrap();
        assert_eq!(found.faults.iter().map(Planned::word).collect::<Vec<_>>(), ["#2", "#5"]);
        assert_eq!((found.faults_before, found.is_least), (10, true));
        let expected = "sim run two-faults --seed 1 --network messages --only-faults '#2,#5' --until-ms 20001";
        assert_eq!(found.replay, expected);
    }

    #[test]
    fn a_seed_that_fails_without_any_fault_is_told_so() {
        let found = minimised("always", 100).unwrap();
        assert!(found.faults.is_empty() && found.replay.contains("--only-faults none"), "{}", found.replay);
    }

    #[test]
    fn the_search_ends_with_its_budget_and_says_so() {
        let found = minimised("two-faults", 6).unwrap();
        assert!(found.runs <= 6 && !found.is_least, "{}", found.text());
    }

    #[test]
    fn what_does_not_fail_again_cannot_be_minimised() {
        assert!(minimised("mixed", 100).unwrap_err().to_string().contains("does not fail again"));
    }

    fn least(items: Vec<u32>, fails: impl Fn(&[u32]) -> bool) -> (Vec<u32>, usize) {
        let mut tried = 0;
        let found = ddmin(items, async |candidates: &[Vec<u32>]| {
            let first = candidates.iter().position(|candidate| fails(candidate));
            tried += first.map_or(candidates.len(), |index| index + 1);
            Ok(first)
        });
        (futures::executor::block_on(found).unwrap(), tried)
    }

    #[test]
    fn of_many_faults_the_two_that_matter_are_left() {
        let (found, tried) = least((0..64).collect(), |set| set.contains(&7) && set.contains(&50));
        assert_eq!(found, [7, 50]);
        assert!(tried < 80, "{tried} runs");
    }

    #[test]
    fn one_guilty_fault_is_found_in_few_runs() {
        let (found, tried) = least((0..1_000).collect(), |set| set.contains(&613));
        assert_eq!(found, [613]);
        assert!(tried < 25, "{tried} runs");
    }

    #[test]
    fn when_every_fault_is_needed_all_are_left() {
        let (found, _) = least((0..5).collect(), |set| set.len() == 5);
        assert_eq!(found, [0, 1, 2, 3, 4]);
    }
}
