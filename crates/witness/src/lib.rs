//! Clients whose every attempt is written down: for the demo, the kill loops on real processes, and the simulations.
//!
//! ```text
//!   household ─► Ask ─call─► kindred_client ─► any node
//!                 └─ before it is sent, and after its answer was seen ─► kindred_check::Recorder
//! ```
//!
//! Owns: one attempt at each operation and how it stands in the history (docs/history.md). Must not know: how often
//! something is tried, through which node, or what is made of the answer; that is its callers' part.
//!
//! **Invariant:** only what certainly had no effect is recorded as refused; an attempt that is dropped half-way stays a call
//! without a return.
//!
//! Reading order: [`Ask`], [`record`].

mod ask;
mod life;
mod pairing;
pub mod record;
mod watch;

use kindred_check::Refusal;
use kindred_client::Error;
use kindred_wire::reason::Retry;
use kindred_wire::status::tombstone;

pub use ask::Ask;
pub use pairing::{Asked, Shown, told_end};
pub use watch::Watcher;

/// The refusal that `error` is for certain. Whatever may have had an effect, now or later, is none: a broken connection,
/// a deadline, any UNAVAILABLE.
pub fn refusal(error: &Error) -> Option<Refusal> {
    let reason = error.reason()?;
    if matches!(reason.retry(), Retry::After | Retry::SameRequestId) {
        return None;
    }
    let tombstone = error.status().and_then(tombstone).map(|t| record::tombstone(&t));
    Some(Refusal { reason: reason.name().to_owned(), tombstone })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kindred_wire::reason::Reason;
    use kindred_wire::status::Failure;

    use super::*;

    #[test]
    fn only_a_refusal_without_any_effect_is_recorded_as_one() {
        let of = |failure: Failure| refusal(&Error::from(tonic::Status::from(failure)));
        assert_eq!(of(Failure::new(Reason::OutcomeUnknown)), None);
        assert_eq!(of(Failure::new(Reason::ShardUnavailable)), None);
        assert_eq!(refusal(&Error::from(tonic::Status::unavailable("broken pipe"))), None);
        assert_eq!(of(Failure::new(Reason::TicketExpired)).unwrap().reason, "TICKET_EXPIRED");
    }
}
