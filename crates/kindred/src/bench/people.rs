//! Whole pairings, and phones that can act: what needs more than a prepared message.

use std::cell::Cell;

use anyhow::Context as _;
use futures::StreamExt as _;
use kindred_client::{Approve, Client, Device, Error, Member, Patience, Qr, request_id};
use kindred_core::id::AccountId;
use kindred_core::limits::COMPANION_LIMIT_DEFAULT;
use kindred_core::model::Requester;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event;
use kindred_wire::pb::pairing::v1::watch_ticket_request::Access;

use super::drive::{Answer, Pace, Span, drive};
use super::lab::{Lab, Measured, clients, progress};
use super::load::name_of;
use super::prepare::about;
use super::raw::ANSWER_WITHIN;
use crate::connect::failed;

/// Accounts that are made at the same time.
const AT_ONCE: usize = 32;

/// A phone, and where its account is at home.
pub(super) struct Owner {
    pub(super) home: usize,
    pub(super) phone: Member,
}

impl Lab<'_> {
    /// So many whole pairings: the companion opens a ticket in its phone's home region and watches it, the phone scans and
    /// approves. A pairing is over once the phone has its receipt and the companion was told LINKED. Signing is part of it.
    pub(super) async fn pairings(&self, count: usize, pace: &Pace) -> anyhow::Result<Measured> {
        let per_account = COMPANION_LIMIT_DEFAULT as usize;
        let count = match pace {
            Pace::Closed(in_flight) => count.max(8 * in_flight),
            Pace::Open(_) => count.max(100),
        };
        let owners = self.owners(count.div_ceil(per_account)).await?;
        // In a measurement a failure is a figure, so nothing is tried twice.
        let patience = Patience { attempts: 1, attempt: ANSWER_WITHIN, ..Patience::default() };
        let clients = clients(&self.net, &self.cluster.gateways(), patience)?;
        let bar = progress(count, "pairings");
        let at = Cell::new(0);
        let next = || {
            let number = at.replace(at.get() + 1);
            // One after the other, so that pairings of one account are far apart.
            (number < count).then(|| &owners[number % owners.len()])
        };
        let call = async |_: usize, owner: &Owner| {
            let paired = tokio::time::timeout(ANSWER_WITHIN, self.pair(&clients[owner.home], owner)).await;
            bar.inc(1);
            paired.unwrap_or_else(|_| Err("not told in time".to_owned()))
        };
        let measured = self.measure(drive(pace, Span::Calls(count as u64), next, call)).await?;
        bar.finish_and_clear();
        Ok(measured)
    }

    async fn pair(&self, client: &Client, owner: &Owner) -> Answer {
        let env = self.workshop.env;
        let companion = Device::new(&env.random(), self.workshop.cluster);
        let requester = Requester { device: about("web"), location: "bench".into() };
        let opened = client.open(&companion, &requester, request_id(env)).await.map_err(name)?;
        let qr = Qr::parse(&opened.qr_payload).ok_or("malformed QR code")?;
        let ticket = qr.ticket().ok_or("malformed QR code")?;
        let approved = async {
            let mut phone = owner.phone.clone();
            client.scan(&mut phone, &qr.reference, request_id(env)).await.map_err(name)?;
            let what = Approve { ticket, device_key: qr.device_key, replaces: None, envelope: Vec::new() };
            client.approve(&phone, &what, request_id(env)).await.map_err(name)
        };
        let told = async {
            let mut watch = client.watch_ticket(&ticket, Access::WatchSecret(opened.watch_secret));
            loop {
                match watch.next().await.map_err(name)?.and_then(|reply| reply.event) {
                    Some(Event::Linked(linked)) => return Ok(linked.session),
                    Some(Event::Refused(_)) | None => return Err("the companion was refused".to_owned()),
                    Some(_) => {}
                }
            }
        };
        let (receipt, session) = futures::try_join!(approved, told)?;
        if receipt.session.as_bytes() == session.as_ref() {
            Ok(None)
        } else {
            Err("phone and companion were told of different sessions".to_owned())
        }
    }

    /// Accounts with no companion, at home in the regions in turn.
    pub(super) async fn owners(&self, count: usize) -> anyhow::Result<Vec<Owner>> {
        let bar = progress(count, "accounts");
        let made = futures::stream::iter(0..count).map(async |number| {
            let owner = self.owner(number % self.workshop.homes).await;
            bar.inc(1);
            owner
        });
        let owners: Vec<_> = made.buffer_unordered(AT_ONCE).collect().await;
        bar.finish_and_clear();
        owners.into_iter().collect()
    }

    async fn owner(&self, home: usize) -> anyhow::Result<Owner> {
        let workshop = &self.workshop;
        let account = AccountId::new(&workshop.env.random::<16>()).context("account id")?;
        let device = Device::new(&workshop.env.random(), workshop.cluster);
        let (region, request) = (&workshop.regions[home], request_id(workshop.env));
        let registered = workshop.clients[home].register(&device, &account, &about("phone"), region, request).await;
        let (phone, _) = registered.map_err(|error| failed("register", &error))?;
        Ok(Owner { home, phone })
    }
}

/// What an error is counted as.
pub(super) fn name(error: Error) -> String {
    error.status().map_or_else(|| "malformed answer".to_owned(), name_of)
}
