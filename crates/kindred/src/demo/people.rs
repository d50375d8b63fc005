//! Phones and companions of the demo, and what they ask for.

use anyhow::Context as _;
use kindred_check::Level;
use kindred_client::{Approve, Device, Error, Member, Qr, request_id};
use kindred_core::id::{AccountId, TicketId};
use kindred_core::model::{Device as About, Receipt, Requester};
use kindred_wire::pb::session::v1 as session;
use kindred_witness::Asked;

use super::lab::{ANSWER_WITHIN, Known, Lab};

/// The primary of an account.
#[derive(Clone)]
pub(super) struct Phone {
    /// `alice`.
    pub(super) account: String,
    pub(super) member: Member,
    /// Index of the account's home region, which is that of its node.
    pub(super) home: usize,
}

/// A device that is, or wants to be, linked.
pub(super) struct Companion {
    /// `alice's laptop`.
    pub(super) name: String,
    device: Device,
    about: About,
}

/// A ticket that is open and shown.
pub(super) struct Shown {
    pub(super) ticket: TicketId,
    pub(super) qr: Qr,
}

impl Lab {
    /// Makes an account at home in the region of this index.
    pub(super) async fn register(&self, account: &str, home: usize) -> anyhow::Result<Phone> {
        let device = Device::new(&self.env.random(), self.cluster);
        let id = AccountId::new(account.as_bytes()).context("account id")?;
        let request = request_id(&self.env);
        let about = about("phone", &format!("{account}'s phone"));
        let region = self.map.regions.get(home).context("home region")?.name.clone();
        let who = format!("{account}/phone");
        let what = format!("the registration of {account}");
        let (member, _) = self
            .until_answered(&what, &self.from(home), async |client| {
                self.ask(client, &who).register(&device, &id, (&about, &region), request).await
            })
            .await?;
        self.learn(self.known_of(&member, format!("{account}'s phone")));
        Ok(Phone { account: account.to_owned(), member, home })
    }

    /// A companion that belongs to nobody yet.
    pub(super) fn companion(&self, phone: &Phone, what: &str) -> Companion {
        let name = format!("{}'s {what}", phone.account);
        let device = Device::new(&self.env.random(), self.cluster);
        Companion { about: about("web", &name), device, name }
    }

    /// Opens a ticket in the region of the node `at` and reads the text of its QR code.
    pub(super) async fn open(&self, companion: &Companion, at: usize) -> anyhow::Result<Shown> {
        let request = request_id(&self.env);
        let requester = Requester { device: companion.about.clone(), location: "demo".into() };
        let what = format!("a ticket for {}", companion.name);
        let reply = self
            .until_answered(&what, &[at], async |client| {
                self.ask(client, &companion.name).open(&companion.device, &requester, request).await
            })
            .await?;
        let ticket = TicketId::from_slice(&reply.ticket).context("the reply to Open names no ticket")?;
        let qr = Qr::parse(&reply.qr_payload).context("the QR code cannot be read")?;
        Ok(Shown { ticket, qr })
    }

    /// Scans the code. A phone that does several things at once has a name in the history for each of them.
    pub(super) async fn scan(&self, phone: &Phone, shown: &Shown, who: &str) -> anyhow::Result<Member> {
        let request = request_id(&self.env);
        let what = format!("{}'s scan", phone.account);
        let (member, reply) = self
            .until_answered(&what, &self.from(phone.home), async |client| {
                let what = (&shown.ticket, shown.qr.reference.as_slice());
                self.ask(client, who).scan(&phone.member, what, request).await
            })
            .await?;
        anyhow::ensure!(
            reply.device_key.as_ref() == shown.qr.device_key.as_bytes(),
            "the cluster shows {} another device key than the QR code",
            phone.account
        );
        Ok(member)
    }

    /// The approval: signed once, and sent through these nodes in turn until it is answered.
    pub(super) async fn approve(
        &self,
        member: &Member,
        shown: &Shown,
        who: &str,
        nodes: &[usize],
    ) -> anyhow::Result<Receipt> {
        let request = request_id(&self.env);
        let approve = Approve {
            ticket: shown.ticket,
            device_key: shown.qr.device_key,
            replaces: None,
            envelope: b"opaque to the cluster".to_vec(),
        };
        let asked = Asked {
            account: member.account.clone(),
            ticket: shown.ticket,
            device_key: shown.qr.device_key,
            request,
            replaces: None,
            message: self.client(nodes[0]).approval(member, &approve, request),
        };
        let what = format!("{}'s approval to be answered", member.account);
        self.until_answered(&what, nodes, async |client| self.ask(client, who).approve(&asked).await).await
    }

    /// The companion's watch, through these nodes in turn, until it is told its session.
    pub(super) async fn await_linked(
        &self,
        companion: &Companion,
        shown: &Shown,
        nodes: &[usize],
    ) -> anyhow::Result<Receipt> {
        let what = format!("{} to be told its session", companion.name);
        let (account, receipt) = self
            .until_answered(&what, nodes, async |client| {
                let (who, what) = (self.ask(client, &companion.name), (&companion.device, &shown.ticket));
                who.watch_linked(what, request_id(&self.env), ANSWER_WITHIN).await
            })
            .await?;
        self.learn(Known { account, session: receipt.session, name: companion.name.clone(), is_unlinked: false });
        Ok(receipt)
    }

    /// The session set, linearizably.
    pub(super) async fn list(
        &self,
        account: &AccountId,
        who: &str,
        first: usize,
    ) -> anyhow::Result<session::ListSessionsReply> {
        let what = format!("the list of {account}'s sessions");
        self.until_answered(&what, &self.from(first), async |client| self.ask(client, who).list(account).await).await
    }

    /// One question about one session, put to one node.
    pub(super) async fn validate(
        &self,
        known: &Known,
        who: &str,
        node: usize,
        level: Level,
    ) -> Result<session::ValidateReply, Error> {
        self.ask(self.client(node), who).validate((&known.account, known.session), level).await
    }

    /// Ends a session, by name.
    pub(super) async fn unlink(&self, phone: &Phone, known: &Known) -> anyhow::Result<session::UnlinkReply> {
        let request = request_id(&self.env);
        let who = format!("{}/phone", phone.account);
        let what = format!("the unlink of {}", known.name);
        let reply = self
            .until_answered(&what, &self.from(phone.home), async |client| {
                self.ask(client, &who).unlink(&phone.member, &known.session, request).await
            })
            .await?;
        self.unlinked(&known.session);
        Ok(reply)
    }

    /// Asks why a session was signed out.
    pub(super) async fn why(&self, known: &Known, first: usize) -> anyhow::Result<session::WhySignedOutReply> {
        let what = format!("why {} was signed out", known.name);
        self.until_answered(&what, &self.from(first), async |client| {
            self.ask(client, &known.name).why(&known.account, known.session).await
        })
        .await
    }

    fn known_of(&self, member: &Member, name: String) -> Known {
        Known { account: member.account.clone(), session: member.session, name, is_unlinked: false }
    }
}

fn about(platform: &str, name: &str) -> About {
    About {
        platform: platform.to_owned(),
        app_version: env!("CARGO_PKG_VERSION").to_owned(),
        display_name: name.as_bytes().to_vec(),
    }
}
