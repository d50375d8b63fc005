//! One property per file. Each takes the whole timeline and returns what contradicts the property; none knows another.
//!
//! | file | promise | counts as |
//! |---|---|---|
//! | [`siblings`] | a link ends no sibling (P1, I1, I2) | `siblings_lost` |
//! | [`unproven`] | no proof, no logout (P2, I3, I9) | `signed_out_without_tombstone`, `tombstones` |
//! | [`duplicates`] | one ticket, one session (P3, I4, I6) | `duplicate_sessions` |
//! | [`versions`] | one version, one set; versions never go back (I5) | `version_conflicts` |
//! | [`durable`] | acknowledged is durable (P6) | `durability_lost` |
//! | [`linearizable`] | one order that fits real time (I19) | `not_linearizable` |
//! | [`watches`] | a watch leaves nothing out (I5, L2) | `watch_gaps` |
//! | [`suspended`] | suspended only while locked | `suspended_without_lock` |
//! | [`refusals`] | a refusal is harmless, a ticket is decided once (I6, I17) | `refused_with_effect` |
//! | [`tickets`] | no ticket is lost (I6, L1) | `tickets_lost` |
//! | [`repeats`] | one request, one answer (I6, I17) | `answered_twice` |
//! | [`doors`] | logout-others closes doors (I22) | `door_left_open` |
//! | [`binding`] | a link is of the key that was approved (I7) | `wrong_key_linked` |
//! | [`deadlines`] | a ticket is not over before its time (I13, I18) | `expired_early` |
//! | [`elections`] | one leader per shard and term | `two_leaders` |
//! | [`liveness`] | after the storm everybody is answered (L1) | `not_served` |
//!
//! What is not a history is judged beside them: [`mod@crate::log`] and [`crate::raft`].

use crate::report::Violation;
use crate::timeline::Timeline;

pub mod binding;
pub mod deadlines;
pub mod doors;
pub mod duplicates;
pub mod durable;
pub mod elections;
pub mod linearizable;
pub mod liveness;
pub mod refusals;
pub mod repeats;
pub mod siblings;
pub mod suspended;
pub mod tickets;
pub mod unproven;
pub mod versions;
pub mod watches;

/// A checker.
pub type Check = fn(&Timeline<'_>) -> Vec<Violation>;

/// All of them.
pub const ALL: [Check; 16] = [
    siblings::check,
    unproven::check,
    duplicates::check,
    versions::check,
    durable::check,
    linearizable::check,
    watches::check,
    suspended::check,
    refusals::check,
    tickets::check,
    repeats::check,
    doors::check,
    binding::check,
    deadlines::check,
    elections::check,
    liveness::check,
];

#[cfg(test)]
pub(crate) mod testing {
    use super::Check;
    use crate::story::Story;
    use crate::timeline::Timeline;

    /// The subjects of what `check` finds, sorted, each once.
    #[track_caller]
    #[allow(clippy::unwrap_used)]
    pub(crate) fn found(check: Check, story: &Story) -> Vec<String> {
        let violations = check(&Timeline::new(&story.events).unwrap());
        let mut subjects: Vec<_> = violations.into_iter().map(|v| format!("{} {}", v.checker, v.subject)).collect();
        subjects.sort();
        subjects.dedup();
        subjects
    }

    /// The good story passes, and so does every history that breaks off in it.
    #[track_caller]
    pub(crate) fn passes_good(check: Check) {
        let mut story = Story::good();
        while !story.events.is_empty() {
            assert_eq!(found(check, &story), Vec::<String>::new(), "after {} events", story.events.len());
            story.events.pop();
        }
    }
}
