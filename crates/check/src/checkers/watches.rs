//! A watch leaves nothing out and never goes back (I5, L2).
//!
//! The change after version v makes version v + 1, it takes out who was there and puts in who was not, a heartbeat says
//! the version that was told last, and nothing follows a deletion. The sets that follow from a watch are compared with all
//! others by the other checkers.

use crate::report::Violation;
use crate::timeline::Timeline;

/// The name under which violations are counted.
pub const NAME: &str = "watch_gaps";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let gaps = timeline.gaps.iter().map(|gap| {
        let op = &timeline.operations[gap.op];
        let account = op.account.unwrap_or_default();
        let text = format!("the watch of account {account} by {}: {}", op.client, gap.text);
        Violation::new(NAME, account, text, [op.id])
    });
    gaps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::checkers::{siblings, unproven, versions};
    use crate::history::{Answer, Member, Operation, Told};
    use crate::story::Story;

    fn member(id: &str) -> Member {
        Member { id: id.into(), seq: id[1..].parse().ok() }
    }

    fn change(set_version: u64, added: &[&str], ended: &[(&str, &str)]) -> Told {
        let ended = ended.iter().map(|(session, command)| Story::tombstone(session, command, set_version)).collect();
        Told::Change { set_version, added: added.iter().map(|id| member(id)).collect(), ended }
    }

    fn snapshot(set_version: u64, sessions: &[&str]) -> Told {
        Told::Snapshot { set_version, sessions: sessions.iter().map(|id| member(id)).collect() }
    }

    fn tell(story: &mut Story, from: u64, told: Vec<Told>) {
        let op = Operation::Watch { account: "a".into(), from };
        story.ok("web3", op, Answer { told, ..Answer::default() });
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn a_watch_from_the_beginning_and_one_that_resumes_are_whole() {
        let mut story = Story::family();
        tell(&mut story, 0, vec![change(1, &["s1"], &[]), change(2, &["s2"], &[])]);
        tell(&mut story, 2, vec![change(3, &["s3"], &[]), Told::Same { set_version: 3 }]);
        story.ok("phone", Story::unlink("s2", "r2"), Story::ended(&[("s2", "r2", 4)]));
        tell(&mut story, 3, vec![change(4, &[], &[("s2", "r2")])]);
        tell(&mut story, 0, vec![snapshot(4, &["s1", "s3"])]);
        for check in [check, siblings::check, unproven::check, versions::check] {
            assert_eq!(found(check, &story), Vec::<String>::new());
        }
    }

    #[test]
    fn a_change_left_out_a_change_twice_and_a_step_back_are_gaps() {
        let cases = [
            (1, vec![change(3, &["s3"], &[])]),
            (3, vec![change(3, &["s3"], &[])]),
            (3, vec![snapshot(2, &["s1", "s2"])]),
            (3, vec![Told::Same { set_version: 2 }]),
            (3, vec![change(4, &[], &[])]),
            (0, vec![snapshot(3, &["s1", "s2", "s3"]), change(4, &["s3"], &[])]),
            (0, vec![snapshot(3, &["s1", "s2", "s3"]), change(4, &[], &[("s4", "r4")])]),
            (3, vec![Told::Deleted { set_version: 4 }, change(5, &["s5"], &[])]),
        ];
        for (number, (from, told)) in cases.into_iter().enumerate() {
            let mut story = Story::family();
            if from > 0 {
                tell(&mut story, 0, vec![snapshot(3, &["s1", "s2", "s3"])]);
            }
            tell(&mut story, from, told);
            // The last case knows the set only because the first watch told it.
            assert_eq!(found(check, &story), ["watch_gaps a"], "case {number}");
        }
    }

    #[test]
    fn what_a_watch_shows_is_compared_with_what_others_were_shown() {
        let mut story = Story::family();
        tell(&mut story, 0, vec![change(1, &["s1"], &[]), change(2, &["s2"], &[]), change(3, &["s4"], &[])]);
        assert_eq!(found(versions::check, &story), ["version_conflicts a@3"]);
    }
}
