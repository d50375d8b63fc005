//! What Raft promises of the logs of one shard: log matching, state machine safety, and commit on a real quorum.
//!
//! Plain data, read from the disks: of each replica the entries that it holds, each by a digest. That there is one leader
//! per term is judged from the history ([`crate::checkers::elections`]).

use std::collections::BTreeMap;

use crate::report::Violation;

/// Logs that contradict each other, or themselves.
pub const NAME: &str = "logs_differ";
/// Committed entries that no majority holds.
pub const QUORUM: &str = "commit_without_quorum";

/// An entry of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Digest of its payload.
    pub digest: String,
}

/// The log of one replica as its disk has it: what would be there after a loss of power.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaLog {
    /// Its node.
    pub node: String,
    /// Its id.
    pub replica: u64,
    /// The last entry that is no longer there because a snapshot holds it; 0 if there is none.
    pub purged: u64,
    /// The entries behind that, in order.
    pub entries: Vec<Entry>,
    /// The last entry that it has applied, or knows to be committed.
    pub committed: u64,
    /// Whether it votes.
    pub is_voter: bool,
}

/// Checks the logs of one shard, taken at one moment. `voters` is how many replicas vote, those whose disk is not shown
/// here included: a replica that is not shown counts as one that holds nothing.
pub fn check(shard: u32, voters: usize, logs: &[ReplicaLog]) -> Vec<Violation> {
    let mut found = Vec::new();
    let subject = format!("shard {shard}");
    let mut say = |checker: &str, text: String| found.push(Violation::new(checker, &subject, text, []));
    for log in logs {
        if let Some(text) = broken(log) {
            say(NAME, text);
        }
    }
    for (position, one) in logs.iter().enumerate() {
        for other in &logs[position + 1..] {
            if let Some(text) = parted(one, other) {
                say(NAME, text);
            }
        }
    }
    if let Some(text) = lonely(voters, logs) {
        say(QUORUM, text);
    }
    found
}

/// Indices follow each other and terms never fall.
fn broken(log: &ReplicaLog) -> Option<String> {
    let mut last = (log.purged, 0);
    for entry in &log.entries {
        if entry.index != last.0 + 1 || entry.term < last.1 {
            let (index, term) = last;
            let Entry { index: next, term: in_term, .. } = entry;
            return Some(format!("on {} entry {next} of term {in_term} follows {index} of term {term}", log.node));
        }
        last = (entry.index, entry.term);
    }
    None
}

/// Log matching: an entry of one index and term is the same, and so is all that is before it. State machine safety: what
/// both know to be committed is the same.
fn parted(one: &ReplicaLog, other: &ReplicaLog) -> Option<String> {
    let theirs: BTreeMap<u64, &Entry> = other.entries.iter().map(|entry| (entry.index, entry)).collect();
    let committed = one.committed.min(other.committed);
    let mut must_match = false;
    for mine in one.entries.iter().rev() {
        let Some(their) = theirs.get(&mine.index) else { continue };
        must_match |= mine.term == their.term || mine.index <= committed;
        if must_match && (mine.term, &mine.digest) != (their.term, &their.digest) {
            return Some(format!(
                "entry {} is {} of term {} on {} and {} of term {} on {}",
                mine.index, mine.digest, mine.term, one.node, their.digest, their.term, other.node
            ));
        }
    }
    None
}

/// The last entry that anybody knows to be committed is held by a majority of the voters.
fn lonely(voters: usize, logs: &[ReplicaLog]) -> Option<String> {
    let furthest = logs.iter().max_by_key(|log| log.committed)?;
    let last = furthest.committed;
    let committed = entry(furthest, last);
    let holds = |log: &&ReplicaLog| {
        log.is_voter && (log.purged >= last || entry(log, last).is_some_and(|held| committed.is_none_or(|c| c == held)))
    };
    let holders = logs.iter().filter(holds).count();
    (last > 0 && holders * 2 <= voters)
        .then(|| format!("entry {last}, committed on {}, is held by {holders} of {voters} voters", furthest.node))
}

fn entry(log: &ReplicaLog, index: u64) -> Option<&Entry> {
    let position = log.entries.binary_search_by_key(&index, |entry| entry.index).ok()?;
    log.entries.get(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(node: &str, terms: &[u64], committed: u64) -> ReplicaLog {
        let entry = |(position, term): (usize, &u64)| {
            let index = position as u64 + 1;
            Entry { index, term: *term, digest: format!("{index}.{term}") }
        };
        let entries = terms.iter().enumerate().map(entry).collect();
        ReplicaLog { node: node.into(), replica: 1, purged: 0, entries, committed, is_voter: true }
    }

    fn found(logs: &[ReplicaLog]) -> Vec<String> {
        check(200, 3, logs).into_iter().map(|violation| violation.checker).collect()
    }

    #[test]
    fn logs_that_differ_only_behind_what_is_committed_are_good() {
        let logs = [log("n1", &[1, 1, 2, 2], 3), log("n2", &[1, 1, 2], 3), log("n3", &[1, 1, 1], 2)];
        assert_eq!(found(&logs), Vec::<String>::new());
        let mut purged = logs.clone();
        purged[1].purged = 3;
        purged[1].entries.clear();
        assert_eq!(found(&purged), Vec::<String>::new());
    }

    #[test]
    fn an_entry_of_one_term_is_one_entry() {
        let mut logs = [log("n1", &[1, 1], 1), log("n2", &[1, 1], 1)];
        logs[1].entries[1].digest = "another".into();
        assert_eq!(found(&logs), [NAME]);
    }

    #[test]
    fn what_is_before_a_matching_entry_matches() {
        let mut logs = [log("n1", &[1, 1, 2], 0), log("n2", &[1, 1, 2], 0)];
        logs[1].entries[0].digest = "another".into();
        assert_eq!(found(&logs), [NAME]);
    }

    #[test]
    fn what_two_know_to_be_committed_is_the_same() {
        assert_eq!(found(&[log("n1", &[1, 1], 2), log("n2", &[1, 2], 2), log("n3", &[1, 1], 2)]), [NAME, NAME]);
    }

    #[test]
    fn what_is_committed_is_held_by_a_majority() {
        let logs = [log("n1", &[1, 1], 2), log("n2", &[1], 1), log("n3", &[1], 1)];
        assert_eq!(found(&logs), [QUORUM]);
        let mut learner = [log("n1", &[1, 1], 2), log("n2", &[1, 1], 1)];
        assert_eq!(found(&learner), Vec::<String>::new());
        learner[1].is_voter = false;
        assert_eq!(found(&learner), [QUORUM]);
        assert_eq!(found(&[log("n1", &[1, 1], 2), log("n2", &[1, 2], 1)]), [QUORUM], "another entry at that index");
    }

    #[test]
    fn a_log_is_whole_and_in_order() {
        assert_eq!(found(&[log("n1", &[2, 1], 0)]), [NAME]);
        let mut gap = [log("n1", &[1, 1, 1], 0)];
        gap[0].entries.remove(1);
        assert_eq!(found(&gap), [NAME]);
    }
}
