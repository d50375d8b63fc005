//! What goes wrong in a run, and when: a list that is made up front, so that a part of it can be played again.
//!
//! Each event has an index. Taking some out leaves the others as they are, and whatever else the seed draws: that is what
//! makes a failing run smaller without making it another one.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::trouble;

/// Something that goes wrong at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its number in the plan, the same whatever is left out.
    pub index: usize,
    /// When, in simulated ms since the start of the run.
    pub at_ms: u64,
    /// Which kind: a word of simulations/README.md.
    pub fault: String,
    /// To which node, by index; none where it is to all, or to none.
    pub node: Option<usize>,
    /// And towards which other.
    pub peer: Option<usize>,
    /// How long it lasts, ms; none for what is over at once, or lasts.
    pub for_ms: Option<u64>,
    /// How much: per mille of messages, ms of delay or skew, requests at once. What it means depends on the kind.
    pub amount: u64,
    /// With which account, by index; for what clients do.
    pub account: Option<usize>,
    /// At which named point a node dies; for `crash_at_point`.
    pub point: Option<String>,
}

/// What may be drawn, and how. Times are of simulated ms, amounts as in [`Planned::amount`].
struct Kind {
    fault: &'static str,
    /// Events of it in a minute, if the run has any.
    per_minute: std::ops::Range<u64>,
    for_ms: std::ops::Range<u64>,
    amount: std::ops::Range<u64>,
    whom: Whom,
}

/// Who is chosen for an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    All,
    Node,
    Pair,
    /// The same node throughout a run: what is lost for good may be lost by a minority only.
    Victim,
    Account,
}

const fn kind(
    fault: &'static str,
    per_minute: std::ops::Range<u64>,
    for_ms: std::ops::Range<u64>,
    amount: std::ops::Range<u64>,
    whom: Whom,
) -> Kind {
    Kind { fault, per_minute, for_ms, amount, whom }
}

/// Start values are those of testing.md, "Faults".
const KINDS: &[Kind] = &[
    kind("message_loss", 1..4, 2_000..15_000, 10..300, Whom::All),
    kind("message_delay", 1..4, 2_000..15_000, 20..400, Whom::All),
    kind("message_duplicate", 1..4, 2_000..20_000, 10..500, Whom::All),
    kind("message_reorder", 1..4, 2_000..20_000, 10..500, Whom::All),
    kind("partition", 1..5, 500..12_000, 0..1, Whom::Node),
    kind("one_way_partition", 1..5, 500..12_000, 0..1, Whom::Node),
    kind("partial_partition", 1..5, 500..12_000, 0..1, Whom::Pair),
    kind("connection_reset", 2..10, 0..1, 0..1, Whom::Pair),
    kind("half_open", 1..4, 1_000..8_000, 0..1, Whom::Pair),
    kind("reply_lost", 2..12, 0..1, 1..4, Whom::Node),
    kind("crash", 1..5, 200..20_000, 0..1_001, Whom::Node),
    kind("crash_at_point", 1..5, 200..10_000, 0..1_001, Whom::Node),
    kind("power_loss", 1..2, 500..5_000, 0..1_001, Whom::All),
    kind("restart_storm", 1..2, 2_000..8_000, 200..1_500, Whom::Node),
    kind("unsynced_lost", 1..4, 200..8_000, 0..1, Whom::Node),
    kind("torn_write", 1..4, 200..8_000, 0..1, Whom::Node),
    kind("sync_error", 1..3, 500..5_000, 0..1, Whom::Node),
    kind("disk_full", 1..3, 1_000..10_000, 0..1, Whom::Node),
    kind("slow_disk", 1..4, 2_000..15_000, 5..300, Whom::Node),
    kind("bit_rot_log", 1..2, 500..5_000, 1..4, Whom::Victim),
    kind("bit_rot_state", 1..2, 500..5_000, 1..6, Whom::Victim),
    kind("wipe", 1..2, 500..20_000, 0..1, Whom::Victim),
    kind("pause", 1..4, 200..8_000, 0..1, Whom::Node),
    kind("clock_skew", 1..3, 5_000..60_000, 1..4_000, Whom::Node),
    kind("clock_drift", 1..3, 5_000..60_000, 1..200, Whom::Node),
    kind("clock_jump", 1..3, 0..1, 60_000..86_400_000, Whom::Node),
    kind("leader_transfer", 1..5, 0..1, 0..1, Whom::Node),
    kind(trouble::STAMPEDE, 1..3, 0..1, 10..100, Whom::Account),
    kind(trouble::RETRY_STORM, 1..4, 0..1, 4..24, Whom::Account),
    kind(trouble::REPLAY, 2..10, 0..1, 1..4, Whom::Account),
    kind(trouble::WRONG_PHONE, 1..6, 0..1, 0..1, Whom::Account),
    kind(trouble::BROKEN_WATCH, 2..10, 0..1, 20..1_500, Whom::Account),
    kind(trouble::ABANDONED_TICKET, 1..5, 0..1, 0..1, Whom::Account),
    kind(trouble::HOT_ACCOUNT, 1..3, 3_000..20_000, 4..12, Whom::Account),
    kind(trouble::SWAPPED_KEY, 1..4, 0..1, 0..1, Whom::Account),
    kind(trouble::MALFORMED, 1..4, 0..1, 0..1, Whom::Account),
];

/// Named points at which a node may die.
const POINTS: [&str; 8] = [
    "ticket.approved",
    "link.proposed",
    "link.appended",
    "link.synced",
    "link.committed",
    "link.applied",
    "link.answered",
    "ticket.settled",
];

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

/// The plan of a seed: about a third of the kinds, each at a rate of its own.
pub fn draw(seed: u64, room: Room) -> Vec<Planned> {
    let mut chance = StdRng::seed_from_u64(seed ^ 0x5A17_ED00_F1A7);
    let victim = chance.random_range(0..room.nodes.max(1));
    let share = chance.random_range(15..55_u32);
    let mut plan = Vec::new();
    for kind in KINDS {
        // Drawn for every kind, so that a kind more in the table changes as little as possible.
        let mut own = StdRng::from_rng(&mut chance);
        if own.random_range(0..100_u32) >= share {
            continue;
        }
        let minutes_milli = room.until_ms.saturating_sub(room.from_ms) * 1_000 / 60_000;
        let events = (own.random_range(kind.per_minute.clone()) * minutes_milli).div_ceil(1_000);
        plan.extend((0..events).map(|_| event(kind, victim, room, &mut own)));
    }
    plan.sort_by_key(|event| event.at_ms);
    for (index, event) in plan.iter_mut().enumerate() {
        event.index = index;
    }
    plan
}

fn event(kind: &Kind, victim: usize, room: Room, chance: &mut StdRng) -> Planned {
    let at_ms = chance.random_range(room.from_ms..room.until_ms.max(room.from_ms + 1));
    let for_ms = chance.random_range(kind.for_ms.clone());
    let amount = chance.random_range(kind.amount.clone());
    let mut nodes: Vec<usize> = (0..room.nodes).collect();
    nodes.shuffle(chance);
    let account = chance.random_range(0..room.accounts.max(1));
    let point = POINTS[chance.random_range(0..POINTS.len())];
    let (first, second) = (nodes.first().copied(), nodes.get(1).copied());
    Planned {
        index: 0,
        at_ms,
        fault: kind.fault.to_owned(),
        node: match kind.whom {
            Whom::Node | Whom::Pair => first,
            Whom::Victim => Some(victim),
            Whom::All | Whom::Account => None,
        },
        peer: if kind.whom == Whom::Pair { second } else { None },
        for_ms: Some(for_ms).filter(|ms| *ms > 0),
        amount,
        account: (kind.whom == Whom::Account).then_some(account),
        point: (kind.fault == "crash_at_point").then(|| point.to_owned()),
    }
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
    pub fn lets_kind(&self, fault: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|word| word == fault);
        self.only.as_deref().is_none_or(named) && !named(&self.without)
    }

    fn lets(&self, event: &Planned) -> bool {
        let names = |word: &String| *word == event.fault || *word == format!("#{}", event.index);
        self.only.as_ref().is_none_or(|only| only.iter().any(names))
            && !self.without.iter().any(names)
            && self.until_ms.is_none_or(|until| event.at_ms < until)
    }

    /// Words of the filter that name nothing: neither a kind nor an index.
    pub fn unknown(&self) -> Vec<&str> {
        let kinds: BTreeSet<&str> = words().collect();
        let is_index = |word: &str| word.strip_prefix('#').is_some_and(|number| number.parse::<usize>().is_ok());
        let all = self.only.iter().flatten().chain(&self.without);
        all.map(String::as_str).filter(|word| !kinds.contains(word) && !is_index(word)).collect()
    }
}

/// Every kind that a plan may have, and `knobs`, which a run has from its start.
pub fn words() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.fault).chain([KNOBS])
}

/// Settings of the nodes that are drawn at the start.
pub const KNOBS: &str = "knobs";

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { nodes: 3, accounts: 8, from_ms: 6_000, until_ms: 90_000 };

    #[test]
    fn leaving_events_out_changes_no_other() {
        let whole = draw(7, ROOM);
        assert!(whole.len() > 5, "{whole:?}");
        let filter = Filter { without: vec!["#3".into(), whole[0].fault.clone()], ..Filter::default() };
        let left = filter.apply(whole.clone());
        assert!(left.iter().all(|event| *event == whole[event.index]));
        assert!(left.iter().all(|event| event.index != 3 && event.fault != whole[0].fault));
        let only = Filter { only: Some(vec!["#2".into()]), ..Filter::default() };
        assert_eq!(only.apply(whole.clone()), [whole[2].clone()]);
        let early = Filter { until_ms: Some(30_000), ..Filter::default() }.apply(whole);
        assert!(early.iter().all(|event| event.at_ms < 30_000));
    }

    #[test]
    fn seeds_draw_different_kinds_and_all_of_them_together_every_kind() {
        let mut seen = BTreeSet::new();
        let kinds = |seed| draw(seed, ROOM).into_iter().map(|e| e.fault).collect::<BTreeSet<_>>();
        for seed in 0..60 {
            let drawn = kinds(seed);
            assert!(drawn.len() < KINDS.len(), "a seed that has everything hides what only shows alone");
            seen.extend(drawn);
        }
        assert_eq!(seen.len(), KINDS.len());
        assert_eq!(draw(3, ROOM), draw(3, ROOM));
    }

    #[test]
    fn what_is_lost_for_good_is_lost_by_one_node_only() {
        for seed in 0..200 {
            let plan = draw(seed, ROOM);
            let lost = plan.iter().filter(|e| matches!(e.fault.as_str(), "wipe" | "bit_rot_log" | "bit_rot_state"));
            assert!(lost.filter_map(|e| e.node).collect::<BTreeSet<_>>().len() <= 1, "seed {seed}");
        }
    }

    #[test]
    fn a_word_that_is_no_fault_is_told() {
        let filter = Filter { only: Some(vec!["partitoin".into(), "#4".into()]), ..Filter::default() };
        assert_eq!(filter.unknown(), ["partitoin"]);
    }
}
