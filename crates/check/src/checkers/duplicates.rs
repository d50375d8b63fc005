//! Exactly once (P3, I4, I6).
//!
//! All answers about a ticket tell the same session, no session comes of two tickets, a device key has at most one
//! live session in an account, and an account never shows more sessions than its links can explain: a link repeated
//! by the cluster makes a second session that no answer ever mentions. A session that was given another key has left its
//! old one.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Operation;
use crate::report::Violation;
use crate::timeline::{Op, Position, Timeline};

/// The name under which violations are counted.
pub const NAME: &str = "duplicate_sessions";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let tickets = one_session_per_ticket(timeline, &mut found);
    one_live_session_per_key(timeline, &mut found);
    for account in timeline.accounts.keys() {
        no_ghosts(timeline, account, &tickets, &mut found);
    }
    found
}

/// The session of each ticket, as told first.
fn one_session_per_ticket<'t>(
    timeline: &'t Timeline<'_>,
    found: &mut Vec<Violation>,
) -> BTreeMap<&'t str, (&'t str, u64)> {
    let mut of_ticket: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    let mut of_session: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for op in &timeline.operations {
        let (Operation::Approve { ticket, .. } | Operation::WatchLinked { ticket, .. }) = op.op else { continue };
        let Some(session) = op.answer().and_then(|answer| answer.session.as_deref()) else { continue };
        let (first, told_by) = *of_ticket.entry(ticket).or_insert((session, op.id));
        if first != session {
            let text = format!("ticket {ticket} made session {first} and session {session}");
            found.push(Violation::new(NAME, session, text, [told_by, op.id]));
        }
        let (other, told_by) = *of_session.entry(session).or_insert((ticket, op.id));
        if other != ticket {
            let text = format!("session {session} came of ticket {other} and of ticket {ticket}");
            found.push(Violation::new(NAME, session, text, [told_by, op.id]));
        }
    }
    of_ticket
}

fn one_live_session_per_key(timeline: &Timeline<'_>, found: &mut Vec<Violation>) {
    let mut by_key: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (session, birth) in &timeline.births {
        by_key.entry((birth.account, birth.device_key)).or_default().push(session);
    }
    for ((account, key), mut sessions) in by_key {
        sessions.sort_by_key(|session| timeline.births[session].acknowledged);
        for pair in sessions.windows(2) {
            let (old, new) = (&timeline.births[pair[0]], &timeline.births[pair[1]]);
            // The old one may have ended, or left its key, before the new one was acknowledged only if something asked for
            // that by then.
            let left_from = timeline.named_from(account, pair[0]).min(rotated_from(timeline, account, pair[0]));
            if left_from > new.acknowledged {
                let text = format!("device key {key} has sessions {} and {} at once", pair[0], pair[1]);
                found.push(Violation::new(NAME, pair[1], text, [old.told_by, new.told_by]));
            }
        }
    }
}

/// Earliest call that may have given the session another key.
fn rotated_from(timeline: &Timeline<'_>, account: &str, session: &str) -> Position {
    let is_it =
        |op: &&Op<'_>| !op.is_refused() && matches!(op.op, Operation::RotateKey { session: of, .. } if of == session);
    timeline.of_account(account).find(is_it).map_or(Position::MAX, |op| op.call)
}

fn no_ghosts(
    timeline: &Timeline<'_>,
    account: &str,
    tickets: &BTreeMap<&str, (&str, u64)>,
    found: &mut Vec<Violation>,
) {
    let mut unanswered: BTreeSet<&str> = BTreeSet::new();
    let mut phones: BTreeMap<&str, Vec<&Op<'_>>> = BTreeMap::new();
    let mut is_registered_here = false;
    for op in timeline.of_account(account).filter(|op| !op.is_refused()) {
        match op.op {
            Operation::Register { .. } => {
                is_registered_here = true;
                phones.entry("").or_default().push(op);
            }
            Operation::ReplacePrimary { request, .. } => phones.entry(request).or_default().push(op),
            Operation::Approve { ticket, .. } if !tickets.contains_key(ticket.as_str()) => {
                unanswered.insert(ticket);
            }
            _ => {}
        }
    }
    // What one attempt was told of, the others were about too.
    let of_phones = phones.iter().filter(|(_, attempts)| attempts.iter().all(|op| op.answer().is_none()));
    unanswered.extend(of_phones.map(|(request, _)| *request));
    // An account that is older than this history may hold sessions that it does not explain.
    if !is_registered_here {
        return;
    }
    let mut unexplained: BTreeMap<&str, u64> = BTreeMap::new();
    for set in timeline.sets(account) {
        for member in set.sessions.iter().filter(|member| !timeline.births.contains_key(member.id.as_str())) {
            unexplained.entry(&member.id).or_insert(set.op.id);
        }
    }
    for (session, shown_by) in unexplained.into_iter().skip(unanswered.len()) {
        let text = format!(
            "account {account} shows session {session}, and no link is left that could have made it ({} unanswered)",
            unanswered.len()
        );
        found.push(Violation::new(NAME, session, text, [shown_by]));
    }
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
    fn a_ticket_makes_one_session() {
        let mut story = Story::family();
        let watch = Operation::WatchLinked { ticket: "t3".into(), device_key: "k3".into() };
        story.ok("web3", watch, Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), ["duplicate_sessions s4"]);
    }

    #[test]
    fn a_device_key_has_one_live_session() {
        let mut story = Story::family();
        story.ok("phone", Story::approve("t4", "k3"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), ["duplicate_sessions s4"]);
    }

    #[test]
    fn a_device_key_may_link_again_after_an_unlink() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink("s3", "r3"), Story::ended(&[("s3", "r3", 4)]));
        story.ok("phone", Story::approve("t4", "k3"), Story::linked("s4", 5, &["s1", "s2", "s4"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }

    #[test]
    fn a_key_that_was_given_up_may_link_again() {
        let mut story = Story::family();
        let (account, session, request) = ("a".into(), "s3".into(), "r8".into());
        let op = Operation::RotateKey { account, session, device_key: "k9".into(), request };
        story.ok("web3", op, Answer::default());
        story.ok("phone", Story::approve("t4", "k3"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }

    #[test]
    fn another_phone_of_unknown_outcome_explains_one_session() {
        let mut story = Story::family();
        let (account, device_key, request) = ("a".into(), "k9".into(), "r9".into());
        story.call(
            "operator",
            Operation::ReplacePrimary { account, device_key, keep_companions: true, request, ends: None },
        );
        story.list(4, &["s2", "s3", "s4"]);
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.list(5, &["s2", "s3", "s4", "s5"]);
        assert_eq!(found(check, &story), ["duplicate_sessions s5"]);
    }

    #[test]
    fn a_lost_attempt_that_was_repeated_explains_no_second_session() {
        let mut story = Story::default();
        let register = || Operation::Register { account: "a".into(), device_key: "k1".into() };
        story.call("phone", register());
        story.ok("phone", register(), Answer { session: Some("s1".into()), ..Answer::default() });
        story.list(2, &["s1", "s2"]);
        assert_eq!(found(check, &story), ["duplicate_sessions s2"]);
    }

    #[test]
    fn a_link_that_replaces_makes_one_session() {
        let mut story = Story::family();
        story.ok("phone", Story::replace("t4", "k4", "s2"), Story::linked("s4", 4, &["s1", "s3", "s4"]));
        story.list(4, &["s1", "s3", "s4"]);
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.ok("phone", Story::replace("t4", "k4", "s2"), Story::linked("s5", 5, &["s1", "s3", "s4", "s5"]));
        assert_eq!(found(check, &story), ["duplicate_sessions s5"]);
    }

    #[test]
    fn a_session_that_nobody_was_told_of_is_a_duplicate() {
        let mut story = Story::family();
        story.list(4, &["s1", "s2", "s3", "s4"]);
        assert_eq!(found(check, &story), ["duplicate_sessions s4"]);
    }
}
