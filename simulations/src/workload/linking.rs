//! How a household links a companion: open, scan, sign, and then both sides until they are told.

use std::time::Duration;

use kindred_client::{Approve, Device, Member, Qr, request_id};
use kindred_core::id::{DeviceKey, SessionId, TicketId};
use kindred_core::model::{Receipt, Requester};
use kindred_witness::{Asked, Shown};
use tokio::sync::oneshot;

use super::household::{Household, about};
use super::people::{Actor, Route, Told};
use crate::faults::Fault;

/// One watch of a ticket; then the companion asks elsewhere.
const WATCH: Duration = Duration::from_secs(5);
/// A companion whose phone was refused, or never answered, waits this much longer.
const GRACE: Duration = Duration::from_secs(1);

/// How a link goes.
#[derive(Clone, Default)]
pub struct Way {
    /// The node through which the companion opens its ticket, and watches it.
    pub companion_at: usize,
    /// The node through which the phone asks first.
    pub phone_at: usize,
    /// The session that the approval names as replaced.
    pub replaces: Option<SessionId>,
    /// Who approves; the phone if nobody is named.
    pub by: Option<Member>,
    /// The approval's first attempt is given up after so long.
    pub hasty: Option<Duration>,
    /// Each watch of the ticket breaks after so long, and is resumed through another node.
    pub watch_breaks: Option<Duration>,
}

/// An approval that is ready to be sent, any number of times.
pub struct Signed {
    /// The ticket.
    pub shown: Shown,
    /// What is sent.
    pub asked: Asked,
    /// Who approves.
    pub by: Member,
}

impl Household {
    /// Links a companion; its receipt if anybody was told that it is linked.
    pub async fn link(&self, who: &Actor, way: &Way) -> Option<Receipt> {
        let shown = self.open(way.companion_at).await?;
        let signed = self.sign(who, shown, way).await?;
        self.finish(who, &signed, way).await
    }

    /// A new companion opens a ticket through this node, and shows its QR code.
    pub async fn open(&self, at: usize) -> Option<Shown> {
        self.open_as(self.people.device(), at).await
    }

    /// A companion with this key does.
    pub async fn open_as(&self, device: Device, at: usize) -> Option<Shown> {
        let (people, name) = (&self.people, self.next_companion());
        let requester = Requester { device: about("web", &name), location: "somewhere".into() };
        let (request, who) = (request_id(&people.env), Actor::new(&name));
        let told = people.insist(&who, Route::write(at), async |ask| ask.open(&device, &requester, request).await);
        let reply = told.await.ok()?;
        let (ticket, qr) = (TicketId::from_slice(&reply.ticket)?, Qr::parse(&reply.qr_payload)?);
        let shown = Shown { name, device, ticket, qr };
        self.keep_shown(&shown);
        Some(shown)
    }

    /// Whoever approves scans the code.
    pub async fn scan(&self, who: &Actor, shown: &Shown, (by, first): (&Member, usize)) -> Option<Member> {
        let (people, request) = (&self.people, request_id(&self.people.env));
        let told = people.insist(who, Route::write(first), async |ask| {
            ask.scan(by, (&shown.ticket, &shown.qr.reference), request).await
        });
        match told.await {
            Told::Ok((member, _)) => {
                self.know_epoch(member.auth_epoch);
                Some(member)
            }
            Told::Refused(refused) => {
                self.heed(&refused);
                None
            }
            Told::Nothing => None,
        }
    }

    /// Scans, and signs the approval. The ticket is left to itself if the scan came to nothing.
    pub async fn sign(&self, who: &Actor, shown: Shown, way: &Way) -> Option<Signed> {
        let by = way.by.as_ref().map_or_else(|| self.phone(), |by| self.present(by));
        let by = self.scan(who, &shown, (&by, way.phone_at)).await?;
        let asked = self.asked(&by, (shown.ticket, shown.qr.device_key), way);
        Some(Signed { shown, asked, by })
    }

    /// A signed approval of a link of this key.
    pub fn asked(&self, by: &Member, (ticket, device_key): (TicketId, DeviceKey), way: &Way) -> Asked {
        let (request, replaces) = (request_id(&self.people.env), way.replaces);
        let approve = Approve { ticket, device_key, replaces, envelope: b"opaque to the cluster".to_vec() };
        let message = self.people.client(way.phone_at).approval(by, &approve, request);
        Asked { account: self.account.clone(), ticket, device_key, request, replaces, message }
    }

    /// Sends the approval, and the companion's watch beside it, until both are told.
    pub async fn finish(&self, who: &Actor, signed: &Signed, way: &Way) -> Option<Receipt> {
        let (hopeless, gave_up) = oneshot::channel();
        let approving = async {
            let told = self.approve(who, signed, way).await;
            if told.is_none() {
                let _ = hopeless.send(());
            }
            told
        };
        let watching = async {
            tokio::select! {
                biased;
                told = self.await_linked(&signed.shown, way) => told,
                () = too_long(gave_up) => None,
            }
        };
        let (by_phone, by_companion) = tokio::join!(approving, watching);
        let receipt = by_phone.or(by_companion)?;
        self.linked(signed, &receipt);
        Some(receipt)
    }

    /// Sends the approval until it is answered.
    pub async fn approve(&self, who: &Actor, signed: &Signed, way: &Way) -> Option<Receipt> {
        self.keep_asked(&signed.asked);
        let route = Route::write(way.phone_at).hasty(way.hasty);
        if way.hasty.is_some() {
            self.people.stage.fired(Fault::ReplyLost);
        }
        match self.people.insist(who, route, async |ask| ask.approve(&signed.asked).await).await {
            Told::Ok(receipt) => Some(receipt),
            Told::Refused(refused) => {
                self.heed(&refused);
                None
            }
            Told::Nothing => None,
        }
    }

    /// The companion watches its ticket until it is told how it ended.
    pub async fn await_linked(&self, shown: &Shown, way: &Way) -> Option<Receipt> {
        let who = Actor::new(format!("{} waits", shown.name));
        let mut breaks = way.watch_breaks;
        let told = self.people.insist(&who, Route::read(way.companion_at), async |ask| {
            let within = breaks.take().unwrap_or(WATCH);
            ask.watch_linked((&shown.device, &shown.ticket), request_id(&self.people.env), within).await
        });
        told.await.ok().map(|(_, receipt)| receipt)
    }

    /// Both sides know the companion from now on, and whom it replaced.
    pub fn linked(&self, signed: &Signed, receipt: &Receipt) {
        if let Some(victim) = signed.asked.replaces {
            self.remove(&[victim]);
        }
        let device = signed.shown.device.clone();
        self.add(Member { device, session: receipt.session, ..signed.by.clone() });
    }

    /// The companion gives its ticket up, or the owner says no.
    pub async fn drop_ticket(&self, who: &Actor, at: usize, is_denied: bool) {
        let Some(shown) = self.open(at).await else { return };
        let (people, request) = (&self.people, request_id(&self.people.env));
        if is_denied {
            let Some(phone) = self.scan(who, &shown, (&self.phone(), at)).await else { return };
            people.insist(who, Route::write(at), async |ask| ask.deny(&phone, &shown.ticket, request).await).await.ok();
        } else {
            let companion = Actor::new(&shown.name);
            let cancel = people.insist(&companion, Route::write(at), async |ask| {
                ask.cancel(&shown.device, &shown.ticket, request).await
            });
            cancel.await.ok();
        }
    }
}

/// Completes a while after the approval came to nothing; never if it was answered.
async fn too_long(gave_up: oneshot::Receiver<()>) {
    match gave_up.await {
        Ok(()) => tokio::time::sleep(GRACE).await,
        Err(_) => std::future::pending().await,
    }
}
