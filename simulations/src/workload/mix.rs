//! What people do, and how often: the ordinary acts, as weights.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Deserialize;

/// Something that a household does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A companion is linked.
    Link,
    /// A companion takes the place of another, which the approval names.
    LinkReplacing,
    /// A companion approves the link of another.
    LinkByCompanion,
    /// A companion is linked by a typed code, after wrong ones perhaps.
    LinkByCode,
    /// The phone ends a companion.
    Unlink,
    /// A companion ends itself.
    UnlinkSelf,
    /// A companion asks for the end of another, and is too young for it.
    UnlinkSibling,
    /// The phone ends all others.
    UnlinkOthers,
    /// The phone reads the set.
    List,
    /// Somebody asks about a session, linearizably.
    Validate,
    /// Somebody asks the nearest replica.
    ValidateLocal,
    /// A device that has ended asks why.
    Why,
    /// The owner says no.
    Deny,
    /// The companion gives up.
    Cancel,
    /// The companion gives up while its owner approves.
    CancelLate,
    /// The phone ends all others between the scan of a ticket and its approval.
    ApproveLate,
    /// A device that was linked before, and may be so still, is linked under the key that it had.
    LinkAgain,
    /// A companion, or the phone, takes a new key.
    RotateKey,
    /// Another phone takes the phone's place.
    ReplacePrimary,
    /// An operator locks the account, and unlocks it after a while.
    Lock,
}

impl Act {
    /// Every act with its usual weight.
    pub const USUAL: [(Self, u32); 20] = [
        (Self::Link, 300),
        (Self::LinkReplacing, 110),
        (Self::LinkByCompanion, 40),
        (Self::LinkByCode, 60),
        (Self::Unlink, 130),
        (Self::UnlinkSelf, 60),
        (Self::UnlinkSibling, 25),
        (Self::UnlinkOthers, 25),
        (Self::List, 90),
        (Self::Validate, 60),
        (Self::ValidateLocal, 40),
        (Self::Why, 40),
        (Self::Deny, 15),
        (Self::Cancel, 20),
        (Self::CancelLate, 30),
        (Self::ApproveLate, 12),
        (Self::LinkAgain, 40),
        (Self::RotateKey, 25),
        (Self::ReplacePrimary, 12),
        (Self::Lock, 10),
    ];
}

/// Weights of acts; what has none does not happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Mix(BTreeMap<Act, u32>);

impl Mix {
    /// The usual weights.
    pub fn usual() -> Self {
        Self(Act::USUAL.into())
    }

    /// The usual weights, each a good deal more, less, or none at all; but links there are always.
    pub fn draw(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed ^ 0x00AC_7500);
        let mut weigh = |(act, usual): (Act, u32)| {
            let factor = [0, 3, 10, 10, 30][chance.random_range(0..5_usize)];
            let weight = usual * factor / 10;
            (act, if act == Act::Link { weight.max(usual) } else { weight })
        };
        Self(Act::USUAL.map(&mut weigh).into())
    }

    /// One act, by weight; none if nothing has any.
    pub fn choose(&self, chance: &mut StdRng) -> Option<Act> {
        let total: u32 = self.0.values().sum();
        let mut at = chance.random_range(0..total.max(1));
        self.0.iter().find_map(|(act, weight)| {
            let is_it = at < *weight;
            at = at.saturating_sub(*weight);
            is_it.then_some(*act)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_without_weight_is_never_chosen_and_one_with_all_of_it_always() {
        let mix = Mix([(Act::Link, 3), (Act::Why, 0)].into());
        let mut chance = StdRng::seed_from_u64(1);
        assert!((0..100).all(|_| mix.choose(&mut chance) == Some(Act::Link)));
        assert_eq!(Mix::default().choose(&mut chance), None);
    }

    #[test]
    fn every_seed_links_and_some_leave_things_out() {
        let drawn: Vec<_> = (0..50).map(Mix::draw).collect();
        assert!(drawn.iter().all(|mix| mix.0[&Act::Link] > 0));
        assert!(drawn.iter().any(|mix| mix.0[&Act::Lock] == 0) && drawn.iter().any(|mix| mix.0[&Act::Lock] > 0));
    }
}
