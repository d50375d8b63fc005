//! What the world did and saw, as it goes into a history.

use kindred_check::Note;

use crate::faults::Injection;
use crate::world::seat::Death;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Simulated µs.
    pub at_us: u64,
    /// What.
    pub what: What,
}

/// What happened. Nodes are numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A process started; `again` if it is not the node's first.
    Started {
        /// Which node.
        node: usize,
        /// Not for the first time.
        again: bool,
    },
    /// A process died because it was killed, or its machine lost power and `lost` batches with it.
    Killed {
        /// Which node.
        node: usize,
        /// `crash`, `power_loss`, `wipe`, `torn_write`.
        how: &'static str,
        /// Batches that are gone.
        lost: usize,
    },
    /// A process died of itself.
    Died {
        /// Which node.
        node: usize,
        /// How.
        death: Death,
    },
    /// Stopped without being killed.
    Paused {
        /// Which node.
        node: usize,
    },
    /// Goes on.
    Resumed {
        /// Which node.
        node: usize,
    },
    /// Something was done to the world.
    Injected(Injection),
    /// It is over.
    Healed(Injection),
    /// A node leads a shard from now on, as far as it knows.
    Leader {
        /// Which shard.
        shard: u32,
        /// Which node.
        node: usize,
        /// In which term.
        term: u64,
    },
    /// A replica installed a snapshot.
    Installed {
        /// Which shard.
        shard: u32,
        /// Which node.
        node: usize,
        /// Its last entry.
        log_index: u64,
    },
}

impl What {
    /// As a note of a history; `name` gives a node's name. Crashes and pauses are told by what they do, not by their
    /// injection, so that no reader counts them twice.
    pub fn note(&self, name: impl Fn(usize) -> String) -> Option<Note> {
        let kill = |node: usize, point: &str, log_index| Note::Kill {
            node: name(node),
            shard: None,
            point: point.to_owned(),
            log_index,
        };
        Some(match self {
            Self::Started { again: false, .. } => return None,
            Self::Started { node, again: true } => Note::Restart { node: name(*node) },
            Self::Killed { node, how, .. } => kill(*node, how, None),
            Self::Died { node, death: Death::Point { point, log_index } } => kill(*node, point, Some(*log_index)),
            Self::Died { node, death: Death::Storage(_) } => kill(*node, "sync_error", None),
            Self::Died { node, death: Death::Start(_) } => kill(*node, "start", None),
            Self::Paused { node } => Note::Freeze { node: name(*node) },
            Self::Resumed { node } => Note::Thaw { node: name(*node) },
            Self::Injected(Injection::Pause { .. }) | Self::Healed(Injection::Pause { .. }) => return None,
            Self::Injected(what) => Note::Fault {
                fault: what.fault().word().to_owned(),
                node: what.node().map(&name),
                peer: peer(what).map(&name),
                detail: serde_json::to_string(what).ok(),
            },
            Self::Healed(what) => Note::Healed {
                fault: what.fault().word().to_owned(),
                node: what.node().map(&name),
                peer: peer(what).map(&name),
            },
            Self::Leader { shard, node, term } => Note::Leader { shard: *shard, node: name(*node), term: *term },
            Self::Installed { shard, node, log_index } => {
                Note::Installed { shard: *shard, node: name(*node), log_index: *log_index }
            }
        })
    }
}

fn peer(what: &Injection) -> Option<usize> {
    match what {
        Injection::PartialPartition { b, .. } => Some(*b),
        Injection::LeaderTransfer { to, .. } => Some(*to),
        _ => None,
    }
}
