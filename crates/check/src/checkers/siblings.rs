//! No sibling is lost (P1, I1, I2).
//!
//! From the acknowledgement of its link up to the first call of an operation that names it, a session is in every set
//! that anybody is shown and is never said to be signed out. Sets are also compared by version, whenever they were
//! told: the receipt of a link that drops a sibling betrays itself. A session of whose link no answer told counts from the
//! first set that shows it.

use std::collections::BTreeMap;

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
    for account in timeline.accounts.keys() {
        for (session, birth) in shown_only(timeline, account) {
            let named_from = timeline.named_from(account, session);
            missing_from_sets(timeline, session, &birth, named_from, &mut found);
        }
    }
    found
}

/// Sessions that sets show and of whose link no answer told, each as if its first sight had told of it.
fn shown_only<'t>(timeline: &'t Timeline<'_>, account: &'t str) -> BTreeMap<&'t str, Birth<'t>> {
    let mut shown: BTreeMap<&str, Birth<'_>> = BTreeMap::new();
    for set in timeline.sets(account) {
        for member in set.sessions.iter().filter(|member| !timeline.births.contains_key(member.id.as_str())) {
            let birth = shown.entry(&member.id).or_insert(Birth {
                account,
                version: set.version,
                seq: member.seq,
                acknowledged: set.done,
                asked: set.op.call,
                told_by: set.op.id,
                device_key: "",
                is_primary: false,
            });
            birth.version = birth.version.into_iter().chain(set.version).min();
            if set.done < birth.acknowledged {
                (birth.acknowledged, birth.told_by) = (set.done, set.op.id);
            }
        }
    }
    shown
}

/// Per session where it was said to be over, and by which operation: by a verdict, a refusal, or any tombstone that was
/// shown.
fn said_over<'t>(timeline: &'t Timeline<'_>) -> BTreeMap<&'t str, Vec<(Position, u64)>> {
    let mut said: BTreeMap<&str, Vec<(Position, u64)>> = BTreeMap::new();
    for out in timeline.sign_outs() {
        said.entry(out.session.unwrap_or_default()).or_default().push((out.done, out.op.id));
    }
    for (op, done, tombstone) in timeline.tombstones() {
        said.entry(&tombstone.session).or_default().push((done, op.id));
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
        let by_version = birth.version.zip(set.version).is_some_and(|(born, seen)| born <= seen);
        if (by_time || by_version) && !ids(set.sessions).contains(session) {
            let text = format!(
                "session {session} of account {} is missing from the set of version {:?}, though nothing named it",
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
    use crate::history::{Answer, Operation, Outcome, Refusal, Told, Verdict};
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

    #[test]
    fn a_session_that_only_a_list_showed_is_lost_all_the_same() {
        let mut story = Story::family();
        story.call("phone", Story::approve("t4", "k4"));
        story.list(4, &["s1", "s2", "s3", "s4"]);
        story.list(5, &["s1", "s2", "s3"]);
        assert_eq!(found(check, &story), ["siblings_lost s4"]);
    }

    #[test]
    fn a_sibling_that_a_watch_drops_is_lost() {
        let mut story = Story::family();
        let told =
            vec![Told::Change { set_version: 4, added: Vec::new(), ended: vec![Story::tombstone("s2", "r2", 4)] }];
        let answer = Answer { told, ..Answer::default() };
        story.ok("web3", Operation::Watch { account: "a".into(), from: 3 }, answer);
        assert_eq!(found(check, &story), ["siblings_lost s2"]);
    }

    #[test]
    fn another_phone_that_keeps_the_companions_excuses_none_of_their_losses() {
        let mut story = Story::family();
        let (account, device_key, request) = ("a".into(), "k9".into(), "r9".into());
        let op = Operation::ReplacePrimary { account, device_key, keep_companions: true, request, ends: None };
        let id = story.call("operator", op);
        story.ret(id, Outcome::Unknown);
        story.list(4, &["s3", "s4"]);
        assert_eq!(found(check, &story), ["siblings_lost s2"]);
    }
}
