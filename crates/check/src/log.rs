//! The log check: what every entry did to every account on every replica, as it is applied.
//!
//! The first replica that applies an entry is judged by the law: the set changes by exactly the sessions that the entry's
//! commands name. Every other replica, and the same one after a crash, must then come to the same state at the same index.
//! So a snapshot, a replay and a late replica need no rules of their own. Streaming, O(n); what is kept of an account is
//! bounded by [`INDEXES_KEPT`].
//!
//! Plain data in, violations out: whoever reads the disks turns records into [`Applied`].

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Tombstone;
use crate::report::Violation;

mod law;

/// Contradictions of the law of the session set, seen in one entry.
pub const LAW: &str = "log_law";
/// Replicas that differ at the same index or version.
pub const AGREEMENT: &str = "replicas_differ";
/// Replicas that are not equal, or not even near each other, at the end.
pub const END: &str = "not_converged";

/// Log indices, and versions, that are remembered of an account; a replica further behind is compared only at the end.
pub const INDEXES_KEPT: usize = 4_096;
/// Entries by which a replica may be behind another at the end: a tick may be under way.
pub const BEHIND_MAX: u64 = 64;
/// Violations that are kept; there are never fewer because of it than one per run.
const VIOLATIONS_MAX: usize = 1_000;

/// What one entry left of one account on one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The replica's node.
    pub node: String,
    /// Its id.
    pub replica: u64,
    /// Its shard.
    pub shard: u32,
    /// The entry.
    pub log_index: u64,
    /// Its term.
    pub term: u64,
    /// When, simulated µs.
    pub at_us: u64,
    /// The account.
    pub account: String,
    /// Its version after the entry; 0 once it is deleted.
    pub set_version: u64,
    /// Its live sessions.
    pub sessions: Vec<Live>,
    /// Everything that is told of its ended sessions; a stub has an empty command and version 0.
    pub tombstones: Vec<Tombstone>,
    /// Digest of all its records, for comparing replicas.
    pub digest: String,
    /// Sessions that a command of the entry may have started.
    pub linked: Vec<String>,
    /// Sessions that a command of the entry names to be ended, whether or not it did.
    pub named: Vec<String>,
    /// Sessions whose record a command of the entry may change without ending them (a pin, a key).
    pub touched: Vec<String>,
    /// What the entry's commands are is not known: `linked`, `named` and `touched` say nothing.
    pub is_blind: bool,
}

/// A live session on a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Its id.
    pub id: String,
    /// Its number.
    pub seq: u64,
    /// Digest of its record; empty if nobody looked.
    pub digest: String,
}

/// A replica at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaState {
    /// Its node.
    pub node: String,
    /// Its id.
    pub replica: u64,
    /// Its shard.
    pub shard: u32,
    /// The last entry that it applied.
    pub log_index: u64,
    /// Digest of the whole state; empty if nobody looked.
    pub digest: String,
    /// Digest of each account's records, as in [`Applied::digest`].
    pub accounts: BTreeMap<String, String>,
}

/// An account as some replica was seen to have it.
#[derive(Clone, Debug)]
struct State {
    node: String,
    term: u64,
    digest: String,
}

/// What is known of an account.
#[derive(Debug, Default)]
struct Account {
    /// The latest state, in full.
    last: Applied,
    /// By log index.
    states: BTreeMap<u64, State>,
    /// By version: who was live.
    sets: BTreeMap<u64, BTreeMap<String, u64>>,
    /// Every number that was ever given out, and to whom.
    seqs: BTreeMap<u64, String>,
}

/// The check under way.
#[derive(Debug, Default)]
pub struct LogCheck {
    accounts: BTreeMap<(u32, String), Account>,
    found: Vec<Violation>,
    seen: u64,
    compared: u64,
}

impl LogCheck {
    /// Nothing seen so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next thing that a replica did. The first contradiction in it is returned; all are kept for
    /// [`Self::finish`].
    pub fn applied(&mut self, applied: &Applied) -> Result<(), Violation> {
        self.seen += 1;
        let account = self.accounts.entry((applied.shard, applied.account.clone())).or_default();
        let mut wrong = Vec::new();
        if let Some(known) = account.states.get(&applied.log_index) {
            self.compared += 1;
            wrong.extend(differs(known, applied));
        } else if account.states.is_empty() {
            wrong.extend(law::first(applied));
            account.accept(applied);
        } else if account.last.log_index < applied.log_index {
            wrong.extend(law::step(&account.last, applied));
            account.accept(applied);
        } else if account.states.first_key_value().is_some_and(|(oldest, _)| *oldest < applied.log_index) {
            let text = "the entry changed the account here, and not on the replicas that applied it before";
            wrong.push((AGREEMENT, text.to_owned()));
        }
        wrong.extend(account.numbers(applied));
        let violations: Vec<_> = wrong.into_iter().map(|(rule, text)| violation(rule, applied, &text)).collect();
        let first = violations.first().cloned();
        let room = VIOLATIONS_MAX.saturating_sub(self.found.len());
        self.found.extend(violations.into_iter().take(room));
        first.map_or(Ok(()), Err)
    }

    /// How many states were taken, and how many of them were compared with another replica's at the same index.
    pub fn figures(&self) -> (u64, u64) {
        (self.seen, self.compared)
    }

    /// Everything that was found, and what the end says: all replicas of a shard are equal.
    pub fn finish(self, replicas: &[ReplicaState]) -> Vec<Violation> {
        let mut found = self.found;
        let mut by_shard: BTreeMap<u32, Vec<&ReplicaState>> = BTreeMap::new();
        for replica in replicas {
            by_shard.entry(replica.shard).or_default().push(replica);
        }
        for (shard, replicas) in by_shard {
            let last = replicas.iter().map(|replica| replica.log_index).max().unwrap_or_default();
            let mut whole: BTreeMap<u64, &ReplicaState> = BTreeMap::new();
            for replica in replicas {
                let subject = format!("shard {shard}");
                let mut say = |text: String| found.push(Violation::new(END, &subject, text, []));
                if replica.log_index + BEHIND_MAX < last {
                    say(format!("{} stands at {} and another replica at {last}", replica.node, replica.log_index));
                }
                let other = *whole.entry(replica.log_index).or_insert(replica);
                if !replica.digest.is_empty() && !other.digest.is_empty() && replica.digest != other.digest {
                    let at = replica.log_index;
                    say(format!("{} and {} have different states at {at}", other.node, replica.node));
                }
                let accounts = self.accounts.range((shard, String::new())..).take_while(|((of, _), _)| *of == shard);
                for ((_, id), account) in accounts {
                    let Some((at, state)) = account.states.range(..=replica.log_index).next_back() else { continue };
                    if let Some(digest) = replica.accounts.get(id).filter(|digest| **digest != state.digest) {
                        say(format!(
                            "{} has account {id} as {digest} at {}, and {} had it as {} since {at}",
                            replica.node, replica.log_index, state.node, state.digest
                        ));
                    }
                }
            }
        }
        found
    }
}

impl Account {
    fn accept(&mut self, applied: &Applied) {
        let Applied { node, term, digest, .. } = applied.clone();
        self.states.insert(applied.log_index, State { node, term, digest });
        while self.states.len() > INDEXES_KEPT {
            self.states.pop_first();
        }
        while self.sets.len() > INDEXES_KEPT {
            self.sets.pop_first();
        }
        self.last = applied.clone();
    }

    /// One version is one set, and a number is one session's, for ever (I4, I5).
    fn numbers(&mut self, applied: &Applied) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        for live in &applied.sessions {
            let owner = self.seqs.entry(live.seq).or_insert_with(|| live.id.clone());
            if *owner != live.id {
                wrong.push((LAW, format!("number {} was {owner}'s and is {}'s", live.seq, live.id)));
            }
        }
        if applied.set_version > 0 {
            let set: BTreeMap<String, u64> = applied.sessions.iter().map(|live| (live.id.clone(), live.seq)).collect();
            let known = self.sets.entry(applied.set_version).or_insert_with(|| set.clone());
            if *known != set {
                let version = applied.set_version;
                wrong.push((AGREEMENT, format!("version {version} was {:?} and is {:?}", known.keys(), set.keys())));
            }
        }
        wrong
    }
}

fn differs(known: &State, applied: &Applied) -> Option<(&'static str, String)> {
    let State { node, term, digest } = known;
    if *term != applied.term {
        return Some((AGREEMENT, format!("the entry is of term {}, and of term {term} on {node}", applied.term)));
    }
    (*digest != applied.digest).then(|| (AGREEMENT, format!("it left {}, and {digest} on {node}", applied.digest)))
}

fn violation(rule: &str, applied: &Applied, text: &str) -> Violation {
    let Applied { node, replica, shard, log_index, account, at_us, .. } = applied;
    let text = format!("account {account} on {node} (shard {shard}, replica {replica}) at index {log_index}: {text}");
    Violation { at_us: Some(*at_us), ..Violation::new(rule, account, text, []) }
}

/// The ids of live sessions.
fn ids(applied: &Applied) -> BTreeSet<&str> {
    applied.sessions.iter().map(|live| live.id.as_str()).collect()
}

#[cfg(test)]
mod tests;
