//! Linearizability by search: Wing and Gong's, with Lowe's memory of what was tried ("Testing for linearizability", 2017),
//! account by account.
//!
//! Slower than the sweep by version ([`crate::checkers::linearizable`]) and of another make: it needs no versions, and
//! where they are told it only compares them. It is the cross-check of the sweep, for short histories. An unknown
//! operation may take effect at any time since its call, or never. A read with a free choice is placed at once: it changes
//! nothing, so no order is lost by it.

use std::collections::BTreeSet;

use crate::timeline::{Position, Timeline};

mod steps;

use steps::{State, Step};

/// Operations of an account beyond which nothing is searched.
pub const OPERATIONS_MAX: usize = 200;
/// Points of the search beyond which it gives up.
pub const POINTS_MAX: usize = 100_000;

/// What a search says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is an order that fits real time and every answer.
    Order,
    /// There is none.
    NoOrder,
    /// Too long, too tangled, or an account that is older than the history.
    Undecided,
}

/// Searches an order of what happened in `account`. Without `versions`, those that answers told are passed over.
pub fn search(timeline: &Timeline<'_>, account: &str, versions: bool) -> Found {
    let Some(steps) = steps::of(timeline, account, versions) else { return Found::Undecided };
    if steps.len() > OPERATIONS_MAX {
        return Found::Undecided;
    }
    let mut search = Search { steps: &steps, tried: BTreeSet::new() };
    search.from(Placed::default(), State::default())
}

/// The steps that have their place, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Placed([u64; OPERATIONS_MAX.div_ceil(64)]);

impl Placed {
    fn has(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }

    fn with(mut self, index: usize) -> Self {
        if let Some(bits) = self.0.get_mut(index / 64) {
            *bits |= 1 << (index % 64);
        }
        self
    }
}

struct Search<'s, 'a> {
    steps: &'s [Step<'a>],
    tried: BTreeSet<(Placed, State<'a>)>,
}

impl<'a> Search<'_, 'a> {
    /// Whether the rest can be placed after what is placed. Recursion is as deep as there are steps.
    fn from(&mut self, mut placed: Placed, state: State<'a>) -> Found {
        let steps = self.steps;
        loop {
            let open = || steps.iter().enumerate().filter(|(index, _)| !placed.has(*index));
            // The first answer that is still without a place: nothing that was called after it can come before it.
            let Some(limit) = open().filter_map(|(_, step)| step.done).min() else { return Found::Order };
            let can_be_next = |(_, step): &(usize, &Step<'a>)| step.call < limit;
            let read = open().filter(can_be_next).find(|(_, step)| step.is_read() && step.after(&state).is_some());
            let Some((index, _)) = read else {
                let next: Vec<usize> = open().filter(can_be_next).map(|(index, _)| index).collect();
                return self.branch(placed, state, &next);
            };
            placed = placed.with(index);
        }
    }

    fn branch(&mut self, placed: Placed, state: State<'a>, next: &[usize]) -> Found {
        if self.tried.len() >= POINTS_MAX {
            return Found::Undecided;
        }
        if !self.tried.insert((placed, state.clone())) {
            return Found::NoOrder;
        }
        let mut verdict = Found::NoOrder;
        for index in next {
            let Some(step) = self.steps.get(*index).filter(|step| !step.is_read()) else { continue };
            let Some(after) = step.after(&state) else { continue };
            match self.from(placed.with(*index), after) {
                Found::Order => return Found::Order,
                Found::Undecided => verdict = Found::Undecided,
                Found::NoOrder => {}
            }
        }
        verdict
    }
}

/// The earlier of two places.
fn earlier(one: Option<Position>, other: Position) -> Option<Position> {
    Some(one.map_or(other, |one| one.min(other)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::history::{Operation, Outcome, Verdict};
    use crate::story::Story;

    #[track_caller]
    fn both(story: &Story) -> (Found, Found) {
        let timeline = Timeline::new(&story.events).unwrap();
        (search(&timeline, "a", true), search(&timeline, "a", false))
    }

    #[test]
    fn a_good_history_has_an_order_wherever_it_breaks_off() {
        let mut story = Story::good();
        while story.events.len() > 2 {
            assert_eq!(both(&story), (Found::Order, Found::Order), "after {} events", story.events.len());
            story.events.pop();
        }
    }

    #[test]
    fn a_set_that_no_order_explains_is_found_without_versions_too() {
        let mut story = Story::family();
        story.list(3, &["s1", "s3"]);
        assert_eq!(both(&story), (Found::NoOrder, Found::NoOrder));
    }

    #[test]
    fn a_read_that_goes_back_has_no_order() {
        let mut story = Story::family();
        story.ok("phone", Story::unlink("s2", "r2"), Story::ended(&[("s2", "r2", 4)]));
        story.validate("s2", Verdict::Valid, 3, None);
        assert_eq!(both(&story), (Found::NoOrder, Found::NoOrder));
    }

    #[test]
    fn versions_tell_what_sets_do_not() {
        let mut story = Story::family();
        story.list(2, &["s1", "s2", "s3"]);
        assert_eq!(both(&story), (Found::NoOrder, Found::Order));
    }

    #[test]
    fn an_unknown_change_may_come_late_or_never() {
        let mut story = Story::family();
        let unlink = story.call("phone", Story::unlink("s2", "r2"));
        story.ret(unlink, Outcome::Unknown);
        story.list(3, &["s1", "s2", "s3"]);
        story.list(4, &["s1", "s3"]);
        assert_eq!(both(&story), (Found::Order, Found::Order));
        story.list(4, &["s1", "s2", "s3"]);
        assert_eq!(both(&story), (Found::NoOrder, Found::NoOrder));
    }

    #[test]
    fn an_account_that_is_older_than_the_history_is_not_judged() {
        let mut story = Story::default();
        story.list(3, &["s1"]);
        assert_eq!(both(&story), (Found::Undecided, Found::Undecided));
    }

    #[test]
    fn many_unknown_changes_are_no_explosion() {
        let mut story = Story::family();
        for number in 4..18 {
            let ticket = format!("t{number}");
            let id = story.call(&ticket, Story::approve(&ticket, &ticket));
            story.ret(id, Outcome::Unknown);
        }
        story.list(3, &["s1", "s2"]);
        let op = Operation::List { account: "a".into(), level: Default::default() };
        story.call("reader", op);
        assert_eq!(both(&story), (Found::NoOrder, Found::NoOrder));
    }
}
