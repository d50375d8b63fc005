//! One leader per shard and term (election safety, Raft §5.2).

use std::collections::BTreeMap;

use crate::history::Note;
use crate::report::Violation;
use crate::timeline::Timeline;

/// The name under which violations are counted.
pub const NAME: &str = "two_leaders";

/// Runs the check.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut leaders: BTreeMap<(u32, u64), &str> = BTreeMap::new();
    for (at_us, _, note) in &timeline.notes {
        let Note::Leader { shard, node, term } = note else { continue };
        let first = leaders.entry((*shard, *term)).or_insert(node);
        if *first != node {
            let text = format!("shard {shard} had {first} and, at {at_us} us, {node} for its leader in term {term}");
            found.push(Violation::new(NAME, &format!("shard {shard}"), text, []));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::story::Story;

    fn leader(story: &mut Story, node: &str, shard: u32, term: u64) {
        story.note(Note::Leader { shard, node: node.into(), term });
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn a_term_has_one_leader_per_shard() {
        let mut story = Story::family();
        leader(&mut story, "n1", 100, 1);
        leader(&mut story, "n2", 200, 1);
        leader(&mut story, "n2", 100, 2);
        leader(&mut story, "n2", 100, 2);
        assert_eq!(found(check, &story), Vec::<String>::new());
        leader(&mut story, "n3", 100, 2);
        assert_eq!(found(check, &story), ["two_leaders shard 100"]);
    }
}
