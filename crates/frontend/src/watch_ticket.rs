//! WatchTicket: the ticket's present state and every later one, as events. The stream pulls: nothing runs or is buffered
//! while nobody reads, and a caller that goes away takes everything with it.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use kindred_core::arguments::{METHOD_WATCH, watch as watch_arguments};
use kindred_core::command::{Aggregate, TicketAnswer};
use kindred_core::id::{ShardId, TicketId};
use kindred_core::model::TicketState;
use kindred_wire::convert;
use kindred_wire::pb::pairing::v1 as pb;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event;
use kindred_wire::pb::pairing::v1::watch_ticket_request::Access;
use kindred_wire::reason::Reason;
use kindred_wire::status::Failure;
use subtle::ConstantTimeEq as _;
use tonic::Status;

use crate::approve::{POINT_SETTLED, linked};
use crate::front::{Answered, Front, invalid};

/// What the rpc returns.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<pb::WatchTicketReply, Status>> + Send>>;

/// News may be missed while a leader changes; look again after this long in any case.
const LOOK_AGAIN_MS: u64 = 1_000;
/// Reads may fail this often in a row before the caller is told to resume elsewhere.
const FAILURES_MAX: u32 = 60;
/// Looks at one ticket by one call: a ticket outlives its deadline only while its shard has no leader.
const LOOKS_MAX: u32 = 3_600;

/// What was shown last; an event is due when this changes.
#[derive(PartialEq)]
enum Shown {
    Nothing,
    Reference(Vec<u8>),
    Scanned,
    Approved,
    Terminal,
}

struct Watch {
    front: Front,
    ticket: TicketId,
    shard: ShardId,
    by_device: bool,
    shown: Shown,
    told_contested: bool,
    seen: Option<(TicketAnswer, u64)>,
    looks: u32,
}

/// Checks who looks, then follows the ticket.
pub(crate) async fn watch(front: Front, request: pb::WatchTicketRequest) -> Answered<Events> {
    let ticket = convert::ticket_id(&request.ticket, "ticket")?;
    let shard = front.ticket_shard(&ticket)?;
    let (answer, applied_index) = front.read_ticket(&ticket).await?;
    let (by_device, next) = match request.access.ok_or_else(|| invalid("access"))? {
        Access::WatchSecret(secret) => {
            if !bool::from(answer.watch_secret.as_bytes().ct_eq(&secret)) {
                return Err(Failure::new(Reason::ProofInvalid));
            }
            (false, Vec::new())
        }
        Access::Proof(proof) => {
            let (proof, _) = convert::proof_in(Some(proof))?;
            let named = proof.account.is_some() || proof.session.is_some();
            let key = &answer.ticket.device_key;
            if named || !front.verifies(key, METHOD_WATCH, &proof, &watch_arguments(&ticket)) {
                return Err(Failure::new(Reason::ProofInvalid));
            }
            // What it opens is the device's alone: a recorded proof must not open it again.
            (true, front.fresh(shard, &proof.nonce).await?)
        }
    };
    let seen = Some((answer, applied_index));
    let watch = Watch { front, ticket, shard, by_device, shown: Shown::Nothing, told_contested: false, seen, looks: 0 };
    let events: Events = Box::pin(futures::stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((event, watch))
    }));
    Ok((events, next))
}

impl Watch {
    /// The next event; `None` after the terminal one.
    async fn next(&mut self) -> Option<Result<pb::WatchTicketReply, Status>> {
        if self.shown == Shown::Terminal {
            return None;
        }
        loop {
            // Listen before looking, or what happens in between is missed.
            let aggregate = Aggregate::Ticket(self.ticket);
            let changed = self.front.shards().changed(self.shard, aggregate, LOOK_AGAIN_MS);
            let (answer, applied_index) = match self.look().await {
                Ok(found) => found,
                Err(failure) => {
                    self.shown = Shown::Terminal;
                    return Some(Err(failure.into()));
                }
            };
            if let Some(event) = self.step(&answer, applied_index).await {
                return Some(Ok(pb::WatchTicketReply {
                    event: Some(event),
                    ticket_ttl_ms: answer.ticket_ttl_ms,
                    ticket_version: answer.ticket.version,
                }));
            }
            // A ref leaves the screen without anything being written.
            let rotates = Duration::from_millis(match answer.ticket.state {
                TicketState::Open => answer.reference_ttl_ms.max(50),
                _ => LOOK_AGAIN_MS,
            });
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(rotates) => {}
            }
        }
    }

    /// Reads the ticket, patiently: a shard without a leader says nothing about it.
    async fn look(&mut self) -> Result<(TicketAnswer, u64), Failure> {
        if let Some(seen) = self.seen.take() {
            return Ok(seen);
        }
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            return Err(Failure::new(Reason::OutcomeUnknown));
        }
        let mut failures = 0;
        loop {
            match self.front.read_ticket(&self.ticket).await {
                Err(failure) if failure.retry_after_ms.is_some() && failures < FAILURES_MAX => {
                    failures += 1;
                    let pause_ms = failure.retry_after_ms.unwrap_or_default().clamp(50, 1_000);
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
                other => return other,
            }
        }
    }

    /// The event that tells of this state, unless it was told already.
    async fn step(&mut self, answer: &TicketAnswer, applied_index: u64) -> Option<Event> {
        let (shown, event) = match &answer.ticket.state {
            TicketState::Open => {
                (Shown::Reference(answer.reference.clone()), Event::Offered(self.front.offered(answer)))
            }
            TicketState::Scanned(_) => (Shown::Scanned, Event::Scanned(pb::Scanned {})),
            TicketState::Approved { .. } => (Shown::Approved, Event::Approved(pb::Approved {})),
            TicketState::Linked { account, receipt, envelope } => {
                self.front.reach(POINT_SETTLED, account, applied_index).await;
                let envelope = self.by_device.then_some(envelope.as_slice());
                (Shown::Terminal, Event::Linked(linked(account, receipt, envelope)))
            }
            TicketState::Refused { reason, .. } => refused(Failure::from(reason)),
            TicketState::Expired => refused(Failure::new(Reason::TicketExpired)),
            TicketState::Denied => refused(Failure::new(Reason::TicketDenied)),
            TicketState::Cancelled => refused(Failure::new(Reason::TicketCancelled)),
            TicketState::Locked => refused(Failure::new(Reason::TicketLocked)),
        };
        if self.shown == shown {
            let news = answer.ticket.contested && !self.told_contested;
            self.told_contested |= news;
            return news.then_some(Event::Contested(pb::Contested {}));
        }
        self.shown = shown;
        Some(event)
    }
}

fn refused(failure: Failure) -> (Shown, Event) {
    (Shown::Terminal, Event::Refused(failure.refusal()))
}
