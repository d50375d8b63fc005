//! An account, its phone and its companions, and each thing that they can ask for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kindred_client::{Error, Member, request_id};
use kindred_core::id::{AccountId, RegionIndex, SessionId, ShardId};
use kindred_core::model::Device as About;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::reason::Reason;

use super::world::{Route, Told, World};

/// Everybody of one account.
pub(super) struct Household<'w> {
    pub(super) world: &'w World,
    /// `boston.2.7`, which is the account's id too.
    pub(super) name: String,
    pub(super) account: AccountId,
    pub(super) home: usize,
    /// Its auth_epoch is looked up in `epoch` before it signs.
    phone: Member,
    epoch: AtomicU64,
    made: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    companions: Vec<Member>,
    ended: Vec<SessionId>,
}

impl<'w> Household<'w> {
    /// A phone makes an account at home in the region of this index; none if nobody answers.
    pub(super) async fn register(world: &'w World, name: &str, home: usize) -> Option<Self> {
        let device = kindred_client::Device::new(&world.env.random(), world.cluster);
        let account = AccountId::new(name.as_bytes())?;
        let region = world.map.regions.get(home)?.name.clone();
        let (request, about, who) = (request_id(&world.env), about("phone", name), format!("{name}/phone"));
        let route = Route { first: home, shards: account_shard(world, home, &account).into_iter().collect() };
        let told = world.insist(route, async |client| {
            world.ask(client, &who).register(&device, &account, (&about, &region), request).await
        });
        let (phone, _) = told.await.ok()?;
        world.learn(&account, phone.session);
        world.add_account(&account);
        let epoch = AtomicU64::new(phone.auth_epoch);
        let (made, inner) = (AtomicU64::new(0), Mutex::default());
        Some(Self { world, name: name.to_owned(), account, home, phone, epoch, made, inner })
    }

    /// The phone, ready to sign.
    pub(super) fn phone(&self) -> Member {
        self.present(&self.phone)
    }

    /// A companion or the phone, under the auth_epoch that is known now.
    fn present(&self, member: &Member) -> Member {
        Member { auth_epoch: self.epoch.load(Ordering::Relaxed), ..member.clone() }
    }

    /// The companions that are linked as far as anybody here knows, oldest first.
    pub(super) fn companions(&self) -> Vec<Member> {
        self.lock().companions.clone()
    }

    /// Sessions that were ended.
    pub(super) fn ended(&self) -> Vec<SessionId> {
        self.lock().ended.clone()
    }

    /// How many companions were shown a code so far.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// A name for the next companion.
    pub(super) fn next_companion(&self) -> String {
        format!("{}/web {}", self.name, self.made.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A companion was told, or its phone was, that it is linked.
    pub(super) fn add(&self, companion: Member) {
        self.world.learn(&self.account, companion.session);
        let mut inner = self.lock();
        let is_known = inner.companions.iter().any(|c| c.session == companion.session);
        if !is_known && !inner.ended.contains(&companion.session) {
            inner.companions.push(companion);
        }
    }

    /// These sessions are over, or may be.
    pub(super) fn remove(&self, sessions: &[SessionId]) {
        let mut inner = self.lock();
        inner.companions.retain(|companion| !sessions.contains(&companion.session));
        inner.ended.extend_from_slice(sessions);
    }

    /// The account is at a later epoch than was known.
    pub(super) fn know_epoch(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::Relaxed);
    }

    /// Takes what a refusal says of the account.
    pub(super) fn heed(&self, refused: &Error) {
        if refused.reason() == Some(Reason::EpochChanged)
            && let Some(epoch) = refused.number("auth_epoch")
        {
            self.know_epoch(epoch);
        }
    }

    /// The shard of the account.
    pub(super) fn shards(&self) -> Vec<ShardId> {
        account_shard(self.world, self.home, &self.account).into_iter().collect()
    }

    /// Ends `target`, asked for by `by`.
    pub(super) async fn unlink(&self, who: &str, by: &Member, target: SessionId, first: usize) {
        let (by, request) = (self.present(by), request_id(&self.world.env));
        let told = self
            .world
            .insist(self.route(first), async |client| self.world.ask(client, who).unlink(&by, &target, request).await);
        match told.await {
            Told::Ok(_) => self.remove(&[target]),
            Told::Refused(refused) => self.heed(&refused),
            // It may be over; whoever validates it will see.
            Told::Nothing => self.remove(&[target]),
        }
    }

    /// Ends everybody but the phone.
    pub(super) async fn unlink_others(&self, who: &str, first: usize) {
        let (phone, request) = (self.phone(), request_id(&self.world.env));
        let told = self
            .world
            .insist(self.route(first), async |client| self.world.ask(client, who).unlink_others(&phone, request).await);
        match told.await {
            Told::Ok(reply) => {
                let of = |t: &session::Tombstone| SessionId::from_slice(&t.session.as_ref()?.session);
                self.remove(&reply.tombstones.iter().filter_map(of).collect::<Vec<_>>());
                self.know_epoch(reply.auth_epoch);
            }
            Told::Refused(refused) => self.heed(&refused),
            Told::Nothing => {}
        }
    }

    /// The session set, linearizably.
    pub(super) async fn list(&self, who: &str, first: usize) {
        let told = self.world.insist(read(first), async |client| self.world.ask(client, who).list(&self.account).await);
        if let Some(reply) = told.await.ok() {
            self.know_epoch(reply.auth_epoch);
        }
    }

    /// Asks why a session was signed out.
    pub(super) async fn why(&self, who: &str, target: SessionId, first: usize) {
        self.world
            .insist(read(first), async |client| self.world.ask(client, who).why(&self.account, target).await)
            .await;
    }

    fn route(&self, first: usize) -> Route {
        Route { first, shards: self.shards() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read, which no shard decides.
pub(super) fn read(first: usize) -> Route {
    Route { first, shards: Vec::new() }
}

fn account_shard(world: &World, home: usize, account: &AccountId) -> Option<ShardId> {
    world.map.account(RegionIndex(u16::try_from(home).ok()?), account)
}

/// What a device says of itself.
pub(super) fn about(platform: &str, name: &str) -> About {
    About {
        platform: platform.to_owned(),
        app_version: env!("CARGO_PKG_VERSION").to_owned(),
        display_name: name.as_bytes().to_vec(),
    }
}
