//! Logout-others closes doors (I22).
//!
//! An approval rests on the auth_epoch that its scan read. Logout-others, and another phone in the primary's place, raise
//! it; so a ticket whose scan was answered before such a command was first called links nobody after it: its link has no
//! later version.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Operation;
use crate::report::Violation;
use crate::timeline::{Position, Timeline};

/// The name under which violations are counted.
pub const NAME: &str = "door_left_open";

/// A command that closes doors.
struct Closing<'a> {
    account: &'a str,
    /// First call of any of its attempts.
    called: Position,
    /// set_version after it.
    version: u64,
    told_by: u64,
}

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let closings = closings(timeline);
    let scanned = scanned(timeline);
    let mut found = Vec::new();
    for op in &timeline.operations {
        let (Operation::Approve { ticket, .. } | Operation::WatchLinked { ticket, .. }) = op.op else { continue };
        let (Some(answer), Some(scanned)) = (op.answer(), scanned.get(ticket.as_str())) else { continue };
        let (Some(session), Some(version)) = (answer.session.as_deref(), answer.set_version) else { continue };
        let late = |closing: &&Closing<'_>| {
            Some(closing.account) == op.account && *scanned < closing.called && closing.version < version
        };
        if let Some(closing) = closings.iter().find(late) {
            let text = format!(
                "ticket {ticket} was scanned before the command that made version {}, and linked session {session} after it",
                closing.version
            );
            found.push(Violation::new(NAME, session, text, [closing.told_by, op.id]));
        }
    }
    found
}

fn closings<'a>(timeline: &'a Timeline<'_>) -> Vec<Closing<'a>> {
    let mut called: BTreeMap<&str, Position> = BTreeMap::new();
    let mut closings = Vec::new();
    for op in &timeline.operations {
        let (Operation::UnlinkOthers { account, request, .. } | Operation::ReplacePrimary { account, request, .. }) =
            op.op
        else {
            continue;
        };
        let called = *called.entry(request).or_insert(op.call);
        if let Some(version) = op.answer().and_then(|answer| answer.set_version) {
            closings.push(Closing { account, called, version, told_by: op.id });
        }
    }
    closings
}

/// Per ticket where its last scan was answered; none for a ticket of which a scan may still be under way.
fn scanned<'a>(timeline: &'a Timeline<'_>) -> BTreeMap<&'a str, Position> {
    let (mut answered, mut open): (BTreeMap<&str, Position>, BTreeSet<&str>) = (BTreeMap::new(), BTreeSet::new());
    for op in timeline.operations.iter().filter(|op| !op.is_refused()) {
        let Operation::Scan { ticket, .. } = op.op else { continue };
        match op.answer().and(op.done) {
            Some(done) => {
                let last = answered.entry(ticket).or_insert(done);
                *last = done.max(*last);
            }
            None => drop(open.insert(ticket)),
        }
    }
    answered.retain(|ticket, _| !open.contains(ticket));
    answered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::Answer;
    use crate::story::Story;

    fn scan(ticket: &str) -> Operation {
        Operation::Scan { account: "a".into(), ticket: ticket.into() }
    }

    fn others_end(story: &mut Story) {
        let ended = Story::ended(&[("s2", "r9", 4), ("s3", "r9", 4)]);
        story.ok("phone", Story::unlink_others("s1", "r9", None), ended);
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn what_was_scanned_before_logout_others_does_not_link_after_it() {
        let mut story = Story::family();
        story.ok("phone", scan("t4"), Answer::default());
        others_end(&mut story);
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 5, &["s1", "s4"]));
        assert_eq!(found(check, &story), ["door_left_open s4"]);
    }

    #[test]
    fn what_was_scanned_after_it_or_linked_before_it_is_as_it_should_be() {
        let mut story = Story::family();
        others_end(&mut story);
        story.ok("phone", scan("t4"), Answer::default());
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 5, &["s1", "s4"]));
        assert_eq!(found(check, &story), Vec::<String>::new());

        let mut story = Story::family();
        story.ok("phone", scan("t4"), Answer::default());
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        let ended = Story::ended(&[("s2", "r9", 5), ("s3", "r9", 5), ("s4", "r9", 5)]);
        story.ok("phone", Story::unlink_others("s1", "r9", None), ended);
        assert_eq!(found(check, &story), Vec::<String>::new());
    }

    #[test]
    fn a_scan_that_may_be_under_way_tells_nothing() {
        let mut story = Story::family();
        story.ok("phone", scan("t4"), Answer::default());
        story.call("phone", scan("t4"));
        others_end(&mut story);
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 5, &["s1", "s4"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }
}
