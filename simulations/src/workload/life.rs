//! What goes on in a run: households that do one thing after the other, gateways that validate, and watches.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use kindred_check::Level;
use kindred_client::request_id;
use kindred_core::limits::COMPANION_LIMIT_DEFAULT;
use kindred_witness::Watcher;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::design::Design;
use super::household::{Household, Pending};
use super::linking::Way;
use super::mix::Act;
use super::people::{Actor, People, Route};
use super::stage::{Phase, Stage};
use super::story;

/// Gateways ask mostly about the latest sessions, among whom something happens.
const LATEST: usize = 40;

/// Everybody, until the storm is over.
pub async fn run(people: &Arc<People>, design: &Rc<Design>) {
    let households = people.households();
    let mut all: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
    for (index, household) in households.iter().enumerate() {
        let mut chance = design.chance(1_000 + index as u64);
        let parts = if chance.random_bool(0.6) { 2 } else { 1 };
        for part in 0..parts {
            all.push(Box::pin(phone(household, design, part, StdRng::from_rng(&mut chance))));
        }
        all.push(Box::pin(errands(household, StdRng::from_rng(&mut chance))));
        if chance.random_bool(0.7) {
            all.push(Box::pin(until_healed(&people.stage, watch(household, StdRng::from_rng(&mut chance)))));
        }
    }
    for node in 0..people.node_count() {
        all.push(Box::pin(gateway(people, node, design)));
    }
    all.push(Box::pin(story::tell(people, design)));
    while all.next().await.is_some() {}
}

/// What the phone does, or the same phone in the background: one thing after the other.
async fn phone(household: &Household, design: &Design, part: u32, mut chance: StdRng) {
    let who = household.actor(&format!("phone {part}"));
    while household.people.stage.phase() == Phase::Storm {
        let breath = chance.random_range(design.breath_ms.clone());
        // Whether it is a hot account is asked again each time; it is for a while only.
        let factor = household.heat().max(1);
        tokio::time::sleep(Duration::from_millis(breath / factor)).await;
        let first = chance.random_range(0..household.people.node_count());
        if household.resolve(&who, Route::write(first)).await
            && let Some(act) = design.mix.choose(&mut chance)
        {
            household.act(act, &who, design, &mut chance).await;
        }
    }
}

/// What the plan asks this household for.
async fn errands(household: &Household, mut chance: StdRng) {
    let stage = &household.people.stage;
    while stage.phase() == Phase::Storm {
        match stage.take_errand(household.index) {
            Some(errand) => household.bring_about(errand, &mut chance).await,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

impl Household {
    /// One act.
    async fn act(&self, act: Act, who: &Actor, design: &Design, chance: &mut StdRng) {
        let nodes = self.people.node_count();
        let (first, at) = (chance.random_range(0..nodes), chance.random_range(0..nodes));
        let hasty = chance.random_bool(design.haste).then(|| Duration::from_millis(chance.random_range(1..80)));
        let companion_at = if chance.random_bool(0.5) { self.home } else { at };
        let way = Way { companion_at, phone_at: first, hasty, ..Way::default() };
        let route = Route::write(first).hasty(hasty);
        let companions = self.companions();
        let (one, other) = (companions.choose(chance), companions.choose(chance));
        match (act, one, other) {
            (Act::List, ..) => {
                self.list(who, first).await;
            }
            (Act::Deny | Act::Cancel, ..) => self.drop_ticket(who, at, act == Act::Deny).await,
            (Act::CancelLate, ..) => {
                let after = Duration::from_millis(chance.random_range(0..120));
                self.cancel_late(who, &Way { companion_at: at, ..way }, after).await;
            }
            (Act::ApproveLate, ..) => self.approve_late(who, &Way { companion_at: at, ..way }).await,
            (Act::LinkAgain, ..) => match self.old_shown().choose(chance) {
                Some(before) => self.link_again(who, before, &way).await,
                None => drop(self.link(who, &way).await),
            },
            (Act::Lock, ..) => self.lock_for(who, chance.random_range(200..4_000), first).await,
            (Act::ReplacePrimary, ..) => {
                let (device, keep) = (self.people.device(), chance.random_bool(0.7));
                let request = request_id(&self.people.env);
                self.change_phone(who, Pending::Replace { device, keep, request }, route).await;
            }
            (Act::UnlinkOthers, ..) => self.unlink_others(who, route).await,
            (Act::LinkByCode, ..) => {
                let wrong = if chance.random_bool(0.2) { 5 } else { chance.random_range(0..3) };
                drop(self.link_by_code(who, wrong, &way).await);
            }
            (Act::Link | Act::LinkByCompanion, _, Some(_)) if companions.len() >= self.room(chance) => {
                {
                    self.unlink(who, &self.phone(), companions[0].session, route).await;
                };
            }
            (Act::LinkByCompanion, Some(one), _) => {
                drop(self.link(who, &Way { by: Some(one.clone()), ..way }).await);
            }
            (Act::LinkReplacing, Some(one), _) => {
                drop(self.link(who, &Way { replaces: Some(one.session), ..way }).await);
            }
            (Act::Unlink, Some(one), _) => {
                self.unlink(who, &self.phone(), one.session, route).await;
            }
            (Act::UnlinkSelf, Some(one), _) => {
                self.unlink(who, one, one.session, route).await;
            }
            (Act::UnlinkSibling, Some(one), Some(other)) => {
                self.unlink(who, one, other.session, route).await;
            }
            (Act::RotateKey, Some(one), _) if chance.random_bool(0.7) => self.rotate_companion(who, one, route).await,
            (Act::RotateKey, ..) => {
                let (device, request) = (self.people.device(), request_id(&self.people.env));
                self.change_phone(who, Pending::Rotate { device, request }, route).await;
            }
            (Act::Validate, Some(one), _) => self.validate(who, one.session, (Level::Linearizable, first)).await,
            (Act::ValidateLocal, Some(one), _) => self.validate(who, one.session, (Level::Local, first)).await,
            (Act::Why, ..) => match self.ended().choose(chance) {
                Some(ended) => self.why(who, *ended, first).await,
                None => {
                    self.list(who, first).await;
                }
            },
            _ => drop(self.link(who, &way).await),
        }
    }

    /// At so many companions the next link makes way for itself; now and then one too many is asked for.
    fn room(&self, chance: &mut StdRng) -> usize {
        COMPANION_LIMIT_DEFAULT as usize + usize::from(chance.random_bool(0.15))
    }
}

/// Asks one node about sessions; an answer that does not come is dropped.
async fn gateway(people: &People, node: usize, design: &Design) {
    let mut chance = design.chance(500 + node as u64);
    let who = Actor::new(format!("gateway {node}"));
    while people.stage.phase() == Phase::Storm {
        let back = chance.random_range(0..LATEST);
        if let Some(known) = people.known_before_last(back) {
            let level = if chance.random_bool(0.35) { Level::Local } else { Level::Linearizable };
            let name = who.name();
            let _ = people.ask(node, &name).validate((&known.account, known.session), level).await;
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(design.question_ms.clone()))).await;
    }
}

/// Follows the account, and puts what it is told into the history. The watch breaks now and then and is resumed.
async fn watch(household: &Household, mut chance: StdRng) {
    let (people, who) = (&household.people, format!("{}/watch", household.name));
    let mut version = 0;
    loop {
        let client = if chance.random_bool(0.5) { people.anybody() } else { people.client(chance.random_range(0..64)) };
        let lasts = Duration::from_millis(chance.random_range(500..20_000));
        let mut watch = Watcher::new(&people.stage.recorder, &who, &household.account, (client, version));
        let followed = async { while watch.next().await.is_ok() {} };
        let _ = tokio::time::timeout(lasts, followed).await;
        version = watch.version();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until_healed(stage: &Stage, part: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = part => {}
        () = stage.wait(Phase::Heal) => {}
    }
}
