//! The server nonces that a device holds: the latest one for each account and ticket that it signs about.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use kindred_core::id::{AccountId, TicketId};

/// Most that a device holds; the oldest goes first. One that is missing costs a call another round trip.
const NONCES_MAX: usize = 64;

/// What a proof is about. Nonces are per shard, and a device does not know shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A ticket that is yet to be opened.
    Opening,
    /// A ticket.
    Ticket(TicketId),
    /// An account.
    Account(AccountId),
    /// A code that is typed for an account: the ticket behind it is known to the cluster only.
    Typing(AccountId),
}

/// In order of arrival.
type Held = VecDeque<(Topic, Vec<u8>)>;

/// Shared by all clones of a device.
#[derive(Clone, Default)]
pub(crate) struct Nonces(Arc<Mutex<Held>>);

impl Nonces {
    /// The latest one; empty if there is none, which brings one.
    pub(crate) fn get(&self, topic: &Topic) -> Vec<u8> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().find(|(of, _)| of == topic).map(|(_, nonce)| nonce.clone()).unwrap_or_default()
    }

    pub(crate) fn put(&self, topic: &Topic, nonce: &[u8]) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(of, _)| of != topic);
        if held.len() >= NONCES_MAX {
            held.pop_front();
        }
        held.push_back((topic.clone(), nonce.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_holds_the_latest_nonce_of_each_topic_and_not_too_many() {
        let nonces = Nonces::default();
        for n in 0..=u8::MAX {
            nonces.put(&Topic::Ticket(TicketId([n; 16])), &[n]);
            nonces.put(&Topic::Opening, &[n, n]);
        }
        assert_eq!(nonces.get(&Topic::Opening), [255, 255]);
        assert_eq!(nonces.get(&Topic::Ticket(TicketId([255; 16]))), [255]);
        assert!(nonces.get(&Topic::Ticket(TicketId([0; 16]))).is_empty());
        assert_eq!(nonces.0.lock().unwrap().len(), NONCES_MAX);
    }
}
