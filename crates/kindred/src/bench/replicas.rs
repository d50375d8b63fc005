//! No figure counts unless every replica of every shard did the work: a cluster with a follower that silently fell out
//! looks healthy, and faster.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::Instant;

use crate::points::Doors;

/// The replicas are level within this time.
const LEVEL_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// One replica: the highest log index applied, and how many entries this process applied to get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    index: u64,
    entries: u64,
}

/// Replicas by shard, for each node.
pub(super) type Replicas = Vec<BTreeMap<u32, Applied>>;

/// Waits until all replicas of each shard are at the same index.
pub(super) async fn level(doors: &Doors) -> anyhow::Result<Replicas> {
    let deadline = Instant::now() + LEVEL_WITHIN;
    loop {
        let seen: Option<Replicas> = doors.status().await.into_iter().map(|shards| Some(by_shard(&shards?))).collect();
        if let Some(seen) = &seen
            && is_level(seen)
        {
            return Ok(seen.clone());
        }
        if Instant::now() >= deadline {
            bail!(
                "waited {} s for all replicas to apply the same entries; this is where they are: {}",
                LEVEL_WITHIN.as_secs(),
                seen.map_or_else(|| "a node does not answer".to_owned(), |seen| format!("{seen:?}"))
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

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

fn by_shard(shards: &[kindred_node::points::pb::ShardStatus]) -> BTreeMap<u32, Applied> {
    shards.iter().map(|s| (s.shard, Applied { index: s.applied_index, entries: s.entries_applied })).collect()
}

fn is_level(seen: &Replicas) -> bool {
    let indexes = |node: &BTreeMap<u32, Applied>| node.iter().map(|(s, a)| (*s, a.index)).collect::<Vec<_>>();
    !seen.is_empty() && seen.iter().all(|node| !node.is_empty() && indexes(node) == indexes(&seen[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(index: u64, entries: u64) -> BTreeMap<u32, Applied> {
        BTreeMap::from([(100, Applied { index, entries })])
    }

    #[test]
    fn a_replica_that_lags_is_not_level() {
        assert!(is_level(&vec![node(9, 9), node(9, 5), node(9, 9)]));
        assert!(!is_level(&vec![node(9, 9), node(8, 8), node(9, 9)]));
    }

    #[test]
    fn a_replica_that_jumped_did_not_do_the_work() {
        let before = vec![node(5, 5), node(5, 2)];
        assert_eq!(same_work(&before, &vec![node(9, 9), node(9, 6)]).unwrap()[&100], 4);
        assert!(same_work(&before, &vec![node(9, 9), node(9, 3)]).is_err(), "by snapshot");
        assert!(same_work(&before, &before.clone()).is_err(), "nothing done");
    }
}
