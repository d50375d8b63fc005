//! Where a Link stands on its way through a replica, for tests that hold it there and kill the process.
//!
//! ```text
//!   PROPOSED ─► append: APPENDED ─► log writer: SYNCED ─► committed ─► apply: APPLIED ─► answer: ANSWERED
//!   └ leader                    └ every replica                             └ every    └ leader
//! ```
//!
//! Holding one of them stops more than the link: the proposer, the replica's consensus, the node's log writer, the
//! applier. That is the point of it; whoever holds one means to kill the process. A link that is decided in the entry
//! that approves it (its ticket was opened at home) has no command of its own and passes none of them.

use std::sync::Arc;

use kindred_core::command::{Command, Envelope};
use kindred_core::id::AccountId;
use kindred_store::codec::decode_entry;
use kindred_wire::shards::{NoPoints, Points};
use openraft::EntryPayload;

use crate::types::LogEntry;

/// The leader is about to propose it; it is in no log.
pub const PROPOSED: &str = "link.proposed";
/// It is in this replica's log, in memory only; the disk has not heard of it.
pub const APPENDED: &str = "link.appended";
/// It is synced here; nobody was told so yet.
pub const SYNCED: &str = "link.synced";
/// It is applied here; nobody was answered yet.
pub const APPLIED: &str = "link.applied";
/// The leader has passed its answer on.
pub const ANSWERED: &str = "link.answered";

/// The points of this node's replicas.
#[derive(Clone)]
pub struct LinkPoints(Arc<dyn Points>);

impl Default for LinkPoints {
    /// Nothing is ever held.
    fn default() -> Self {
        Self(Arc::new(NoPoints))
    }
}

impl LinkPoints {
    /// Held by whoever holds `points`.
    pub fn new(points: Arc<dyn Points>) -> Self {
        Self(points)
    }

    /// The accounts that these commands link somebody to; none while nothing is held on this node.
    pub fn linked(&self, commands: &[Envelope]) -> Vec<AccountId> {
        if !self.0.is_armed() {
            return Vec::new();
        }
        let accounts = commands.iter().filter_map(|envelope| match &envelope.command {
            Command::Link { approval, .. } => Some(approval.account.clone()),
            _ => None,
        });
        accounts.collect()
    }

    /// [`Self::linked`] of an entry of the log. What does not decode links nobody here; applying it will say so.
    pub fn linked_in(&self, entry: &LogEntry) -> Vec<AccountId> {
        match &entry.payload {
            EntryPayload::Normal(data) if self.0.is_armed() => {
                decode_entry(&data.0).map(|entry| self.linked(&entry.commands)).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Waits while a test holds `point` for one of these accounts.
    pub async fn reach(&self, point: &'static str, accounts: &[AccountId], log_index: u64) {
        for account in accounts {
            self.0.reach(point, account, log_index).await;
        }
    }

    /// [`Self::reach`] where nobody can wait but by standing still: on the thread of the log writer.
    pub fn stand(&self, point: &'static str, accounts: &[AccountId], log_index: u64) {
        if !accounts.is_empty() {
            futures::executor::block_on(self.reach(point, accounts, log_index));
        }
    }
}
