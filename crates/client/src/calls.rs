//! Every call. Each takes its request id from the caller, who keeps it until the call is answered.

use kindred_core::arguments;
use kindred_core::canonical::sha256;
use kindred_core::code::MatchNumber;
use kindred_core::id::{AccountId, ClusterId, DeviceKey, RequestId, SessionId, Signature, TicketId};
use kindred_core::limits::QR_TICKET_TTL_MS;
use kindred_core::model::{Approval, ApprovalKind, Device as About, Receipt, Requester};
use kindred_wire::convert::{self, Invalid, raw};
use kindred_wire::pb::account::v1::account_client::AccountClient;
use kindred_wire::pb::pairing::v1::pairing_client::PairingClient;
use kindred_wire::pb::session::v1::session_client::SessionClient;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;
use kindred_wire::pb::{account::v1 as account, pairing::v1 as pairing, session::v1 as session};
use kindred_wire::reason::Reason;

use crate::device::ticket_of;
use crate::nonces::Topic;
use crate::{Client, Device, Error, Member};

/// What the owner says yes to.
#[derive(Clone, Debug)]
pub struct Approve {
    /// The ticket.
    pub ticket: TicketId,
    /// The companion's key as read from the QR code.
    pub device_key: DeviceKey,
    /// The session that the link replaces, if any.
    pub replaces: Option<SessionId>,
    /// Opaque bytes for the companion.
    pub envelope: Vec<u8>,
}

impl Client {
    /// What must be known before anything can be signed. A device asks once, then trusts only that cluster.
    pub async fn cluster(&self) -> Result<(ClusterId, account::GetClusterReply), Error> {
        let request = account::GetClusterRequest {};
        let reply = self.call(request, async |c, r| AccountClient::new(c).get_cluster(r).await).await?;
        let cluster = ClusterId::from_slice(&reply.cluster).ok_or(Invalid("cluster"))?;
        Ok((cluster, reply))
    }

    /// Registers `account` with `device` as its primary.
    pub async fn register(
        &self,
        device: &Device,
        id: &AccountId,
        about: &About,
        home_region: &str,
        request: RequestId,
    ) -> Result<(Member, account::RegisterReply), Error> {
        let message = || account::RegisterRequest {
            proof: Some(device.sign_register(request, id, about)),
            account: raw(id.as_bytes()),
            device_key: raw(device.key().as_bytes()),
            device: Some(convert::device(about)),
            home_region: home_region.to_owned(),
        };
        let by = [device.signing(Topic::Account(id.clone()))];
        let reply = self.signed(&by, message, async |c, r| AccountClient::new(c).register(r).await).await?;
        let member = Member {
            device: device.clone(),
            account: id.clone(),
            session: convert::session_id(&reply.session, "session")?,
            auth_epoch: reply.auth_epoch,
            home_region: reply.home_region.clone(),
        };
        Ok((member, reply))
    }

    /// The account, linearizably.
    pub async fn account(&self, id: &AccountId, home_region: &str) -> Result<account::GetAccountReply, Error> {
        let message = account::GetAccountRequest { account: raw(id.as_bytes()), home_region: home_region.to_owned() };
        self.call(message, async |c, r| AccountClient::new(c).get_account(r).await).await
    }

    /// Opens a ticket for `device`.
    pub async fn open(
        &self,
        device: &Device,
        requester: &Requester,
        request: RequestId,
    ) -> Result<pairing::OpenTicketReply, Error> {
        let message = || pairing::OpenTicketRequest {
            proof: Some(device.sign_open(request, requester)),
            device_key: raw(device.key().as_bytes()),
            requester: Some(convert::requester(requester)),
            ..pairing::OpenTicketRequest::default()
        };
        let by = [device.signing(Topic::Opening)];
        let reply = self.signed(&by, message, async |c, r| PairingClient::new(c).open_ticket(r).await).await?;
        if let Some(ticket) = TicketId::from_slice(&reply.ticket) {
            device.about_ticket(&Topic::Opening, &ticket);
        }
        Ok(reply)
    }

    /// Scans a ref. Takes the current auth_epoch into `member`; if the one it had was old, signs again, once.
    pub async fn scan(
        &self,
        member: &mut Member,
        reference: &[u8],
        request: RequestId,
    ) -> Result<pairing::ScanTicketReply, Error> {
        let attempt = async |member: &Member| {
            let message = || pairing::ScanTicketRequest {
                proof: Some(member.sign_scan(request, reference)),
                reference: raw(reference),
                home_region: member.home_region.clone(),
                code: String::new(),
            };
            let by = [member.device.signing(Topic::Ticket(ticket_of(reference)))];
            self.signed(&by, message, async |c, r| PairingClient::new(c).scan_ticket(r).await).await
        };
        let reply = match attempt(member).await {
            Err(error) if error.reason() == Some(Reason::EpochChanged) => {
                member.auth_epoch = error.number("auth_epoch").ok_or(error)?;
                attempt(member).await?
            }
            other => other?,
        };
        member.auth_epoch = reply.auth_epoch;
        Ok(reply)
    }

    /// The signed call that approves a scanned ticket: built once, it may be sent any number of times.
    pub fn approval(&self, member: &Member, what: &Approve, request: RequestId) -> pairing::ApproveTicketRequest {
        approving(member, what, None, request)
    }

    /// Sends a signed approval; the receipt is the same however often. It cannot be signed again here: where the nonce has
    /// grown old, NONCE_STALE is returned.
    pub async fn send_approval(&self, message: pairing::ApproveTicketRequest) -> Result<Receipt, Error> {
        let reply = self.call(message, async |c, r| PairingClient::new(c).approve_ticket(r).await).await?;
        Ok(convert::receipt_in(reply.receipt)?)
    }

    /// Approves a scanned ticket.
    pub async fn approve(&self, member: &Member, what: &Approve, request: RequestId) -> Result<Receipt, Error> {
        let by = [member.device.signing(Topic::Ticket(what.ticket))];
        let message = || self.approval(member, what, request);
        let reply = self.signed(&by, message, async |c, r| PairingClient::new(c).approve_ticket(r).await).await?;
        Ok(convert::receipt_in(reply.receipt)?)
    }

    /// Denies a scanned ticket.
    pub async fn deny(
        &self,
        member: &Member,
        ticket: &TicketId,
        request: RequestId,
    ) -> Result<pairing::DenyTicketReply, Error> {
        let message = || pairing::DenyTicketRequest {
            proof: Some(member.sign_deny(request, ticket)),
            ticket: raw(ticket.as_bytes()),
        };
        let by = [member.device.signing(Topic::Ticket(*ticket))];
        self.signed(&by, message, async |c, r| PairingClient::new(c).deny_ticket(r).await).await
    }

    /// Gives up a ticket of `device`.
    pub async fn cancel(
        &self,
        device: &Device,
        ticket: &TicketId,
        request: RequestId,
    ) -> Result<pairing::CancelTicketReply, Error> {
        let message = || pairing::CancelTicketRequest {
            proof: Some(device.sign_cancel(request, ticket)),
            ticket: raw(ticket.as_bytes()),
        };
        let by = [device.signing(Topic::Ticket(*ticket))];
        self.signed(&by, message, async |c, r| PairingClient::new(c).cancel_ticket(r).await).await
    }

    /// Asks about a session.
    pub async fn validate(&self, message: session::ValidateRequest) -> Result<session::ValidateReply, Error> {
        self.call(message, async |c, r| SessionClient::new(c).validate(r).await).await
    }

    /// Asks about up to 512 sessions at once. Verdicts come without the sessions' records.
    pub async fn validate_many(
        &self,
        message: session::ValidateStreamRequest,
    ) -> Result<session::ValidateStreamReply, Error> {
        let ask = async |channel, message| {
            let mut answers = SessionClient::new(channel).validate_stream(tokio_stream::iter([message])).await?;
            let answer = answers.get_mut().message().await?;
            answer.map(tonic::Response::new).ok_or_else(|| tonic::Status::unavailable("the stream ended"))
        };
        self.call(message, ask).await
    }

    /// All live sessions.
    pub async fn sessions(&self, id: &AccountId, home_region: &str) -> Result<session::ListSessionsReply, Error> {
        let message = session::ListSessionsRequest { account: raw(id.as_bytes()), home_region: home_region.to_owned() };
        self.call(message, async |c, r| SessionClient::new(c).list_sessions(r).await).await
    }

    /// Ends `target`.
    pub async fn unlink(
        &self,
        member: &Member,
        target: &SessionId,
        request: RequestId,
    ) -> Result<session::UnlinkReply, Error> {
        let hash = arguments::unlink(&member.account, target);
        let message = || session::UnlinkRequest {
            proof: Some(member.sign(arguments::METHOD_UNLINK, request, &hash)),
            session: raw(target.as_bytes()),
            home_region: member.home_region.clone(),
            ..session::UnlinkRequest::default()
        };
        self.signed(&[member.signing()], message, async |c, r| SessionClient::new(c).unlink(r).await).await
    }

    /// Ends all sessions but `member`'s, which takes the new auth_epoch.
    pub async fn unlink_others(
        &self,
        member: &mut Member,
        request: RequestId,
    ) -> Result<session::UnlinkOthersReply, Error> {
        let hash = arguments::unlink_others(&member.account, &member.session);
        let message = || session::UnlinkOthersRequest {
            proof: Some(member.sign(arguments::METHOD_UNLINK_OTHERS, request, &hash)),
            home_region: member.home_region.clone(),
            ..session::UnlinkOthersRequest::default()
        };
        let by = [member.signing()];
        let reply = self.signed(&by, message, async |c, r| SessionClient::new(c).unlink_others(r).await).await?;
        member.auth_epoch = reply.auth_epoch;
        Ok(reply)
    }

    /// How a session ended, or that it has not.
    pub async fn why(
        &self,
        id: &AccountId,
        which: Which,
        home_region: &str,
    ) -> Result<session::WhySignedOutReply, Error> {
        let (account, home_region) = (raw(id.as_bytes()), home_region.to_owned());
        let message = session::WhySignedOutRequest { account, which: Some(which), home_region };
        self.call(message, async |c, r| SessionClient::new(c).why_signed_out(r).await).await
    }
}

/// The signed call, with the number that the owner has compared if there is one.
pub(crate) fn approving(
    member: &Member,
    what: &Approve,
    number: Option<MatchNumber>,
    request: RequestId,
) -> pairing::ApproveTicketRequest {
    let approval = member.sign_approval(Approval {
        kind: what.replaces.map_or(ApprovalKind::Link, ApprovalKind::LinkReplacing),
        account: member.account.clone(),
        auth_epoch: member.auth_epoch,
        ticket: what.ticket,
        device_key_hash: sha256(&[what.device_key.as_bytes()]),
        approver: member.session,
        envelope_hash: sha256(&[&what.envelope]),
        lifetime_ms: QR_TICKET_TTL_MS,
        signature: Signature([0; 64]),
    });
    pairing::ApproveTicketRequest {
        proof: Some(member.sign_approve_with(request, &approval, number)),
        approval: Some(convert::approval(&approval)),
        envelope: what.envelope.clone().into(),
        number: number.map(|number| number.to_string()).unwrap_or_default(),
    }
}
