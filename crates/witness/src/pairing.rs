//! One attempt at each step of a pairing, in the history, and a ticket's watch followed to its end.

use std::time::Duration;

use kindred_check::{Answer, Operation};
use kindred_client::watch::TicketWatch;
use kindred_client::{Device, Error, Member, Qr};
use kindred_core::code::Code;
use kindred_core::id::{AccountId, DeviceKey, RequestId, SessionId, TicketId};
use kindred_core::model::{Receipt, Requester};
use kindred_wire::convert::{self, Invalid};
use kindred_wire::pb::pairing::v1 as pairing;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event;
use kindred_wire::reason::Reason;
use kindred_wire::status::Failure;
use tonic::Status;

use crate::{Ask, record};

/// A ticket that is open, and what its companion shows.
#[derive(Clone)]
pub struct Shown {
    /// Name of the companion in the history.
    pub name: String,
    /// Its key.
    pub device: Device,
    /// The ticket.
    pub ticket: TicketId,
    /// As read from its screen.
    pub qr: Qr,
}

/// An approval that is ready to be sent, any number of times.
#[derive(Clone)]
pub struct Asked {
    /// The approving account.
    pub account: AccountId,
    /// The ticket.
    pub ticket: TicketId,
    /// The companion's key.
    pub device_key: DeviceKey,
    /// Request id.
    pub request: RequestId,
    /// The session that the link is to replace.
    pub replaces: Option<SessionId>,
    /// The signed call.
    pub message: pairing::ApproveTicketRequest,
}

impl Ask<'_> {
    /// A companion opens a ticket.
    pub async fn open(
        self,
        device: &Device,
        requester: &Requester,
        request: RequestId,
    ) -> Result<pairing::OpenTicketReply, Error> {
        let op = Operation::Open { device_key: device.key().to_string() };
        self.attempt(op, self.client.open(device, requester, request), record::opened).await
    }

    /// A companion opens a ticket that is typed as a code on a phone of `of`.
    pub async fn open_code(
        self,
        device: &Device,
        (of, requester): (&AccountId, &Requester),
        request: RequestId,
    ) -> Result<pairing::OpenTicketReply, Error> {
        let op = Operation::OpenCode { device_key: device.key().to_string(), account: of.to_string() };
        self.attempt(op, self.client.open_code(device, requester, of, request), record::opened).await
    }

    /// A phone types a code; `wrong` if it is none that any companion was shown for this account.
    pub async fn scan_code(
        self,
        by: &Member,
        (code, wrong): (&Code, bool),
        request: RequestId,
    ) -> Result<(Member, pairing::ScanTicketReply), Error> {
        let op = Operation::ScanCode { account: by.account.to_string(), wrong };
        let mut member = by.clone();
        let call = async {
            let reply = self.client.scan_code(&mut member, code, request).await?;
            Ok((member, reply))
        };
        self.attempt(op, call, |(_, reply)| record::scanned(reply)).await
    }

    /// A phone scans; the member as it is after it, which may know a later auth_epoch.
    pub async fn scan(
        self,
        by: &Member,
        (ticket, reference): (&TicketId, &[u8]),
        request: RequestId,
    ) -> Result<(Member, pairing::ScanTicketReply), Error> {
        let op = Operation::Scan { account: by.account.to_string(), ticket: ticket.to_string() };
        let mut member = by.clone();
        let call = async {
            let reply = self.client.scan(&mut member, reference, request).await?;
            Ok((member, reply))
        };
        self.attempt(op, call, |(_, reply)| record::scanned(reply)).await
    }

    /// A phone sends its approval.
    pub async fn approve(self, asked: &Asked) -> Result<Receipt, Error> {
        let op = Operation::Approve {
            account: asked.account.to_string(),
            ticket: asked.ticket.to_string(),
            device_key: asked.device_key.to_string(),
            request: asked.request.to_string(),
            replaces: asked.replaces.map(|session| session.to_string()),
        };
        self.attempt(op, self.client.send_approval(asked.message.clone()), record::receipt).await
    }

    /// A companion's watch until it is told its session, or why there is none; `within` that time.
    pub async fn watch_linked(
        self,
        (device, ticket): (&Device, &TicketId),
        request: RequestId,
        within: Duration,
    ) -> Result<(AccountId, Receipt), Error> {
        let op = Operation::WatchLinked { ticket: ticket.to_string(), device_key: device.key().to_string() };
        let answer = |(account, receipt): &(AccountId, Receipt)| Answer {
            account: Some(account.to_string()),
            ..record::receipt(receipt)
        };
        let watch = self.client.watch_ticket_as(device, ticket, request);
        let followed = async {
            let told = tokio::time::timeout(within, told_end(watch)).await;
            told.unwrap_or_else(|_| Err(Error::from(Status::deadline_exceeded("nothing was told"))))
        };
        self.attempt(op, followed, answer).await
    }

    /// The owner says no.
    pub async fn deny(
        self,
        by: &Member,
        ticket: &TicketId,
        request: RequestId,
    ) -> Result<pairing::DenyTicketReply, Error> {
        let op = Operation::Deny { account: by.account.to_string(), ticket: ticket.to_string() };
        self.attempt(op, self.client.deny(by, ticket, request), |_| Answer::default()).await
    }

    /// The companion gives up. An answer may also be that it was linked before.
    pub async fn cancel(
        self,
        device: &Device,
        ticket: &TicketId,
        request: RequestId,
    ) -> Result<pairing::CancelTicketReply, Error> {
        let op = Operation::Cancel { ticket: ticket.to_string() };
        self.attempt(op, self.client.cancel(device, ticket, request), |_| Answer::default()).await
    }
}

/// One watch, followed to its end: the receipt, or the refusal that the ticket ended with.
pub async fn told_end(mut watch: TicketWatch) -> Result<(AccountId, Receipt), Error> {
    while let Some(pairing::WatchTicketReply { event, .. }) = watch.next().await? {
        match event {
            Some(Event::Linked(linked)) => {
                let account = convert::account_id(&linked.account, "account")?;
                return Ok((account, convert::receipt_in(linked.receipt)?));
            }
            Some(Event::Refused(refusal)) => {
                let reason = Reason::from_name(refusal.reason().as_str_name()).ok_or(Invalid("reason"))?;
                return Err(Error::from(Status::from(Failure::new(reason))));
            }
            _ => {}
        }
    }
    Err(Error::from(Status::unavailable("the watch ended early")))
}
