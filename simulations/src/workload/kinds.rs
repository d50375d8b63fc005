//! The kinds of faults that a plan draws: how often, how long, how much.
//!
//! Start values are those of testing.md, "Faults": message loss up to 30 %, duplication up to 50 %, half of all partitions
//! one way, long outages that force snapshots, unsynced writes dropped at nearly every loss of power, clocks off by two
//! seconds, rare jumps of minutes to a day.

use std::ops::Range;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::plan::{Event, Room, Trouble};
use crate::faults::{Fault, Injection};

/// A kind that may be drawn.
pub struct Kind {
    /// Which.
    pub fault: Fault,
    /// Events of it in a minute, if the run has any.
    pub per_minute: Range<u64>,
}

const fn kind(fault: Fault, per_minute: Range<u64>) -> Kind {
    Kind { fault, per_minute }
}

/// All of them, in the order in which they are drawn.
pub const ALL: &[Kind] = &[
    kind(Fault::MessageLoss, 1..4),
    kind(Fault::MessageDelay, 1..4),
    kind(Fault::MessageDuplicate, 1..4),
    kind(Fault::MessageReorder, 1..4),
    kind(Fault::Partition, 1..5),
    kind(Fault::OneWayPartition, 1..5),
    kind(Fault::PartialPartition, 1..5),
    kind(Fault::ConnectionReset, 2..10),
    kind(Fault::HalfOpen, 1..4),
    kind(Fault::ReplyLost, 2..12),
    kind(Fault::Crash, 1..5),
    kind(Fault::CrashAtPoint, 1..5),
    kind(Fault::PowerLoss, 1..4),
    kind(Fault::RestartStorm, 1..2),
    kind(Fault::TornWrite, 1..4),
    kind(Fault::SyncError, 1..3),
    kind(Fault::DiskFull, 1..3),
    kind(Fault::SlowDisk, 1..4),
    kind(Fault::BitRotLog, 1..2),
    kind(Fault::BitRotState, 1..2),
    kind(Fault::Wipe, 1..2),
    kind(Fault::Pause, 1..4),
    kind(Fault::ClockSkew, 1..3),
    kind(Fault::ClockDrift, 1..3),
    kind(Fault::ClockJump, 1..3),
    kind(Fault::LeaderTransfer, 1..5),
    kind(Fault::Stampede, 1..3),
    kind(Fault::RetryStorm, 1..4),
    kind(Fault::Replay, 2..10),
    kind(Fault::WrongPhone, 1..6),
    kind(Fault::BrokenWatch, 2..10),
    kind(Fault::AbandonedTicket, 1..5),
    kind(Fault::HotAccount, 1..3),
    kind(Fault::SwappedKey, 1..4),
    kind(Fault::Malformed, 1..4),
];

/// Named points at which a node may die.
pub const POINTS: [&str; 8] = [
    "ticket.approved",
    "link.proposed",
    "link.appended",
    "link.synced",
    "link.committed",
    "link.applied",
    "link.answered",
    "ticket.settled",
];

/// One event of this kind. What is lost for good is lost by `victim` alone, so that a majority keeps it.
pub fn event(fault: Fault, (victim, room): (usize, Room), chance: &mut StdRng) -> Option<Event> {
    if fault.is_clients() {
        return Some(Event::Clients(trouble(fault, room, chance)));
    }
    network(fault, room, chance)
        .or_else(|| machine(fault, (victim, room), chance))
        .or_else(|| clock(fault, room, chance))
        .map(Event::World)
}

fn shuffled(room: Room, chance: &mut StdRng) -> Vec<usize> {
    let mut nodes: Vec<usize> = (0..room.nodes).collect();
    nodes.shuffle(chance);
    nodes
}

fn network(fault: Fault, room: Room, chance: &mut StdRng) -> Option<Injection> {
    let nodes = shuffled(room, chance);
    let few: Vec<usize> = nodes.iter().copied().take(chance.random_range(1..=(room.nodes / 2).max(1))).collect();
    let (a, b) = (*nodes.first()?, *nodes.get(1)?);
    let for_ms = chance.random_range(500..12_000);
    let clients = chance.random_bool(0.3);
    Some(match fault {
        Fault::MessageLoss => Injection::MessageLoss {
            per_mille: chance.random_range(5..300),
            for_ms: chance.random_range(1_000..15_000),
        },
        Fault::MessageDelay => Injection::MessageDelay {
            per_mille: chance.random_range(20..500),
            extra_ms: chance.random_range(20..600),
            for_ms: chance.random_range(1_000..15_000),
        },
        Fault::MessageDuplicate => Injection::MessageDuplicate {
            per_mille: chance.random_range(10..500),
            for_ms: chance.random_range(2_000..20_000),
        },
        Fault::MessageReorder => Injection::MessageReorder {
            per_mille: chance.random_range(10..500),
            for_ms: chance.random_range(2_000..20_000),
        },
        Fault::Partition => Injection::Partition { nodes: few, clients, for_ms },
        Fault::OneWayPartition => Injection::OneWayPartition { nodes: few, clients, for_ms },
        Fault::PartialPartition => Injection::PartialPartition { a, b, for_ms },
        Fault::ConnectionReset => Injection::ConnectionReset { node: a },
        Fault::HalfOpen => Injection::HalfOpen { node: a },
        Fault::ReplyLost => Injection::ReplyLost { node: a, answers: chance.random_range(1..4) },
        Fault::LeaderTransfer => Injection::LeaderTransfer { node: a, to: b },
        _ => return None,
    })
}

fn machine(fault: Fault, (victim, room): (usize, Room), chance: &mut StdRng) -> Option<Injection> {
    let nodes = shuffled(room, chance);
    let node = *nodes.first()?;
    // Mostly short, now and then so long that the log that is missed is gone.
    let down_ms =
        if chance.random_bool(0.3) { chance.random_range(5_000..30_000) } else { chance.random_range(100..3_000) };
    Some(match fault {
        Fault::Crash => Injection::Crash { node, down_ms },
        Fault::CrashAtPoint => {
            let point = POINTS[chance.random_range(0..POINTS.len())].to_owned();
            Injection::CrashAtPoint { node, point, skip: chance.random_range(0..4), down_ms }
        }
        Fault::PowerLoss => {
            let is_all = chance.random_bool(0.3);
            let nodes = if is_all { nodes } else { vec![node] };
            Injection::PowerLoss { nodes, lose_per_mille: chance.random_range(0..=1_000), down_ms: down_ms.min(6_000) }
        }
        Fault::RestartStorm => Injection::RestartStorm {
            nodes: nodes.iter().copied().take(chance.random_range(1..=room.nodes)).collect(),
            times: chance.random_range(2..6),
            every_ms: chance.random_range(800..3_000),
            down_ms: chance.random_range(50..700),
        },
        Fault::TornWrite => Injection::TornWrite { node, down_ms },
        Fault::SyncError => Injection::SyncError { node, down_ms },
        Fault::DiskFull => Injection::DiskFull {
            node,
            free_bytes: chance.random_range(0..1 << 20),
            for_ms: chance.random_range(1_000..10_000),
        },
        Fault::SlowDisk => Injection::SlowDisk {
            node,
            sync_ms_max: chance.random_range(5..400),
            for_ms: chance.random_range(2_000..15_000),
        },
        Fault::BitRotLog => Injection::BitRotLog { node: victim, records: chance.random_range(1..4) },
        Fault::BitRotState => Injection::BitRotState { node: victim, records: chance.random_range(1..6) },
        Fault::Wipe => Injection::Wipe { node: victim, down_ms },
        Fault::Pause => Injection::Pause { node, for_ms: chance.random_range(200..8_000) },
        _ => return None,
    })
}

fn clock(fault: Fault, room: Room, chance: &mut StdRng) -> Option<Injection> {
    let node = *shuffled(room, chance).first()?;
    Some(match fault {
        Fault::ClockSkew => Injection::ClockSkew { node, skew_ms: chance.random_range(-2_000..2_000) },
        Fault::ClockDrift => Injection::ClockDrift { node, ppm: chance.random_range(-500..500) },
        Fault::ClockJump => {
            let forwards = chance.random_range(60_000..86_400_000_i64);
            let by_ms = if chance.random_bool(0.3) { -forwards } else { forwards };
            Injection::ClockJump { node, by_ms, monotonic: chance.random_bool(0.5) }
        }
        _ => return None,
    })
}

fn trouble(fault: Fault, room: Room, chance: &mut StdRng) -> Trouble {
    let amount = match fault {
        Fault::Stampede => 10..100,
        Fault::RetryStorm => 4..24,
        Fault::Replay => 1..4,
        Fault::BrokenWatch => 20..1_500,
        Fault::HotAccount => 4..12,
        _ => 1..2,
    };
    let for_ms = if fault == Fault::HotAccount { chance.random_range(3_000..20_000) } else { 0 };
    let account = chance.random_range(0..room.accounts.max(1));
    Trouble { fault, account, amount: chance.random_range(amount), for_ms }
}
