//! What lies on the disks once a run is over, in plain words.

use kindred_check::{Held, Note, TicketState};
use kindred_core::canonical::sha256;
use kindred_core::id::{AccountId, Digest, ShardId};
use kindred_core::model::{Ticket, TicketState as State};
use kindred_core::state::{Key, Record};
use kindred_store::codec::decode_record;
use kindred_store::engine::{Column, Pair, Read as _};
use kindred_store::keys::{self, MetaKey};

use crate::world::World;
use crate::world::applied::{Applied, applied};
use crate::world::seat::Seat;

/// One replica as it lies on its node's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Its node.
    pub node: usize,
    /// Its id.
    pub replica: u64,
    /// Its shard.
    pub shard: ShardId,
    /// Its last applied entry; 0 before the first.
    pub log_index: u64,
    /// SHA-256 over every record of its state, generations left out: equal exactly if the states are.
    pub digest: Digest,
    /// Every account, as that entry left it. Which commands it had is not known any more.
    pub accounts: Vec<Applied>,
}

impl World {
    /// Every replica that lies on a disk, by node and shard.
    pub fn rests(&self) -> Vec<Rest> {
        let shards = self.setup.map().shards();
        let all = self.seats.iter().flat_map(|seat| shards.iter().map(move |(shard, _)| (seat, *shard)));
        all.filter_map(|(seat, shard)| rest(seat, shard)).collect()
    }

    /// What each replica holds of tickets, as notes of a history.
    pub fn tickets(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        for seat in &self.seats {
            for (shard, _) in self.setup.map().shards() {
                let Some((_, pairs)) = state(seat, shard) else { continue };
                let tickets: Vec<Held> = pairs
                    .iter()
                    .filter_map(|(key, value)| match keys::parse_state(key).ok()? {
                        (_, _, key @ Key::Ticket(_)) => match decode_record(&key, value).ok()? {
                            Record::Ticket(ticket) => Some(held(&ticket)),
                            _ => None,
                        },
                        _ => None,
                    })
                    .collect();
                if !tickets.is_empty() {
                    notes.push(Note::Tickets { shard: shard.0, node: seat.name.clone(), tickets });
                }
            }
        }
        notes
    }
}

/// The generation that lives, and its records; none if there is no replica.
fn state(seat: &Seat, shard: ShardId) -> Option<((u32, u64), Vec<Pair>)> {
    let disk = seat.disk();
    let applied = disk.get(Column::Meta, &keys::meta(shard, MetaKey::Applied)).ok()??;
    let (generation, log_id) = kindred_replica::state::stood_at(&applied)?;
    let (from, to) = keys::state_range(shard, generation);
    let pairs = disk.scan(Column::State, &from, &to, usize::MAX).ok()?;
    Some(((generation, log_id.map_or(0, |id| id.index)), pairs))
}

fn rest(seat: &Seat, shard: ShardId) -> Option<Rest> {
    let ((generation, log_index), pairs) = state(seat, shard)?;
    let prefix = keys::state_range(shard, generation).0.len();
    let parts: Vec<&[u8]> =
        pairs.iter().flat_map(|(key, value)| [&key[prefix.min(key.len())..], value.as_ref()]).collect();
    let replica = super::observe::replica_id(seat.disk().as_ref(), shard)?;
    let mut accounts: Vec<AccountId> = Vec::new();
    for (key, _) in &pairs {
        if let Ok((_, _, Key::Account(id) | Key::Tombstone(id, _) | Key::Stub(id, _))) = keys::parse_state(key)
            && !accounts.contains(&id)
        {
            accounts.push(id);
        }
    }
    let nothing = std::collections::VecDeque::new();
    let of = |id: &AccountId| {
        let mut found = applied(seat.disk().as_ref(), (shard, generation), id, None, &nothing)?;
        (found.node, found.replica, found.shard) = (seat.name.clone(), replica, shard.0);
        found.log_index = log_index;
        Some(found)
    };
    let accounts = accounts.iter().filter_map(of).collect();
    Some(Rest { node: seat.node, replica, shard, log_index, digest: sha256(&parts), accounts })
}

fn held(ticket: &Ticket) -> Held {
    let (state, session) = match &ticket.state {
        State::Open => (TicketState::Open, None),
        State::Scanned(_) => (TicketState::Scanned, None),
        State::Approved { .. } => (TicketState::Approved, None),
        State::Linked { receipt, .. } => (TicketState::Linked, Some(receipt.session.to_string())),
        State::Refused { .. } => (TicketState::Refused, None),
        State::Expired => (TicketState::Expired, None),
        State::Denied => (TicketState::Denied, None),
        State::Cancelled => (TicketState::Cancelled, None),
        State::Locked => (TicketState::Locked, None),
    };
    Held { ticket: ticket.id.to_string(), state, session }
}
