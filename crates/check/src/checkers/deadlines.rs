//! A ticket is not over before its time (I13, I18).
//!
//! Its time counts in shard time, which is never faster than real time but for the drift of one clock. So nobody is told
//! TICKET_EXPIRED of a ticket sooner than [`TICKET_LIVES_US`] after somebody was told that it is open. (That it is not
//! *later* than its deadline cannot be told from outside: time without a leader counts for nothing.)

use std::collections::BTreeMap;

use crate::history::{Operation, Outcome};
use crate::report::Violation;
use crate::timeline::Timeline;

/// The name under which violations are counted.
pub const NAME: &str = "expired_early";

/// Kindred's shortest-lived ticket lives for 160 s. An Open whose first answer was lost may be answered a good deal later
/// than its ticket was opened, and shard time may take a few seconds where a clock jumps.
pub const TICKET_LIVES_US: u64 = 100_000_000;

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut opened: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut found = Vec::new();
    for op in &timeline.operations {
        match (op.op, op.outcome) {
            (Operation::Open { .. } | Operation::OpenCode { .. }, Outcome::Ok(answer)) => {
                if let Some(ticket) = answer.ticket.as_deref() {
                    opened.entry(ticket).or_insert((op.id, op.done_us));
                }
            }
            (
                Operation::Scan { ticket, .. }
                | Operation::Approve { ticket, .. }
                | Operation::Deny { ticket, .. }
                | Operation::WatchLinked { ticket, .. },
                Outcome::Refused(refusal),
            ) if refusal.reason == "TICKET_EXPIRED" => {
                let Some((told_by, at_us)) = opened.get(ticket.as_str()) else { continue };
                let after_us = op.done_us.saturating_sub(*at_us);
                if after_us < TICKET_LIVES_US {
                    let text =
                        format!("ticket {ticket} was over {} s after it was told to be open", after_us / 1_000_000);
                    found.push(Violation::new(NAME, ticket, text, [*told_by, op.id]));
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::{Answer, Refusal};
    use crate::story::Story;

    fn expires_after(after_us: u64) -> Vec<String> {
        let mut story = Story::family();
        let answer = Answer { ticket: Some("t4".into()), ..Answer::default() };
        story.ok("web4", Operation::Open { device_key: "k4".into() }, answer);
        let opened_us = story.events.last().map_or(0, |event| event.at_us);
        let watch = Operation::WatchLinked { ticket: "t4".into(), device_key: "k4".into() };
        let watch = story.call("web4", watch);
        let expired = Refusal { reason: "TICKET_EXPIRED".into(), tombstone: None };
        story.ret(watch, Outcome::Refused(expired));
        if let Some(last) = story.events.last_mut() {
            last.at_us = opened_us + after_us;
        }
        found(check, &story)
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn a_ticket_lives_for_its_time() {
        assert_eq!(expires_after(TICKET_LIVES_US), Vec::<String>::new());
        assert_eq!(expires_after(TICKET_LIVES_US - 1), ["expired_early t4"]);
    }
}
