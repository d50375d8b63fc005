//! A refusal is harmless (I17), and a ticket is decided once (I6).
//!
//! What was refused has no effect, now or later: no tombstone cites a command of which every attempt was refused, no
//! ticket of which every approval was refused makes a session, and a ticket of which somebody was told that it came to
//! nothing never makes one.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Operation, Outcome};
use crate::report::Violation;
use crate::timeline::Timeline;

/// The name under which violations are counted.
pub const NAME: &str = "refused_with_effect";

/// Reasons that say what became of a ticket, as opposed to of one call about it. (TICKET_EXPIRED may be said of one
/// approval whose lifetime is over; told by a watch it is final.)
const FINAL: [&str; 5] =
    ["TICKET_CANCELLED", "TICKET_LOCKED", "TICKET_DENIED", "COMPANION_LIMIT_REACHED", "DEVICE_KEY_ALREADY_LINKED"];

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    refused_commands_are_not_cited(timeline, &mut found);
    refused_tickets_make_no_session(timeline, &mut found);
    wrong_codes_open_nothing(timeline, &mut found);
    found
}

fn refused_commands_are_not_cited(timeline: &Timeline<'_>, found: &mut Vec<Violation>) {
    let mut refused: BTreeMap<&str, u64> = BTreeMap::new();
    let mut others: BTreeSet<&str> = BTreeSet::new();
    for op in &timeline.operations {
        let Some(request) = op.op.request() else { continue };
        if op.is_refused() {
            refused.entry(request).or_insert(op.id);
        } else {
            others.insert(request);
        }
    }
    for (op, _, tombstone) in timeline.tombstones() {
        let command = tombstone.command.as_str();
        if let Some(refusal) = refused.get(command).filter(|_| !others.contains(command)) {
            let text = format!("the tombstone of {} cites command {command}, which was refused", tombstone.session);
            found.push(Violation::new(NAME, &tombstone.session, text, [*refusal, op.id]));
        }
    }
}

fn refused_tickets_make_no_session(timeline: &Timeline<'_>, found: &mut Vec<Violation>) {
    // Per ticket: the refusal that is final, or that of an approval, and whether another attempt may have linked it.
    let mut over: BTreeMap<&str, u64> = BTreeMap::new();
    let mut refused: BTreeMap<&str, u64> = BTreeMap::new();
    let mut may_link: BTreeSet<&str> = BTreeSet::new();
    for op in &timeline.operations {
        let (Operation::Approve { ticket, .. } | Operation::WatchLinked { ticket, .. }) = op.op else { continue };
        let is_approval = matches!(op.op, Operation::Approve { .. });
        match op.outcome {
            Outcome::Refused(refusal) => {
                let is_expired = !is_approval && refusal.reason == "TICKET_EXPIRED";
                if is_expired || FINAL.contains(&refusal.reason.as_str()) {
                    over.entry(ticket).or_insert(op.id);
                }
                if is_approval {
                    refused.entry(ticket).or_insert(op.id);
                }
            }
            _ if is_approval => drop(may_link.insert(ticket)),
            _ => {}
        }
    }
    for op in &timeline.operations {
        let (Operation::Approve { ticket, .. } | Operation::WatchLinked { ticket, .. }) = op.op else { continue };
        let Some(session) = op.answer().and_then(|answer| answer.session.as_deref()) else { continue };
        let refusal = over.get(ticket.as_str());
        let refusal = refusal.or_else(|| refused.get(ticket.as_str()).filter(|_| !may_link.contains(ticket.as_str())));
        if let Some(refusal) = refusal {
            let text = format!("ticket {ticket} was refused and made session {session}");
            found.push(Violation::new(NAME, session, text, [*refusal, op.id]));
        }
    }
}

fn wrong_codes_open_nothing(timeline: &Timeline<'_>, found: &mut Vec<Violation>) {
    for op in &timeline.operations {
        if let Operation::ScanCode { account, wrong: true } = op.op
            && op.answer().is_some()
        {
            let text = format!("a code that no companion was shown was accepted for account {account}");
            found.push(Violation::new(NAME, account, text, [op.id]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::{Answer, Refusal, Verdict};
    use crate::story::Story;

    fn refused(reason: &str) -> Outcome {
        Outcome::Refused(Refusal { reason: reason.into(), tombstone: None })
    }

    fn watch(ticket: &str, key: &str) -> Operation {
        Operation::WatchLinked { ticket: ticket.into(), device_key: key.into() }
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn a_refused_unlink_ends_nobody() {
        let mut story = Story::family();
        let unlink = story.call("web2", Story::unlink("s3", "r3"));
        story.ret(unlink, refused("QUARANTINED_ACTOR"));
        story.validate("s3", Verdict::SignedOut, 4, Some("r3"));
        assert_eq!(found(check, &story), ["refused_with_effect s3"]);
    }

    #[test]
    fn a_refused_retry_of_a_command_that_was_answered_is_harmless() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink("s3", "r3"), Story::ended(&[("s3", "r3", 4)]));
        let again = story.call("phone", Story::unlink("s3", "r3"));
        story.ret(again, refused("REQUEST_ID_REUSED"));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }

    #[test]
    fn a_ticket_is_not_linked_after_it_was_refused() {
        let mut story = Story::family();
        let watch_it = story.call("web4", watch("t4", "k4"));
        story.ret(watch_it, refused("TICKET_CANCELLED"));
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), ["refused_with_effect s4"]);
    }

    #[test]
    fn a_ticket_of_which_every_approval_was_refused_makes_no_session() {
        let mut story = Story::family();
        let approve = story.call("phone", Story::approve("t4", "k4"));
        story.ret(approve, refused("APPROVAL_INVALID"));
        story.ok("web4", watch("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), ["refused_with_effect s4"]);
    }

    #[test]
    fn an_approval_of_unknown_outcome_may_have_linked() {
        let mut story = Story::family();
        story.call("phone", Story::approve("t4", "k4"));
        let again = story.call("phone", Story::approve("t4", "k4"));
        story.ret(again, refused("NONCE_STALE"));
        story.ok("web4", watch("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }

    #[test]
    fn a_wrong_code_opens_nothing() {
        let mut story = Story::family();
        let scan = story.call("phone", Operation::ScanCode { account: "a".into(), wrong: true });
        story.ret(scan, refused("CODE_MISMATCH"));
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.ok("phone", Operation::ScanCode { account: "a".into(), wrong: true }, Answer::default());
        assert_eq!(found(check, &story), ["refused_with_effect a"]);
    }
}
