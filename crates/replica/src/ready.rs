//! Whether this node can serve, and why not.

use kindred_wire::shards::Shards as _;

use crate::host::Replicas;

/// Shards of a node, by how they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Replicas that run here.
    pub hosted: usize,
    /// Of those, the ones that lead their shard.
    pub led: usize,
    /// Shards of the map that keep this node from being ready.
    pub unready: usize,
}

impl Replicas {
    /// What keeps this node from serving, one line each; empty if it serves. A shard is well here while this node's
    /// replica of it is a settled voter and in touch with a leader that has a quorum.
    pub fn unready(&self) -> Vec<String> {
        let mut why = self.unstarted();
        if why.is_empty() {
            let name = &self.identity().name;
            why.extend(self.map().shards().into_iter().filter_map(|(shard, _)| {
                let trouble = match self.replica(shard) {
                    None => "no replica runs here",
                    Some(replica) if replica.leader().is_none() => "no leader is known",
                    Some(replica) if !replica.is_in_touch() => "not in touch with a leader that has a quorum",
                    Some(replica) if !crate::forming::has_place(&replica, name) => "this node is no settled voter yet",
                    Some(_) => return None,
                };
                Some(format!("shard {shard}: {trouble}"))
            }));
        }
        why
    }

    /// What keeps this node from having started, one line each: it belongs to no cluster, or a replica is missing.
    pub fn unstarted(&self) -> Vec<String> {
        if self.cluster().is_none() {
            return vec!["this node belongs to no cluster yet".to_owned()];
        }
        let missing = self.map().shards().into_iter().filter(|(shard, _)| self.replica(*shard).is_none());
        missing.map(|(shard, _)| format!("shard {shard}: no replica runs here")).collect()
    }

    /// True while this node serves.
    pub fn ready(&self) -> bool {
        self.unready().is_empty()
    }

    /// For metrics.
    pub fn census(&self) -> Census {
        let all = self.all();
        Census {
            hosted: all.len(),
            led: all.iter().filter(|replica| replica.leads()).count(),
            unready: self.unready().len(),
        }
    }
}
