//! The test service of a local cluster's nodes: who leads which shard, and holding the saga at a named point.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use kindred_core::id::{AccountId, ShardId};
use kindred_node::points::pb;
use kindred_node::points::pb::points_client::PointsClient;
use kindred_wire::net::{Net, channel};
use tokio::time::Instant;
use tonic::transport::Channel;

/// One answer about the replicas of a node may take this long.
const STATUS_WITHIN: Duration = Duration::from_millis(500);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// One replica: the highest log index applied, and how many entries this process applied to get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Highest log index applied.
    pub index: u64,
    /// Entries applied since the process started.
    pub entries: u64,
}

/// Replicas by shard, for each node.
pub type Replicas = Vec<BTreeMap<u32, Applied>>;

/// Doors to the test service of each node.
#[derive(Clone)]
pub struct Doors {
    names: Vec<String>,
    channels: Vec<Channel>,
}

impl Doors {
    /// Connects when first used. `nodes` are names and gateway addresses.
    pub fn new<'a>(net: &Arc<dyn Net>, nodes: impl IntoIterator<Item = (&'a str, &'a str)>) -> anyhow::Result<Self> {
        let (mut names, mut channels) = (Vec::new(), Vec::new());
        for (name, gateway) in nodes {
            names.push(name.to_owned());
            channels.push(channel(net.clone(), gateway)?);
        }
        Ok(Self { names, channels })
    }

    /// What each node says of its replicas; none where it does not answer.
    pub async fn status(&self) -> Vec<Option<Vec<pb::ShardStatus>>> {
        futures::future::join_all(self.channels.iter().map(status_of)).await
    }

    /// The node that leads `shard`, by index: it says so itself, and a majority of the nodes agrees.
    pub async fn leader(&self, shard: ShardId, within: Duration) -> anyhow::Result<usize> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.status().await;
            if let Some(leader) = self.agreed(shard, &status) {
                return Ok(leader);
            }
            if Instant::now() >= deadline {
                bail!("waited {} s for the nodes to agree on a leader of shard {shard}", within.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until all replicas of every shard have applied the same entries.
    pub async fn level(&self, within: Duration) -> anyhow::Result<Replicas> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.status().await;
            let seen: Option<Replicas> = status.iter().map(|shards| Some(by_shard(shards.as_ref()?))).collect();
            if let Some(seen) = seen.as_ref().filter(|seen| is_level(seen)) {
                return Ok(seen.clone());
            }
            if Instant::now() >= deadline {
                bail!(
                    "waited {} s for all replicas to apply the same entries; this is where they are: {}",
                    within.as_secs(),
                    seen.map_or_else(|| "a node does not answer".to_owned(), |seen| format!("{seen:?}"))
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Shards that this node says it leads. Asks nobody else.
    pub async fn led_by(&self, node: usize) -> Vec<ShardId> {
        let said = status_of(&self.channels[node]).await.unwrap_or_default();
        said.iter().filter(|s| s.leader == self.names[node]).map(|s| ShardId(s.shard)).collect()
    }

    fn agreed(&self, shard: ShardId, status: &[Option<Vec<pb::ShardStatus>>]) -> Option<usize> {
        let mut votes: BTreeMap<(u64, &str), Vec<usize>> = BTreeMap::new();
        for (node, shards) in status.iter().enumerate() {
            let Some(of) = shards.iter().flatten().find(|s| s.shard == shard.0) else { continue };
            votes.entry((of.term, of.leader.as_str())).or_default().push(node);
        }
        let ((_, leader), voters) = votes.last_key_value()?;
        let index = self.names.iter().position(|name| name == leader)?;
        (2 * voters.len() > self.names.len() && voters.contains(&index)).then_some(index)
    }

    /// Arms `point` for `account` on a node; returns once it is armed.
    pub async fn hold(&self, node: usize, point: &str, account: &AccountId, within: Duration) -> anyhow::Result<Hold> {
        let request = pb::HoldRequest { point: point.to_owned(), account: account.as_bytes().to_vec().into() };
        let armed = tokio::time::timeout(within, async {
            let mut stream = PointsClient::new(self.channels[node].clone()).hold(request).await?.into_inner();
            stream.message().await?;
            Ok::<_, tonic::Status>(stream)
        });
        match armed.await {
            Ok(Ok(stream)) => Ok(Hold { node, stream }),
            Ok(Err(status)) => bail!("arm {point} on {}: {}", self.names[node], status.message()),
            Err(_) => bail!("waited {} s for {} to arm {point}", within.as_secs(), self.names[node]),
        }
    }
}

fn by_shard(shards: &[pb::ShardStatus]) -> BTreeMap<u32, Applied> {
    shards.iter().map(|s| (s.shard, Applied { index: s.applied_index, entries: s.entries_applied })).collect()
}

fn is_level(seen: &Replicas) -> bool {
    let indexes = |node: &BTreeMap<u32, Applied>| node.iter().map(|(s, a)| (*s, a.index)).collect::<Vec<_>>();
    !seen.is_empty() && seen.iter().all(|node| !node.is_empty() && indexes(node) == indexes(&seen[0]))
}

async fn status_of(channel: &Channel) -> Option<Vec<pb::ShardStatus>> {
    let mut client = PointsClient::new(channel.clone());
    let answer = tokio::time::timeout(STATUS_WITHIN, client.status(pb::StatusRequest {})).await;
    answer.ok()?.ok().map(|reply| reply.into_inner().shards)
}

/// An armed point; dropping it lets everybody go on.
pub struct Hold {
    /// On which node.
    pub node: usize,
    stream: tonic::Streaming<pb::Reached>,
}

impl Hold {
    /// Waits until somebody arrives on this node; the log index of the step before the point.
    pub async fn reached(&mut self) -> anyhow::Result<u64> {
        match self.stream.message().await {
            Ok(Some(reached)) => Ok(reached.log_index),
            Ok(None) => bail!("the hold ended early"),
            Err(status) => bail!("the hold broke: {}", status.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(leader: &str, term: u64) -> Option<Vec<pb::ShardStatus>> {
        Some(vec![pb::ShardStatus { shard: 100, leader: leader.into(), term, ..pb::ShardStatus::default() }])
    }

    #[test]
    fn a_replica_that_lags_is_not_level() {
        let node = |index| BTreeMap::from([(100, Applied { index, entries: index })]);
        assert!(is_level(&vec![node(9), node(9), node(9)]));
        assert!(!is_level(&vec![node(9), node(8), node(9)]));
    }

    #[tokio::test]
    async fn a_leader_is_one_that_says_so_itself_and_has_a_majority() {
        let nobody: Arc<dyn Net> = Arc::new(kindred_wire::net::Tcp);
        let doors = Doors::new(&nobody, [("a", "127.0.0.1:1"), ("b", "127.0.0.1:1"), ("c", "127.0.0.1:1")]).unwrap();
        let agreed = |status: &[_]| doors.agreed(ShardId(100), status);
        assert_eq!(agreed(&[says("a", 2), says("a", 2), says("a", 2)]), Some(0));
        assert_eq!(agreed(&[None, says("b", 3), says("b", 3)]), Some(1));
        // An old leader that has not heard of the new term does not count.
        assert_eq!(agreed(&[says("a", 2), says("b", 3), says("b", 3)]), Some(1));
        assert_eq!(agreed(&[says("a", 2), says("a", 2), says("b", 3)]), None);
        assert_eq!(agreed(&[None, says("a", 3), says("a", 3)]), None);
        assert_eq!(agreed(&[None, None, says("c", 3)]), None);
        assert_eq!(agreed(&[says("", 3), says("", 3), says("", 3)]), None);
    }
}
