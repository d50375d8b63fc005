//! What is done before the measurement: accounts, and tickets that are opened, scanned and ready to be approved.

use std::cell::Cell;

use anyhow::Context as _;
use futures::StreamExt as _;
use indicatif::ProgressBar;
use kindred_client::{Approve, Client, Device, Member, Qr, request_id};
use kindred_core::env::Env;
use kindred_core::id::{AccountId, ClusterId, SessionId};
use kindred_core::model::{Device as About, Requester};
use kindred_wire::pb::pairing::v1::ApproveTicketRequest;

use crate::connect::failed;

/// Accounts that are prepared at the same time.
const AT_ONCE: usize = 32;

/// Where tickets are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// In the account's home region: approval and link meet in one shard.
    AtHome,
    /// In the other regions in turn: the saga spans two shards.
    Elsewhere,
}

/// A signed approval, ready to be sent.
pub(super) struct Ready {
    /// Index of the account's home region: phones are connected there.
    pub(super) home: usize,
    pub(super) account: AccountId,
    pub(super) message: ApproveTicketRequest,
}

/// A live session.
pub(super) struct Live {
    pub(super) home: usize,
    pub(super) account: AccountId,
    pub(super) session: SessionId,
}

/// Makes them.
pub(super) struct Workshop<'a> {
    pub(super) env: &'a Env,
    /// Clients of each node, by index of its region.
    pub(super) clients: Vec<Client>,
    pub(super) cluster: ClusterId,
    pub(super) regions: Vec<String>,
    /// Regions that are home to accounts, from the first on.
    pub(super) homes: usize,
    made: Cell<usize>,
}

impl<'a> Workshop<'a> {
    /// `clients`: one for each node, as patient as work needs that must succeed.
    pub(super) async fn new(env: &'a Env, clients: Vec<Client>, homes: usize) -> anyhow::Result<Self> {
        anyhow::ensure!(clients.len() > 1, "a benchmark needs two regions");
        let first = &clients[0];
        let (cluster, reply) = first.cluster().await.map_err(|error| failed("ask for the cluster", &error))?;
        let homes = homes.clamp(1, clients.len());
        Ok(Self { env, clients, cluster, regions: reply.regions, homes, made: Cell::new(0) })
    }

    /// `count` approvals, over as many accounts as `per_account` companions each ask for.
    pub(super) async fn prepare(
        &self,
        opened: Opened,
        count: usize,
        per_account: usize,
        bar: &ProgressBar,
    ) -> anyhow::Result<(Vec<Ready>, Vec<Live>)> {
        let sizes = (0..count).step_by(per_account).map(|start| per_account.min(count - start));
        let work = sizes.map(async |size| {
            let made = self.account(opened, size).await;
            bar.inc(size as u64);
            made
        });
        let mut work = futures::stream::iter(work).buffer_unordered(AT_ONCE);
        let (mut ready, mut live) = (Vec::new(), Vec::new());
        while let Some(made) = work.next().await {
            let (approvals, owner) = made?;
            ready.extend(approvals);
            live.push(owner);
        }
        Ok((ready, live))
    }

    /// One account, and tickets that its phone has scanned. Homes go round, and so do the regions of tickets.
    async fn account(&self, opened: Opened, companions: usize) -> anyhow::Result<(Vec<Ready>, Live)> {
        let number = self.made.replace(self.made.get() + 1);
        let home = number % self.homes;
        let account = AccountId::new(&self.env.random::<16>()).context("account id")?;
        let device = Device::new(&self.env.random(), self.cluster);
        let (about, region, request) = (about("phone"), &self.regions[home], request_id(self.env));
        let registered = self.clients[home].register(&device, &account, &about, region, request).await;
        let (member, _) = registered.map_err(|error| failed("register", &error))?;
        let mut ready = Vec::new();
        for companion in 0..companions {
            let opened_in = match opened {
                Opened::AtHome => home,
                Opened::Elsewhere => (home + 1 + (number + companion) % (self.clients.len() - 1)) % self.clients.len(),
            };
            let message = self.ticket(member.clone(), home, opened_in).await?;
            ready.push(Ready { home, account: account.clone(), message });
        }
        Ok((ready, Live { home, account, session: member.session }))
    }

    /// A ticket that `phone` has scanned, and its approval.
    pub(super) async fn ticket(
        &self,
        mut phone: Member,
        home: usize,
        opened_in: usize,
    ) -> anyhow::Result<ApproveTicketRequest> {
        let companion = Device::new(&self.env.random(), self.cluster);
        let requester = Requester { device: about("web"), location: "bench".into() };
        let opened = self.clients[opened_in].open(&companion, &requester, request_id(self.env)).await;
        let opened = opened.map_err(|error| failed("open a ticket", &error))?;
        let qr = Qr::parse(&opened.qr_payload).context("the QR code cannot be read")?;
        let client = &self.clients[home];
        let scanned = client.scan(&mut phone, &qr.reference, request_id(self.env)).await;
        scanned.map_err(|error| failed("scan", &error))?;
        let ticket = qr.ticket().context("the QR code names no ticket")?;
        let what = Approve { ticket, device_key: qr.device_key, replaces: None, envelope: Vec::new() };
        Ok(client.approval(&phone, &what, request_id(self.env)))
    }
}

pub(super) fn about(platform: &str) -> About {
    About { platform: platform.into(), app_version: env!("CARGO_PKG_VERSION").into(), display_name: b"bench".to_vec() }
}
