//! What a run is made of: drawn from its seed, or read from a scenario file.

use std::ops::Range;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::mix::Mix;
use super::plan::{self, Filter, Planned, Room};
use super::steps::Step;

/// Simulated time before the first fault of a drawn plan: the cluster is formed by then.
pub const FORMED_MS: u64 = 5_000;

/// The clients' side of a run, and its plan.
#[derive(Clone, Debug)]
pub struct Design {
    /// Everything random follows from it.
    pub seed: u64,
    /// Households, at home in the regions in turn.
    pub accounts: usize,
    /// What they do.
    pub mix: Mix,
    /// Between two acts of a phone, simulated ms.
    pub breath_ms: Range<u64>,
    /// Between two questions of a gateway, simulated ms.
    pub question_ms: Range<u64>,
    /// Share of changes whose first reply is not waited for.
    pub haste: f64,
    /// How long the storm lasts, simulated ms since the start.
    pub storm_ms: u64,
    /// After it, whether the run waits until every abandoned ticket is over.
    pub is_patient: bool,
    /// What goes wrong.
    pub plan: Vec<Planned>,
    /// What happens in order.
    pub story: Vec<Step>,
    /// The storm is over once the story is told.
    pub ends_with_story: bool,
    /// Names of the nodes, by index.
    pub nodes: Vec<String>,
}

impl Design {
    /// The swarm: what this seed draws, on these nodes, with what `filter` leaves of the plan.
    pub fn draw(seed: u64, nodes: Vec<String>, storm_ms: u64, filter: &Filter) -> Self {
        let mut chance = StdRng::seed_from_u64(seed ^ 0x0DE5_1600);
        let accounts = chance.random_range(3..10);
        let pace = [1, 1, 2, 4][chance.random_range(0..4_usize)];
        let room = Room { nodes: nodes.len(), accounts, from_ms: FORMED_MS, until_ms: storm_ms };
        Self {
            seed,
            accounts,
            mix: Mix::draw(seed),
            breath_ms: 200 * pace..900 * pace,
            question_ms: 60 * pace..300 * pace,
            haste: [0.0, 0.03, 0.1, 0.3][chance.random_range(0..4_usize)],
            storm_ms,
            is_patient: chance.random_range(0..12_u32) == 0,
            plan: filter.apply(plan::draw(seed, room)),
            story: Vec::new(),
            ends_with_story: false,
            nodes,
        }
    }

    /// Index of the node of this name.
    pub fn node(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node == name)
    }

    /// A generator of this part of the run alone.
    pub fn chance(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ part)
    }
}
