//! What a household does beside linking: ending sessions, asking, new keys, a new phone, a lock.

use std::time::Duration;

use kindred_check::Level;
use kindred_client::{Member, request_id};
use kindred_core::id::SessionId;

use super::household::{Household, Pending, about};
use super::people::{Actor, Route, Told};

impl Household {
    /// Ends `target`, asked for by `by`. True if it is over for certain.
    pub async fn unlink(&self, who: &Actor, by: &Member, target: SessionId, route: Route) -> bool {
        let (by, request) = (self.present(by), request_id(&self.people.env));
        self.keep_unlinked(&by, target, request);
        match self.people.insist(who, route, async |ask| ask.unlink(&by, &target, request).await).await {
            Told::Ok(_) => {
                self.remove(&[target]);
                true
            }
            Told::Refused(refused) => {
                self.heed(&refused);
                false
            }
            // It may be over; whoever validates it will see.
            Told::Nothing => {
                self.remove(&[target]);
                false
            }
        }
    }

    /// Ends everybody but the phone.
    pub async fn unlink_others(&self, who: &Actor, route: Route) {
        let (phone, request) = (self.phone(), request_id(&self.people.env));
        match self.people.insist(who, route, async |ask| ask.unlink_others(&phone, request).await).await {
            Told::Ok(reply) => {
                let of =
                    |t: &kindred_wire::pb::session::v1::Tombstone| SessionId::from_slice(&t.session.as_ref()?.session);
                self.remove(&reply.tombstones.iter().filter_map(of).collect::<Vec<_>>());
                self.know_epoch(reply.auth_epoch);
            }
            Told::Refused(refused) => self.heed(&refused),
            Told::Nothing => {}
        }
    }

    /// The session set, linearizably. False if nobody could say.
    pub async fn list(&self, who: &Actor, first: usize) -> bool {
        let told = self.people.insist(who, Route::read(first), async |ask| ask.list(&self.account).await).await;
        match told {
            Told::Ok(reply) => {
                self.know_epoch(reply.auth_epoch);
                true
            }
            Told::Refused(_) => true,
            Told::Nothing => false,
        }
    }

    /// Asks why a session was signed out.
    pub async fn why(&self, who: &Actor, target: SessionId, first: usize) {
        self.people.insist(who, Route::read(first), async |ask| ask.why(&self.account, target).await).await.ok();
    }

    /// One question about a session, put to one node.
    pub async fn validate(&self, who: &Actor, target: SessionId, (level, node): (Level, usize)) {
        let name = who.name();
        let _ = self.people.ask(node, &name).validate((&self.account, target), level).await;
    }

    /// A companion takes another key. Where nobody says whether it has it, nobody signs for it any more.
    pub async fn rotate_companion(&self, who: &Actor, companion: &Member, route: Route) {
        let (by, device, request) = (self.present(companion), self.people.device(), request_id(&self.people.env));
        match self.people.insist(who, route, async |ask| ask.rotate_key(&by, &device, request).await).await {
            Told::Ok((member, _)) => self.rekey(&member),
            Told::Refused(refused) => self.heed(&refused),
            Told::Nothing => self.forget(&companion.session),
        }
    }

    /// The phone takes another key, or another phone takes its place; whoever begins it sees it through, or the next does.
    pub async fn change_phone(&self, who: &Actor, pending: Pending, route: Route) {
        self.set_pending(Some(pending));
        self.resolve(who, route).await;
    }

    /// Learns what became of a change of the phone itself, by asking for it again under its request id. True if there is none
    /// any more.
    pub async fn resolve(&self, who: &Actor, route: Route) -> bool {
        let Some(pending) = self.pending() else { return true };
        let phone = self.phone();
        let told = match &pending {
            Pending::Replace { device, keep, request } => {
                let about = about("phone", &self.name);
                let told = self.people.insist(who, route, async |ask| {
                    ask.replace_primary(&phone, device, (&about, *keep), *request).await
                });
                match told.await {
                    Told::Ok((member, reply)) => {
                        let of = |t: &kindred_wire::pb::session::v1::Tombstone| {
                            SessionId::from_slice(&t.session.as_ref()?.session)
                        };
                        self.remove(&reply.tombstones.iter().filter_map(of).collect::<Vec<_>>());
                        Told::Ok(member)
                    }
                    Told::Refused(refused) => Told::Refused(refused),
                    Told::Nothing => Told::Nothing,
                }
            }
            Pending::Rotate { device, request } => {
                match self.people.insist(who, route, async |ask| ask.rotate_key(&phone, device, *request).await).await {
                    Told::Ok((member, _)) => Told::Ok(member),
                    Told::Refused(refused) => Told::Refused(refused),
                    Told::Nothing => Told::Nothing,
                }
            }
        };
        // Somebody else of this household may have heard of it before, and gone on from there.
        let is_news = self.pending().is_some_and(|still| still.request() == pending.request());
        match told {
            Told::Ok(member) if is_news => self.take_phone(member),
            Told::Refused(refused) => {
                self.heed(&refused);
                if is_news {
                    self.set_pending(None);
                }
            }
            Told::Ok(_) => {}
            Told::Nothing => return false,
        }
        true
    }

    /// An operator locks the account, and unlocks it after a while.
    pub async fn lock_for(&self, who: &Actor, for_ms: u64, first: usize) {
        let request = request_id(&self.people.env);
        self.set_locked(true);
        let told = self.people.insist(who, Route::write(first), async |ask| ask.lock(&self.account, request).await);
        if let Told::Ok(reply) = told.await {
            self.know_epoch(reply.auth_epoch);
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
        }
        self.unlock(who, first).await;
    }

    /// An operator unlocks it. False if nobody says that it is.
    pub async fn unlock(&self, who: &Actor, first: usize) -> bool {
        let request = request_id(&self.people.env);
        let told = self.people.insist(who, Route::write(first), async |ask| ask.unlock(&self.account, request).await);
        match told.await {
            Told::Ok(reply) => {
                self.know_epoch(reply.auth_epoch);
                self.set_locked(false);
                true
            }
            Told::Refused(_) => {
                self.set_locked(false);
                true
            }
            Told::Nothing => false,
        }
    }
}
