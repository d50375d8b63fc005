//! Everything that can be done to a world, by name, and how often it was.
//!
//! An [`Injection`] is data: swarms draw it, scenario files spell it, a minimiser leaves it out. [`crate::world::World::inject`]
//! carries it out, or refuses and says why; only what was carried out is counted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// A kind of fault. Its word stands in histories, summaries and on the command line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its word.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

faults! {
    /// Messages vanish.
    MessageLoss = "message_loss",
    /// Messages take longer than they should.
    MessageDelay = "message_delay",
    /// A message between nodes comes twice.
    MessageDuplicate = "message_duplicate",
    /// A message between nodes overtakes others.
    MessageReorder = "message_reorder",
    /// Some nodes and the others do not hear each other.
    Partition = "partition",
    /// Some nodes are not heard by the others, but hear them.
    OneWayPartition = "one_way_partition",
    /// Two nodes do not hear each other; both hear the rest.
    PartialPartition = "partial_partition",
    /// Connections break, and both ends know.
    ConnectionReset = "connection_reset",
    /// Connections go dead, and no end knows.
    HalfOpen = "half_open",
    /// A process dies; what it had written is there.
    Crash = "crash",
    /// A process dies at a named point.
    CrashAtPoint = "crash_at_point",
    /// A machine, or all of them, lose power.
    PowerLoss = "power_loss",
    /// A loss of power took writes that were not synced.
    UnsyncedLost = "unsynced_lost",
    /// A loss of power took a write in the middle of its sync.
    TornWrite = "torn_write",
    /// A sync fails; the node must stop.
    SyncError = "sync_error",
    /// The disk is full.
    DiskFull = "disk_full",
    /// Syncs take long.
    SlowDisk = "slow_disk",
    /// Bits of the log, or of a vote, flip.
    BitRotLog = "bit_rot_log",
    /// Bits of the state flip.
    BitRotState = "bit_rot_state",
    /// A node loses its directory.
    Wipe = "wipe",
    /// A process is stopped and goes on later, unaware.
    Pause = "pause",
    /// A wall clock is off.
    ClockSkew = "clock_skew",
    /// A clock runs too fast or too slow.
    ClockDrift = "clock_drift",
    /// A clock jumps.
    ClockJump = "clock_jump",
    /// Processes die again and again.
    RestartStorm = "restart_storm",
    /// A call is carried out and its answer vanishes.
    ReplyLost = "reply_lost",
    /// Leadership is handed to another node under load.
    LeaderTransfer = "leader_transfer",
    /// A node runs with unusual settings.
    Knobs = "knobs",
    /// Many devices pair at once.
    Stampede = "stampede",
    /// Clients repeat at once whatever fails.
    RetryStorm = "retry_storm",
    /// A recorded request is sent again.
    Replay = "replay",
    /// Somebody else's phone scans.
    WrongPhone = "wrong_phone",
    /// A watch is cut and resumed elsewhere.
    BrokenWatch = "broken_watch",
    /// A ticket is left alone.
    AbandonedTicket = "abandoned_ticket",
    /// Most of the load is on one account.
    HotAccount = "hot_account",
    /// The approved key is not the companion's.
    SwappedKey = "swapped_key",
    /// Requests that make no sense.
    Malformed = "malformed",
}

impl Fault {
    /// The fault of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.word() == word)
    }

    /// True if clients do it, and not the world.
    pub fn is_clients(self) -> bool {
        self >= Self::Stampede
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something to do to a world. Nodes are numbers from 0; times are simulated ms; rates are per 1,000 messages. A `for_ms`
/// says when it heals by itself; 0: not before [`crate::world::World::heal`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields are the words of the line above")]
pub enum Injection {
    /// Of all messages, so many vanish.
    MessageLoss { per_mille: u32, for_ms: u64 },
    /// So many messages take up to `extra_ms` longer.
    MessageDelay { per_mille: u32, extra_ms: u64, for_ms: u64 },
    /// So many messages between nodes come twice.
    MessageDuplicate { per_mille: u32, for_ms: u64 },
    /// So many messages between nodes overtake others.
    MessageReorder { per_mille: u32, for_ms: u64 },
    /// `nodes` and the others do not hear each other. With `clients`, the clients are cut from `nodes` as well.
    Partition { nodes: Vec<usize>, clients: bool, for_ms: u64 },
    /// Nobody else hears `nodes`, which hear everybody.
    OneWayPartition { nodes: Vec<usize>, clients: bool, for_ms: u64 },
    /// These two do not hear each other.
    PartialPartition { a: usize, b: usize, for_ms: u64 },
    /// All connections of the node break.
    ConnectionReset { node: usize },
    /// All connections of the node that there are go dead.
    HalfOpen { node: usize },
    /// The process dies and comes back after `down_ms`; 0: when it is started.
    Crash { node: usize, down_ms: u64 },
    /// The process dies when it reaches the point, for the `skip`-th time after now.
    CrashAtPoint { node: usize, point: String, skip: u32, down_ms: u64 },
    /// The machines lose power, with the last `lose_per_mille` of what each had not synced.
    PowerLoss { nodes: Vec<usize>, lose_per_mille: u32, down_ms: u64 },
    /// The machine loses power in the middle of its next sync, of which nothing is left.
    TornWrite { node: usize, down_ms: u64 },
    /// The next sync fails.
    SyncError { node: usize, down_ms: u64 },
    /// The disk has so many bytes left.
    DiskFull { node: usize, free_bytes: u64, for_ms: u64 },
    /// Each sync takes up to so long.
    SlowDisk { node: usize, sync_ms_max: u64, for_ms: u64 },
    /// One bit of each of so many log records, or of a vote, flips.
    BitRotLog { node: usize, records: u32 },
    /// One bit of each of so many records of the state flips.
    BitRotState { node: usize, records: u32 },
    /// The node loses its directory and comes back after `down_ms`.
    Wipe { node: usize, down_ms: u64 },
    /// The process stands still.
    Pause { node: usize, for_ms: u64 },
    /// The wall clock is off by so much.
    ClockSkew { node: usize, skew_ms: i64 },
    /// Both clocks run too fast by so many millionths.
    ClockDrift { node: usize, ppm: i64 },
    /// The wall clock jumps, and with `monotonic` the other one too, if it is forwards.
    ClockJump { node: usize, by_ms: i64, monotonic: bool },
    /// Each of `nodes` dies `times` times, `every_ms` apart, and is up again `down_ms` later.
    RestartStorm { nodes: Vec<usize>, times: u32, every_ms: u64, down_ms: u64 },
    /// The node's next answers to calls of clients that change something vanish.
    ReplyLost { node: usize, answers: u32 },
    /// Leaders on the node hand over to another one, all of them.
    LeaderTransfer { node: usize, to: usize },
}

impl Injection {
    /// What kind it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::MessageLoss { .. } => Fault::MessageLoss,
            Self::MessageDelay { .. } => Fault::MessageDelay,
            Self::MessageDuplicate { .. } => Fault::MessageDuplicate,
            Self::MessageReorder { .. } => Fault::MessageReorder,
            Self::Partition { .. } => Fault::Partition,
            Self::OneWayPartition { .. } => Fault::OneWayPartition,
            Self::PartialPartition { .. } => Fault::PartialPartition,
            Self::ConnectionReset { .. } => Fault::ConnectionReset,
            Self::HalfOpen { .. } => Fault::HalfOpen,
            Self::Crash { .. } => Fault::Crash,
            Self::CrashAtPoint { .. } => Fault::CrashAtPoint,
            Self::PowerLoss { .. } => Fault::PowerLoss,
            Self::TornWrite { .. } => Fault::TornWrite,
            Self::SyncError { .. } => Fault::SyncError,
            Self::DiskFull { .. } => Fault::DiskFull,
            Self::SlowDisk { .. } => Fault::SlowDisk,
            Self::BitRotLog { .. } => Fault::BitRotLog,
            Self::BitRotState { .. } => Fault::BitRotState,
            Self::Wipe { .. } => Fault::Wipe,
            Self::Pause { .. } => Fault::Pause,
            Self::ClockSkew { .. } => Fault::ClockSkew,
            Self::ClockDrift { .. } => Fault::ClockDrift,
            Self::ClockJump { .. } => Fault::ClockJump,
            Self::RestartStorm { .. } => Fault::RestartStorm,
            Self::ReplyLost { .. } => Fault::ReplyLost,
            Self::LeaderTransfer { .. } => Fault::LeaderTransfer,
        }
    }

    /// After how many ms it heals by itself; 0 if it does not, or if there is nothing to heal.
    pub fn for_ms(&self) -> u64 {
        match self {
            Self::MessageLoss { for_ms, .. }
            | Self::MessageDelay { for_ms, .. }
            | Self::MessageDuplicate { for_ms, .. }
            | Self::MessageReorder { for_ms, .. }
            | Self::Partition { for_ms, .. }
            | Self::OneWayPartition { for_ms, .. }
            | Self::PartialPartition { for_ms, .. }
            | Self::DiskFull { for_ms, .. }
            | Self::SlowDisk { for_ms, .. }
            | Self::Pause { for_ms, .. } => *for_ms,
            _ => 0,
        }
    }

    /// The node that it strikes, where it is one.
    pub fn node(&self) -> Option<usize> {
        match self {
            Self::ConnectionReset { node }
            | Self::HalfOpen { node }
            | Self::Crash { node, .. }
            | Self::CrashAtPoint { node, .. }
            | Self::TornWrite { node, .. }
            | Self::SyncError { node, .. }
            | Self::DiskFull { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::BitRotLog { node, .. }
            | Self::BitRotState { node, .. }
            | Self::Wipe { node, .. }
            | Self::Pause { node, .. }
            | Self::ClockSkew { node, .. }
            | Self::ClockDrift { node, .. }
            | Self::ClockJump { node, .. }
            | Self::ReplyLost { node, .. }
            | Self::LeaderTransfer { node, .. } => Some(*node),
            Self::Partition { nodes, .. }
            | Self::OneWayPartition { nodes, .. }
            | Self::PowerLoss { nodes, .. }
            | Self::RestartStorm { nodes, .. } => (nodes.len() == 1).then(|| nodes[0]),
            Self::PartialPartition { a, .. } => Some(*a),
            _ => None,
        }
    }
}

/// Points at which [`Injection::CrashAtPoint`] can strike. The first six are of a Link, in the order in which it passes them;
/// then those of the saga; then three that only the disk sees: an entry is committed and decided, and nothing of it is
/// written; part of a snapshot has come; the log is about to be purged.
pub const POINTS: [&str; 11] = [
    "link.proposed",
    "link.appended",
    "link.synced",
    "link.applied",
    "link.answered",
    "link.committed",
    "ticket.approved",
    "ticket.settled",
    "apply.mid",
    "snapshot.mid",
    "purge.mid",
];

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This network cannot do it; see ARCHITECTURE of the simulations, "What each network can do".
    #[error("{0} is not possible on this network")]
    Network(Fault),
    /// There is no such node, or it is not up (or not down).
    #[error("{0}: no such node, or it is not in the state for that")]
    Node(Fault),
    /// It would take the last copy of something: at most a minority may lose or garble what it has.
    #[error("{0}: a majority must keep what it has")]
    Majority(Fault),
}

/// How often each kind has struck.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts(BTreeMap<Fault, u64>);

impl Counts {
    /// One more.
    pub fn add(&mut self, fault: Fault) {
        self.add_many(fault, 1);
    }

    /// So many more.
    pub fn add_many(&mut self, fault: Fault, times: u64) {
        if times > 0 {
            *self.0.entry(fault).or_default() += times;
        }
    }

    /// How often.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// Every kind that has struck, in order.
    pub fn all(&self) -> impl Iterator<Item = (Fault, u64)> {
        self.0.iter().map(|(fault, times)| (*fault, *times))
    }
}
