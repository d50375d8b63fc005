//! What happens to whom, in which order: a shuffled deck, dealt again and again, so that every kind of fault comes early.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// Kills of one deck; fewer could leave a kind out.
pub(super) const KILLS_OF_A_DECK: u64 = 24;

/// One thing that happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGKILL to a node that does not lead a chosen shard.
    Follower,
    /// SIGKILL to the node that leads a chosen shard.
    Leader,
    /// SIGKILL to a node through which a change is being asked for, and which leads none of the shards concerned.
    Frontend,
    /// SIGKILL to all three at once.
    All,
    /// SIGSTOP beyond the leader's lease, then SIGCONT.
    Freeze,
    /// SIGKILL where a link stands at a named point.
    At(Point),
}

/// Where a link can be held. Its ticket is opened abroad, so that it is a saga over two shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Point {
    /// The approval is committed; the frontend that knows is killed.
    Approved,
    /// The account's leader is about to propose the link.
    Proposed,
    /// A replica has the link in memory.
    Appended,
    /// A replica has it on its disk.
    Synced,
    /// The frontend knows that it is committed; the ticket is not settled by it.
    Committed,
    /// A replica has applied it.
    Applied,
    /// The account's leader has answered.
    Answered,
    /// The ticket is settled; the node that is about to tell the companion is killed.
    Settled,
}

impl Point {
    /// All of them, in the order in which a link passes them.
    pub(super) const ALL: [Self; 8] = [
        Self::Approved,
        Self::Proposed,
        Self::Appended,
        Self::Synced,
        Self::Committed,
        Self::Applied,
        Self::Answered,
        Self::Settled,
    ];

    /// As in the interface and in the history.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Approved => "ticket.approved",
            Self::Proposed => "link.proposed",
            Self::Appended => "link.appended",
            Self::Synced => "link.synced",
            Self::Committed => "link.committed",
            Self::Applied => "link.applied",
            Self::Answered => "link.answered",
            Self::Settled => "ticket.settled",
        }
    }
}

impl Fault {
    /// Every kind.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let at_random = [Self::Follower, Self::Leader, Self::Frontend, Self::All, Self::Freeze];
        at_random.into_iter().chain(Point::ALL.map(Self::At))
    }

    /// As in the history.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Leader => "leader",
            Self::Frontend => "frontend",
            Self::All => "power_loss",
            Self::Freeze => "freeze",
            Self::At(point) => point.name(),
        }
    }

    fn times_in_a_deck(self) -> usize {
        match self {
            Self::Follower | Self::Frontend => 4,
            Self::Leader => 5,
            Self::Freeze => 2,
            Self::All | Self::At(_) => 1,
        }
    }
}

/// An endless sequence of faults that follows from a seed.
pub(super) struct Plan {
    chance: StdRng,
    deck: Vec<Fault>,
}

impl Plan {
    /// The one of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { chance: StdRng::seed_from_u64(seed), deck: Vec::new() }
    }

    /// What happens next.
    pub(super) fn next(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = Fault::all().flat_map(|fault| std::iter::repeat_n(fault, fault.times_in_a_deck())).collect();
            self.deck.shuffle(&mut self.chance);
        }
        self.deck.pop().unwrap_or(Fault::Follower)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_deck_holds_every_kind_and_as_many_kills_as_it_says() {
        let mut plan = Plan::new(7);
        let (mut kinds, mut kills) = (BTreeSet::new(), 0);
        while kinds.is_empty() || !plan.deck.is_empty() {
            let fault = plan.next();
            kinds.insert(fault);
            kills += match fault {
                Fault::All => 3,
                Fault::Freeze => 0,
                _ => 1,
            };
        }
        assert_eq!(kinds, Fault::all().collect());
        assert_eq!(kills, KILLS_OF_A_DECK);
    }

    #[test]
    fn the_same_seed_is_the_same_plan() {
        let of = |seed| {
            let mut plan = Plan::new(seed);
            (0..60).map(|_| plan.next()).collect::<Vec<_>>()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
