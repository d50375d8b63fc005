//! Acknowledged is durable (P6).
//!
//! Looks only at what a linearizable read says after an acknowledgement, across every kill: a link that was
//! acknowledged is there unless something named it, an unlink that was acknowledged stays done, and an account that
//! was acknowledged is not forgotten.

use crate::history::{Operation, Outcome, Verdict};
use crate::report::Violation;
use crate::timeline::{Op, Position, Timeline, ids};

/// The name under which violations are counted.
pub const NAME: &str = "durability_lost";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    links_stay(timeline, &mut found);
    unlinks_stay(timeline, &mut found);
    accounts_stay(timeline, &mut found);
    found
}

fn links_stay(timeline: &Timeline<'_>, found: &mut Vec<Violation>) {
    for (session, birth) in &timeline.births {
        let named_from = timeline.named_from(birth.account, session);
        let later = timeline.sets(birth.account).filter(|set| set.is_current && birth.acknowledged < set.op.call);
        for set in later.filter(|set| set.done < named_from && !ids(set.sessions).contains(session)) {
            let text = format!("the acknowledged link of session {session} is gone from a later list");
            found.push(Violation::new(NAME, session, text, [birth.told_by, set.op.id]));
        }
    }
}

fn unlinks_stay(timeline: &Timeline<'_>, found: &mut Vec<Violation>) {
    for unlink in &timeline.operations {
        for session in timeline.ended_by(unlink) {
            unlink_stays(timeline, unlink, session, found);
        }
    }
}

fn unlink_stays(timeline: &Timeline<'_>, unlink: &Op<'_>, session: &str, found: &mut Vec<Violation>) {
    let (Some(account), Some(done)) = (unlink.account, unlink.done) else { return };
    for op in timeline.of_account(account).filter(|op| done < op.call && op.op.is_linearizable_read()) {
        let Some(answer) = op.answer() else { continue };
        let is_back = match op.op {
            Operation::Validate { session: of, .. } => of == session && answer.verdict == Some(Verdict::Valid),
            _ => answer.sessions.as_deref().is_some_and(|set| ids(set).contains(session)),
        };
        if is_back {
            let text = format!("session {session} is back after its end was acknowledged");
            found.push(Violation::new(NAME, session, text, [unlink.id, op.id]));
        }
    }
}

fn accounts_stay(timeline: &Timeline<'_>, found: &mut Vec<Violation>) {
    for register in &timeline.operations {
        let Operation::Register { account, .. } = register.op else { continue };
        let (Some(_), Some(done)) = (register.answer(), register.done) else { continue };
        let is_delete = |op: &&Op<'_>| matches!(op.op, Operation::Delete { .. }) && !op.is_refused();
        let deleted_from = timeline.of_account(account).find(is_delete).map_or(Position::MAX, |op| op.call);
        for op in timeline.of_account(account).filter(|op| done < op.call && op.op.is_linearizable_read()) {
            if op.done.is_some_and(|done| done < deleted_from)
                && matches!(op.outcome, Outcome::Refused(refusal) if refusal.reason == "ACCOUNT_NOT_FOUND")
            {
                let text = format!("account {account} is unknown after it was registered");
                found.push(Violation::new(NAME, account, text, [register.id, op.id]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::{Level, Refusal};
    use crate::story::Story;

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn an_acknowledged_link_is_not_forgotten() {
        let mut story = Story::family();
        story.list(2, &["s1", "s2"]);
        assert_eq!(found(check, &story), ["durability_lost s3"]);
    }

    #[test]
    fn a_list_that_was_under_way_may_miss_it() {
        let mut story = Story::family();
        let list = story.call("reader", Operation::List { account: "a".into(), level: Level::Linearizable });
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        story.ret(list, Outcome::Ok(Box::new(Story::linked("s3", 3, &["s1", "s2", "s3"]))));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }

    #[test]
    fn an_acknowledged_unlink_stays_done() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink("s2", "r2"), Story::ended(&[("s2", "r2", 4)]));
        story.list(3, &["s1", "s2", "s3"]);
        assert_eq!(found(check, &story), ["durability_lost s2"]);
    }

    #[test]
    fn whom_an_acknowledged_link_replaced_stays_gone() {
        let mut story = Story::family();
        story.ok("phone", Story::replace("t4", "k4", "s2"), Story::linked("s4", 4, &["s1", "s3", "s4"]));
        story.validate("s2", Verdict::Valid, 4, None);
        assert_eq!(found(check, &story), ["durability_lost s2"]);
    }

    #[test]
    fn whom_unlink_others_ended_stays_gone() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink_others("s1", "r9", None), Story::ended(&[("s2", "r9", 4), ("s3", "r9", 4)]));
        story.list(4, &["s1", "s3"]);
        assert_eq!(found(check, &story), ["durability_lost s3"]);
    }

    #[test]
    fn an_acknowledged_account_is_not_forgotten() {
        let mut story = Story::family();
        let list = story.call("reader", Operation::List { account: "a".into(), level: Level::Linearizable });
        story.ret(list, Outcome::Refused(Refusal { reason: "ACCOUNT_NOT_FOUND".into(), tombstone: None }));
        assert_eq!(found(check, &story), ["durability_lost a"]);
    }

    #[test]
    fn a_deleted_account_may_be_forgotten() {
        let mut story = Story::family();
        story.call("operator", Operation::Delete { account: "a".into(), request: "r9".into() });
        let list = story.call("reader", Operation::List { account: "a".into(), level: Level::Linearizable });
        story.ret(list, Outcome::Refused(Refusal { reason: "ACCOUNT_NOT_FOUND".into(), tombstone: None }));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }
}
