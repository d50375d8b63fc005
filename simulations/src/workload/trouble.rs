//! What goes wrong on the clients' side, as events of the plan: each is brought about by a household, written into the
//! history, and counted.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kindred_check::{Level, Note, Operation};
use kindred_client::Member;
use kindred_core::id::DeviceKey;
use kindred_wire::convert::raw;
use kindred_wire::pb::session::v1 as session;
use kindred_witness::record;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::household::Household;
use super::linking::Way;
use super::people::Route;
use super::plan::Trouble;
use crate::faults::Fault;

impl Household {
    /// Brings about an event of the plan.
    pub async fn bring_about(&self, (index, trouble): (usize, Trouble), chance: &mut StdRng) {
        let stage = &self.people.stage;
        stage.fired(trouble.fault);
        let (fault, detail) = (trouble.fault.word().to_owned(), Some(format!("#{index}, {}", trouble.amount)));
        stage.recorder.note(&self.name, Note::Fault { fault, node: None, peer: None, detail });
        let at = chance.random_range(0..self.people.node_count());
        match trouble.fault {
            Fault::Stampede => self.stampede(trouble.amount, chance).await,
            Fault::RetryStorm => self.retry_storm(trouble.amount, at).await,
            Fault::Replay => self.replay(trouble.amount, chance).await,
            Fault::WrongPhone => self.wrong_phone(at, chance).await,
            Fault::BrokenWatch => {
                let breaks = Some(Duration::from_millis(trouble.amount));
                let way = Way { companion_at: at, phone_at: at + 1, watch_breaks: breaks, ..Way::default() };
                self.link(&self.actor("phone w"), &way).await;
            }
            Fault::AbandonedTicket => self.abandon(at, chance).await,
            Fault::SwappedKey => self.swap_key(at).await,
            Fault::Malformed => self.send_malformed(at).await,
            Fault::HotAccount => self.heat_up(trouble),
            _ => {}
        }
    }

    async fn stampede(&self, pairings: u64, chance: &mut StdRng) {
        let nodes = self.people.node_count();
        let mut all: FuturesUnordered<_> = (0..pairings)
            .map(|number| {
                let (companion_at, phone_at) = (chance.random_range(0..nodes), chance.random_range(0..nodes));
                let begins = Duration::from_millis(chance.random_range(0..400));
                async move {
                    tokio::time::sleep(begins).await;
                    let who = self.actor(&format!("stampede {number}"));
                    self.link(&who, &Way { companion_at, phone_at, ..Way::default() }).await;
                }
            })
            .collect();
        while all.next().await.is_some() {}
    }

    /// The approval goes out so many times at once, each through its own frontend; then one of them is heard out.
    async fn retry_storm(&self, times: u64, at: usize) {
        let who = self.actor("phone r");
        let Some(shown) = self.open(at).await else { return };
        let way = Way { companion_at: at, phone_at: at, ..Way::default() };
        let Some(signed) = self.sign(&who, shown, &way).await else { return };
        let mut all: FuturesUnordered<_> = (0..times)
            .map(|number| {
                let (name, asked, node) =
                    (format!("{}/storm {number}", self.name), &signed.asked, at + number as usize);
                async move { self.people.ask(node, &name).approve(asked).await.is_ok() }
            })
            .collect();
        while all.next().await.is_some() {}
        self.finish(&who, &signed, &way).await;
    }

    async fn replay(&self, times: u64, chance: &mut StdRng) {
        let who = self.actor("replay");
        for _ in 0..times {
            let at = chance.random_range(0..self.people.node_count());
            let name = who.name();
            let ask = self.people.ask(at, &name);
            if let Some(asked) = self.old_asked().choose(chance) {
                let _ = ask.approve(asked).await;
            }
            if let Some((by, target, request)) = self.old_unlinked().choose(chance) {
                let _ = ask.unlink(&self.present(by), target, *request).await;
            }
            if let Some(shown) = self.old_shown().choose(chance) {
                let request = kindred_client::request_id(&self.people.env);
                let _ = ask.scan(&self.phone(), (&shown.ticket, &shown.qr.reference), request).await;
            }
        }
    }

    /// Another phone than the one that was meant scans, before or after it, and approves what it may not.
    async fn wrong_phone(&self, at: usize, chance: &mut StdRng) {
        let households = self.people.households();
        let others: Vec<_> = households.iter().filter(|other| other.name != self.name).collect();
        let (Some(other), Some(shown)) = (others.choose(chance), self.open(at).await) else { return };
        let (who, stranger) = (self.actor("phone x"), other.actor(&format!("phone strays to {}", self.name)));
        let way = Way { companion_at: at, phone_at: at, ..Way::default() };
        if chance.random_bool(0.5) {
            // The stranger is first: the ticket is its, and only its.
            let theirs = other.scan(&stranger, &shown, (&other.phone(), at)).await;
            self.scan(&who, &shown, (&self.phone(), at + 1)).await;
            let Some(by) = theirs else { return };
            let forged = self.asked(&self.phone(), (shown.ticket, shown.qr.device_key), &way);
            let _ = self.people.insist(&who, Route::write(at), async |ask| ask.approve(&forged).await).await;
            let asked = other.asked(&by, (shown.ticket, shown.qr.device_key), &way);
            let signed = super::linking::Signed { shown, asked, by };
            other.finish(&stranger, &signed, &way).await;
        } else {
            let Some(signed) = self.sign(&who, shown.clone(), &way).await else { return };
            other.scan(&stranger, &shown, (&other.phone(), at + 1)).await;
            let forged = other.asked(&other.phone(), (shown.ticket, shown.qr.device_key), &way);
            let _ = other.people.insist(&stranger, Route::write(at), async |ask| ask.approve(&forged).await).await;
            self.finish(&who, &signed, &way).await;
        }
    }

    /// Nobody comes back to this ticket before it is over.
    async fn abandon(&self, at: usize, chance: &mut StdRng) {
        if chance.random_bool(0.2) {
            if let Some(shown) = self.open_code(at).await {
                self.keep_abandoned(shown.name, shown.device, shown.ticket);
            }
            return;
        }
        let Some(shown) = self.open(at).await else { return };
        if chance.random_bool(0.5) {
            self.scan(&self.actor("phone y"), &shown, (&self.phone(), at)).await;
        }
        self.keep_abandoned(shown.name, shown.device, shown.ticket);
    }

    /// The phone was shown another key than the ticket's, by somebody in the middle.
    async fn swap_key(&self, at: usize) {
        let who = self.actor("phone z");
        let Some(shown) = self.open(at).await else { return };
        let Some(by) = self.scan(&who, &shown, (&self.phone(), at)).await else { return };
        let key: DeviceKey = self.people.device().key();
        let asked = self.asked(&by, (shown.ticket, key), &Way { phone_at: at, ..Way::default() });
        let told = self.people.insist(&who, Route::write(at), async |ask| ask.approve(&asked).await).await;
        if told.ok().is_some() {
            let text = format!("{}: a key was linked that is not the ticket's", self.name);
            self.people.stage.violates(super::stage::Violation::new("binding", text));
        }
    }

    /// Messages that no client of ours would send. Their outcome is as good as that of others: they must change nothing.
    async fn send_malformed(&self, at: usize) {
        let name = format!("{}/garbage", self.name);
        let ask = self.people.ask(at, &name);
        let short = session::ValidateRequest {
            account: raw(self.account.as_bytes()),
            session: raw(&[7; 3]),
            ..session::ValidateRequest::default()
        };
        let op = Operation::Validate {
            account: self.account.to_string(),
            session: "070707".into(),
            level: Level::Linearizable,
        };
        let _ = ask.attempt(op, ask.client.validate(short), record::validated).await;
        let phone = self.phone();
        let reference = vec![0xFF; 200];
        let request = kindred_client::request_id(&self.people.env);
        let nobody = kindred_core::id::TicketId([0xFF; 16]);
        let _ = ask.scan(&phone, (&nobody, &reference), request).await;
        let way = Way { phone_at: at, ..Way::default() };
        let mut asked = self.asked(&phone, (nobody, phone.device.key()), &way);
        asked.message.envelope = vec![1; 100 * 1024].into();
        let _ = ask.approve(&asked).await;
        let stranger = Member { device: self.people.device(), ..phone };
        let target = stranger.session;
        let _ = ask.unlink(&stranger, &target, kindred_client::request_id(&self.people.env)).await;
    }
}
