//! No figure counts unless every replica of every shard did the work: a cluster with a follower that silently fell out
//! looks healthy, and faster.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};

use crate::points::Replicas;

/// Entries that each replica applied between two looks, by shard. Fails if one of them did other work than the rest, or
/// jumped over entries by a snapshot.
pub(super) fn same_work(before: &Replicas, after: &Replicas) -> anyhow::Result<BTreeMap<u32, u64>> {
    let mut work = BTreeMap::new();
    for (node, (before, after)) in before.iter().zip(after).enumerate() {
        for (shard, now) in after {
            let Some(then) = before.get(shard) else { bail!("shard {shard} of node {} is new", node + 1) };
            let (entries, indexes) = (now.entries.saturating_sub(then.entries), now.index.saturating_sub(then.index));
            ensure!(
                entries == indexes,
                "node {} moved {indexes} entries on in shard {shard}, and applied {entries}",
                node + 1
            );
            let first = *work.entry(*shard).or_insert(entries);
            ensure!(first == entries, "shard {shard}: one replica applied {first} entries, another {entries}");
        }
    }
    ensure!(work.values().any(|entries| *entries > 0), "no replica applied anything: nothing was measured");
    Ok(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Applied;

    fn node(index: u64, entries: u64) -> BTreeMap<u32, Applied> {
        BTreeMap::from([(100, Applied { index, entries })])
    }

    #[test]
    fn a_replica_that_jumped_did_not_do_the_work() {
        let before = vec![node(5, 5), node(5, 2)];
        assert_eq!(same_work(&before, &vec![node(9, 9), node(9, 6)]).unwrap()[&100], 4);
        assert!(same_work(&before, &vec![node(9, 9), node(9, 3)]).is_err(), "by snapshot");
        assert!(same_work(&before, &before.clone()).is_err(), "nothing done");
    }
}
