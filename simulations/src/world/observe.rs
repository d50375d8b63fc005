//! What can be seen of a world from outside: who leads, what was installed, and every entry as it is applied.
//!
//! Nothing here asks production code for anything that it does not do anyway: a tap sits behind each disk and reads the
//! batches that go by. The batch that moves a shard's applied index holds all that the entry changed, so an account is
//! looked at there and then, in the state that the entry left, with the entry's own commands beside it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kindred_core::id::{AccountId, ShardId};
use kindred_core::state::Key;
use kindred_replica::codec::Compact as _;
use kindred_replica::log_store::read_meta;
use kindred_replica::state::stood_at;
use kindred_replica::types::LogEntry;
use kindred_store::codec::{self, Kind};
use kindred_store::engine::{Column, Engine, Read, Write};
use kindred_store::keys::{self, MetaKey};
use kindred_store::simulated::Observer;
use openraft::EntryPayload;
use openraft::async_runtime::WatchReceiver as _;

use crate::world::applied::{Applied, Named, applied};
use crate::world::clock;
use crate::world::event::{Event, What};
use crate::world::seat::{Killer, Seat};
use crate::world::{Figures, World};

/// The generation of a state that never was a snapshot.
const FIRST_GENERATION: u32 = 1;
/// How often leaders are looked for, µs.
const LOOK_EVERY_US: u64 = 50_000;
/// Entries of a shard that are remembered until somebody applies them, by index behind the newest.
const ENTRIES_KEPT: u64 = 4_096;
/// Versions of an account's set that are remembered, for commands that name one.
const VERSIONS_KEPT: usize = 16;

/// All taps of a world, and what was seen of leaders.
pub(super) struct Watch {
    pub(super) events: Vec<Event>,
    seen: Arc<Mutex<Seen>>,
    leaders: BTreeMap<u32, (u64, usize)>,
    leader_changes: u64,
    looked_at_us: u64,
}

#[derive(Default)]
pub(super) struct Seen {
    /// Whether anybody asks for entries; else they are only counted.
    tells: bool,
    /// Entries by shard and index, each with its term: an index may have had several before one was committed.
    entries: BTreeMap<(u32, u64), Vec<(u64, Bytes)>>,
    versions: BTreeMap<(u32, AccountId), VecDeque<(u64, Named)>>,
    generations: BTreeMap<(usize, u32), u32>,
    applied: Vec<Applied>,
    installed: Vec<Event>,
    figures: Figures,
}

impl Watch {
    pub(super) fn new(seats: &[Arc<Seat>]) -> Self {
        let watch = Self {
            events: Vec::new(),
            seen: Arc::default(),
            leaders: BTreeMap::new(),
            leader_changes: 0,
            looked_at_us: 0,
        };
        seats.iter().for_each(|seat| watch.attach(seat));
        watch
    }

    /// Taps the disk that the seat has now.
    pub(super) fn attach(&self, seat: &Seat) {
        lock(&self.seen).generations.retain(|(node, _), _| *node != seat.node);
        let tap =
            Tap { node: seat.node, name: seat.name.clone(), killer: seat.killer.clone(), seen: self.seen.clone() };
        seat.disk().observe(Arc::new(tap));
    }

    pub(super) fn figures(&self) -> Figures {
        Figures { leader_changes: self.leader_changes, ..lock(&self.seen).figures }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// From here on every entry that a replica applies is told to whoever calls [`Self::applied`].
    pub fn tap(&mut self) {
        lock(&self.watch.seen).tells = true;
    }

    /// What was applied since this was last asked: one item for each account that an entry touched, on each replica.
    pub fn applied(&mut self) -> Vec<Applied> {
        std::mem::take(&mut lock(&self.watch.seen).applied)
    }

    /// After each step: news from the taps, and now and then who leads.
    pub(super) fn observe(&mut self) {
        let installed = std::mem::take(&mut lock(&self.watch.seen).installed);
        self.watch.events.extend(installed);
        let now_us = self.now_us();
        if now_us < self.watch.looked_at_us + LOOK_EVERY_US {
            return;
        }
        self.watch.looked_at_us = now_us;
        for seat in &self.seats {
            let Some(replicas) = seat.replicas().filter(|_| seat.is_up() && !self.paused.contains(&seat.node)) else {
                continue;
            };
            for replica in replicas.all() {
                let metrics = replica.raft.metrics();
                let (leads, term) = {
                    let metrics = metrics.borrow_watched();
                    (metrics.state.is_leader(), metrics.current_term)
                };
                let shard = replica.shard().0;
                // Of two that believe that they lead, the one of the later term does.
                if leads && self.watch.leaders.get(&shard).is_none_or(|known| known.0 < term) {
                    self.watch.leader_changes += u64::from(self.watch.leaders.contains_key(&shard));
                    self.watch.leaders.insert(shard, (term, seat.node));
                    let what = What::Leader { shard, node: seat.node, term };
                    self.watch.events.push(Event { at_us: now_us, what });
                }
            }
        }
        if !self.impaired.is_empty() {
            self.look_after_the_impaired();
        }
    }

    /// The node that was last seen to lead the shard, and its term.
    pub fn leader(&self, shard: ShardId) -> Option<(usize, u64)> {
        self.watch.leaders.get(&shard.0).map(|(term, node)| (*node, *term))
    }
}

/// The shard's replica id on a disk.
pub(super) fn replica_id(engine: &dyn Engine, shard: ShardId) -> Option<u64> {
    read_meta(engine, shard, MetaKey::Replica).ok().flatten()
}

/// Behind one node's disk.
struct Tap {
    node: usize,
    name: String,
    killer: Arc<Killer>,
    seen: Arc<Mutex<Seen>>,
}

impl Observer for Tap {
    fn committing(&self, batch: &[Write]) {
        if kindred_wire::shards::Points::is_armed(self.killer.as_ref()) {
            self.points(batch);
        }
    }

    fn committed(&self, batch: &[Write], visible: &dyn Read) {
        let mut seen = lock(&self.seen);
        for write in batch {
            match write {
                Write::Put(Column::Log, key, value) if seen.tells => seen.keep(key, value),
                Write::Put(Column::Meta, key, value) => self.meta(&mut seen, key, value, batch, visible),
                // A replica that is thrown away; the next one of the shard begins anew.
                Write::Delete(Column::Meta, key) => {
                    if let Some(shard) = key.first_chunk().map(|shard| u32::from_be_bytes(*shard)) {
                        seen.generations.remove(&(self.node, shard));
                    }
                }
                _ => {}
            }
        }
    }
}

impl Tap {
    fn meta(&self, seen: &mut Seen, key: &[u8], value: &Bytes, batch: &[Write], visible: &dyn Read) {
        let Some(shard) = key.first_chunk().map(|shard| ShardId(u32::from_be_bytes(*shard))) else { return };
        if *key != *keys::meta(shard, MetaKey::Applied) {
            return;
        }
        let Some((generation, Some(log_id))) = stood_at(value) else { return };
        let before = seen.generations.insert((self.node, shard.0), generation);
        if generation > before.unwrap_or(FIRST_GENERATION) {
            seen.figures.snapshots_installed += 1;
            let what = What::Installed { shard: shard.0, node: self.node, log_index: log_id.index };
            seen.installed.push(Event { at_us: clock::now_us(), what });
            return;
        }
        seen.figures.entries_applied += 1;
        if !seen.tells {
            return;
        }
        let term = log_id.leader_id.term;
        for account in touched(batch, shard) {
            let data = seen.entry(shard, log_id.index, term);
            let versions = seen.versions.entry((shard.0, account.clone())).or_default();
            let Some(mut found) = applied(visible, (shard, generation), &account, data.as_ref(), versions) else {
                continue;
            };
            if versions.back().is_none_or(|(version, _)| *version < found.set_version) {
                versions.push_back((found.set_version, found.ids()));
            }
            while versions.len() > VERSIONS_KEPT {
                versions.pop_front();
            }
            (found.node, found.shard, found.term) = (self.name.clone(), shard.0, term);
            (found.log_index, found.at_us) = (log_id.index, clock::now_us());
            found.replica = visible
                .get(Column::Meta, &keys::meta(shard, MetaKey::Replica))
                .ok()
                .flatten()
                .and_then(|record| u64::decode(codec::open(Kind::Replica, &record).ok()?).ok())
                .unwrap_or_default();
            seen.applied.push(found);
        }
    }

    /// Points that only the disk sees, each before the batch that would end it is written.
    fn points(&self, batch: &[Write]) {
        for write in batch {
            match write {
                Write::Put(Column::State, key, _) if self.is_staged(key) => self.killer.pass("snapshot.mid", 0),
                Write::Put(Column::Meta, key, value) => {
                    let Some(shard) = key.first_chunk().map(|shard| ShardId(u32::from_be_bytes(*shard))) else {
                        continue;
                    };
                    if *key == *keys::meta(shard, MetaKey::Purged) {
                        self.killer.pass("purge.mid", 0);
                    } else if *key == *keys::meta(shard, MetaKey::Applied) {
                        let log_index = stood_at(value).and_then(|(_, log_id)| log_id).map_or(0, |id| id.index);
                        self.killer.pass("apply.mid", log_index);
                    }
                }
                _ => {}
            }
        }
    }

    /// True for a key of a generation that is not the live one: part of a snapshot that is being received.
    fn is_staged(&self, key: &[u8]) -> bool {
        let (Some(shard), Some(generation)) = (key.first_chunk::<4>(), key.get(4..8)) else { return false };
        let live = lock(&self.seen).generations.get(&(self.node, u32::from_be_bytes(*shard))).copied();
        live.unwrap_or(FIRST_GENERATION).to_be_bytes() != *generation
    }
}

impl Seen {
    /// Remembers an entry until it is applied.
    fn keep(&mut self, key: &[u8], value: &Bytes) {
        let Ok((shard, index)) = keys::parse_log(key) else { return };
        let Ok(entry) = codec::open(Kind::Entry, value).map(LogEntry::decode) else { return };
        let Ok(LogEntry { log_id, payload: EntryPayload::Normal(data) }) = entry else { return };
        let term = log_id.leader_id.term;
        let kept = self.entries.entry((shard.0, index)).or_default();
        if kept.iter().all(|(known, _)| *known != term) {
            kept.push((term, data.0));
        }
        if index > ENTRIES_KEPT {
            let old = (shard.0, 0)..(shard.0, index - ENTRIES_KEPT);
            if let Some(first) = self.entries.range(old).next().map(|(at, _)| *at) {
                self.entries.remove(&first);
            }
        }
    }

    fn entry(&self, shard: ShardId, index: u64, term: u64) -> Option<Bytes> {
        let kept = self.entries.get(&(shard.0, index))?;
        kept.iter().find(|(known, _)| *known == term).map(|(_, data)| data.clone())
    }
}

/// The accounts whose records, tombstones or stubs are in the batch.
fn touched(batch: &[Write], shard: ShardId) -> Vec<AccountId> {
    let mut accounts = Vec::new();
    for write in batch {
        let (Write::Put(Column::State, key, _) | Write::Delete(Column::State, key)) = write else { continue };
        if key.first_chunk() != Some(&shard.0.to_be_bytes()) {
            continue;
        }
        if let Ok((_, _, Key::Account(account) | Key::Tombstone(account, _) | Key::Stub(account, _))) =
            keys::parse_state(key)
            && !accounts.contains(&account)
        {
            accounts.push(account);
        }
    }
    accounts
}
