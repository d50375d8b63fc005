//! One request, one answer (I6, I17).
//!
//! A command runs once under its request id, and its answer is kept longer than any history: whoever asks again is told
//! the same. So no request is both done and refused, whichever attempt was told which, and none is cited by a tombstone
//! and refused. Only reasons count that the account, or the ticket, gives of what it was asked for; those about one call (an
//! old nonce, say) tell nothing of other attempts.

use std::collections::BTreeMap;

use crate::history::Outcome;
use crate::report::Violation;
use crate::timeline::Timeline;

/// The name under which violations are counted.
pub const NAME: &str = "answered_twice";

/// Refusals that are kept as the answer to their request.
const KEPT: [&str; 9] = [
    "EPOCH_CHANGED",
    "SET_VERSION_CONFLICT",
    "QUARANTINED_ACTOR",
    "SESSION_PINNED",
    "SESSION_UNKNOWN",
    "ACCOUNT_LOCKED",
    "ACCOUNT_EXISTS",
    "DEVICE_KEY_ALREADY_LINKED",
    "COMPANION_LIMIT_REACHED",
];

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut refused: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for op in &timeline.operations {
        if let (Some(request), Outcome::Refused(refusal)) = (op.op.request(), op.outcome)
            && KEPT.contains(&refusal.reason.as_str())
        {
            refused.entry(request).or_insert((op.id, &refusal.reason));
        }
    }
    let mut found = Vec::new();
    for op in timeline.operations.iter().filter(|op| op.answer().is_some()) {
        if let Some((request, (refusal, reason))) = op.op.request().and_then(|r| Some((r, refused.get(r)?))) {
            let text = format!("request {request} was done, and it was refused with {reason}");
            found.push(Violation::new(NAME, request, text, [*refusal, op.id]));
        }
    }
    for (op, _, tombstone) in timeline.tombstones() {
        if let Some((refusal, reason)) = refused.get(tombstone.command.as_str()) {
            let text = format!(
                "the tombstone of {} cites request {}, and that was refused with {reason}",
                tombstone.session, tombstone.command
            );
            found.push(Violation::new(NAME, &tombstone.command, text, [*refusal, op.id]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::{Refusal, Verdict};
    use crate::story::Story;

    fn refused(reason: &str) -> Outcome {
        Outcome::Refused(Refusal { reason: reason.into(), tombstone: None })
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn what_was_done_is_not_refused_to_whoever_asks_again() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink_others("s1", "r9", None), Story::ended(&[("s2", "r9", 4), ("s3", "r9", 4)]));
        let again = story.call("phone", Story::unlink_others("s1", "r9", None));
        story.ret(again, refused("NONCE_STALE"));
        assert_eq!(found(check, &story), Vec::<String>::new());
        let again = story.call("phone", Story::unlink_others("s1", "r9", None));
        story.ret(again, refused("EPOCH_CHANGED"));
        assert_eq!(found(check, &story), ["answered_twice r9"]);
    }

    #[test]
    fn a_refused_request_whose_first_answer_was_lost_is_cited_by_no_tombstone() {
        let mut story = Story::family();
        story.call("phone", Story::unlink_others("s1", "r9", None));
        let again = story.call("phone", Story::unlink_others("s1", "r9", None));
        story.ret(again, refused("EPOCH_CHANGED"));
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.validate("s2", Verdict::SignedOut, 4, Some("r9"));
        assert_eq!(found(check, &story), ["answered_twice r9"]);
    }

    #[test]
    fn a_link_that_was_told_is_not_refused_to_its_retry() {
        let mut story = Story::family();
        let again = story.call("phone", Story::approve("t3", "k3"));
        story.ret(again, refused("DEVICE_KEY_ALREADY_LINKED"));
        assert_eq!(found(check, &story), ["answered_twice approve-t3"]);
    }
}
