//! The law of the session set, over one entry: I1 to I5 of domain.md, written from there and not from the code.

use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, LAW, ids};
use crate::history::Tombstone;

type Wrong = (&'static str, String);

/// An account that nobody had before: registered by this entry, or older than the observation.
pub(super) fn first(applied: &Applied) -> Vec<Wrong> {
    let mut wrong = well_formed(applied);
    if applied.set_version == 1 && !applied.is_blind {
        let linked: BTreeSet<&str> = applied.linked.iter().map(String::as_str).collect();
        if ids(applied) != linked {
            wrong.push((LAW, format!("version 1 is {:?}, and the entry starts {linked:?}", ids(applied))));
        }
    }
    wrong
}

/// The same account before and after one entry. An entry may hold several commands.
pub(super) fn step(before: &Applied, after: &Applied) -> Vec<Wrong> {
    let mut wrong = well_formed(after);
    let (old, new) = (ids(before), ids(after));
    let came: BTreeSet<&str> = new.difference(&old).copied().collect();
    let left: BTreeSet<&str> = old.difference(&new).copied().collect();
    let known: BTreeMap<&str, &Tombstone> = before.tombstones.iter().map(|t| (t.session.as_str(), t)).collect();
    let fresh: Vec<&Tombstone> = after.tombstones.iter().filter(|t| !known.contains_key(t.session.as_str())).collect();
    wrong.extend(tombstones(&known, &fresh, (before, after), &left));
    wrong.extend(siblings(before, after));
    wrong.extend(version(before, after, &came, &fresh));
    if !after.is_blind {
        let linked: BTreeSet<&str> = after.linked.iter().map(String::as_str).collect();
        let named: BTreeSet<&str> = after.named.iter().map(String::as_str).collect();
        let unannounced: Vec<_> = came.difference(&linked).collect();
        if !unannounced.is_empty() {
            wrong.push((LAW, format!("{unannounced:?} came, and no command of the entry links them (I1)")));
        }
        // In one entry somebody may come and leave; its tombstone is all that there is of it.
        let over = fresh.iter().map(|t| t.session.as_str()).chain(left.iter().copied());
        let unnamed: BTreeSet<_> = over.filter(|session| !named.contains(session)).collect();
        if !unnamed.is_empty() {
            wrong.push((LAW, format!("{unnamed:?} left, and no command of the entry names them (I2)")));
        }
    }
    wrong
}

/// What holds of every state by itself.
fn well_formed(applied: &Applied) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let live = ids(applied);
    let seqs: BTreeSet<u64> = applied.sessions.iter().map(|live| live.seq).collect();
    if live.len() != applied.sessions.len() || seqs.len() != applied.sessions.len() {
        wrong.push((LAW, "a session or a number is there twice (I4)".to_owned()));
    }
    let mut over: BTreeSet<&str> = BTreeSet::new();
    for tombstone in &applied.tombstones {
        let session = tombstone.session.as_str();
        if live.contains(session) {
            wrong.push((LAW, format!("{session} is live and has a tombstone (I3)")));
        }
        if !over.insert(session) {
            wrong.push((LAW, format!("{session} has two tombstones (I3)")));
        }
    }
    wrong
}

/// Tombstones stay, as they were or as stubs, and the new ones are of exactly those who left.
fn tombstones(
    known: &BTreeMap<&str, &Tombstone>,
    fresh: &[&Tombstone],
    (before, after): (&Applied, &Applied),
    left: &BTreeSet<&str>,
) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let now: BTreeMap<&str, &Tombstone> = after.tombstones.iter().map(|t| (t.session.as_str(), t)).collect();
    for (session, tombstone) in known {
        match now.get(session) {
            None => wrong.push((LAW, format!("the tombstone of {session} is gone (I3)"))),
            Some(other) if !tombstone.agrees(other) => {
                wrong.push((LAW, format!("the tombstone of {session} changed (I3)")));
            }
            Some(other) if tombstone.is_stub() && !other.is_stub() => {
                wrong.push((LAW, format!("the stub of {session} became a tombstone again (I3)")));
            }
            Some(_) => {}
        }
    }
    let of: BTreeSet<&str> = fresh.iter().map(|t| t.session.as_str()).collect();
    for session in left.difference(&of) {
        wrong.push((LAW, format!("{session} left without a tombstone (I3)")));
    }
    let was_live = ids(before);
    for tombstone in fresh {
        let session = tombstone.session.as_str();
        let at_once = after.is_blind || after.named.iter().any(|named| named == session);
        if !was_live.contains(session) && !at_once {
            wrong.push((LAW, format!("{session} was not live and has a new tombstone (I3)")));
        }
        if tombstone.log_index != after.log_index {
            wrong.push((LAW, format!("the tombstone of {session} is of index {} (I3)", tombstone.log_index)));
        }
        let made = before.set_version + 1..=after.set_version;
        if !tombstone.is_stub() && !made.contains(&tombstone.set_version) {
            let text = format!("the tombstone of {session} is of version {} (I3)", tombstone.set_version);
            wrong.push((LAW, text));
        }
    }
    wrong
}

/// Who stays keeps number and record, unless a command is about its record.
fn siblings(before: &Applied, after: &Applied) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for old in &before.sessions {
        let Some(new) = after.sessions.iter().find(|live| live.id == old.id) else { continue };
        if old.seq != new.seq {
            wrong.push((LAW, format!("{} had number {} and has {} (I4)", old.id, old.seq, new.seq)));
        }
        let is_told = !old.digest.is_empty() && !new.digest.is_empty();
        if is_told && !after.is_blind && old.digest != new.digest && !after.touched.contains(&old.id) {
            wrong.push((LAW, format!("the record of {} changed, and no command is about it (I1)", old.id)));
        }
    }
    wrong
}

/// The version rises by one per change of membership: by at least the sessions that came or the ends that there were, and
/// by no more than both together.
fn version(before: &Applied, after: &Applied, came: &BTreeSet<&str>, fresh: &[&Tombstone]) -> Vec<Wrong> {
    let was_live = ids(before);
    if after.set_version == 0 {
        // Deleted, and never there again.
        let stays = !after.sessions.is_empty();
        return stays.then(|| (LAW, "a deleted account has sessions".to_owned())).into_iter().collect();
    }
    if before.set_version == 0 {
        return vec![(LAW, "a deleted account is there again".to_owned())];
    }
    let ends: BTreeSet<u64> = fresh.iter().map(|t| t.set_version).collect();
    let passed = fresh.iter().filter(|t| !was_live.contains(t.session.as_str())).count() as u64;
    let links = came.len() as u64 + passed;
    let (least, most) = (links.max(ends.len() as u64), links + ends.len() as u64);
    match after.set_version.checked_sub(before.set_version) {
        None => vec![(LAW, format!("version {} after {} (I5)", after.set_version, before.set_version))],
        Some(rise) if rise < least || rise > most => {
            let text = format!(
                "version {} after {}, where {links} came and there were {} ends (I5)",
                after.set_version,
                before.set_version,
                ends.len()
            );
            vec![(LAW, text)]
        }
        Some(_) => Vec::new(),
    }
}
