//! Watches that resume: through another node, from where they were, without a gap or a repeat.

use kindred_core::id::{AccountId, RequestId, TicketId};
use kindred_wire::convert::raw;
use kindred_wire::nonce;
use kindred_wire::pb::pairing::v1::pairing_client::PairingClient;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event as TicketEvent;
use kindred_wire::pb::pairing::v1::watch_ticket_request::Access;
use kindred_wire::pb::session::v1::session_client::SessionClient;
use kindred_wire::pb::session::v1::watch_account_reply::Event as AccountEvent;
use kindred_wire::pb::{pairing::v1 as pairing, session::v1 as session};
use tonic::{Status, Streaming};

use crate::nonces::Topic;
use crate::{Client, Device, Error, RESIGNS_MAX, may_retry};

/// Follows one ticket to its end.
pub struct TicketWatch {
    client: Client,
    request: pairing::WatchTicketRequest,
    // Signs whenever the watch is opened, and again where another nonce is asked for.
    device: Option<(Device, RequestId)>,
    stale: u32,
    stream: Option<Streaming<pairing::WatchTicketReply>>,
    node: usize,
    last: Option<TicketEvent>,
    failures: u32,
}

/// Follows one account.
pub struct AccountWatch {
    client: Client,
    request: session::WatchAccountRequest,
    stream: Option<Streaming<session::WatchAccountReply>>,
    node: usize,
    failures: u32,
    requested: Option<bytes::Bytes>,
}

impl Client {
    /// Follows `ticket`. With a proof ([`crate::Device::sign_watch`]) LINKED brings the envelope; but a proof grows old, and
    /// then the watch cannot resume: see [`Self::watch_ticket_as`].
    pub fn watch_ticket(&self, ticket: &TicketId, access: Access) -> TicketWatch {
        let request = pairing::WatchTicketRequest { ticket: raw(ticket.as_bytes()), access: Some(access) };
        TicketWatch {
            client: self.clone(),
            request,
            device: None,
            stale: 0,
            stream: None,
            node: 0,
            last: None,
            failures: 0,
        }
    }

    /// Follows `ticket` as the device that it is for, which signs as often as it takes; LINKED brings the envelope.
    pub fn watch_ticket_as(&self, device: &Device, ticket: &TicketId, request: RequestId) -> TicketWatch {
        let watch = self.watch_ticket(ticket, Access::Proof(device.sign_watch(request, ticket)));
        TicketWatch { device: Some((device.clone(), request)), ..watch }
    }

    /// Follows `account` after `from_set_version`.
    pub fn watch_account(&self, account: &AccountId, from_set_version: u64, home_region: &str) -> AccountWatch {
        let (account, home_region) = (raw(account.as_bytes()), home_region.to_owned());
        let request = session::WatchAccountRequest { account, from_set_version, home_region, from_record_version: 0 };
        AccountWatch { client: self.clone(), request, stream: None, node: 0, failures: 0, requested: None }
    }

    /// Pauses before a watch resumes elsewhere; gives up where a call would.
    pub(crate) async fn resume(&self, node: usize, failures: &mut u32, status: Status) -> Result<(), Error> {
        *failures += 1;
        if !may_retry(&status) || *failures >= self.patience.attempts {
            return Err(status.into());
        }
        self.leave(node);
        tokio::time::sleep(self.pause(&status, *failures)).await;
        Ok(())
    }
}

impl TicketWatch {
    /// The next event; `None` after the terminal one. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<pairing::WatchTicketReply>, Error> {
        if matches!(self.last, Some(TicketEvent::Linked(_) | TicketEvent::Refused(_))) {
            return Ok(None);
        }
        loop {
            let step = match &mut self.stream {
                Some(stream) => stream.message().await,
                None => {
                    let (node, channel) = self.client.channel();
                    self.node = node;
                    self.sign();
                    match PairingClient::new(channel).watch_ticket(self.request.clone()).await {
                        Ok(reply) => {
                            self.stale = 0;
                            if let Some(nonce) = nonce::of_reply(reply.metadata()) {
                                self.keep(&nonce);
                            }
                            self.stream = Some(reply.into_inner());
                            continue;
                        }
                        Err(status) => Err(status),
                    }
                }
            };
            let status = match step {
                Ok(Some(reply)) => {
                    self.failures = 0;
                    // A resumed watch starts with the present state, which may have been told already.
                    if told(self.last.as_ref(), reply.event.as_ref()) {
                        continue;
                    }
                    self.last.clone_from(&reply.event);
                    return Ok(Some(reply));
                }
                Ok(None) => Status::unavailable("the watch ended early"),
                Err(status) => status,
            };
            self.stream = None;
            if let Some(nonce) = nonce::of_status(&status).filter(|_| self.stale < RESIGNS_MAX)
                && self.device.is_some()
            {
                self.stale += 1;
                self.keep(&nonce);
                continue;
            }
            self.client.resume(self.node, &mut self.failures, status).await?;
        }
    }

    fn sign(&mut self) {
        if let (Some((device, request)), Some(ticket)) = (&self.device, TicketId::from_slice(&self.request.ticket)) {
            self.request.access = Some(Access::Proof(device.sign_watch(*request, &ticket)));
        }
    }

    fn keep(&self, nonce: &[u8]) {
        if let (Some((device, _)), Some(ticket)) = (&self.device, TicketId::from_slice(&self.request.ticket)) {
            device.signing(Topic::Ticket(ticket)).keep(nonce);
        }
    }
}

fn told(last: Option<&TicketEvent>, now: Option<&TicketEvent>) -> bool {
    match (last, now) {
        (Some(TicketEvent::Offered(a)), Some(TicketEvent::Offered(b))) => {
            (&a.reference, &a.code) == (&b.reference, &b.code)
        }
        // Contested is told behind the state that it is about.
        (Some(TicketEvent::Contested(_)), Some(TicketEvent::Scanned(_))) => true,
        (last, now) => last == now,
    }
}

impl AccountWatch {
    /// The same watch, told of what changed no membership only after this record_version, and not of how it stands already.
    #[must_use]
    pub fn after_records(mut self, record_version: u64) -> Self {
        self.request.from_record_version = record_version;
        self
    }

    /// The next event; after the deletion of the account only errors come. Safe to cancel.
    pub async fn next(&mut self) -> Result<AccountEvent, Error> {
        loop {
            let step = match &mut self.stream {
                Some(stream) => stream.message().await,
                None => {
                    let (node, channel) = self.client.channel();
                    self.node = node;
                    match SessionClient::new(channel).watch_account(self.request.clone()).await {
                        Ok(reply) => {
                            self.stream = Some(reply.into_inner());
                            continue;
                        }
                        Err(status) => Err(status),
                    }
                }
            };
            let status = match step {
                Ok(Some(session::WatchAccountReply { event: Some(event) })) => {
                    self.failures = 0;
                    match &event {
                        AccountEvent::Snapshot(snapshot) => self.request.from_set_version = snapshot.set_version,
                        AccountEvent::Change(change) => self.request.from_set_version = change.version,
                        AccountEvent::Records(records) => self.request.from_record_version = records.record_version,
                        AccountEvent::Heartbeat(_) | AccountEvent::Deleted(_) => {}
                        // A resumed watch begins with the present request, which may have been told already.
                        AccountEvent::LinkRequested(now) if self.requested.as_ref() == Some(&now.ticket) => continue,
                        AccountEvent::LinkRequested(now) => self.requested = Some(now.ticket.clone()),
                        AccountEvent::LinkRequestOver(_) => self.requested = None,
                    }
                    return Ok(event);
                }
                Ok(Some(_)) => continue,
                Ok(None) => Status::unavailable("the watch ended early"),
                Err(status) => status,
            };
            self.stream = None;
            self.client.resume(self.node, &mut self.failures, status).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::{Approve, Member};
    use kindred_core::id::{ClusterId, DeviceKey, SessionId};
    use kindred_core::model::Requester;

    fn spawnable<T: Send>(value: T) -> T {
        value
    }

    #[tokio::test]
    async fn every_call_can_be_spawned_and_gives_up_when_nobody_listens() {
        let patience = crate::Patience { attempts: 2, ..crate::Patience::default() };
        let nobody = std::sync::Arc::new(kindred_wire::net::Tcp);
        let client = Client::connect(nobody, &["127.0.0.1:1".to_owned()]).unwrap().with_patience(patience);
        let device = Device::new(&[1; 32], ClusterId([2; 16]));
        let (request, ticket, session) = (RequestId([3; 16]), TicketId([4; 16]), SessionId([5; 16]));
        let account = AccountId::new(b"ann").unwrap();
        let mut member = Member {
            device: device.clone(),
            account: account.clone(),
            session,
            auth_epoch: 1,
            home_region: String::new(),
        };
        let what = Approve { ticket, device_key: DeviceKey([6; 32]), replaces: None, envelope: Vec::new() };
        assert!(spawnable(client.cluster()).await.is_err());
        assert!(spawnable(client.open(&device, &Requester::default(), request)).await.is_err());
        assert!(spawnable(client.scan(&mut member, &[0; 34], request)).await.is_err());
        assert!(spawnable(client.approve(&member, &what, request)).await.is_err());
        assert!(spawnable(client.deny(&member, &ticket, request)).await.is_err());
        assert!(spawnable(client.cancel(&device, &ticket, request)).await.is_err());
        assert!(spawnable(client.unlink(&member, &session, request)).await.is_err());
        assert!(spawnable(client.unlink_others(&mut member, request)).await.is_err());
        assert!(spawnable(client.sessions(&account, "")).await.is_err());
        let access = Access::WatchSecret(raw(&[0; 32]));
        assert!(spawnable(client.watch_ticket(&ticket, access).next()).await.is_err());
        let error = spawnable(client.watch_account(&account, 0, "").next()).await.unwrap_err();
        assert_eq!((error.reason(), error.status().unwrap().code()), (None, tonic::Code::Unavailable));
    }
}
