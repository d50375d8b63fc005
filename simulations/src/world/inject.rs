//! Faults: carrying them out, healing them, and what happens by itself later.

use rand::RngExt as _;
use rand::seq::IteratorRandom as _;

use kindred_core::id::ShardId;
use kindred_store::engine::{Column, Read as _};
use kindred_store::keys::{self, MetaKey};

use crate::faults::{Fault, Injection, Refused};
use crate::pairing::Failed;
use crate::world::World;
use crate::world::event::{Event, What};
use crate::world::seat::{Order, Seat};
use crate::world::wire::Weather;

/// Something that happens by itself.
#[derive(Clone, Debug)]
pub(super) enum Todo {
    /// An injection that lasted is over.
    Heal(u64),
    /// A node is started.
    Start(usize),
    /// A node dies once more and is started so many ms later.
    CrashAgain(usize, u64),
}

impl World {
    /// Does it, and counts it. What would take the last good copy of something is refused, as is what this network cannot
    /// do and what makes no sense now, a crash of a node that is down, say.
    pub fn inject(&mut self, injection: &Injection) -> Result<(), Refused> {
        let fault = injection.fault();
        self.check(injection)?;
        let number = self.number();
        let counted_when_it_strikes =
            matches!(fault, Fault::CrashAtPoint | Fault::TornWrite | Fault::SyncError | Fault::ReplyLost)
                || (fault <= Fault::MessageReorder && self.strikes_each_message());
        // What it brings comes behind it, and nothing does if it cannot be done.
        let position = self.watch.events.len();
        let struck = self.strike(injection);
        if struck.is_err() {
            self.watch.events.truncate(position);
            return Err(Refused::Node(fault));
        }
        let at_us = self.now_us();
        self.watch.events.insert(position, Event { at_us, what: What::Injected(injection.clone()) });
        if !counted_when_it_strikes {
            self.counts.add(fault);
        }
        if is_lasting(injection) {
            self.active.insert(number, injection.clone());
            self.block();
            if injection.for_ms() > 0 {
                self.later(injection.for_ms(), Todo::Heal(number));
            }
        }
        Ok(())
    }

    /// Ends everything that lasts: connections work, disks are fast and have room, clocks are right, what was paused goes on.
    /// Nothing that was planned or armed happens any more, but nodes that are down are started. What is lost stays lost, and
    /// the ends of connections that broke or went dead may take 30 s to notice.
    pub fn heal(&mut self) -> Result<(), Failed> {
        for number in self.active.keys().copied().collect::<Vec<_>>() {
            self.end(number)?;
        }
        self.agenda.clear();
        self.wires.keep_replies();
        for seat in self.seats.clone() {
            seat.clock.mend();
            seat.slow(0);
            seat.killer.disarm();
            seat.disk().set_free_bytes(None);
            seat.disk().reopen();
            self.resume(seat.node)?;
            self.start(seat.node)?;
        }
        Ok(())
    }

    /// Counts what the world does not do itself: what clients do, and unusual settings.
    pub fn count(&mut self, fault: Fault) {
        self.counts.add(fault);
    }

    /// Nodes that lost or garbled what they had, and are not whole again.
    pub fn impaired(&self) -> impl Iterator<Item = usize> {
        self.impaired.iter().copied()
    }

    /// Whether the replica has records that were damaged and that it may not have met yet. Nothing reads all of a disk, so it
    /// may stay so for long.
    pub fn is_rotten(&self, node: usize, shard: ShardId) -> bool {
        self.rotten.contains_key(&(node, shard))
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn strikes_each_message(&self) -> bool {
        self.wires.can(Fault::MessageDuplicate)
    }

    fn later(&mut self, after_ms: u64, todo: Todo) {
        let number = self.number();
        self.agenda.insert((self.now_us() + after_ms * 1_000, number), todo);
    }

    /// What was planned for now or before.
    pub(super) fn due(&mut self) -> Result<(), Failed> {
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > self.wires.elapsed().as_micros() as u64 {
                return Ok(());
            }
            match entry.remove() {
                Todo::Heal(number) => self.end(number)?,
                Todo::Start(node) => self.start(node)?,
                Todo::CrashAgain(node, down_ms) => {
                    if self.is_up(node) {
                        self.crash(node)?;
                        self.later(down_ms, Todo::Start(node));
                    }
                }
            }
        }
        Ok(())
    }

    /// After a death that an injection brought, the node is started again once its time is over.
    pub(super) fn comes_back(&mut self, node: usize) {
        let down_ms = self.down_ms.remove(&node).unwrap_or(DOWN_MS);
        if down_ms > 0 {
            self.later(down_ms, Todo::Start(node));
        }
    }

    /// Blocks and slows what is to be blocked and slowed just now.
    pub(super) fn block(&mut self) {
        let weather = Weather::of(self.active.values(), self.setup.nodes);
        self.wires.set(&weather);
    }

    fn end(&mut self, number: u64) -> Result<(), Failed> {
        let Some(injection) = self.active.remove(&number) else { return Ok(()) };
        match &injection {
            Injection::DiskFull { node, .. } => self.seat(*node)?.disk().set_free_bytes(None),
            Injection::SlowDisk { node, .. } => self.seat(*node)?.slow(0),
            Injection::Pause { node, .. } => self.resume(*node)?,
            _ => self.block(),
        }
        self.tell(What::Healed(injection));
        Ok(())
    }

    fn check(&self, injection: &Injection) -> Result<(), Refused> {
        let fault = injection.fault();
        if !self.wires.can(fault) {
            return Err(Refused::Network(fault));
        }
        let named: Vec<usize> = match injection {
            Injection::Partition { nodes, .. }
            | Injection::OneWayPartition { nodes, .. }
            | Injection::PowerLoss { nodes, .. }
            | Injection::RestartStorm { nodes, .. } => nodes.clone(),
            Injection::PartialPartition { a, b, .. } => vec![*a, *b],
            Injection::LeaderTransfer { node, to } => vec![*node, *to],
            other => other.node().into_iter().collect(),
        };
        if named.iter().any(|node| *node >= self.setup.nodes) {
            return Err(Refused::Node(fault));
        }
        let needs_process = matches!(
            fault,
            Fault::Crash
                | Fault::CrashAtPoint
                | Fault::TornWrite
                | Fault::SyncError
                | Fault::Pause
                | Fault::LeaderTransfer
                | Fault::PowerLoss
        );
        if needs_process && !named.iter().all(|node| self.is_up(*node) && !self.is_paused(*node)) {
            return Err(Refused::Node(fault));
        }
        if matches!(fault, Fault::Wipe | Fault::BitRotLog | Fault::BitRotState) {
            let mut impaired = self.impaired.clone();
            impaired.extend(named);
            if impaired.len() > self.setup.nodes.saturating_sub(1) / 2 {
                return Err(Refused::Majority(fault));
            }
        }
        Ok(())
    }

    fn strike(&mut self, injection: &Injection) -> Result<(), Failed> {
        match injection {
            Injection::ConnectionReset { node } | Injection::HalfOpen { node } => {
                let (seat, dead) = (self.seat(*node)?, injection.fault() == Fault::HalfOpen);
                if !self.wires.strike(&seat, dead) {
                    return Err("no connection to strike".into());
                }
            }
            Injection::Crash { node, down_ms } => {
                self.crash(*node)?;
                self.starts_after(*node, *down_ms);
            }
            Injection::CrashAtPoint { node, point, skip, down_ms } => {
                self.down_ms.insert(*node, *down_ms);
                self.seat(*node)?.killer.arm(point, *skip);
            }
            Injection::PowerLoss { nodes, lose_per_mille, down_ms } => {
                for node in nodes {
                    self.power_loss(*node, *lose_per_mille)?;
                    self.starts_after(*node, *down_ms);
                }
            }
            Injection::TornWrite { node, down_ms } => {
                self.down_ms.insert(*node, *down_ms);
                self.seat(*node)?.disk().tear_next_sync();
            }
            Injection::SyncError { node, down_ms } => {
                self.down_ms.insert(*node, *down_ms);
                self.seat(*node)?.disk().fail_next_sync();
            }
            Injection::Wipe { node, down_ms } => {
                self.wipe(*node)?;
                self.starts_after(*node, *down_ms);
            }
            Injection::RestartStorm { nodes, times, every_ms, down_ms } => {
                for (turn, node) in nodes.iter().enumerate() {
                    for time in 0..u64::from(*times) {
                        let at_ms = time * every_ms + turn as u64 * every_ms / nodes.len().max(1) as u64;
                        self.later(at_ms, Todo::CrashAgain(*node, (*down_ms).max(1)));
                    }
                }
            }
            Injection::Pause { node, .. } => self.pause(*node)?,
            Injection::LeaderTransfer { node, to } => {
                let to = self.setup.name(*to);
                self.seat(*node)?.order(Order::Transfer(to));
            }
            Injection::ReplyLost { node, answers } => {
                let seat = self.seat(*node)?;
                self.wires.lose_replies(&seat, *answers);
            }
            other => self.strike_machine(other)?,
        }
        Ok(())
    }

    /// Faults of disks and clocks.
    fn strike_machine(&mut self, injection: &Injection) -> Result<(), Failed> {
        match injection {
            Injection::DiskFull { node, free_bytes, .. } => {
                self.seat(*node)?.disk().set_free_bytes(Some(*free_bytes));
            }
            Injection::SlowDisk { node, sync_ms_max, .. } => self.seat(*node)?.slow(*sync_ms_max),
            Injection::BitRotLog { node, records } => {
                let seat = self.seat(*node)?;
                self.rot(&seat, Column::Log, *records)?;
            }
            Injection::BitRotState { node, records } => {
                let seat = self.seat(*node)?;
                self.rot(&seat, Column::State, *records)?;
            }
            Injection::ClockSkew { node, skew_ms } => self.seat(*node)?.clock.skew(*skew_ms),
            Injection::ClockDrift { node, ppm } => self.seat(*node)?.clock.drift(*ppm),
            Injection::ClockJump { node, by_ms, monotonic } => self.seat(*node)?.clock.jump(*by_ms, *monotonic),
            // What happens to messages is computed from what is in force.
            _ => {}
        }
        Ok(())
    }

    fn starts_after(&mut self, node: usize, down_ms: u64) {
        if down_ms > 0 {
            self.later(down_ms, Todo::Start(node));
        }
    }

    /// Flips a bit of each of so many records of one shard, drawn at random; in the log a vote may be among them. The node
    /// counts as impaired until the shard's replica is another one.
    fn rot(&mut self, seat: &Seat, column: Column, records: u32) -> Result<(), Failed> {
        let disk = seat.disk();
        let shards: Vec<ShardId> = self.setup.map().shards().into_iter().map(|(shard, _)| shard).collect();
        let shard = *shards.iter().choose(&mut self.chance).ok_or("no shard")?;
        let (from, to) = match column {
            Column::Log => (keys::log(shard, 0), keys::log_end(shard)),
            _ => (keys::state_range(shard, 0).0, keys::state_range(shard, u32::MAX).1),
        };
        let mut found: Vec<(Column, Vec<u8>)> =
            disk.scan(column, &from, &to, usize::MAX)?.into_iter().map(|(key, _)| (column, key)).collect();
        if column == Column::Log {
            found.push((Column::Meta, keys::meta(shard, MetaKey::Vote)));
        }
        let mut struck = false;
        for (column, key) in found.into_iter().sample(&mut self.chance, records as usize) {
            struck |= disk.damage(column, &key, self.chance.random_range(0..1 << 20));
        }
        if !struck {
            return Err("nothing to damage".into());
        }
        if let Some(replica) = self.replica_id(seat.node, shard) {
            self.rotten.insert((seat.node, shard), replica);
            self.impaired.insert(seat.node);
        }
        Ok(())
    }

    /// Who lost what they had and is whole again may lose it again.
    pub(super) fn look_after_the_impaired(&mut self) {
        let rebuilt: Vec<_> = self
            .rotten
            .iter()
            .filter(|((node, shard), replica)| self.replica_id(*node, *shard) != Some(**replica))
            .map(|(at, _)| *at)
            .collect();
        for at in rebuilt {
            self.rotten.remove(&at);
        }
        for node in self.impaired.clone() {
            if self.is_ready(node) && !self.rotten.keys().any(|(rotten, _)| *rotten == node) {
                self.impaired.remove(&node);
            }
        }
    }
}

/// How long a process is away that died of itself, where nobody said, ms.
const DOWN_MS: u64 = 500;

fn is_lasting(injection: &Injection) -> bool {
    let fault = injection.fault();
    fault <= Fault::PartialPartition || matches!(fault, Fault::DiskFull | Fault::SlowDisk | Fault::Pause)
}
