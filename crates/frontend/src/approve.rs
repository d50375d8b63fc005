//! The pairing saga: Approve at the ticket's shard, Link at the account's. What became of the ticket is decided once, by
//! the account's shard; its outbox settles the ticket, and the ticket's leader drives on what a dead frontend left. So
//! nothing here needs to survive this process.

use std::time::Duration;

use kindred_core::apply::link_of;
use kindred_core::command::{Command, Outcome};
use kindred_core::id::{AccountId, SessionId};
use kindred_core::limits::ENVELOPE_BYTES_MAX;
use kindred_core::model::{Receipt, Ticket, TicketOutcome, TicketState};
use kindred_wire::convert;
use kindred_wire::pb::pairing::v1 as pb;
use kindred_wire::reason::Reason;
use kindred_wire::shards::ShardError;
use kindred_wire::status::Failure;

use crate::front::{Answered, Asked, Front, by_cluster, invalid, unexpected};
use crate::metrics;

/// The ticket is approved, nobody has linked yet.
pub(crate) const POINT_APPROVED: &str = "ticket.approved";
/// The link is committed, the ticket not yet settled.
pub(crate) const POINT_LINKED: &str = "link.committed";
/// The ticket is settled, the companion not yet told.
pub(crate) const POINT_SETTLED: &str = "ticket.settled";

/// How long Link is tried. Somebody finishes it anyway; this only bounds the caller's wait.
const LINK_WITHIN: Duration = Duration::from_secs(10);

impl Front {
    pub(crate) async fn approve(&self, request: pb::ApproveTicketRequest) -> Answered<pb::ApproveTicketReply> {
        let started_ms = self.env().clock.monotonic_ms();
        let (proof, key) = convert::proof_in(request.proof)?;
        let approval = convert::approval_in(request.approval)?;
        if request.envelope.len() > ENVELOPE_BYTES_MAX {
            return Err(invalid("envelope"));
        }
        let asked = Asked { proof, key };
        let (account, caller, id) = (asked.account()?, asked.session()?, approval.ticket);
        if account != approval.account || caller != approval.approver {
            return Err(Failure::new(Reason::ApprovalInvalid));
        }
        let number = convert::number_in(&request.number)?;
        let command = Command::Approve { ticket: id, approval, envelope: request.envelope.to_vec(), number };
        let (ticket, committed) = self.submit_ticket(&id, asked.submission(command)).await?;

        let receipt = match &ticket.state {
            TicketState::Approved { .. } => {
                self.reach(POINT_APPROVED, &account, committed.log_index).await;
                let (receipt, log_index) = self.link(&ticket, &caller).await?;
                self.reach(POINT_LINKED, &account, log_index).await;
                receipt
            }
            // A repeat, or the cluster itself was faster.
            TicketState::Linked { receipt, .. } => {
                self.reach(POINT_SETTLED, &account, committed.log_index).await;
                receipt.clone()
            }
            TicketState::Refused { reason, .. } => return Err(Failure::rejected(reason, Some(&caller))),
            TicketState::Expired => return Err(Failure::new(Reason::TicketExpired)),
            TicketState::Denied => return Err(Failure::new(Reason::TicketDenied)),
            TicketState::Cancelled => return Err(Failure::new(Reason::TicketCancelled)),
            TicketState::Locked => return Err(Failure::new(Reason::TicketLocked)),
            TicketState::Open | TicketState::Scanned(_) => return Err(Failure::new(Reason::TicketNotReady)),
        };
        let took_ms = self.env().clock.monotonic_ms().saturating_sub(started_ms);
        ::metrics::histogram!(metrics::LINK_SECONDS).record(metrics::seconds(took_ms));
        Ok((pb::ApproveTicketReply { receipt: Some(convert::receipt(&receipt)) }, committed.nonce))
    }

    /// Links an approved ticket. Idempotent by the ticket, so it is tried until it answers or the time is over; then the
    /// caller is told that the outcome is unknown, because the cluster goes on without us.
    async fn link(&self, ticket: &Ticket, caller: &SessionId) -> Result<(Receipt, u64), Failure> {
        let TicketState::Approved { scan, .. } = &ticket.state else { return Err(unexpected()) };
        let envelope = link_of(ticket).ok_or_else(unexpected)?;
        let shard = self.account_shard(scan.home, &scan.account)?;
        let tried = tokio::time::timeout(LINK_WITHIN, async {
            loop {
                let pause_ms = match self.submit(shard, by_cluster(envelope.clone())).await {
                    Ok(committed) => return committed,
                    Err(ShardError::Unavailable { retry_after_ms } | ShardError::Overloaded { retry_after_ms }) => {
                        retry_after_ms
                    }
                    Err(ShardError::OutcomeUnknown) => 50,
                    Err(ShardError::DiskFull) => 1_000,
                };
                tokio::time::sleep(Duration::from_millis(pause_ms.clamp(20, 1_000))).await;
            }
        });
        let Ok(committed) = tried.await else { return Err(Failure::new(Reason::OutcomeUnknown)) };
        match committed.reply {
            Ok(Outcome::Decided(outcome)) => {
                decided(&outcome, Some(caller)).map(|receipt| (receipt, committed.log_index))
            }
            Ok(_) => Err(unexpected()),
            Err(rejection) => Err(Failure::rejected(&rejection, Some(caller))),
        }
    }
}

/// The account's decision, as told to `caller`.
pub(crate) fn decided(outcome: &TicketOutcome, caller: Option<&SessionId>) -> Result<Receipt, Failure> {
    match outcome {
        TicketOutcome::Linked(receipt) => Ok(receipt.clone()),
        TicketOutcome::Refused(reason) => Err(Failure::rejected(reason, caller)),
        TicketOutcome::Cancelled => Err(Failure::new(Reason::TicketCancelled)),
        TicketOutcome::Expired => Err(Failure::new(Reason::TicketExpired)),
    }
}

/// LINKED for the wire. The envelope is only for who has proved the device key.
pub(crate) fn linked(account: &AccountId, receipt: &Receipt, envelope: Option<&[u8]>) -> pb::Linked {
    pb::Linked {
        account: convert::raw(account.as_bytes()),
        session: convert::raw(receipt.session.as_bytes()),
        receipt: Some(convert::receipt(receipt)),
        envelope: convert::raw(envelope.unwrap_or_default()),
    }
}
