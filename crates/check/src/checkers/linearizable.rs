//! There is one order of all mutations and reads of an account that fits real time (I19).
//!
//! The order is not searched for: every answer carries set_version, so the mutations are ordered by it and the
//! intervals are swept once (O(n log n)). A retried mutation is one mutation, from its earliest call to its earliest
//! answer. What must hold: versions follow real time, each is made by one mutation, a read sees all that was
//! acknowledged before its call, and nothing that was not yet called at its return.

use std::collections::BTreeMap;

use crate::history::Operation;
use crate::report::Violation;
use crate::timeline::{Op, Position, Timeline};

/// The name under which violations are counted.
pub const NAME: &str = "not_linearizable";

/// One mutation with all its attempts.
#[derive(Clone, Debug, Default)]
struct Mutation {
    /// Earliest call; none if the history does not hold it (only a companion's watch told of the link).
    call: Option<Position>,
    /// Earliest acknowledgement.
    done: Option<Position>,
    /// The version that it made.
    version: Option<u64>,
    /// The operation that told so.
    told_by: u64,
}

/// What makes two attempts the same mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Register,
    Link(&'a str),
    Unlink(&'a str),
    UnlinkOthers(&'a str),
    ReplacePrimary(&'a str),
    Delete,
}

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for account in timeline.accounts.keys() {
        let mutations = mutations(timeline, account, &mut found);
        let mut ordered: Vec<(u64, &Mutation)> =
            mutations.values().filter_map(|mutation| Some((mutation.version?, mutation))).collect();
        ordered.sort_by_key(|(version, mutation)| (*version, mutation.told_by));
        one_mutation_per_version(account, &ordered, &mut found);
        versions_follow_time(account, &ordered, &mut found);
        for op in timeline.of_account(account).filter(|op| op.op.is_linearizable_read()) {
            read_fits(account, op, &ordered, &mut found);
            read_is_possible(account, op, &mutations, &mut found);
        }
    }
    found
}

fn mutations<'t>(timeline: &'t Timeline<'_>, account: &str, found: &mut Vec<Violation>) -> BTreeMap<Key<'t>, Mutation> {
    let mut mutations: BTreeMap<Key<'_>, Mutation> = BTreeMap::new();
    for op in timeline.of_account(account).filter(|op| !op.is_refused()) {
        let Some((key, version)) = mutation_of(op) else { continue };
        let mutation = mutations.entry(key).or_default();
        if !matches!(op.op, Operation::WatchLinked { .. }) {
            mutation.call = Some(mutation.call.map_or(op.call, |call| call.min(op.call)));
        }
        let (Some(version), Some(done)) = (version, op.done) else { continue };
        if mutation.version.is_some_and(|known| known != version) {
            let text =
                format!("{key:?} in account {account} made version {:?} and version {version}", mutation.version);
            found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [mutation.told_by, op.id]));
        }
        if mutation.done.is_none_or(|known| done < known) {
            (mutation.done, mutation.told_by) = (Some(done), op.id);
        }
        mutation.version = mutation.version.or(Some(version));
    }
    mutations
}

/// The mutation that `op` attempts, and the version that it made if the answer tells so.
fn mutation_of<'a>(op: &Op<'a>) -> Option<(Key<'a>, Option<u64>)> {
    let answer = op.answer();
    let version_of_link = || answer.filter(|answer| answer.session.is_some()).and_then(|answer| answer.set_version);
    match op.op {
        Operation::Register { .. } => Some((Key::Register, version_of_link())),
        Operation::Approve { ticket, .. } => Some((Key::Link(ticket), version_of_link())),
        Operation::WatchLinked { ticket, .. } => version_of_link().map(|version| (Key::Link(ticket), Some(version))),
        Operation::Unlink { session, request, .. } => {
            let Some(answer) = answer else { return Some((Key::Unlink(session), None)) };
            match answer.tombstones.first() {
                // Another command had ended it: this one changed nothing.
                Some(tombstone) if tombstone.command != *request => None,
                Some(tombstone) => Some((Key::Unlink(session), tombstone.version())),
                None => Some((Key::Unlink(session), answer.set_version)),
            }
        }
        Operation::UnlinkOthers { request, .. } => match answer {
            // Nobody to end: no new version.
            Some(answer) if answer.tombstones.is_empty() => None,
            Some(answer) => Some((Key::UnlinkOthers(request), answer.set_version)),
            None => Some((Key::UnlinkOthers(request), None)),
        },
        Operation::ReplacePrimary { request, .. } => Some((Key::ReplacePrimary(request), version_of_link())),
        Operation::Delete { .. } => Some((Key::Delete, answer.and_then(|answer| answer.set_version))),
        _ => None,
    }
}

fn one_mutation_per_version(account: &str, ordered: &[(u64, &Mutation)], found: &mut Vec<Violation>) {
    for pair in ordered.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let version = pair[0].0;
        let text = format!("two mutations of account {account} made version {version}");
        found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [pair[0].1.told_by, pair[1].1.told_by]));
    }
}

/// Swept from the highest version down: no mutation was over before one of a lower version was called.
fn versions_follow_time(account: &str, ordered: &[(u64, &Mutation)], found: &mut Vec<Violation>) {
    let mut earliest: Option<(Position, u64, u64)> = None;
    for (version, mutation) in ordered.iter().rev() {
        if let (Some((done, higher, told_by)), Some(call)) = (earliest, mutation.call)
            && done < call
            && higher > *version
        {
            let text =
                format!("account {account}: version {version} was asked for after version {higher} was acknowledged");
            found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [told_by, mutation.told_by]));
        }
        if let Some(done) = mutation.done
            && earliest.is_none_or(|(known, ..)| done < known)
        {
            earliest = Some((done, *version, mutation.told_by));
        }
    }
}

fn read_fits(account: &str, op: &Op<'_>, ordered: &[(u64, &Mutation)], found: &mut Vec<Violation>) {
    let (Some(version), Some(done)) = (op.answer().and_then(|answer| answer.set_version), op.done) else { return };
    let seen = ordered.partition_point(|(made, _)| *made <= version);
    if let Some((made, missed)) = ordered[seen..].iter().find(|(_, m)| m.done.is_some_and(|done| done < op.call)) {
        let text = format!("a read of account {account} saw version {version}, and {made} was acknowledged before it");
        found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [missed.told_by, op.id]));
    }
    if let Some((made, early)) = ordered[..seen].iter().find(|(_, m)| m.call.is_some_and(|call| call > done)) {
        let text = format!("a read of account {account} saw version {version}, and {made} was not yet asked for");
        found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [op.id, early.told_by]));
    }
}

/// A version is +1 per mutation, so a read cannot be further ahead than there were mutations to get there.
fn read_is_possible(account: &str, op: &Op<'_>, mutations: &BTreeMap<Key<'_>, Mutation>, found: &mut Vec<Violation>) {
    let (Some(version), Some(done)) = (op.answer().and_then(|answer| answer.set_version), op.done) else { return };
    let Some(first) = mutations.get(&Key::Register).and_then(|register| register.version) else { return };
    let changes = mutations.iter().filter(|(key, _)| **key != Key::Register);
    let possible = changes.filter(|(_, m)| m.call.is_none_or(|call| call < done)).count() as u64;
    if version > first.saturating_add(possible) {
        let text = format!(
            "a read of account {account} saw version {version}, and only {possible} mutations after {first} were asked for"
        );
        found.push(Violation::new(NAME, &format!("{account}@{version}"), text, [op.id]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::{Answer, Outcome, Verdict};
    use crate::story::Story;

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn a_read_sees_what_was_acknowledged_before_it() {
        let mut story = Story::family();
        story.validate("s2", Verdict::Valid, 2, None);
        assert_eq!(found(check, &story), ["not_linearizable a@2"]);
    }

    #[test]
    fn a_read_does_not_see_the_future() {
        let mut story = Story::family();
        story.list(4, &["s1", "s2", "s3"]);
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), ["not_linearizable a@4"]);
    }

    #[test]
    fn versions_are_made_in_the_order_of_time() {
        let mut story = Story::family();
        story.ok("phone", Story::approve("t5", "k5"), Story::linked("s5", 5, &["s1", "s2", "s3", "s5"]));
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        assert_eq!(found(check, &story), ["not_linearizable a@4"]);
    }

    #[test]
    fn a_version_is_made_by_one_mutation() {
        let mut story = Story::family();
        let late = story.call("other", Story::unlink("s2", "r2"));
        story.ok("phone", Story::unlink("s3", "r3"), Story::ended(&[("s3", "r3", 4)]));
        story.ret(late, Outcome::Ok(Box::new(Story::ended(&[("s2", "r2", 4)]))));
        assert_eq!(found(check, &story), ["not_linearizable a@4"]);
    }

    #[test]
    fn a_retry_is_the_same_mutation() {
        let mut story = Story::family();
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        story.ok("phone", Story::approve("t3", "k3"), Story::linked("s3", 3, &["s1", "s2", "s3"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.ok("phone", Story::approve("t3", "k3"), Story::linked("s3", 5, &["s1", "s2", "s3"]));
        assert_eq!(found(check, &story), ["not_linearizable a@5"]);
    }

    #[test]
    fn a_link_that_replaces_makes_one_version() {
        let mut story = Story::family();
        story.ok("phone", Story::replace("t4", "k4", "s2"), Story::linked("s4", 4, &["s1", "s3", "s4"]));
        story.list(4, &["s1", "s3", "s4"]);
        assert_eq!(found(check, &story), Vec::<String>::new());
        story.list(5, &["s1", "s3", "s4"]);
        assert_eq!(found(check, &story), ["not_linearizable a@5"]);
    }

    #[test]
    fn unlink_others_with_nobody_to_end_makes_no_version() {
        let mut story = Story::family();
        let answer = Answer { set_version: Some(3), ..Answer::default() };
        story.ok("phone", Story::unlink_others("s1", "r1", Some(1)), answer);
        assert_eq!(found(check, &story), Vec::<String>::new());
    }
}
