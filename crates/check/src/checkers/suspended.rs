//! Suspended only while locked, and while locked nobody is valid.
//!
//! SUSPENDED needs a lock of the account that was called before the answer and may still be in force: none that was
//! acknowledged before an unlock was called, which was acknowledged before this call. From the acknowledgement of a lock
//! up to the first call of an unlock, a linearizable read never says VALID.

use crate::history::{Operation, Verdict};
use crate::report::Violation;
use crate::timeline::{Op, Position, Timeline};

/// The name under which violations are counted.
pub const NAME: &str = "suspended_without_lock";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for account in timeline.accounts.keys() {
        let asked = |is_it: fn(&Operation) -> bool| -> Vec<&Op<'_>> {
            timeline.of_account(account).filter(|op| is_it(op.op) && !op.is_refused()).collect()
        };
        let locks = asked(|op| matches!(op, Operation::Lock { .. }));
        let unlocks = asked(|op| matches!(op, Operation::Unlock { .. }));
        for op in timeline.of_account(account) {
            let (Operation::Validate { session, .. }, Some(done), Some(answer)) = (op.op, op.done, op.answer()) else {
                continue;
            };
            let is_current = op.op.is_linearizable_read();
            match answer.verdict {
                Some(Verdict::Suspended) if !may_be_locked(&locks, &unlocks, is_current, (op.call, done)) => {
                    let text = format!("session {session} is suspended, and no lock of account {account} is in force");
                    found.push(Violation::new(NAME, session, text, [op.id]));
                }
                Some(Verdict::Valid) if is_current => {
                    if let Some(lock) = locked_for_certain(&locks, &unlocks, (op.call, done)) {
                        let text = format!("session {session} is valid while account {account} is locked");
                        found.push(Violation::new(NAME, session, text, [lock.id, op.id]));
                    }
                }
                _ => {}
            }
        }
    }
    found
}

fn may_be_locked(locks: &[&Op<'_>], unlocks: &[&Op<'_>], is_current: bool, (call, done): (Position, Position)) -> bool {
    let lifted = |lock: &Op<'_>| {
        let before =
            |unlock: &&&Op<'_>| lock.answer().is_some() && lock.done < Some(unlock.call) && unlock.answer().is_some();
        unlocks.iter().filter(before).any(|unlock| unlock.done.is_some_and(|done| done < call))
    };
    locks.iter().any(|lock| lock.call < done && !(is_current && lifted(lock)))
}

fn locked_for_certain<'t, 'a>(
    locks: &[&'t Op<'a>],
    unlocks: &[&Op<'_>],
    (call, done): (Position, Position),
) -> Option<&'t Op<'a>> {
    let holds = |lock: &&&Op<'_>| {
        let is_before = lock.answer().is_some() && lock.done.is_some_and(|done| done < call);
        // An unlock that was over before the lock was asked for is none of this lock; any other may have lifted it.
        let may_lift = |unlock: &&Op<'_>| {
            let is_over_before = unlock.answer().is_some() && unlock.done.is_some_and(|over| over < lock.call);
            unlock.call < done && !is_over_before
        };
        is_before && !unlocks.iter().any(may_lift)
    };
    locks.iter().find(holds).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::{Answer, Outcome};
    use crate::story::Story;

    fn lock(story: &mut Story) {
        story.ok("operator", Operation::Lock { account: "a".into(), request: "r8".into() }, Answer::default());
    }

    fn unlock() -> Operation {
        Operation::Unlock { account: "a".into(), request: "r9".into() }
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn nobody_is_suspended_without_a_lock() {
        let mut story = Story::family();
        story.validate("s2", Verdict::Suspended, 3, None);
        assert_eq!(found(check, &story), ["suspended_without_lock s2"]);
    }

    #[test]
    fn a_lock_suspends_until_it_is_lifted() {
        let mut story = Story::family();
        lock(&mut story);
        story.validate("s2", Verdict::Suspended, 3, None);
        story.ok("operator", unlock(), Answer::default());
        story.validate("s2", Verdict::Valid, 3, None);
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.validate("s3", Verdict::Suspended, 3, None);
        assert_eq!(found(check, &story), ["suspended_without_lock s3"]);
    }

    #[test]
    fn a_lock_that_holds_leaves_nobody_valid() {
        let mut story = Story::family();
        lock(&mut story);
        story.validate("s2", Verdict::Valid, 3, None);
        assert_eq!(found(check, &story), ["suspended_without_lock s2"]);
    }

    #[test]
    fn an_unlock_of_unknown_outcome_excuses_both_answers() {
        let mut story = Story::family();
        lock(&mut story);
        let id = story.call("operator", unlock());
        story.ret(id, Outcome::Unknown);
        story.validate("s2", Verdict::Valid, 3, None);
        story.validate("s3", Verdict::Suspended, 3, None);
        assert_eq!(found(check, &story), Vec::<String>::new());
    }
}
