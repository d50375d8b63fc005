//! How the demo ends: figures that the checkers computed from the history, in a table or in one line.

use std::path::Path;

use kindred_check::{Body, Event, Outcome as Told, Report, Verdict, Violation};
use serde::Serialize;

use super::tour::{Step, spell};
use crate::output::fields;

/// The last line of `--output json`.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Everything held.
    pub(super) ok: bool,
    nodes: usize,
    regions: usize,
    links_attempted: u64,
    links_completed: u64,
    duplicate_sessions: u64,
    siblings_lost: u64,
    signed_out_without_tombstone: u64,
    durability_lost: u64,
    version_conflicts: u64,
    failover_ms: Option<u64>,
    durable_after_power_loss: bool,
    operations: u64,
    validations: Validations,
    /// What contradicts a promise.
    violations: Vec<Violation>,
    steps: Vec<Step>,
    /// Where the history stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<String>,
    /// Why the story broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Verdicts, by kind.
#[derive(Debug, Default, Serialize)]
struct Validations {
    valid: u64,
    signed_out: u64,
    undetermined: u64,
    unanswered: u64,
}

/// Where it was played, and what became of it.
pub(super) struct Played<'a> {
    pub(super) nodes: usize,
    pub(super) regions: usize,
    pub(super) steps: Vec<Step>,
    /// The history's file, if it stays.
    pub(super) history: Option<&'a Path>,
    pub(super) error: Option<String>,
}

impl Outcome {
    /// The verdict on a history that was read back from its file.
    pub(super) fn new(played: Played<'_>, events: &[Event]) -> Self {
        let report: Report = kindred_check::judge(events);
        let durable = report.durable_after_power_loss == Some(true);
        let complete = report.links_attempted > 0 && report.links_completed == report.links_attempted;
        Self {
            ok: played.error.is_none() && report.is_clean() && durable && complete && report.failover_ms.is_some(),
            nodes: played.nodes,
            regions: played.regions,
            links_attempted: report.links_attempted,
            links_completed: report.links_completed,
            duplicate_sessions: report.duplicate_sessions,
            siblings_lost: report.siblings_lost,
            signed_out_without_tombstone: report.signed_out_without_tombstone,
            durability_lost: report.durability_lost,
            version_conflicts: report.version_conflicts,
            failover_ms: report.failover_ms,
            durable_after_power_loss: durable,
            operations: report.operations,
            validations: Validations::of(events),
            violations: report.violations,
            steps: played.steps,
            history: played.history.map(|path| path.display().to_string()),
            error: played.error,
        }
    }

    /// The figures, for people.
    pub(super) fn table(&self) -> String {
        let v = &self.validations;
        let mut text = String::from("\nComputed from the history by the checkers:\n");
        text += &fields(&[
            ("  links completed", format!("{} of {}", self.links_completed, self.links_attempted)),
            ("  duplicate sessions", self.duplicate_sessions.to_string()),
            ("  siblings lost", self.siblings_lost.to_string()),
            ("  signed out without tombstone", self.signed_out_without_tombstone.to_string()),
            ("  durable after power loss", if self.durable_after_power_loss { "yes" } else { "no" }.to_owned()),
            ("  longest failover", self.failover_ms.map_or_else(|| "never healed".to_owned(), spell)),
            (
                "  validations meanwhile",
                format!(
                    "{} valid, {} signed out, {} undetermined, {} unanswered",
                    v.valid, v.signed_out, v.undetermined, v.unanswered
                ),
            ),
            ("  operations in the history", self.operations.to_string()),
        ]);
        for violation in &self.violations {
            text += &format!("  VIOLATION {}: {} (events {:?})\n", violation.checker, violation.text, violation.events);
        }
        text
    }

    /// What is wrong, in one line; none if all holds.
    pub(super) fn complaint(&self) -> Option<String> {
        if self.ok {
            return None;
        }
        Some(match &self.error {
            Some(error) => error.clone(),
            None if !self.violations.is_empty() => format!("the checkers found {} violations", self.violations.len()),
            None if self.links_completed < self.links_attempted => "a link was never completed".to_owned(),
            None if !self.durable_after_power_loss => "not everybody was confirmed after the power loss".to_owned(),
            None => "a kill was never followed by an acknowledged change".to_owned(),
        })
    }
}

impl Validations {
    fn of(events: &[Event]) -> Self {
        let mut counts = Self::default();
        for event in events {
            let Body::Return { op, outcome } = &event.body else { continue };
            if op != "validate" {
                continue;
            }
            let verdict = match outcome {
                Told::Ok(answer) => answer.verdict,
                Told::Refused(_) | Told::Unknown => None,
            };
            match verdict {
                Some(Verdict::Valid) => counts.valid += 1,
                Some(Verdict::SignedOut) => counts.signed_out += 1,
                Some(_) => counts.undetermined += 1,
                None => counts.unanswered += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use kindred_check::{Answer, Operation, Recorder};

    use super::*;

    fn played(error: Option<String>) -> Played<'static> {
        Played { nodes: 3, regions: 3, steps: Vec::new(), history: Some(Path::new("h.jsonl")), error }
    }

    #[test]
    fn a_demo_that_shows_nothing_is_no_success() {
        let outcome = Outcome::new(played(None), &[]);
        assert!(!outcome.ok && outcome.complaint().is_some());
        assert_eq!(Outcome::new(played(Some("broke".into())), &[]).complaint().unwrap(), "broke");
    }

    #[test]
    fn the_last_line_names_each_figure_once() {
        let recorder = Recorder::in_memory(|| 0);
        let open = recorder.call("web", Operation::Open { device_key: "k".into() });
        recorder.ok(open, Answer::default());
        let line = serde_json::to_string(&Outcome::new(played(None), &recorder.events())).unwrap();
        for figure in [
            "nodes",
            "regions",
            "links_attempted",
            "links_completed",
            "duplicate_sessions",
            "siblings_lost",
            "signed_out_without_tombstone",
            "failover_ms",
            "durable_after_power_loss",
            "steps",
        ] {
            assert_eq!(line.matches(&format!("\"{figure}\":")).count(), 1, "{figure} in {line}");
        }
    }
}
