//! openraft's types, made concrete once.

use std::fmt;

use bytes::Bytes;
use kindred_core::command::Reply;

/// An encoded [`kindred_core::command::Entry`]: made once by the proposer, reused for log, wire and apply.
#[derive(Clone, PartialEq, Eq)]
pub struct Data(pub Bytes);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.0.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying one entry answered; empty for entries without commands.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// One per command, in order, with the log index that decided it.
    pub replies: Vec<(Reply, u64)>,
    /// Shard time after the entry.
    pub time_ms: u64,
}

/// The node that a replica is on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    /// Random id of the node, made once per data directory.
    pub node_id: u64,
    /// Index of the region that it is in.
    pub region: u16,
    /// Its configured name, which the address book resolves.
    pub name: String,
}

openraft::declare_raft_types!(
    /// The one type configuration.
    pub Types:
        D = Data,
        R = Replies,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::runtime::Runtime,
);

/// Position in a log: term and index.
pub type LogId = openraft::type_config::alias::LogIdOf<Types>;
/// A vote for, or the leadership of, a replica.
pub type Vote = openraft::type_config::alias::VoteOf<Types>;
/// A log entry.
pub type LogEntry = openraft::type_config::alias::EntryOf<Types>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Member>;
/// Membership with the log id that made it.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
/// Describes a snapshot.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
/// One replica's consensus.
pub type Raft = openraft::Raft<Types, crate::machine::Machine>;

/// A log id from its parts.
pub fn log_id(term: u64, index: u64) -> LogId {
    use openraft::vote::RaftLeaderIdExt as _;
    LogId::new(openraft::impls::leader_id_std::LeaderId::<u64, u64>::new_committed(term, 0), index)
}
