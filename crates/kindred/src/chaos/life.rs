//! What goes on while nodes die: households that link, replace, unlink and ask, gateways that validate, and watches.
//! A household lives for a while and is followed by the next, so that accounts are made during the storm too.

use std::time::Duration;

use kindred_check::Level;
use kindred_witness::Watcher;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::household::Household;
use super::pairing::Sides;
use super::world::World;

/// A household makes way for the next after so many companions.
const COMPANIONS_OF_A_HOUSEHOLD: u64 = 30;
/// As many as an account may have, unless its limit is changed.
const COMPANIONS_AT_ONCE: usize = 4;
/// Between two things that a phone does, ms.
const BREATH_MS: std::ops::Range<u64> = 100..450;
/// Between two questions of a gateway, ms.
const QUESTION_MS: std::ops::Range<u64> = 40..120;
/// Gateways ask mostly about the latest sessions, among whom something happens.
const LATEST: usize = 80;

/// Everybody, until the storm is over. `accounts` households at a time.
pub(super) async fn run(world: &World, accounts: usize, seed: u64) {
    let households = futures::future::join_all((0..accounts).map(|slot| line(world, slot, seed)));
    let gateways = futures::future::join_all((0..world.node_count()).map(|node| gateway(world, node, seed)));
    tokio::join!(households, gateways);
}

/// One household after the other.
async fn line(world: &World, slot: usize, seed: u64) {
    let home = slot % world.node_count();
    let mut chance = StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(slot as u64));
    for generation in 1_u64.. {
        if world.is_over() {
            return;
        }
        let name = format!("{}.{}.{generation}", world.map.regions[home].name, slot / world.node_count() + 1);
        let Some(household) = Household::register(world, &name, home).await else { continue };
        let (one, other) = (StdRng::from_rng(&mut chance), StdRng::from_rng(&mut chance));
        // Two things at once: a person with the phone in the hand, and the same phone's background work.
        let phones = async { tokio::join!(phone(&household, "phone", one), phone(&household, "phone b", other)) };
        tokio::select! {
            biased;
            _ = phones => {}
            () = watch(&household) => {}
        }
    }
}

async fn phone(household: &Household<'_>, part: &str, mut chance: StdRng) {
    let who = format!("{}/{part}", household.name);
    while !household.world.is_over() && household.made() < COMPANIONS_OF_A_HOUSEHOLD {
        act(household, &who, &mut chance).await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(BREATH_MS))).await;
    }
}

/// One thing, by chance.
async fn act(household: &Household<'_>, who: &str, chance: &mut StdRng) {
    let nodes = household.world.node_count();
    let (first, at) = (chance.random_range(0..nodes), chance.random_range(0..nodes));
    let opened_at = if chance.random_bool(0.5) { household.home } else { at };
    let sides = Sides { phone: first, companion: opened_at };
    let companions = household.companions();
    let is_full = companions.len() >= COMPANIONS_AT_ONCE;
    let (Some(one), Some(other)) = (companions.choose(chance), companions.choose(chance)) else {
        household.link(who, opened_at, sides, None).await;
        return;
    };
    match chance.random_range(0..100) {
        0..40 if !is_full => drop(household.link(who, opened_at, sides, None).await),
        0..40 => household.unlink(who, &household.phone(), one.session, first).await,
        40..55 => drop(household.link(who, opened_at, sides, Some(one.session)).await),
        55..70 => household.unlink(who, &household.phone(), one.session, first).await,
        // The companion ends itself.
        70..78 => household.unlink(who, one, one.session, first).await,
        // A companion that is young asks for another's end, and is refused.
        78..81 => household.unlink(who, one, other.session, first).await,
        81..84 => household.unlink_others(who, first).await,
        84..87 => household.drop_ticket(who, at, chance.random_bool(0.5)).await,
        87..94 => match household.ended().choose(chance) {
            Some(ended) => household.why(who, *ended, first).await,
            None => household.list(who, first).await,
        },
        _ => household.list(who, first).await,
    }
}

/// Asks one node about sessions; an answer that does not come is dropped.
async fn gateway(world: &World, node: usize, seed: u64) {
    let mut chance = StdRng::seed_from_u64(!seed.wrapping_mul(1_000).wrapping_add(node as u64));
    let who = format!("gateway {}", node + 1);
    while !world.is_over() {
        let back = match chance.random_bool(0.8) {
            true => chance.random_range(0..LATEST),
            false => chance.random_range(0..world.known_count().max(1)),
        };
        if world.is_up(node)
            && let Some(known) = world.known_before_last(back)
        {
            let level = if chance.random_bool(0.35) { Level::Local } else { Level::Linearizable };
            let _ = world.ask(world.client(node), &who).validate((&known.account, known.session), level).await;
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(QUESTION_MS))).await;
    }
}

/// Follows the account, and puts what it is told into the history.
async fn watch(household: &Household<'_>) {
    let (world, who) = (household.world, format!("{}/watch", household.name));
    let mut version = 0;
    loop {
        let mut watch = Watcher::new(&world.recorder, &who, &household.account, (world.anybody(), version));
        while let Ok(gap) = watch.next().await {
            if let Some(gap) = gap {
                world.gap(gap);
            }
        }
        version = watch.version();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
