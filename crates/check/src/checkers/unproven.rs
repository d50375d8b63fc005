//! No proof, no logout (P2, I3, I9), and no way back.
//!
//! A signed-out answer carries a tombstone of that very session, and the tombstone cites a command of this history
//! that names the session and was called before the answer. All tombstones of a session are one and the same. After
//! a signed-out answer the session is never valid again.

use std::collections::BTreeMap;

use crate::history::{Operation, Tombstone, Verdict};
use crate::report::Violation;
use crate::timeline::{Op, Position, Timeline, ids};

/// Sign-outs without proof.
pub const NAME: &str = "signed_out_without_tombstone";
/// Proofs that contradict each other, or a session that comes back after one.
pub const TOMBSTONES: &str = "tombstones";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    without_proof(timeline, &mut found);
    let ends = one_tombstone_each(timeline, &mut found);
    came_back(timeline, &ends, &mut found);
    found
}

fn without_proof(timeline: &Timeline<'_>, found: &mut Vec<Violation>) {
    for out in timeline.sign_outs() {
        let Some(tombstone) = out.tombstone else {
            let whose = out.session.unwrap_or(out.op.client);
            let text = format!("{whose} is told to be signed out without a tombstone");
            found.push(Violation::new(NAME, whose, text, [out.op.id]));
            continue;
        };
        if out.session != Some(tombstone.session.as_str()) {
            let whose = out.session.unwrap_or(out.op.client);
            let text = format!("{whose} is told to be signed out by the tombstone of {}", tombstone.session);
            found.push(Violation::new(NAME, whose, text, [out.op.id]));
        }
    }
    for (op, done, tombstone) in timeline.tombstones() {
        if !is_cited(timeline, op, done, tombstone) {
            let text = format!(
                "the tombstone of {} cites command {} ({}), and no operation called before names the session under it",
                tombstone.session, tombstone.command, tombstone.reason
            );
            found.push(Violation::new(NAME, &tombstone.session, text, [op.id]));
        }
    }
}

fn is_cited(timeline: &Timeline<'_>, shown_by: &Op<'_>, done: Position, tombstone: &Tombstone) -> bool {
    let cites = |op: &Op<'_>| {
        fits(op.op, &tombstone.reason)
            // The link is a command of the cluster's own, under a request id that no client chose.
            && (matches!(op.op, Operation::Approve { .. })
                || tombstone.is_stub()
                || op.op.request() == Some(&tombstone.command))
    };
    let account = timeline.births.get(tombstone.session.as_str()).map(|b| b.account).or(shown_by.account);
    let mut candidates = account.into_iter().flat_map(|account| timeline.of_account(account));
    candidates.any(|op| op.call < done && cites(op) && timeline.names(op, &tombstone.session))
}

/// Whether an operation of this kind ends sessions for this reason (domain.md §2).
fn fits(op: &Operation, reason: &str) -> bool {
    match op {
        Operation::Approve { .. } => reason == "REPLACED_BY_LINK",
        Operation::UnlinkOthers { .. } => reason == "LOGOUT_OTHERS",
        Operation::ReplacePrimary { .. } => reason == "PRIMARY_REPLACED",
        Operation::Delete { .. } => reason == "ACCOUNT_DELETED",
        Operation::Unlink { .. } => matches!(
            reason,
            "USER_UNLINKED_FROM_PRIMARY"
                | "USER_UNLINKED_FROM_SIBLING"
                | "SELF_LOGOUT"
                | "ADMIN_REVOKED"
                | "CREDENTIAL_COMPROMISED"
        ),
        _ => false,
    }
}

/// The first tombstone of each session, and when it was shown first.
fn one_tombstone_each<'t>(
    timeline: &'t Timeline<'_>,
    found: &mut Vec<Violation>,
) -> BTreeMap<&'t str, (u64, Position, &'t Tombstone)> {
    let mut first: BTreeMap<&str, (u64, Position, &Tombstone)> = BTreeMap::new();
    for (op, done, tombstone) in timeline.tombstones() {
        let (told_by, at, known) = first.entry(&tombstone.session).or_insert((op.id, done, tombstone));
        if !known.agrees(tombstone) {
            let text = format!("session {} has two tombstones: {known:?} and {tombstone:?}", tombstone.session);
            found.push(Violation::new(TOMBSTONES, &tombstone.session, text, [*told_by, op.id]));
        }
        if known.is_stub() {
            *known = tombstone;
        }
        if done < *at {
            (*told_by, *at) = (op.id, done);
        }
    }
    first
}

fn came_back(timeline: &Timeline<'_>, ends: &BTreeMap<&str, (u64, Position, &Tombstone)>, found: &mut Vec<Violation>) {
    for op in &timeline.operations {
        let Some(answer) = op.answer() else { continue };
        if let Operation::Validate { session, .. } = op.op
            && answer.verdict == Some(Verdict::Valid)
            && let Some((told_by, at, tombstone)) = ends.get(session.as_str())
        {
            let by_time = op.op.is_linearizable_read() && *at < op.call;
            let by_version =
                answer.set_version.is_some_and(|version| tombstone.version().is_some_and(|ended| ended <= version));
            if by_time || by_version {
                let text = format!("session {session} is valid again after it was signed out");
                found.push(Violation::new(TOMBSTONES, session, text, [*told_by, op.id]));
            }
        }
    }
    for set in timeline.accounts.keys().flat_map(|account| timeline.sets(account)) {
        for session in ids(set.sessions) {
            let Some((told_by, at, tombstone)) = ends.get(session) else { continue };
            let by_version = tombstone.version().zip(set.version).is_some_and(|(ended, seen)| ended <= seen);
            if by_version || (set.is_current && *at < set.op.call) {
                let text = format!(
                    "session {session} is in the set of version {:?}, though its tombstone is of version {}",
                    set.version, tombstone.set_version
                );
                found.push(Violation::new(TOMBSTONES, session, text, [*told_by, set.op.id]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::{Answer, Outcome, Refusal};
    use crate::story::Story;

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn a_sign_out_needs_a_tombstone() {
        let mut story = Story::family();
        story.validate("s2", Verdict::SignedOut, 3, None);
        let list = story.call("web3", Story::unlink("s3", "r1"));
        story.ret(list, Outcome::Refused(Refusal { reason: "SIGNED_OUT".into(), tombstone: None }));
        assert_eq!(found(check, &story), ["signed_out_without_tombstone s2", "signed_out_without_tombstone web3"]);
    }

    #[test]
    fn a_tombstone_must_cite_a_command_that_names_the_session() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink("s2", "r2"), Story::ended(&[("s2", "r2", 4)]));
        story.validate("s3", Verdict::SignedOut, 4, Some("r2"));
        assert_eq!(found(check, &story), ["signed_out_without_tombstone s3"]);
    }

    #[test]
    fn a_refused_command_is_no_proof() {
        let mut story = Story::family();
        let unlink = story.call("phone", Story::unlink("s2", "r2"));
        story.ret(unlink, Outcome::Refused(Refusal { reason: "QUARANTINED_ACTOR".into(), tombstone: None }));
        story.validate("s2", Verdict::SignedOut, 4, Some("r2"));
        assert_eq!(found(check, &story), ["signed_out_without_tombstone s2"]);
    }

    #[test]
    fn replaced_by_link_is_proof_only_of_whom_an_approval_named() {
        let mut story = Story::family();
        story.ok("phone", Story::replace("t4", "k4", "s2"), Story::linked("s4", 4, &["s1", "s3", "s4"]));
        let why = |session: &str| Operation::Why { account: "a".into(), session: session.into() };
        let replaced = |session: &str, version| {
            let tombstone = Story::tombstone(session, "t4", version);
            let tombstone = Tombstone { reason: "REPLACED_BY_LINK".into(), ..tombstone };
            Answer { tombstones: vec![tombstone], ..Answer::default() }
        };
        story.ok("web2", why("s2"), replaced("s2", 4));
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.ok("web3", why("s3"), replaced("s3", 5));
        assert_eq!(found(check, &story), ["signed_out_without_tombstone s3"]);
    }

    #[test]
    fn a_reason_must_fit_the_command_that_it_cites() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink_others("s1", "r9", None), Story::ended(&[("s2", "r9", 4)]));
        assert_eq!(found(check, &story), ["signed_out_without_tombstone s2"], "unlinked, says the tombstone");
    }

    #[test]
    fn a_stub_says_less_and_nothing_else() {
        let mut story = Story::good();
        let why = |tombstone| {
            let op = Operation::Why { account: "a".into(), session: "s2".into() };
            (op, Answer { tombstones: vec![tombstone], ..Answer::default() })
        };
        let whole = Story::tombstone("s2", "r2", 5);
        let stub = Tombstone { command: String::new(), set_version: 0, ..whole };
        let (op, answer) = why(stub.clone());
        story.ok("web2", op, answer);
        assert_eq!(found(check, &story), Vec::<String>::new());
        let (op, answer) = why(Tombstone { reason: "SELF_LOGOUT".into(), ..stub });
        story.ok("web2", op, answer);
        assert_eq!(found(check, &story), ["tombstones s2"]);
    }

    #[test]
    fn a_session_signed_out_stays_so() {
        let mut story = Story::good();
        story.validate("s2", Verdict::Valid, 6, None);
        assert_eq!(found(check, &story), ["tombstones s2"]);
    }

    #[test]
    fn a_session_has_one_tombstone() {
        let mut story = Story::good();
        story.validate("s2", Verdict::SignedOut, 6, Some("r2"));
        assert_eq!(found(check, &story), ["tombstones s2"]);
    }
}
