//! How a household links a companion: open, scan, sign, and then both sides until they are told.

use std::time::Duration;

use kindred_client::{Approve, Device, Member, Qr, request_id};
use kindred_core::id::{SessionId, ShardId, TicketId};
use kindred_core::model::{Receipt, Requester};
use kindred_witness::{Asked, Shown};
use tokio::sync::oneshot;

use super::household::{Household, about, read};
use super::world::{Route, Told};

/// One watch of a ticket; then the companion asks elsewhere.
const WATCH: Duration = Duration::from_secs(5);
/// A companion whose phone was refused, or never answered, waits this much longer.
const GRACE: Duration = Duration::from_secs(1);

/// An approval that is ready to be sent, any number of times.
pub(super) struct Signed {
    shown: Shown,
    asked: Asked,
    phone: Member,
}

/// Through which node each side asks first.
#[derive(Clone, Copy)]
pub(super) struct Sides {
    pub(super) phone: usize,
    pub(super) companion: usize,
}

impl Household<'_> {
    /// Links a companion, in place of `replaces` if there is one. True if anybody was told that it is linked.
    pub(super) async fn link(&self, who: &str, opened_at: usize, sides: Sides, replaces: Option<SessionId>) -> bool {
        let Some(shown) = self.open(opened_at).await else { return false };
        match self.sign(who, shown, sides.phone, replaces).await {
            Some(signed) => self.finish(who, &signed, sides).await,
            None => false,
        }
    }

    /// A new companion opens a ticket in the region of this node, and reads the text of its QR code.
    pub(super) async fn open(&self, at: usize) -> Option<Shown> {
        let (world, name) = (self.world, self.next_companion());
        let device = Device::new(&world.env.random(), world.cluster);
        let requester = Requester { device: about("web", &name), location: "chaos".into() };
        let request = request_id(&world.env);
        let told =
            world.insist(read(at), async |client| world.ask(client, &name).open(&device, &requester, request).await);
        let reply = told.await.ok()?;
        let (ticket, qr) = (TicketId::from_slice(&reply.ticket)?, Qr::parse(&reply.qr_payload)?);
        Some(Shown { name, device, ticket, qr })
    }

    /// The phone scans the code.
    pub(super) async fn scan(&self, who: &str, shown: &Shown, first: usize) -> Option<Member> {
        let (world, request, phone) = (self.world, request_id(&self.world.env), self.phone());
        let told = world.insist(Route { first, shards: self.shards_with(&shown.ticket) }, async |client| {
            let what = (&shown.ticket, shown.qr.reference.as_slice());
            world.ask(client, who).scan(&phone, what, request).await
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

    /// Scans, and signs the approval. The ticket goes back, so to speak, if the scan came to nothing.
    pub(super) async fn sign(
        &self,
        who: &str,
        shown: Shown,
        first: usize,
        replaces: Option<SessionId>,
    ) -> Option<Signed> {
        let phone = self.scan(who, &shown, first).await?;
        let (request, device_key) = (request_id(&self.world.env), shown.qr.device_key);
        let envelope = b"opaque to the cluster".to_vec();
        let approve = Approve { ticket: shown.ticket, device_key, replaces, envelope };
        let message = self.world.client(first).approval(&phone, &approve, request);
        let (account, ticket) = (self.account.clone(), shown.ticket);
        let asked = Asked { account, ticket, device_key, request, replaces, message };
        Some(Signed { shown, asked, phone })
    }

    /// Sends the approval, and the companion's watch beside it, until both are told.
    pub(super) async fn finish(&self, who: &str, signed: &Signed, sides: Sides) -> bool {
        let (hopeless, gave_up) = oneshot::channel();
        let approving = async {
            let told = self.approve(who, signed, sides.phone).await;
            match &told {
                Told::Ok(receipt) => self.linked(signed, receipt),
                Told::Refused(refused) => self.heed(refused),
                Told::Nothing => {}
            }
            let is_told = matches!(told, Told::Ok(_));
            if !is_told {
                let _ = hopeless.send(());
            }
            is_told
        };
        let watching = async {
            tokio::select! {
                biased;
                told = self.await_linked(&signed.shown, sides.companion) => {
                    let receipt = told.ok();
                    if let Some(receipt) = &receipt {
                        self.linked(signed, receipt);
                    }
                    receipt.is_some()
                }
                () = too_long(gave_up) => false,
            }
        };
        let (by_phone, by_companion) = tokio::join!(approving, watching);
        by_phone || by_companion
    }

    async fn approve(&self, who: &str, signed: &Signed, first: usize) -> Told<Receipt> {
        let route = Route { first, shards: self.shards_with(&signed.shown.ticket) };
        self.world.insist(route, async |client| self.world.ask(client, who).approve(&signed.asked).await).await
    }

    async fn await_linked(&self, shown: &Shown, first: usize) -> Told<Receipt> {
        let told = self.world.insist(read(first), async |client| {
            let request = request_id(&self.world.env);
            self.world.ask(client, &shown.name).watch_linked((&shown.device, &shown.ticket), request, WATCH).await
        });
        match told.await {
            Told::Ok((_, receipt)) => Told::Ok(receipt),
            Told::Refused(refused) => Told::Refused(refused),
            Told::Nothing => Told::Nothing,
        }
    }

    fn linked(&self, signed: &Signed, receipt: &Receipt) {
        if let Some(victim) = signed.asked.replaces {
            self.remove(&[victim]);
        }
        let device = signed.shown.device.clone();
        self.add(Member { device, session: receipt.session, ..signed.phone.clone() });
    }

    /// The companion gives its ticket up, or the owner says no.
    pub(super) async fn drop_ticket(&self, who: &str, at: usize, is_denied: bool) {
        let Some(shown) = self.open(at).await else { return };
        let (world, request) = (self.world, request_id(&self.world.env));
        if is_denied {
            let Some(phone) = self.scan(who, &shown, at).await else { return };
            let told = world
                .insist(read(at), async |client| world.ask(client, who).deny(&phone, &shown.ticket, request).await);
            told.await.ok();
        } else {
            let told = world.insist(read(at), async |client| {
                world.ask(client, &shown.name).cancel(&shown.device, &shown.ticket, request).await
            });
            told.await.ok();
        }
    }

    fn shards_with(&self, ticket: &TicketId) -> Vec<ShardId> {
        let mut shards = self.shards();
        shards.extend(self.world.map.ticket(ticket));
        shards
    }
}

/// Completes a while after the approval came to nothing; never if it was answered.
async fn too_long(gave_up: oneshot::Receiver<()>) {
    match gave_up.await {
        Ok(()) => tokio::time::sleep(GRACE).await,
        Err(_) => std::future::pending().await,
    }
}
