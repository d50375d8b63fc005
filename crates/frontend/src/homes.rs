//! A bounded memory of where accounts live. Only a hint: a wrong entry costs one look-up in the directory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kindred_core::id::{AccountId, RegionIndex};

/// Most accounts in one generation; two are kept.
const GENERATION_MAX: usize = 65_536;

#[derive(Default)]
struct Generations {
    young: BTreeMap<AccountId, RegionIndex>,
    old: BTreeMap<AccountId, RegionIndex>,
}

/// Homes seen lately. When the young generation is full it becomes the old one, and the old one is forgotten: what is
/// asked for moves to the young one, so the busy accounts stay.
#[derive(Default)]
pub(crate) struct Homes(Mutex<Generations>);

impl Homes {
    pub(crate) fn get(&self, account: &AccountId) -> Option<RegionIndex> {
        let mut homes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = homes.young.get(account) {
            return Some(*home);
        }
        let home = homes.old.remove(account)?;
        insert(&mut homes, account, home);
        Some(home)
    }

    pub(crate) fn put(&self, account: &AccountId, home: RegionIndex) {
        insert(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), account, home);
    }
}

fn insert(homes: &mut Generations, account: &AccountId, home: RegionIndex) {
    if homes.young.len() >= GENERATION_MAX {
        homes.old = std::mem::take(&mut homes.young);
    }
    homes.young.insert(account.clone(), home);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_asked_for() {
        let homes = Homes::default();
        let account = |n: usize| AccountId::new(&n.to_be_bytes()).unwrap();
        for n in 0..3 * GENERATION_MAX {
            homes.put(&account(n), RegionIndex(1));
            assert_eq!(homes.get(&account(0)), Some(RegionIndex(1)));
        }
        assert_eq!(homes.get(&account(1)), None);
        let generations = homes.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_MAX);
    }
}
