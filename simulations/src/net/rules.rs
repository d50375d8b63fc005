//! What the message-level network does to a message: how long it takes, and what else becomes of it.

use std::collections::BTreeSet;

use rand::{RngExt as _, rngs::StdRng};

use crate::faults::{Counts, Fault};

/// A host of the network: nodes first, in their order, then clients.
pub type Host = usize;

/// Shortest and longest way of a message, µs. The shortest is the length of a tick: within a tick nobody hears anybody.
pub const LATENCY_US: (u64, u64) = (10_000, 25_000);

/// The faults in force. Rates are per 1,000 messages.
#[derive(Default)]
pub struct Rules {
    /// Hosts before this one are nodes.
    pub nodes: usize,
    /// Messages that vanish.
    pub loss: u32,
    /// Messages that take longer, and by how many µs at most.
    pub delay: (u32, u64),
    /// Messages between nodes that come twice.
    pub duplicate: u32,
    /// Messages between nodes that overtake others.
    pub reorder: u32,
    /// Pairs (from, to) between which nothing goes.
    pub blocked: BTreeSet<(Host, Host)>,
    /// Nodes between which and the clients nothing goes, in that direction: (node, towards the node).
    pub cut_off: BTreeSet<(Host, bool)>,
    /// How often each struck.
    pub counts: Counts,
}

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// µs until it arrives; none if it never does.
    pub after_us: Option<u64>,
    /// µs until it arrives once more.
    pub again_us: Option<u64>,
    /// May arrive before what was sent earlier.
    pub overtakes: bool,
}

impl Rules {
    /// Draws the fate of a message. `whole` is a message between nodes that may come twice or out of order.
    pub fn fate(&mut self, rng: &mut StdRng, (from, to): (Host, Host), whole: bool) -> Fate {
        let way = |rng: &mut StdRng| rng.random_range(LATENCY_US.0..=LATENCY_US.1);
        let mut fate = Fate { after_us: Some(way(rng)), again_us: None, overtakes: false };
        if from == to {
            return fate;
        }
        if self.is_blocked(from, to) {
            return Fate { after_us: None, ..fate };
        }
        if strikes(rng, self.loss) {
            self.counts.add(Fault::MessageLoss);
            return Fate { after_us: None, ..fate };
        }
        if strikes(rng, self.delay.0) {
            self.counts.add(Fault::MessageDelay);
            fate.after_us = fate.after_us.map(|us| us + rng.random_range(0..=self.delay.1));
        }
        if whole && strikes(rng, self.duplicate) {
            self.counts.add(Fault::MessageDuplicate);
            fate.again_us = Some(way(rng) + rng.random_range(0..200_000));
        }
        if whole && strikes(rng, self.reorder) {
            self.counts.add(Fault::MessageReorder);
            fate.overtakes = true;
            fate.after_us = fate.after_us.map(|us| us + rng.random_range(0..100_000));
        }
        fate
    }

    /// True if nothing gets from one to the other.
    pub fn is_blocked(&self, from: Host, to: Host) -> bool {
        if self.blocked.is_empty() && self.cut_off.is_empty() {
            return false;
        }
        let is_client = |host: Host| host >= self.nodes;
        self.blocked.contains(&(from, to))
            || (is_client(from) && self.cut_off.contains(&(to, true)))
            || (is_client(to) && self.cut_off.contains(&(from, false)))
    }
}

fn strikes(rng: &mut StdRng, per_mille: u32) -> bool {
    // Drawn only while the fault is on: another fault must not change what an unrelated seed does more than it has to.
    per_mille > 0 && rng.random_range(0..1_000) < per_mille
}
