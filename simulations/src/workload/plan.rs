//! What goes wrong in a run, and when: a list that is made up front, so that a part of it can be played again.
//!
//! Each event has an index. Taking some out leaves the others as they are, and whatever else the seed draws: that is what
//! makes a failing run smaller without making it another one.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::kinds;
use crate::faults::{Fault, Injection};

/// Something that goes wrong at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its number in the plan, the same whatever is left out.
    pub index: usize,
    /// When, in simulated ms since the start of the run.
    pub at_ms: u64,
    /// What.
    pub event: Event,
}

/// Who does it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It is done to the world.
    World(Injection),
    /// Clients do it.
    Clients(Trouble),
}

/// What clients of one account do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which kind.
    pub fault: Fault,
    /// With which account, by index.
    pub account: usize,
    /// How much: pairings at once, repeats, ms until a watch breaks, times busier. What it means depends on the kind.
    pub amount: u64,
    /// How long, ms; 0 for what is over once it is done.
    pub for_ms: u64,
}

impl Planned {
    /// Of which kind it is.
    pub fn fault(&self) -> Fault {
        match &self.event {
            Event::World(injection) => injection.fault(),
            Event::Clients(trouble) => trouble.fault,
        }
    }
}

/// Room in which a plan is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Nodes.
    pub nodes: usize,
    /// Accounts.
    pub accounts: usize,
    /// Before this moment nothing goes wrong, since the cluster is being formed; simulated ms.
    pub from_ms: u64,
    /// From this moment on nothing new goes wrong.
    pub until_ms: u64,
}

/// The plan of a seed: some of the kinds, each at a rate of its own.
pub fn draw(seed: u64, room: Room) -> Vec<Planned> {
    let mut chance = StdRng::seed_from_u64(seed ^ 0x5A17_ED00_F1A7);
    let victim = chance.random_range(0..room.nodes.max(1));
    let share = chance.random_range(12..50_u32);
    let mut plan = Vec::new();
    for kind in kinds::ALL {
        // Drawn for every kind, so that a kind more in the table changes as little as possible.
        let mut own = StdRng::from_rng(&mut chance);
        if own.random_range(0..100_u32) >= share {
            continue;
        }
        let window_ms = room.until_ms.saturating_sub(room.from_ms);
        let events = (own.random_range(kind.per_minute.clone()) * window_ms).div_ceil(60_000);
        for _ in 0..events {
            let at_ms = own.random_range(room.from_ms..room.until_ms.max(room.from_ms + 1));
            let event = kinds::event(kind.fault, (victim, room), &mut own);
            plan.extend(event.map(|event| Planned { index: 0, at_ms, event }));
        }
    }
    numbered(plan)
}

/// In order of time, with an index each.
pub fn numbered(mut plan: Vec<Planned>) -> Vec<Planned> {
    plan.sort_by_key(|event| event.at_ms);
    for (index, event) in plan.iter_mut().enumerate() {
        event.index = index;
    }
    plan
}

/// Which events of a plan are played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these, if there is a list: kinds, or `#12` for the event of this index.
    pub only: Option<Vec<String>>,
    /// None of these.
    pub without: Vec<String>,
    /// None that begins at or after this moment, simulated ms.
    pub until_ms: Option<u64>,
}

impl Filter {
    /// What is left of `plan`.
    pub fn apply(&self, plan: Vec<Planned>) -> Vec<Planned> {
        plan.into_iter().filter(|event| self.lets(event)).collect()
    }

    /// Whether faults of this kind may happen at all; for what a run has from its start.
    pub fn lets_kind(&self, fault: Fault) -> bool {
        let named = |list: &[String]| list.iter().any(|word| word == fault.word());
        self.only.as_deref().is_none_or(named) && !named(&self.without)
    }

    fn lets(&self, event: &Planned) -> bool {
        let names = |word: &String| *word == event.fault().word() || *word == format!("#{}", event.index);
        self.only.as_ref().is_none_or(|only| only.iter().any(names))
            && !self.without.iter().any(names)
            && self.until_ms.is_none_or(|until| event.at_ms < until)
    }

    /// Words of the filter that name nothing: neither a kind nor an index.
    pub fn unknown(&self) -> Vec<&str> {
        let is_index = |word: &str| word.strip_prefix('#').is_some_and(|number| number.parse::<usize>().is_ok());
        let all = self.only.iter().flatten().chain(&self.without).map(String::as_str);
        all.filter(|word| Fault::from_word(word).is_none() && !is_index(word)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ROOM: Room = Room { nodes: 3, accounts: 8, from_ms: 6_000, until_ms: 90_000 };

    #[test]
    fn leaving_events_out_changes_no_other() {
        let whole = draw(7, ROOM);
        assert!(whole.len() > 5, "{whole:?}");
        let filter = Filter { without: vec!["#3".into(), whole[0].fault().word().into()], ..Filter::default() };
        let left = filter.apply(whole.clone());
        assert!(!left.is_empty() && left.iter().all(|event| *event == whole[event.index]));
        assert!(left.iter().all(|event| event.index != 3 && event.fault() != whole[0].fault()));
        let only = Filter { only: Some(vec!["#2".into()]), ..Filter::default() };
        assert_eq!(only.apply(whole.clone()), [whole[2].clone()]);
        let early = Filter { until_ms: Some(30_000), ..Filter::default() }.apply(whole);
        assert!(early.iter().all(|event| event.at_ms < 30_000));
    }

    #[test]
    fn seeds_draw_different_kinds_and_all_of_them_together_every_kind() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let drawn: BTreeSet<_> = draw(seed, ROOM).iter().map(Planned::fault).collect();
            assert!(drawn.len() < kinds::ALL.len(), "a seed that has everything hides what only shows alone");
            seen.extend(drawn);
        }
        let missing: Vec<_> = Fault::ALL.iter().filter(|fault| !seen.contains(fault)).collect();
        // What is lost is counted where power is lost, and settings are drawn at the start.
        assert_eq!(missing, [&Fault::UnsyncedLost, &Fault::Knobs]);
        assert_eq!(draw(3, ROOM), draw(3, ROOM));
    }

    #[test]
    fn what_is_lost_for_good_is_lost_by_one_node_only() {
        for seed in 0..200 {
            let plan = draw(seed, ROOM);
            let lost = plan.iter().filter_map(|planned| match &planned.event {
                Event::World(
                    Injection::Wipe { node, .. }
                    | Injection::BitRotLog { node, .. }
                    | Injection::BitRotState { node, .. },
                ) => Some(*node),
                _ => None,
            });
            assert!(lost.collect::<BTreeSet<_>>().len() <= 1, "seed {seed}");
        }
    }

    #[test]
    fn a_word_that_is_no_fault_is_told() {
        let filter = Filter { only: Some(vec!["partitoin".into(), "#4".into()]), ..Filter::default() };
        assert_eq!(filter.unknown(), ["partitoin"]);
    }
}
