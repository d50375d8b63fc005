//! How a run ends: what happened, by kind; what clients asked, by outcome; what the checkers say; and whether all of that
//! is enough to say anything.

use std::collections::BTreeMap;
use std::path::Path;

use kindred_check::{Body, Event, Level, Operation, Outcome as Told, Verdict, Violation};
use serde::Serialize;

use super::Course;
use super::plan::Fault;
use crate::output::{fields, table};

/// Violations that are printed in full.
const VIOLATIONS_SHOWN: usize = 12;

/// What must have been answered at least once.
const NEEDED: [&str; 11] = [
    "register",
    "approve",
    "approve, replacing",
    "watch_linked",
    "list",
    "watch",
    "validate",
    "validate, local",
    "unlink",
    "unlink_others",
    "why",
];

/// The line of `--output json`.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Nothing was violated, and enough happened to say so.
    pub(super) ok: bool,
    seed: u64,
    kills: u64,
    freezes: u64,
    faults: Vec<Struck>,
    /// Changes of leader, over all shards.
    leader_changes: u64,
    accounts: u64,
    operations: Vec<Asked>,
    /// Attempts that were answered or refused, of all; a verdict UNDETERMINED is no answer here. Per mille.
    answered_per_mille: u64,
    links_attempted: u64,
    links_completed: u64,
    sessions: u64,
    duplicate_sessions: u64,
    siblings_lost: u64,
    signed_out_without_tombstone: u64,
    durability_lost: u64,
    version_conflicts: u64,
    /// Longest time from a kill to the next acknowledged change of any account.
    failover_ms: Option<u64>,
    /// Longest time for which the process that asks and records stood still itself; see it beside `failover_ms`.
    stood_still_ms: u64,
    durable_after_power_loss: bool,
    /// What contradicts a promise.
    violations: Vec<Violation>,
    /// Changes that a watch left out.
    watch_gaps: Vec<String>,
    /// What nodes logged of panics and broken invariants.
    panics: Vec<String>,
    /// What should have happened and did not.
    vacuous: Vec<String>,
    storm_ms: u64,
    duration_ms: u64,
    kills_per_min: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<String>,
    /// Why it broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One kind of fault.
#[derive(Debug, Serialize)]
struct Struck {
    fault: &'static str,
    strikes: u64,
    kills: u64,
    missed: u64,
}

/// One kind of operation; attempts, not requests.
#[derive(Debug, Default, Serialize)]
struct Asked {
    op: String,
    answered: u64,
    refused: u64,
    unknown: u64,
    undetermined: u64,
    /// Refusals by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reasons: BTreeMap<String, u64>,
}

/// What was played.
pub(super) struct Played<'a> {
    pub(super) seed: u64,
    pub(super) kills_wanted: u64,
    pub(super) course: &'a Course,
    pub(super) duration_ms: u64,
    /// The history's file, if it stays.
    pub(super) history: Option<&'a Path>,
    pub(super) error: Option<String>,
}

impl Outcome {
    /// The verdict on a history that was read back from its file.
    pub(super) fn new(played: Played<'_>, events: &[Event]) -> Self {
        let report = kindred_check::judge(events);
        let (course, operations) = (played.course, asked(events));
        let faults: Vec<_> = Fault::all()
            .map(|fault| {
                let tally = course.tallies.get(&fault).copied().unwrap_or_default();
                Struck { fault: fault.name(), strikes: tally.strikes, kills: tally.kills, missed: tally.missed }
            })
            .collect();
        let kills = faults.iter().map(|struck| struck.kills).sum();
        let mut outcome = Self {
            ok: false,
            seed: played.seed,
            kills,
            freezes: course.tallies.get(&Fault::Freeze).map_or(0, |tally| tally.strikes),
            faults,
            leader_changes: course.terms,
            accounts: course.accounts,
            answered_per_mille: answered_per_mille(&operations),
            operations,
            links_attempted: report.links_attempted,
            links_completed: report.links_completed,
            sessions: sessions(events),
            duplicate_sessions: report.duplicate_sessions,
            siblings_lost: report.siblings_lost,
            signed_out_without_tombstone: report.signed_out_without_tombstone,
            durability_lost: report.durability_lost,
            version_conflicts: report.version_conflicts,
            failover_ms: report.failover_ms,
            stood_still_ms: course.stood_still_ms,
            durable_after_power_loss: report.durable_after_power_loss == Some(true),
            watch_gaps: course.gaps.clone(),
            panics: course.panics.clone(),
            vacuous: Vec::new(),
            storm_ms: course.storm_ms,
            duration_ms: played.duration_ms,
            kills_per_min: (kills * 60_000).checked_div(course.storm_ms).unwrap_or_default(),
            violations: report.violations,
            history: played.history.map(|path| path.display().to_string()),
            error: played.error,
        };
        outcome.vacuous = outcome.vacuity(played.kills_wanted);
        outcome.ok = outcome.complaint().is_none();
        outcome
    }

    /// What is missing for the run to mean anything.
    fn vacuity(&self, kills_wanted: u64) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        missing.extend(self.faults.iter().filter(|f| f.strikes == 0).map(|f| format!("no {}", f.fault)));
        let answered = |op: &str| self.operations.iter().find(|asked| asked.op == op).map_or(0, |asked| asked.answered);
        missing.extend(NEEDED.iter().filter(|op| answered(op) == 0).map(|op| format!("no answer to {op}")));
        let mut conditions = vec![
            (self.kills < kills_wanted, "fewer kills than asked for"),
            (self.answered_per_mille < 500, "fewer than half of the attempts were answered"),
            (self.leader_changes == 0, "no change of leader"),
            (self.failover_ms.is_none(), "no change was acknowledged after the last kill"),
            (!self.durable_after_power_loss, "not everybody was confirmed after the last power loss"),
            (2 * self.links_completed < self.links_attempted, "fewer than half of the links were completed"),
        ];
        conditions.retain(|(is_missing, _)| *is_missing);
        missing.extend(conditions.into_iter().map(|(_, text)| text.to_owned()));
        missing
    }

    /// Why this is no success; none if it is one.
    pub(super) fn complaint(&self) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(error.clone());
        }
        if let Some(first) = self.violations.first() {
            return Some(format!("{} violations; first: {}", self.violations.len(), first.text));
        }
        if let Some(first) = self.watch_gaps.first() {
            return Some(format!("{} gaps in watches; first: {first}", self.watch_gaps.len()));
        }
        if let Some(first) = self.panics.first() {
            return Some(format!("{} panics of nodes; first: {first}", self.panics.len()));
        }
        (!self.vacuous.is_empty()).then(|| format!("too little happened: {}", self.vacuous.join(", ")))
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut faults = table(&["fault", "times", "killed", "missed"]);
        for struck in &self.faults {
            let numbers = [struck.strikes, struck.kills, struck.missed].map(|n| n.to_string());
            faults.add_row([struck.fault.to_owned()].into_iter().chain(numbers));
        }
        let mut operations = table(&["attempts at", "answered", "refused", "unknown", "undetermined"]);
        for asked in &self.operations {
            let numbers = [asked.answered, asked.refused, asked.unknown, asked.undetermined].map(|n| n.to_string());
            operations.add_row([asked.op.clone()].into_iter().chain(numbers));
        }
        let mut text = format!("{faults}\n\n{operations}\n\n{}", fields(&self.rows()));
        for violation in self.violations.iter().take(VIOLATIONS_SHOWN) {
            text += &format!("{}: {} (events {:?})\n", violation.checker, violation.text, violation.events);
        }
        text
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let n = |number: u64| number.to_string();
        let yes = |is_so: bool| if is_so { "yes" } else { "NO" }.to_owned();
        let failover = self.failover_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        vec![
            ("processes killed", format!("{} ({} a minute)", self.kills, self.kills_per_min)),
            ("processes frozen", n(self.freezes)),
            ("changes of leader", n(self.leader_changes)),
            ("accounts", n(self.accounts)),
            ("sessions acknowledged", n(self.sessions)),
            ("links completed", format!("{} of {}", self.links_completed, self.links_attempted)),
            ("attempts answered", format!("{} ‰", self.answered_per_mille)),
            ("longest without a change after a kill", failover),
            ("longest that this process stood still", format!("{} ms", self.stood_still_ms)),
            ("siblings lost", n(self.siblings_lost)),
            ("signed out without a tombstone", n(self.signed_out_without_tombstone)),
            ("sessions twice", n(self.duplicate_sessions)),
            ("acknowledged and lost", n(self.durability_lost)),
            ("version conflicts", n(self.version_conflicts)),
            ("violations in all", n(self.violations.len() as u64)),
            ("gaps in watches", n(self.watch_gaps.len() as u64)),
            ("panics of nodes", n(self.panics.len() as u64)),
            ("all confirmed after the last power loss", yes(self.durable_after_power_loss)),
            ("enough happened", yes(self.vacuous.is_empty())),
            ("took", format!("{} s, the storm {} s", self.duration_ms / 1000, self.storm_ms / 1000)),
        ]
    }
}

/// Attempts by operation and outcome. A call without a return is unknown.
fn asked(events: &[Event]) -> Vec<Asked> {
    let mut by_op: BTreeMap<&str, Asked> = BTreeMap::new();
    let mut called: BTreeMap<u64, &str> = BTreeMap::new();
    for event in events {
        match &event.body {
            Body::Call(op) => {
                called.insert(event.id, label(op));
                by_op.entry(label(op)).or_default().unknown += 1;
            }
            Body::Return { outcome, .. } => {
                let Some(asked) = called.get(&event.id).and_then(|label| by_op.get_mut(label)) else { continue };
                match outcome {
                    Told::Unknown => continue,
                    Told::Refused(refusal) => {
                        asked.refused += 1;
                        *asked.reasons.entry(refusal.reason.clone()).or_default() += 1;
                    }
                    Told::Ok(answer) if answer.verdict == Some(Verdict::Undetermined) => asked.undetermined += 1,
                    Told::Ok(_) => asked.answered += 1,
                }
                asked.unknown = asked.unknown.saturating_sub(1);
            }
            Body::Note(_) => {}
        }
    }
    by_op.into_iter().map(|(op, asked)| Asked { op: op.to_owned(), ..asked }).collect()
}

/// What is told apart in the table. A local list is an event of a watch here.
fn label(op: &Operation) -> &'static str {
    match op {
        Operation::Approve { replaces: Some(_), .. } => "approve, replacing",
        Operation::List { level: Level::Local, .. } => "watch",
        Operation::Validate { level: Level::Local, .. } => "validate, local",
        other => other.name(),
    }
}

fn answered_per_mille(operations: &[Asked]) -> u64 {
    let (told, all) = operations.iter().fold((0, 0), |(told, all), asked| {
        let answered = asked.answered + asked.refused;
        (told + answered, all + answered + asked.unknown + asked.undetermined)
    });
    (1000 * told).checked_div(all).unwrap_or_default()
}

fn sessions(events: &[Event]) -> u64 {
    let told = events.iter().filter_map(|event| match &event.body {
        Body::Return { outcome: Told::Ok(answer), .. } => answer.session.as_deref(),
        _ => None,
    });
    told.collect::<std::collections::BTreeSet<_>>().len() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kindred_check::{Answer, Recorder};

    use super::*;
    use crate::chaos::strike::Tally;

    /// What a run says of itself that killed like this and recorded nothing but one list.
    fn outcome(tallies: impl IntoIterator<Item = (Fault, Tally)>) -> Outcome {
        let recorder = Recorder::in_memory(|| 0);
        let op = || Operation::List { account: "a".into(), level: Level::Linearizable };
        let list = recorder.call("reader", op());
        recorder.ok(list, Answer::default());
        drop(recorder.call("reader", op()));
        let course = Course { tallies: tallies.into_iter().collect(), ..Course::default() };
        let played = Played { seed: 1, kills_wanted: 3, course: &course, duration_ms: 9, history: None, error: None };
        Outcome::new(played, &recorder.events())
    }

    #[test]
    fn a_run_in_which_a_fault_never_happened_is_no_success() {
        let hit = Tally { strikes: 1, kills: 1, missed: 0 };
        let all = || Fault::all().map(|fault| (fault, hit));
        let told = outcome(all().filter(|(fault, _)| *fault != Fault::Freeze));
        assert!(!told.ok && told.vacuous.contains(&"no freeze".to_owned()), "{:?}", told.vacuous);
        assert!(!outcome(all()).vacuous.iter().any(|text| text.contains("freeze")));
    }

    #[test]
    fn what_was_never_asked_and_what_was_never_answered_are_missed() {
        let told = outcome([]);
        let missing = told.complaint().unwrap();
        for text in ["no answer to unlink", "fewer kills than asked for", "no change of leader", "power loss"] {
            assert!(missing.contains(text), "{text} in {missing}");
        }
        assert_eq!(told.answered_per_mille, 500, "one of two lists");
        assert!(!missing.contains("no answer to list"), "{missing}");
    }
}
