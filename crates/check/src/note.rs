//! What is no operation: what was done to the world, and what was seen of it from inside.

use serde::{Deserialize, Serialize};

/// Something that is no operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A node was killed.
    Kill {
        /// Which.
        node: String,
        /// The shard that it led, or for which it was chosen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<u32>,
        /// Where the saga stood (`ticket.approved`, `link.committed`, …), what the node was (`follower`, `leader`,
        /// `frontend`), or `power_loss` of all nodes.
        point: String,
        /// Log index at that point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log_index: Option<u64>,
    },
    /// A node was stopped without being killed: its connections stay, and it does nothing.
    Freeze {
        /// Which.
        node: String,
    },
    /// A stopped node goes on.
    Thaw {
        /// Which.
        node: String,
    },
    /// A node was started again.
    Restart {
        /// Which.
        node: String,
    },
    /// Something was done to the world, other than the above: a partition, a slow disk, a clock that jumps.
    Fault {
        /// Which kind, a word of `simulations/README.md` (`partition`, `message_loss`, `clock_jump`, …).
        fault: String,
        /// To which node; absent where it is to all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// And towards which other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
        /// How much, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A fault that lasted is over.
    Healed {
        /// Which kind.
        fault: String,
        /// On which node; absent where it was on all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// And towards which other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
    },
    /// A node leads a shard from now on, as far as it knows.
    Leader {
        /// Which shard.
        shard: u32,
        /// Which node.
        node: String,
        /// In which term.
        term: u64,
    },
    /// A replica installed a snapshot.
    Installed {
        /// Which shard.
        shard: u32,
        /// On which node.
        node: String,
        /// Log index of the last entry in it.
        log_index: u64,
    },
    /// A step of the scenario ended.
    Step {
        /// Its name.
        name: String,
        /// How long it took, in ms.
        ms: u64,
    },
    /// What a replica of a shard holds of tickets, read from its disk at the end.
    Tickets {
        /// Which shard.
        shard: u32,
        /// On which node.
        node: String,
        /// All of them.
        tickets: Vec<Held>,
    },
}

/// A ticket as a replica holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The ticket.
    pub ticket: String,
    /// Where it stands.
    pub state: TicketState,
    /// With `linked`: the session that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// State of a ticket (domain.md §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the words of the domain")]
pub enum TicketState {
    Open,
    Scanned,
    Approved,
    Linked,
    Refused,
    Expired,
    Denied,
    Cancelled,
    Locked,
}

impl TicketState {
    /// Nothing becomes of it any more.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Open | Self::Scanned | Self::Approved)
    }
}
