//! The verdict on a history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::checkers::{ALL, duplicates, durable, elections, liveness, siblings, tickets, unproven, versions};
use crate::history::{Event, Note, Operation, Verdict};
use crate::read::read_file;
use crate::timeline::{Op, Position, Timeline};

/// What the checkers say, in figures and in full. Counts are of distinct sessions (or versions), not of sightings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Operations called.
    pub operations: u64,
    /// Operations answered.
    pub answered: u64,
    /// Operations refused without effect.
    pub refused: u64,
    /// Operations that may have happened: answered so, or never answered.
    pub unknown: u64,
    /// Tickets that somebody approved.
    pub links_attempted: u64,
    /// Of those, the ones of which an answer told the session.
    pub links_completed: u64,
    /// Sessions too many.
    pub duplicate_sessions: u64,
    /// Sessions that a link or anything else ended without naming them.
    pub siblings_lost: u64,
    /// Sessions told to be signed out without proof.
    pub signed_out_without_tombstone: u64,
    /// Acknowledged links, unlinks and accounts that are gone.
    pub durability_lost: u64,
    /// Versions with two sets, or read after a later one.
    pub version_conflicts: u64,
    /// Longest time from the kill of a node (other than a power loss of all) to the next acknowledged mutation, ms.
    /// None without such a kill, or if one was never followed by a mutation.
    pub failover_ms: Option<u64>,
    /// Whether everybody was confirmed after the last power loss of all: each acknowledged session that nothing names
    /// by a linearizable VALID, each whose end was acknowledged by a SIGNED_OUT. None without a power loss.
    pub durable_after_power_loss: Option<bool>,
    /// Properties that this history says nothing of, by the name under which they are counted: no listing of tickets, no
    /// note of a leader, no step `serve`. A clean report does not cover them.
    #[serde(default)]
    pub not_judged: Vec<String>,
    /// Everything that contradicts a promise, in the order of the checkers.
    pub violations: Vec<Violation>,
}

/// One contradiction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// What it counts as.
    pub checker: String,
    /// Whom it concerns: a session, an account, or `account@version`.
    pub subject: String,
    /// The contradiction, in words.
    pub text: String,
    /// Ids of the events that contradict each other.
    pub events: Vec<u64>,
    /// When it showed, µs of the recorder's or the simulation's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_us: Option<u64>,
}

impl Violation {
    /// A violation shown by these operations.
    pub fn new(checker: &str, subject: &str, text: String, events: impl IntoIterator<Item = u64>) -> Self {
        let events = BTreeSet::from_iter(events).into_iter().collect();
        Self { checker: checker.to_owned(), subject: subject.to_owned(), text, events, at_us: None }
    }
}

impl Report {
    /// Whether nothing contradicts a promise.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    fn count(&self, checker: &str) -> u64 {
        let subjects: BTreeSet<_> =
            self.violations.iter().filter(|v| v.checker == checker).map(|v| &v.subject).collect();
        subjects.len() as u64
    }
}

/// Runs every checker. A history that does not fit together is a violation too (`history`), never a clean report.
pub fn judge(events: &[Event]) -> Report {
    let timeline = match Timeline::new(events) {
        Ok(timeline) => timeline,
        Err(error) => {
            let violation = Violation::new("history", "", error.to_string(), []);
            return Report { violations: vec![violation], ..Report::default() };
        }
    };
    let mut violations: Vec<Violation> = ALL.iter().flat_map(|check| check(&timeline)).collect();
    let times: BTreeMap<u64, u64> = events.iter().map(|event| (event.id, event.at_us)).collect();
    for violation in &mut violations {
        violation.at_us = violation.events.iter().filter_map(|id| times.get(id)).copied().max();
    }
    let mut report = Report {
        violations,
        not_judged: not_judged(&timeline),
        failover_ms: failover_ms(&timeline),
        ..Report::default()
    };
    let (mut attempted, mut completed) = (BTreeSet::new(), BTreeSet::new());
    for op in &timeline.operations {
        report.operations += 1;
        match (op.answer().is_some(), op.is_refused()) {
            (true, _) => report.answered += 1,
            (_, true) => report.refused += 1,
            _ => report.unknown += 1,
        }
        if let Operation::Approve { ticket, .. } = op.op {
            attempted.insert(ticket);
        }
        if let Operation::Approve { ticket, .. } | Operation::WatchLinked { ticket, .. } = op.op
            && op.answer().is_some_and(|answer| answer.session.is_some())
        {
            completed.insert(ticket);
        }
    }
    report.links_attempted = attempted.len() as u64;
    report.links_completed = attempted.intersection(&completed).count() as u64;
    report.duplicate_sessions = report.count(duplicates::NAME);
    report.siblings_lost = report.count(siblings::NAME);
    report.signed_out_without_tombstone = report.count(unproven::NAME);
    report.durability_lost = report.count(durable::NAME);
    report.version_conflicts = report.count(versions::NAME);
    report.durable_after_power_loss =
        after_power_loss(&timeline).map(|confirmed| confirmed && report.durability_lost == 0);
    report
}

/// [`judge`] for a file of JSON lines. Fails if it cannot be read or a line is no event; events that do not fit together
/// are a violation.
pub fn judge_file(path: &Path) -> Result<Report, Error> {
    Ok(judge(&read_file(path)?))
}

fn not_judged(timeline: &Timeline<'_>) -> Vec<String> {
    let has = |is_it: fn(&Note) -> bool| timeline.notes.iter().any(|(_, _, note)| is_it(note));
    let judged = [
        (tickets::NAME, has(|note| matches!(note, Note::Tickets { .. }))),
        (elections::NAME, has(|note| matches!(note, Note::Leader { .. }))),
        (liveness::NAME, liveness::is_judged(timeline)),
    ];
    judged.into_iter().filter(|(_, is_judged)| !is_judged).map(|(name, _)| name.to_owned()).collect()
}

/// Silence is no proof: whoever is not asked about after the power came back is not confirmed.
fn after_power_loss(timeline: &Timeline<'_>) -> Option<bool> {
    let dark = timeline.notes.iter().filter_map(|(_, position, note)| match note {
        Note::Kill { point, .. } if point == "power_loss" => Some(*position),
        _ => None,
    });
    let dark = dark.max()?;
    let unlinked = |account: &str, session: &str| {
        let before = |op: &&Op<'_>| op.done.is_some_and(|done| done < dark);
        timeline.of_account(account).filter(before).any(|op| timeline.ended_by(op).contains(&session))
    };
    let confirmed = |account: &str, session: &str, verdict: Verdict| {
        timeline.of_account(account).any(|op| {
            matches!(op.op, Operation::Validate { session: of, .. } if of == session)
                && op.op.is_linearizable_read()
                && op.call > dark
                && op.answer().is_some_and(|answer| answer.verdict == Some(verdict))
        })
    };
    Some(timeline.births.iter().filter(|(_, birth)| birth.acknowledged < dark).all(|(session, birth)| {
        if unlinked(birth.account, session) {
            confirmed(birth.account, session, Verdict::SignedOut)
        } else if timeline.named_from(birth.account, session) == Position::MAX {
            confirmed(birth.account, session, Verdict::Valid)
        } else {
            // Something named it and nobody knows what came of that: either answer would do.
            true
        }
    }))
}

fn failover_ms(timeline: &Timeline<'_>) -> Option<u64> {
    let kills = timeline.notes.iter().filter_map(|(at_us, position, note)| match note {
        Note::Kill { point, .. } if point != "power_loss" => Some((*at_us, *position)),
        _ => None,
    });
    let gaps = kills.map(|(at_us, position)| {
        let healed = timeline.operations.iter().filter(|op| is_acknowledged_mutation(op.op) && op.answer().is_some());
        let healed = healed.filter(|op| op.done.is_some_and(|done| position < done)).map(|op| op.done_us).min()?;
        Some(healed.saturating_sub(at_us) / 1000)
    });
    gaps.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// `watch_linked` stands for the link that it tells of.
fn is_acknowledged_mutation(op: &Operation) -> bool {
    !op.is_read()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::history::{Answer, Body, Outcome};
    use crate::story::Story;

    #[test]
    fn a_good_history_is_clean() {
        let report = judge(&Story::good().events);
        assert_eq!(report.violations, []);
        assert!(report.is_clean());
        assert_eq!((report.links_attempted, report.links_completed), (4, 3));
        assert_eq!(report.operations, report.answered + report.refused + report.unknown);
        assert_eq!((report.refused, report.unknown), (1, 2));
        assert_eq!(report.not_judged, ["tickets_lost", "two_leaders", "not_served"]);
    }

    #[test]
    fn a_violation_says_when_it_showed() {
        let mut story = Story::family();
        story.list(4, &["s1", "s3"]);
        let last = story.events.last().unwrap().at_us;
        assert_eq!(judge(&story.events).violations[0].at_us, Some(last));
    }

    #[test]
    fn a_bad_history_is_counted_by_session_not_by_sighting() {
        let mut story = Story::family();
        story.list(4, &["s1", "s3"]);
        story.list(4, &["s1", "s3"]);
        let report = judge(&story.events);
        assert_eq!((report.siblings_lost, report.durability_lost, report.duplicate_sessions), (1, 1, 0));
        let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report);
    }

    #[test]
    fn a_history_that_does_not_fit_together_is_not_clean() {
        let mut story = Story::family();
        let first = story.events[0].id;
        story.ret(first, Outcome::Unknown);
        assert_eq!(judge(&story.events).violations[0].checker, "history");
    }

    #[test]
    fn a_long_history_is_judged_in_one_sweep() {
        // One hot account: a thousand devices come and go, and every change is read. Quadratic work would show.
        let mut story = Story::family();
        let mut version = 3;
        for number in 4..1000 {
            let (session, ticket) = (format!("s{number}"), format!("t{number}"));
            let present = ["s1", "s2", "s3", session.as_str()];
            let approve = Story::approve(&ticket, &ticket);
            story.ok("phone", approve, Answer { seq: Some(number), ..Story::linked(&session, version + 1, &present) });
            story.list(version + 1, &present);
            let ended = Story::ended(&[(&session, &ticket, version + 2)]);
            story.ok("phone", Story::unlink(&session, &ticket), ended);
            version += 2;
        }
        let report = judge(&story.events);
        assert_eq!((report.violations.len(), report.links_completed), (0, 998));
    }

    #[test]
    fn after_a_power_loss_everybody_must_be_confirmed() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink("s2", "r2"), Story::ended(&[("s2", "r2", 4)]));
        assert_eq!(judge(&story.events).durable_after_power_loss, None);
        story.validate("s3", Verdict::Valid, 4, None);
        let kill = Note::Kill { node: "n1".into(), shard: None, point: "power_loss".into(), log_index: None };
        let at_us = story.events.last().unwrap().at_us;
        story.events.push(Event { id: 900, client: "demo".into(), at_us, body: Body::Note(kill) });
        story.validate("s1", Verdict::Valid, 4, None);
        story.validate("s2", Verdict::SignedOut, 4, Some("r2"));
        story.validate("s3", Verdict::Undetermined, 4, None);
        assert_eq!(judge(&story.events).durable_after_power_loss, Some(false), "s3 was not confirmed since");
        story.validate("s3", Verdict::Valid, 4, None);
        assert_eq!(judge(&story.events).durable_after_power_loss, Some(true));
    }

    #[test]
    fn failover_is_the_longest_gap_after_a_kill() {
        let mut story = Story::family();
        let kill = Note::Kill { node: "n1".into(), shard: None, point: "link.committed".into(), log_index: None };
        let at_us = story.events.last().unwrap().at_us;
        story.events.push(Event { id: 900, client: "demo".into(), at_us, body: Body::Note(kill) });
        assert_eq!(judge(&story.events).failover_ms, None, "never healed");
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        story.events.last_mut().unwrap().at_us = at_us + 700_000;
        assert_eq!(judge(&story.events).failover_ms, Some(700));
    }
}
