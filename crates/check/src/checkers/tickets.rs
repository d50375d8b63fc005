//! No ticket is lost, and each says of itself what clients were told of it (L1, I6).
//!
//! Needs the note `tickets`: what replicas hold at the end. Every ticket that somebody was given is held by some replica,
//! open or in an end state; no ticket is held that nobody can have opened; and one that was acknowledged as linked,
//! denied or given up stands so.

use std::collections::BTreeMap;

use crate::history::{Held, Note, Operation, TicketState};
use crate::report::Violation;
use crate::timeline::Timeline;

/// The name under which violations are counted.
pub const NAME: &str = "tickets_lost";

/// Runs the check; without a listing there is nothing to say.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let Some(held) = listed(timeline) else { return Vec::new() };
    let mut found = Vec::new();
    let mut opened: BTreeMap<&str, u64> = BTreeMap::new();
    // A key may have asked many times; under one request that is one ticket, so each unanswered call counts as one.
    let mut unanswered = 0;
    for op in timeline.operations.iter().filter(|op| !op.is_refused()) {
        match op.answer() {
            // A scan tells of a ticket too, where the answer to its opening was lost.
            Some(answer) => {
                if let Some(ticket) = answer.ticket.as_deref() {
                    opened.entry(ticket).or_insert(op.id);
                }
            }
            None if matches!(op.op, Operation::Open { .. } | Operation::OpenCode { .. }) => unanswered += 1,
            None => {}
        }
    }
    for (ticket, told_by) in opened.iter().filter(|(ticket, _)| !held.contains_key(*ticket)) {
        let text = format!("ticket {ticket} was opened, and no replica holds it at the end");
        found.push(Violation::new(NAME, ticket, text, [*told_by]));
    }
    let unexplained: Vec<_> = held.keys().filter(|ticket| !opened.contains_key(*ticket)).collect();
    for ticket in unexplained.into_iter().skip(unanswered) {
        let text = format!("ticket {ticket} is held, and nobody is left who may have opened it");
        found.push(Violation::new(NAME, ticket, text, []));
    }
    states_fit(timeline, &held, &mut found);
    found
}

/// Per ticket what is held of it, on whichever replica; none if nobody looked. A note replaces an earlier one of the
/// same replica.
fn listed<'t>(timeline: &'t Timeline<'_>) -> Option<BTreeMap<&'t str, Vec<&'t Held>>> {
    let mut latest: BTreeMap<(u32, &str), &[Held]> = BTreeMap::new();
    for (_, _, note) in &timeline.notes {
        if let Note::Tickets { shard, node, tickets } = note {
            latest.insert((*shard, node.as_str()), tickets.as_slice());
        }
    }
    if latest.is_empty() {
        return None;
    }
    let mut held: BTreeMap<&str, Vec<&Held>> = BTreeMap::new();
    for ticket in latest.values().copied().flatten() {
        held.entry(&ticket.ticket).or_default().push(ticket);
    }
    Some(held)
}

fn states_fit(timeline: &Timeline<'_>, held: &BTreeMap<&str, Vec<&Held>>, found: &mut Vec<Violation>) {
    use TicketState::{Approved, Cancelled, Denied, Expired, Linked};
    for op in &timeline.operations {
        let Some(answer) = op.answer() else { continue };
        let session = answer.session.as_deref();
        let (ticket, allowed): (&str, &[TicketState]) = match op.op {
            // The account decides; the ticket learns of it later.
            Operation::Approve { ticket, .. } | Operation::WatchLinked { ticket, .. } if session.is_some() => {
                (ticket, &[Approved, Linked])
            }
            Operation::Deny { ticket, .. } => (ticket, &[Denied]),
            // An answer to `cancel` may say that it was over before: linked, refused, whatever; but not that it lives on.
            // Cancelled at the account, the ticket learns of it later.
            Operation::Cancel { ticket } => {
                (ticket, &[Approved, Cancelled, Linked, Denied, Expired, TicketState::Refused, TicketState::Locked])
            }
            _ => continue,
        };
        let Some(holders) = held.get(ticket) else { continue };
        // A replica that is behind holds an earlier state: one that fits is enough. That replicas agree is for the log
        // check to see.
        let fits = |held: &&Held| {
            let is_same = session.is_none() || held.session.is_none() || held.session.as_deref() == session;
            allowed.contains(&held.state) && (held.state != Linked || is_same)
        };
        if !holders.iter().any(fits) {
            let states: Vec<_> = holders.iter().map(|held| (held.state, held.session.as_deref())).collect();
            let text = format!("{} of ticket {ticket} was acknowledged, and it is held as {states:?}", op.op.name());
            found.push(Violation::new(NAME, ticket, text, [op.id]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::Answer;
    use crate::story::Story;

    fn held(ticket: &str, state: TicketState, session: Option<&str>) -> Held {
        Held { ticket: ticket.into(), state, session: session.map(str::to_owned) }
    }

    fn opened(ticket: &str) -> Story {
        let mut story = Story::family();
        let answer = Answer { ticket: Some(ticket.into()), ..Answer::default() };
        story.ok("web4", Operation::Open { device_key: "k4".into() }, answer);
        story
    }

    fn listing(story: &mut Story, tickets: Vec<Held>) {
        story.note(Note::Tickets { shard: 200, node: "n1".into(), tickets });
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn a_ticket_that_was_opened_is_held_at_the_end() {
        let mut story = opened("t4");
        listing(&mut story, vec![held("t4", TicketState::Expired, None)]);
        assert_eq!(found(check, &story), Vec::<String>::new());
        listing(&mut story, Vec::new());
        assert_eq!(found(check, &story), ["tickets_lost t4"]);
    }

    #[test]
    fn a_ticket_that_nobody_opened_is_not_held() {
        let mut story = opened("t4");
        let tickets = ["t4", "t5"].map(|ticket| held(ticket, TicketState::Open, None));
        listing(&mut story, tickets.to_vec());
        assert_eq!(found(check, &story), ["tickets_lost t5"]);
        story.call("web5", Operation::Open { device_key: "k5".into() });
        assert_eq!(found(check, &story), Vec::<String>::new(), "its answer may have been lost");
    }

    #[test]
    fn a_linked_ticket_stays_linked_to_its_session() {
        let linked = |state, session| {
            let mut story = opened("t4");
            story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
            listing(&mut story, vec![held("t4", state, session)]);
            found(check, &story)
        };
        assert_eq!(linked(TicketState::Linked, Some("s4")), Vec::<String>::new());
        assert_eq!(linked(TicketState::Approved, None), Vec::<String>::new());
        assert_eq!(linked(TicketState::Linked, Some("s9")), ["tickets_lost t4"]);
        assert_eq!(linked(TicketState::Cancelled, None), ["tickets_lost t4"]);
    }

    #[test]
    fn a_ticket_that_was_given_up_or_denied_does_not_live_on() {
        let cancelled = |op, state| {
            let mut story = opened("t4");
            story.ok("web4", op, Answer::default());
            listing(&mut story, vec![held("t4", state, None)]);
            found(check, &story)
        };
        let cancel = || Operation::Cancel { ticket: "t4".into() };
        let deny = || Operation::Deny { account: "a".into(), ticket: "t4".into() };
        assert_eq!(cancelled(cancel(), TicketState::Cancelled), Vec::<String>::new());
        assert_eq!(cancelled(cancel(), TicketState::Scanned), ["tickets_lost t4"]);
        assert_eq!(cancelled(deny(), TicketState::Denied), Vec::<String>::new());
        assert_eq!(cancelled(deny(), TicketState::Linked), ["tickets_lost t4"]);
    }
}
