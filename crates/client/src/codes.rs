//! Pairing by a code that is typed: the companion opens for an account, the phone types, both compare a number.

use kindred_core::arguments;
use kindred_core::code::{Code, MatchNumber};
use kindred_core::id::{AccountId, RequestId, TicketId};
use kindred_core::model::{Receipt, Requester};
use kindred_wire::convert::{self, raw};
use kindred_wire::pb::pairing::v1 as pairing;
use kindred_wire::pb::pairing::v1::pairing_client::PairingClient;
use kindred_wire::reason::Reason;

use crate::calls::approving;
use crate::nonces::Topic;
use crate::{Approve, Client, Device, Error, Member};

impl Client {
    /// Opens a ticket of `device` that is found by its code, on a phone of `account`.
    pub async fn open_code(
        &self,
        device: &Device,
        requester: &Requester,
        account: &AccountId,
        request: RequestId,
    ) -> Result<pairing::OpenTicketReply, Error> {
        let hash = arguments::open_code(&device.key(), requester, account);
        let message = || pairing::OpenTicketRequest {
            proof: Some(device.sign_alone(&Topic::Opening, arguments::METHOD_OPEN, request, &hash)),
            device_key: raw(device.key().as_bytes()),
            requester: Some(convert::requester(requester)),
            method: pairing::Method::Code.into(),
            account: raw(account.as_bytes()),
        };
        let by = [device.signing(Topic::Opening)];
        let reply = self.signed(&by, message, async |c, r| PairingClient::new(c).open_ticket(r).await).await?;
        if let Some(ticket) = TicketId::from_slice(&reply.ticket) {
            device.about_ticket(&Topic::Opening, &ticket);
        }
        Ok(reply)
    }

    /// Types a code. Takes the current auth_epoch into `member`; if the one it had was old, signs again, once. A wrong code
    /// is CODE_MISMATCH with the tries that are left; the next try needs a new request id. A try with an old nonce is signed
    /// again too, and does not count.
    pub async fn scan_code(
        &self,
        member: &mut Member,
        code: &Code,
        request: RequestId,
    ) -> Result<pairing::ScanTicketReply, Error> {
        let topic = Topic::Typing(member.account.clone());
        let attempt = async |member: &Member| {
            let message = || pairing::ScanTicketRequest {
                proof: Some(member.sign_scan_code(request, code)),
                home_region: member.home_region.clone(),
                code: code.shown(),
                ..pairing::ScanTicketRequest::default()
            };
            let by = [member.device.signing(topic.clone())];
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
        if let Some(ticket) = TicketId::from_slice(&reply.ticket) {
            member.device.about_ticket(&topic, &ticket);
        }
        Ok(reply)
    }

    /// The signed call that approves a scanned ticket whose number the owner has compared on both screens.
    pub fn approval_with_number(
        &self,
        member: &Member,
        what: &Approve,
        number: MatchNumber,
        request: RequestId,
    ) -> pairing::ApproveTicketRequest {
        approving(member, what, Some(number), request)
    }

    /// Approves a scanned ticket whose number the owner has compared on both screens.
    pub async fn approve_with_number(
        &self,
        member: &Member,
        what: &Approve,
        number: MatchNumber,
        request: RequestId,
    ) -> Result<Receipt, Error> {
        let by = [member.device.signing(Topic::Ticket(what.ticket))];
        let message = || approving(member, what, Some(number), request);
        let reply = self.signed(&by, message, async |c, r| PairingClient::new(c).approve_ticket(r).await).await?;
        Ok(convert::receipt_in(reply.receipt)?)
    }
}
