//! What goes on while nodes die: households that link, replace, unlink and ask, gateways that validate, and watches.
//! A household lives for a while and is followed by the next, so that accounts are made during the storm too.

use std::collections::BTreeMap;
use std::time::Duration;

use kindred_check::{Answer, Level, Member, Operation};
use kindred_core::id::hex;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::pb::session::v1::watch_account_reply::Event;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::household::{Household, validate};
use super::pairing::Sides;
use super::world::World;
use crate::demo::record;

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
            let _ = validate(world, world.client(node), &who, (&known.account, known.session), level).await;
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(QUESTION_MS))).await;
    }
}

/// Follows the account, and puts each set that follows from the changes into the history as one replica's view.
async fn watch(household: &Household<'_>) {
    let (world, who) = (household.world, format!("{}/watch", household.name));
    let mut set: BTreeMap<String, u64> = BTreeMap::new();
    let mut version = 0;
    loop {
        let mut watch = world.anybody().watch_account(&household.account, version, "");
        while let Ok(event) = watch.next().await {
            let ended = match event {
                Event::Snapshot(snapshot) => {
                    set = snapshot.sessions.iter().map(|s| (hex(&s.session), s.seq)).collect();
                    version = snapshot.set_version;
                    Vec::new()
                }
                Event::Change(change) => {
                    if change.version != version + 1 {
                        world.gap(format!("{who}: version {} was told after version {version}", change.version));
                    }
                    version = change.version;
                    fold(&mut set, &change);
                    change.ended
                }
                _ => continue,
            };
            let op = Operation::List { account: household.account.to_string(), level: Level::Local };
            let answer = Answer {
                sessions: Some(set.iter().map(|(id, seq)| Member { id: id.clone(), seq: Some(*seq) }).collect()),
                set_version: Some(version),
                tombstones: ended.iter().map(record::tombstone).collect(),
                ..Answer::default()
            };
            let pending = world.recorder.call(&who, op);
            world.recorder.ok(pending, answer);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn fold(set: &mut BTreeMap<String, u64>, change: &session::SetChange) {
    for session in change.ended.iter().filter_map(|tombstone| tombstone.session.as_ref()) {
        set.remove(&hex(&session.session));
    }
    set.extend(change.added.iter().map(|session| (hex(&session.session), session.seq)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_replaces_a_session_takes_one_out_and_puts_one_in() {
        let record = |id: u8, seq| session::SessionRecord { session: vec![id].into(), seq, ..Default::default() };
        let ended = session::Tombstone { session: Some(record(2, 2)), ..Default::default() };
        let change = session::SetChange { added: vec![record(3, 3)], ended: vec![ended], ..Default::default() };
        let mut set = BTreeMap::from([("01".to_owned(), 1), ("02".to_owned(), 2)]);
        fold(&mut set, &change);
        assert_eq!(set, BTreeMap::from([("01".to_owned(), 1), ("03".to_owned(), 3)]));
    }
}
