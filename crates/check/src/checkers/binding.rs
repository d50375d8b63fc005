//! A link is of the key that was approved (I7).
//!
//! The phone approves the key that it read off the companion's screen. If the ticket was opened with another one, somebody
//! stands between them, and the approval links nobody.

use std::collections::BTreeMap;

use crate::history::Operation;
use crate::report::Violation;
use crate::timeline::Timeline;

/// The name under which violations are counted.
pub const NAME: &str = "wrong_key_linked";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for op in &timeline.operations {
        if let Operation::Open { device_key } | Operation::OpenCode { device_key, .. } = op.op
            && let Some(ticket) = op.answer().and_then(|answer| answer.ticket.as_deref())
        {
            keys.entry(ticket).or_insert((device_key, op.id));
        }
    }
    let mut found = Vec::new();
    for op in &timeline.operations {
        let Operation::Approve { ticket, device_key, .. } = op.op else { continue };
        let Some(session) = op.answer().and_then(|answer| answer.session.as_deref()) else { continue };
        if let Some((key, opened)) = keys.get(ticket.as_str()).filter(|(key, _)| key != device_key) {
            let text = format!("ticket {ticket} is of key {key}, was approved for {device_key}, and linked {session}");
            found.push(Violation::new(NAME, session, text, [*opened, op.id]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::Answer;
    use crate::story::Story;

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn an_approval_links_the_key_that_it_names_or_nobody() {
        let mut story = Story::family();
        let opened = Answer { ticket: Some("t4".into()), ..Answer::default() };
        story.ok("web4", Operation::Open { device_key: "k4".into() }, opened);
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.ok("phone", Story::approve("t4", "k9"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), ["wrong_key_linked s4"]);
    }
}
