//! One version, one set; versions never go back (I5).
//!
//! Equal set_version means the same sessions, for all clients and at every level of freshness; a verdict on one session
//! says something of the set of its version, too. A linearizable read is
//! never behind a version that anybody was told before it was called; that a client never goes back follows.

use std::collections::BTreeMap;

use crate::history::{Member, Operation, Verdict};
use crate::report::Violation;
use crate::timeline::{Op, Timeline, ids};

/// The name under which violations are counted.
pub const NAME: &str = "version_conflicts";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for account in timeline.accounts.keys() {
        one_set_per_version(timeline, account, &mut found);
        verdicts_fit_sets(timeline, account, &mut found);
        never_back(timeline, account, &mut found);
    }
    found
}

fn one_set_per_version(timeline: &Timeline<'_>, account: &str, found: &mut Vec<Violation>) {
    let mut known: BTreeMap<u64, (&[Member], u64)> = BTreeMap::new();
    let mut seqs: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for set in timeline.sets(account) {
        if let Some(version) = set.version {
            let (first, told_by) = *known.entry(version).or_insert((set.sessions, set.op.id));
            if ids(first) != ids(set.sessions) {
                let text =
                    format!("account {account} at version {version} is {:?} and {:?}", ids(first), ids(set.sessions));
                found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [told_by, set.op.id]));
            }
        }
        // A session keeps its number for its whole life, so numbers are compared across versions too.
        for (id, seq) in set.sessions.iter().filter_map(|member| Some((member.id.as_str(), member.seq?))) {
            let birth_seq = timeline.births.get(id).and_then(|birth| birth.seq.map(|seq| (seq, birth.told_by)));
            let (first, told_by) = *seqs.entry(id).or_insert(birth_seq.unwrap_or((seq, set.op.id)));
            if first != seq {
                let text = format!("session {id} of account {account} has seq {first} and seq {seq}");
                found.push(Violation::new(NAME, id, text, [told_by, set.op.id]));
            }
        }
    }
}

/// A verdict and a set, or two verdicts, of one version agree on whether the session is live.
fn verdicts_fit_sets(timeline: &Timeline<'_>, account: &str, found: &mut Vec<Violation>) {
    let sets: BTreeMap<u64, (&[Member], u64)> =
        timeline.sets(account).filter_map(|set| Some((set.version?, (set.sessions, set.op.id)))).collect();
    let mut told: BTreeMap<(u64, &str), (bool, u64)> = BTreeMap::new();
    for op in timeline.of_account(account) {
        let (Operation::Validate { session, .. }, Some(answer)) = (op.op, op.answer()) else { continue };
        let Some(version) = answer.set_version else { continue };
        let is_live = match answer.verdict {
            Some(Verdict::Valid | Verdict::Suspended) => true,
            Some(Verdict::SignedOut) => false,
            _ => continue,
        };
        let by_set = sets.get(&version).map(|(members, id)| (members.iter().any(|m| m.id == *session), *id));
        let (known, told_by) = by_set.unwrap_or(*told.entry((version, session)).or_insert((is_live, op.id)));
        if known != is_live {
            let word = |is_live| if is_live { "live" } else { "over" };
            let text = format!(
                "session {session} of account {account} is {} and {} at version {version}",
                word(known),
                word(is_live)
            );
            found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [told_by, op.id]));
        }
    }
}

fn never_back(timeline: &Timeline<'_>, account: &str, found: &mut Vec<Violation>) {
    // Acknowledged versions in the order of their returns, each lifted to the highest so far.
    let mut told: Vec<(usize, u64, u64)> =
        timeline.of_account(account).filter_map(|op| Some((op.done?, op.answer()?.set_version?, op.id))).collect();
    told.sort_unstable();
    let mut highest = (0, 0);
    for (_, version, id) in &mut told {
        if *version >= highest.0 {
            highest = (*version, *id);
        }
        (*version, *id) = highest;
    }
    let is_read = |op: &&Op<'_>| op.op.is_linearizable_read();
    for op in timeline.of_account(account).filter(is_read) {
        let Some(version) = op.answer().and_then(|answer| answer.set_version) else { continue };
        let before = told.partition_point(|(done, ..)| *done < op.call);
        let Some((_, floor, told_by)) = before.checked_sub(1).and_then(|last| told.get(last)) else { continue };
        if version < *floor {
            let text = format!(
                "{} of account {account} by {} saw version {version} after version {floor} was told",
                op.op.name(),
                op.client
            );
            found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [*told_by, op.id]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::Level;
    use crate::story::Story;

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn one_version_is_one_set() {
        let mut story = Story::family();
        story.list(3, &["s1", "s2", "s4"]);
        assert_eq!(found(check, &story), ["version_conflicts a@3"]);
    }

    #[test]
    fn a_verdict_fits_the_set_of_its_version() {
        let mut story = Story::family();
        story.validate("s4", Verdict::Valid, 3, None);
        assert_eq!(found(check, &story), ["version_conflicts a@3"]);
        let mut story = Story::family();
        story.validate("s2", Verdict::SignedOut, 7, Some("r2"));
        story.validate("s2", Verdict::Valid, 7, None);
        assert_eq!(found(check, &story), ["version_conflicts a@7"]);
    }

    #[test]
    fn a_session_keeps_its_number() {
        let mut story = Story::family();
        let op = Operation::List { account: "a".into(), level: Level::Local };
        let mut answer = Story::linked("s3", 3, &["s1", "s2", "s3"]);
        if let Some(sessions) = &mut answer.sessions {
            sessions[1].seq = Some(9);
        }
        story.ok("reader", op, answer);
        assert_eq!(found(check, &story), ["version_conflicts s2"]);
    }

    #[test]
    fn a_linearizable_read_never_goes_back() {
        let mut story = Story::family();
        story.list(2, &["s1", "s2"]);
        assert_eq!(found(check, &story), ["version_conflicts a@2"]);
    }

    #[test]
    fn a_local_read_may_be_old() {
        let mut story = Story::family();
        let op = Operation::List { account: "a".into(), level: Level::Local };
        story.ok("reader", op, Story::linked("s2", 2, &["s1", "s2"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }
}
