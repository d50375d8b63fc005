//! Links, through the public rpc or straight to the shard, in rounds: what is not measured (making accounts, opening and
//! scanning tickets, signing, encoding) is done before each round.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use kindred_core::command::{Committed, Envelope, Outcome, Proven, Submission};
use kindred_core::id::{AccountId, RegionIndex, ShardId};
use kindred_core::limits::COMPANION_LIMIT_DEFAULT;
use kindred_core::map::ShardMap;
use kindred_core::model::TicketState;
use kindred_store::codec::{decode_committed, encode_submission};
use kindred_wire::convert;
use kindred_wire::pb::pairing::v1::{ApproveTicketReply, ApproveTicketRequest};
use prost::Message as _;

use super::drive::{Answer, Pace, Span, drive};
use super::lab::{Lab, Measured, progress};
use super::load::name_of;
use super::prepare::{Live, Opened, Ready};
use super::raw::unary;
use super::shard::ShardDoor;

pub(super) const APPROVE: &str = "/kindred.pairing.v1.Pairing/ApproveTicket";
/// As patient at the shard as the frontend is.
const PROPOSE_WITHIN_MS: u64 = 5_000;

/// An encoded approval.
pub(super) struct Approval {
    pub(super) home: usize,
    pub(super) account: AccountId,
    pub(super) message: Bytes,
}

impl Lab<'_> {
    /// So many links in all. Phones are connected to the node of their account's home region.
    pub(super) async fn links(&self, opened: Opened, count: usize, pace: &Pace) -> anyhow::Result<Measured> {
        let mut total = Measured::new()?;
        for size in rounds(count, self.round, pace) {
            let ready: Vec<_> = self.prepared(opened, size).await?.into_iter().map(encoded).collect();
            let bar = progress(size, "links");
            let at = Cell::new(0);
            let next = || ready.get(at.replace(at.get() + 1));
            let call = async |worker: usize, item: &Approval| {
                let answer = self.approve(worker, item).await;
                bar.inc(1);
                answer
            };
            total.add(&self.measure(drive(pace, Span::Calls(size as u64), next, call)).await?)?;
            bar.finish_and_clear();
        }
        Ok(total)
    }

    /// Approvals that are ready to be sent; their phones can be validated from now on.
    pub(super) async fn prepared(&self, opened: Opened, count: usize) -> anyhow::Result<Vec<Ready>> {
        let bar = progress(count, "tickets opened and scanned");
        let (ready, owners) = self.workshop.prepare(opened, count, COMPANION_LIMIT_DEFAULT as usize, &bar).await?;
        bar.finish_and_clear();
        self.live.borrow_mut().extend(owners);
        Ok(ready)
    }

    /// Approves through the public rpc, and looks for the session in the receipt.
    pub(super) async fn approve(&self, worker: usize, item: &Approval) -> Answer {
        let channel = self.channel(worker, item.home);
        let reply: ApproveTicketReply =
            unary(channel, APPROVE, item.message.clone()).await.map_err(|status| name_of(&status))?;
        let receipt = convert::receipt_in(reply.receipt).map_err(|error| error.to_string())?;
        let account = item.account.clone();
        self.live.borrow_mut().push(Live { home: item.home, account, session: receipt.session });
        Ok(None)
    }

    /// So many links at home, each submitted to the leader of its shard over one stream, as a frontend's node does.
    /// Tickets whose shard is not their account's (possible with several shards in a region) are left out.
    pub(super) async fn links_at_shard(&self, count: usize, pace: &Pace) -> anyhow::Result<Measured> {
        let map = self.map();
        let mut doors = BTreeMap::new();
        let mut total = Measured::new()?;
        for size in rounds(count, self.round, pace) {
            let ready = self.prepared(Opened::AtHome, size).await?;
            let work: Vec<_> = ready.into_iter().filter_map(|item| submission(&map, item)).collect();
            for (shard, _) in &work {
                if !doors.contains_key(shard) {
                    doors.insert(*shard, ShardDoor::open(self, *shard).await?);
                }
            }
            let bar = progress(work.len(), "links at the shard");
            let at = Cell::new(0);
            let next = || work.get(at.replace(at.get() + 1));
            let call = async |_: usize, (shard, payload): &(ShardId, Bytes)| {
                bar.inc(1);
                let Some(door) = doors.get(shard) else { return Err("no door".to_owned()) };
                let committed = door.submit(payload.clone()).await?;
                is_linked(&decode_committed(&committed).map_err(|_| "malformed answer".to_owned())?)
            };
            total.add(&self.measure(drive(pace, Span::Calls(work.len() as u64), next, call)).await?)?;
            bar.finish_and_clear();
        }
        Ok(total)
    }
}

/// Sizes of rounds. Few calls in flight need fewer links for the same time, and many need some to be in steady state.
fn rounds(count: usize, round: usize, pace: &Pace) -> Vec<usize> {
    let (count, round) = match pace {
        Pace::Closed(in_flight) if *in_flight < 16 => (count * in_flight / 16, round),
        Pace::Closed(in_flight) => (count, round.max(8 * in_flight)),
        Pace::Open(_) => (count, round),
    };
    let count = count.max(100);
    (0..count).step_by(round).map(|start| round.min(count - start)).filter(|size| *size >= 100).collect()
}

/// Encodes it once, so that sending is cheap.
pub(super) fn encoded(item: Ready) -> Approval {
    Approval { home: item.home, account: item.account, message: item.message.encode_to_vec().into() }
}

/// What a frontend would submit for this approval, and where.
fn submission(map: &ShardMap, item: Ready) -> Option<(ShardId, Bytes)> {
    // Tickets opened as QR codes ask for no number.
    let ApproveTicketRequest { proof, approval, envelope, .. } = item.message;
    let (proof, key) = convert::proof_in(proof).ok()?;
    let approval = convert::approval_in(approval).ok()?;
    let shard = map.ticket(&approval.ticket)?;
    let home = RegionIndex(u16::try_from(item.home).ok()?);
    if map.account(home, &item.account)? != shard {
        return None;
    }
    let proven = Proven::Session { session: proof.session?, key, auth_epoch: proof.auth_epoch };
    let (request, ticket) = (proof.request, approval.ticket);
    let command =
        kindred_core::command::Command::Approve { ticket, approval, envelope: envelope.to_vec(), number: None };
    let envelope = Envelope { request, policy_version: 0, proven, command };
    let (proof, within) = (Some(proof), PROPOSE_WITHIN_MS);
    let submission = Submission { envelope, proof, possession: None, reference: None, propose_within_ms: within };
    Some((shard, encode_submission(&submission)))
}

fn is_linked(committed: &Committed) -> Answer {
    match &committed.reply {
        Ok(Outcome::Ticket(ticket)) if matches!(ticket.state, TicketState::Linked { .. }) => Ok(None),
        Ok(_) => Err("not linked".to_owned()),
        Err(rejection) => Err(format!("{rejection:?}").chars().take(40).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_suit_what_is_in_flight() {
        assert_eq!(rounds(9_000, 3_000, &Pace::Closed(64)), [3_000; 3]);
        assert_eq!(rounds(16_000, 3_000, &Pace::Closed(1)), [1_000]);
        assert_eq!(rounds(9_000, 1_000, &Pace::Closed(1_024)), [8_192, 808], "a pipe of 1,024 must fill first");
        assert_eq!(rounds(3_050, 3_000, &Pace::Closed(64)), [3_000], "a tail too short to measure");
        assert_eq!(rounds(10, 3_000, &Pace::Closed(64)), [100]);
    }
}
