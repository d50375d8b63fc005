//! kindred.pairing.v1.Pairing, but for the saga and the watch.

use kindred_core::arguments::METHOD_SCAN;
use kindred_core::command::{Answer, Command, Decision, Envelope, Outcome, Proven, Query, TicketAnswer};
use kindred_core::id::{RequestId, Slot, TicketId};
use kindred_core::model::{Method, Rejection, Role, Scan, TicketState};
use kindred_wire::convert;
use kindred_wire::pb::pairing::v1 as pb;
use kindred_wire::pb::pairing::v1::cancel_ticket_reply::Outcome as CancelOutcome;
use kindred_wire::reason::Reason;
use kindred_wire::shards::Consistency;
use kindred_wire::status::Failure;
use tonic::{Request, Response, Status};

use crate::account::count;
use crate::approve::{decided, linked};
use crate::front::{Answered, Asked, Front, by_cluster, reply, unexpected};
use crate::shown::Shown;
use crate::watch_ticket;

#[tonic::async_trait]
impl pb::pairing_server::Pairing for Front {
    type WatchTicketStream = watch_ticket::Events;

    async fn open_ticket(
        &self,
        request: Request<pb::OpenTicketRequest>,
    ) -> Result<Response<pb::OpenTicketReply>, Status> {
        reply(self.open(request.into_inner()).await)
    }

    async fn watch_ticket(
        &self,
        request: Request<pb::WatchTicketRequest>,
    ) -> Result<Response<Self::WatchTicketStream>, Status> {
        reply(watch_ticket::watch(self.clone(), request.into_inner()).await)
    }

    async fn scan_ticket(
        &self,
        request: Request<pb::ScanTicketRequest>,
    ) -> Result<Response<pb::ScanTicketReply>, Status> {
        reply(self.scan(request.into_inner()).await)
    }

    async fn approve_ticket(
        &self,
        request: Request<pb::ApproveTicketRequest>,
    ) -> Result<Response<pb::ApproveTicketReply>, Status> {
        reply(self.approve(request.into_inner()).await)
    }

    async fn deny_ticket(
        &self,
        request: Request<pb::DenyTicketRequest>,
    ) -> Result<Response<pb::DenyTicketReply>, Status> {
        reply(self.deny(request.into_inner()).await)
    }

    async fn cancel_ticket(
        &self,
        request: Request<pb::CancelTicketRequest>,
    ) -> Result<Response<pb::CancelTicketReply>, Status> {
        reply(self.cancel(request.into_inner()).await)
    }
}

impl Front {
    async fn open(&self, request: pb::OpenTicketRequest) -> Answered<pb::OpenTicketReply> {
        let (proof, key) = convert::proof_in(request.proof)?;
        let device_key = convert::device_key(&request.device_key, "device_key")?;
        let requester = convert::requester_in(request.requester)?;
        if proof.account.is_some() || proof.session.is_some() || key != device_key {
            return Err(Failure::new(Reason::ProofInvalid));
        }
        // The slot follows from the key, so that a retry through any frontend of the region finds the same ticket.
        let slot = Slot::of(device_key.as_bytes());
        let id = TicketId::compose(self.shards().region(), slot, &device_key, &proof.request);
        let method = convert::method_in(request.method, &request.account)?;
        let command = Command::Open { ticket: id, device_key, method, requester };
        let (_, committed) = self.submit_ticket(&id, Asked { proof, key }.submission(command)).await?;

        // It is open by now; a retry finds it.
        let read = self.read_ticket(&id).await;
        let (answer, _) = read.map_err(|_| Failure::new(Reason::OutcomeUnknown))?;
        let offered = self.offered(&answer);
        let reply = pb::OpenTicketReply {
            ticket: convert::raw(id.as_bytes()),
            watch_secret: convert::raw(answer.watch_secret.as_bytes()),
            qr_payload: offered.qr_payload,
            reference_ttl_ms: offered.reference_ttl_ms,
            ticket_ttl_ms: answer.ticket_ttl_ms,
            reference: offered.reference,
            code: offered.code,
        };
        Ok((reply, committed.nonce))
    }

    /// The ticket with what is derived from the region's key, and the log index of the state read.
    pub(crate) async fn read_ticket(&self, id: &TicketId) -> Result<(TicketAnswer, u64), Failure> {
        let shard = self.ticket_shard(id)?;
        let observed = self.query(shard, Query::Ticket(*id), Consistency::Linearizable).await?;
        match observed.answer {
            // A replica without the region's key cannot tell refs or secrets; another one can.
            Answer::Ticket(Some(answer)) if answer.reference.is_empty() => Err(Failure::new(Reason::ShardUnavailable)),
            Answer::Ticket(Some(answer)) => Ok((*answer, observed.applied_index)),
            Answer::Ticket(None) => Err(Failure::new(Reason::TicketNotFound)),
            _ => Err(unexpected()),
        }
    }

    async fn scan(&self, request: pb::ScanTicketRequest) -> Answered<pb::ScanTicketReply> {
        let (proof, key) = convert::proof_in(request.proof)?;
        let asked = Asked { proof, key };
        let (account, approver) = (asked.account()?, asked.session()?);
        let shown = Shown::read(&request.reference, &request.code)?;
        if let Shown::Reference(id, _) = &shown {
            self.ticket_shard(id)?;
        }
        // Whoever has no session of the account is not told whether there is such an account.
        let found = self.account(&account, &request.home_region).await;
        let (home, found, _) = found.map_err(|failure| match failure.reason {
            Reason::AccountNotFound => Failure::new(Reason::ProofInvalid),
            _ => failure,
        })?;
        let Some(session) = found.sessions.iter().find(|s| s.id == approver) else {
            return Err(self.not_live(home, &asked, METHOD_SCAN, &shown.arguments()).await);
        };
        if asked.proof.auth_epoch != found.auth_epoch {
            return Err(Failure::from(&Rejection::EpochChanged { auth_epoch: found.auth_epoch }));
        }
        // Its link would be refused; so the owner is told before anything is shown.
        if found.locked_at_ms.is_some() {
            return Err(Failure::new(Reason::AccountLocked));
        }
        let scan = Scan {
            account,
            home,
            approver,
            approver_key: session.device_key,
            auth_epoch: found.auth_epoch,
            scanned_at_ms: 0,
        };
        let (id, submission) = self.scanning(&asked, scan, &shown).await?;
        let (ticket, committed) = self.submit_ticket(&id, submission).await?;

        let companions = found.sessions.iter().filter(|s| s.role == Role::Companion).count();
        let reply = pb::ScanTicketReply {
            ticket: convert::raw(id.as_bytes()),
            device_key: convert::raw(ticket.device_key.as_bytes()),
            requester: Some(convert::requester(&ticket.requester)),
            ticket_ttl_ms: ticket.deadline_ms.saturating_sub(committed.shard_time_ms),
            ticket_age_ms: committed.shard_time_ms.saturating_sub(ticket.opened_at_ms),
            auth_epoch: found.auth_epoch,
            companions: count(companions),
            companion_limit: found.companion_limit,
            log_index: committed.log_index,
            number_match: ticket.method != Method::Qr,
        };
        Ok((reply, committed.nonce))
    }

    async fn deny(&self, request: pb::DenyTicketRequest) -> Answered<pb::DenyTicketReply> {
        let (proof, key) = convert::proof_in(request.proof)?;
        let asked = Asked { proof, key };
        asked.account()?;
        asked.session()?;
        let ticket = convert::ticket_id(&request.ticket, "ticket")?;
        let (_, committed) = self.submit_ticket(&ticket, asked.submission(Command::Deny { ticket })).await?;
        Ok((pb::DenyTicketReply { log_index: committed.log_index }, committed.nonce))
    }

    async fn cancel(&self, request: pb::CancelTicketRequest) -> Answered<pb::CancelTicketReply> {
        let (proof, key) = convert::proof_in(request.proof)?;
        let id = convert::ticket_id(&request.ticket, "ticket")?;
        if proof.account.is_some() || proof.session.is_some() {
            return Err(Failure::new(Reason::ProofInvalid));
        }
        let asked = Asked { proof, key };
        let (ticket, committed) = self.submit_ticket(&id, asked.submission(Command::Cancel { ticket: id })).await?;
        let outcome = match &ticket.state {
            TicketState::Cancelled => CancelOutcome::Cancelled(pb::Cancelled {}),
            TicketState::Approved { scan, .. } => self.cancel_approved(&id, scan, asked.proof.request).await?,
            TicketState::Linked { account, receipt, .. } => CancelOutcome::Linked(linked(account, receipt, None)),
            TicketState::Refused { reason, .. } => CancelOutcome::Refused(Failure::from(reason).refusal()),
            TicketState::Expired => CancelOutcome::Refused(Failure::new(Reason::TicketExpired).refusal()),
            TicketState::Denied => CancelOutcome::Refused(Failure::new(Reason::TicketDenied).refusal()),
            TicketState::Locked => CancelOutcome::Refused(Failure::new(Reason::TicketLocked).refusal()),
            TicketState::Open | TicketState::Scanned(_) => return Err(unexpected()),
        };
        Ok((pb::CancelTicketReply { outcome: Some(outcome) }, committed.nonce))
    }

    /// An approved ticket is decided where its link would be: whichever comes first there stands.
    async fn cancel_approved(&self, id: &TicketId, scan: &Scan, request: RequestId) -> Result<CancelOutcome, Failure> {
        let command =
            Command::DecideTicket { account: scan.account.clone(), ticket: *id, decision: Decision::Cancelled };
        let envelope = Envelope { request, policy_version: 0, proven: Proven::Cluster, command };
        let shard = self.account_shard(scan.home, &scan.account)?;
        match self.submit(shard, by_cluster(envelope)).await?.reply {
            Ok(Outcome::Decided(outcome)) => Ok(match decided(&outcome, None) {
                Ok(receipt) => CancelOutcome::Linked(linked(&scan.account, &receipt, None)),
                Err(failure) if failure.reason == Reason::TicketCancelled => CancelOutcome::Cancelled(pb::Cancelled {}),
                Err(failure) => CancelOutcome::Refused(failure.refusal()),
            }),
            Ok(_) => Err(unexpected()),
            Err(rejection) => Err(Failure::from(&rejection)),
        }
    }
}
