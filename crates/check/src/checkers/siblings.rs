//! No sibling is lost (P1, I1, I2).
//!
//! From the acknowledgement of its link up to the first call of an operation that names it, a session is in every set
//! that anybody is shown and is never said to be signed out. Sets are also compared by version, whenever they were
//! told: the receipt of a link that drops a sibling betrays itself.

use std::collections::BTreeMap;

use crate::history::Operation;
use crate::report::Violation;
use crate::timeline::{Birth, Position, Timeline, ids};

/// The name under which violations are counted.
pub const NAME: &str = "siblings_lost";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let said_over = said_over(timeline);
    for (session, birth) in &timeline.births {
        let named_from = timeline.named_from(birth.account, session);
        missing_from_sets(timeline, session, birth, named_from, &mut found);
        for (done, id) in said_over.get(session).into_iter().flatten() {
            if birth.acknowledged < *done && *done < named_from {
                let account = birth.account;
                let text =
                    format!("session {session} of account {account} is told to be signed out, though nothing named it");
                found.push(Violation::new(NAME, session, text, [birth.told_by, *id]));
            }
        }
    }
    found
}

/// Per session where it was said to be over, and by which operation: verdicts, refusals and answers to `why`.
fn said_over<'t>(timeline: &'t Timeline<'_>) -> BTreeMap<&'t str, Vec<(Position, u64)>> {
    let mut said: BTreeMap<&str, Vec<(Position, u64)>> = BTreeMap::new();
    for out in timeline.sign_outs() {
        said.entry(out.session.unwrap_or_default()).or_default().push((out.done, out.op.id));
    }
    for op in &timeline.operations {
        if let (Operation::Why { session, .. }, Some(answer), Some(done)) = (op.op, op.answer(), op.done)
            && !answer.tombstones.is_empty()
        {
            said.entry(session).or_default().push((done, op.id));
        }
    }
    said
}

fn missing_from_sets(
    timeline: &Timeline<'_>,
    session: &str,
    birth: &Birth<'_>,
    named_from: Position,
    found: &mut Vec<Violation>,
) {
    for set in timeline.sets(birth.account).filter(|set| set.done < named_from) {
        let by_time = set.is_current && birth.acknowledged < set.op.call;
        let by_version = birth.version.is_some_and(|version| version <= set.version);
        if (by_time || by_version) && !ids(set.sessions).contains(session) {
            let text = format!(
                "session {session} of account {} is missing from the set of version {}, though nothing named it",
                birth.account, set.version
            );
            found.push(Violation::new(NAME, session, text, [birth.told_by, set.op.id]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::{Answer, Outcome, Refusal, Verdict};
    use crate::story::Story;

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn a_sibling_missing_from_a_later_list_is_lost() {
        let mut story = Story::family();
        story.list(4, &["s1", "s3"]);
        assert_eq!(found(check, &story), ["siblings_lost s2"]);
    }

    #[test]
    fn a_sibling_missing_from_the_receipt_of_a_link_is_lost() {
        let mut story = Story::family();
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s4"]));
        assert_eq!(found(check, &story), ["siblings_lost s2", "siblings_lost s3"]);
    }

    #[test]
    fn a_sibling_told_signed_out_is_lost() {
        let mut story = Story::family();
        story.validate("s3", Verdict::SignedOut, 3, Some("r0"));
        assert_eq!(found(check, &story), ["siblings_lost s3"]);
    }

    #[test]
    fn a_sibling_explained_away_is_lost() {
        let mut story = Story::family();
        let why = Operation::Why { account: "a".into(), session: "s2".into() };
        let tombstones = vec![Story::tombstone("s2", "r0", 4)];
        story.ok("web2", why.clone(), Answer { tombstones, ..Answer::default() });
        story.ok("web3", why, Answer::default());
        assert_eq!(found(check, &story), ["siblings_lost s2"]);
    }

    #[test]
    fn a_link_that_replaces_ends_its_victim_and_nobody_else() {
        let mut story = Story::family();
        story.ok("phone", Story::replace("t4", "k4", "s2"), Story::linked("s4", 4, &["s1", "s3", "s4"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.ok("phone", Story::replace("t5", "k5", "s4"), Story::linked("s5", 5, &["s1", "s5"]));
        assert_eq!(found(check, &story), ["siblings_lost s3"]);
    }

    #[test]
    fn a_refused_replacement_excuses_nobody() {
        let mut story = Story::family();
        let replace = story.call("phone", Story::replace("t4", "k4", "s2"));
        story.ret(replace, Outcome::Refused(Refusal { reason: "EPOCH_CHANGED".into(), tombstone: None }));
        story.list(4, &["s1", "s3"]);
        assert_eq!(found(check, &story), ["siblings_lost s2"]);
    }

    #[test]
    fn an_unlink_of_others_does_not_excuse_who_came_later() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink_others("s1", "r9", None), Story::ended(&[("s2", "r9", 4), ("s3", "r9", 4)]));
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 5, &["s1", "s4"]));
        story.list(6, &["s1"]);
        assert_eq!(found(check, &story), ["siblings_lost s4"]);
    }

    #[test]
    fn an_unlink_of_unknown_outcome_excuses_only_whom_it_names() {
        let mut story = Story::family();
        let unlink = story.call("phone", Story::unlink("s2", "r2"));
        story.ret(unlink, Outcome::Unknown);
        story.list(4, &["s1"]);
        assert_eq!(found(check, &story), ["siblings_lost s3"]);
    }
}
