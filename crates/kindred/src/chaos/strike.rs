//! Does to the cluster what the plan says, and brings every node back before the next.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kindred_check::Note;
use kindred_core::id::ShardId;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::household::Household;
use super::plan::{Fault, Plan};
use super::screen::Screen;
use super::world::World;
use crate::cluster::Cluster;
use crate::points::Doors;

/// A cluster that is not whole again after this long will not be.
pub(super) const HEALS_WITHIN: Duration = Duration::from_secs(90);
/// Between a kill and the start of the same node, ms; at times much longer, so that it has something to catch up with.
const DOWN_MS: std::ops::Range<u64> = 0..250;
const LONG_DOWN_MS: std::ops::Range<u64> = 1_500..4_000;
const LONG_DOWN_ODDS: f64 = 0.06;
/// How long a node is frozen, ms: beyond the leader's lease and an election (500 ms each at most).
const FROZEN_MS: std::ops::Range<u64> = 1_200..2_600;
/// Between two strikes, ms.
const CALM_MS: std::ops::Range<u64> = 0..350;
/// How often the next strike does not wait until everybody is back: a node that is starting is killed again, or another
/// one with it, which leaves no majority.
const NO_MERCY_ODDS: f64 = 0.15;
/// A change that can be cut off comes along within this time.
const FLIGHT_WITHIN: Duration = Duration::from_secs(4);
/// So many strikes that come to nothing in a row are not bad luck.
const MISSES_MAX: u64 = 25;

/// Whoever strikes.
pub(super) struct Striker<'w, 'c> {
    pub(super) world: &'w World,
    pub(super) cluster: &'c mut Cluster,
    pub(super) doors: Doors,
    pub(super) chance: StdRng,
    /// Accounts whose links are held, by home; each for a while.
    pub(super) held: BTreeMap<usize, Household<'w>>,
    pub(super) held_made: u64,
}

/// How often a kind of fault was tried and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Times that it happened.
    pub(super) strikes: u64,
    /// Processes that it killed.
    pub(super) kills: u64,
    /// Times that it was meant to happen, and the moment passed.
    pub(super) missed: u64,
}

/// What a strike came to.
pub(super) enum Struck {
    /// So many processes were killed; none by a freeze.
    Hit(u64),
    /// The moment did not come.
    Missed,
}

impl<'w, 'c> Striker<'w, 'c> {
    /// Over these nodes.
    pub(super) fn new(world: &'w World, cluster: &'c mut Cluster, doors: Doors, seed: u64) -> Self {
        let chance = StdRng::seed_from_u64(seed ^ 0x5eed_0000);
        Self { world, cluster, doors, chance, held: BTreeMap::new(), held_made: 0 }
    }

    /// Strikes until so many processes were killed. What happened is in `tallies`, also when it breaks off.
    pub(super) async fn run(
        &mut self,
        kills: u64,
        plan: &mut Plan,
        tallies: &mut BTreeMap<Fault, Tally>,
        screen: &Screen,
    ) -> anyhow::Result<()> {
        let (mut killed, mut missed) = (0, 0);
        loop {
            // A moment that passed every time, on a busy machine, is waited for once more at the end.
            let lacking = || Fault::all().find(|fault| tallies.get(fault).is_none_or(|tally| tally.strikes == 0));
            let Some(fault) = (if killed < kills { Some(plan.next()) } else { lacking() }) else { break };
            screen.next(fault);
            let struck = self.strike(fault).await.with_context(|| format!("at {}", fault.name()))?;
            let tally = tallies.entry(fault).or_default();
            match struck {
                Struck::Hit(processes) => {
                    (tally.strikes, tally.kills) = (tally.strikes + 1, tally.kills + processes);
                    (killed, missed) = (killed + processes, 0);
                }
                Struck::Missed => {
                    (tally.missed, missed) = (tally.missed + 1, missed + 1);
                    if missed > MISSES_MAX {
                        bail!("{MISSES_MAX} strikes in a row came to nothing");
                    }
                }
            }
            if !self.chance.random_bool(NO_MERCY_ODDS) {
                self.heal().await?;
                self.pause(CALM_MS).await;
            }
            screen.killed(killed, self.world);
        }
        self.heal().await
    }

    async fn strike(&mut self, fault: Fault) -> anyhow::Result<Struck> {
        match fault {
            Fault::Leader => {
                let (shard, leader) = self.some_leader().await?;
                self.kill_and_revive(leader, fault, Some(shard)).await
            }
            Fault::Follower => {
                let (shard, leader) = self.some_leader().await?;
                let node = self.other_than(leader);
                self.kill_and_revive(node, fault, Some(shard)).await
            }
            Fault::Frontend => match self.some_flight().await? {
                Some((node, shard)) => self.kill_and_revive(node, fault, Some(shard)).await,
                None => Ok(Struck::Missed),
            },
            Fault::All => self.kill_all().await,
            Fault::Freeze => self.freeze().await,
            Fault::At(point) => self.kill_at(point).await,
        }
    }

    /// Some shard and the node that leads it.
    async fn some_leader(&mut self) -> anyhow::Result<(ShardId, usize)> {
        let shards = self.world.map.shards();
        let (shard, _) = *shards.choose(&mut self.chance).context("a map without shards")?;
        Ok((shard, self.doors.leader(shard, HEALS_WITHIN).await?))
    }

    /// Any node but this one.
    pub(super) fn other_than(&mut self, node: usize) -> usize {
        let count = self.world.node_count();
        (node + self.chance.random_range(1..count)) % count
    }

    /// A node through which a change is being asked for just now, and which leads none of the shards that decide it.
    async fn some_flight(&mut self) -> anyhow::Result<Option<(usize, ShardId)>> {
        let mut leaders = BTreeMap::new();
        for (shard, _) in self.world.map.shards() {
            leaders.insert(shard, self.doors.leader(shard, HEALS_WITHIN).await?);
        }
        let deadline = Instant::now() + FLIGHT_WITHIN;
        while Instant::now() < deadline {
            let mut flights = self.world.flights();
            flights.retain(|flight| flight.shards.iter().all(|shard| leaders.get(shard) != Some(&flight.node)));
            if let Some(flight) = flights.choose(&mut self.chance)
                && let Some(shard) = flight.shards.first()
            {
                return Ok(Some((flight.node, *shard)));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(None)
    }

    async fn kill_and_revive(&mut self, node: usize, fault: Fault, shard: Option<ShardId>) -> anyhow::Result<Struck> {
        self.kill(node, fault, shard, None);
        self.revive(node).await?;
        Ok(Struck::Hit(1))
    }

    /// SIGKILL, and a note of it.
    pub(super) fn kill(&mut self, node: usize, fault: Fault, shard: Option<ShardId>, log_index: Option<u64>) {
        self.note_kill(node, fault, shard, log_index);
        self.cluster.nodes[node].kill();
    }

    fn note_kill(&self, node: usize, fault: Fault, shard: Option<ShardId>, log_index: Option<u64>) {
        let name = self.cluster.nodes[node].name.clone();
        let (shard, point) = (shard.map(|shard| shard.0), fault.name().to_owned());
        self.world.recorder.note("chaos", Note::Kill { node: name, shard, point, log_index });
        self.world.set_up(node, false);
    }

    /// Starts it again after a while. [`Self::heal`] waits until it serves.
    pub(super) async fn revive(&mut self, node: usize) -> anyhow::Result<()> {
        let down = if self.chance.random_bool(LONG_DOWN_ODDS) { LONG_DOWN_MS } else { DOWN_MS };
        self.pause(down).await;
        self.start(node)
    }

    fn start(&mut self, node: usize) -> anyhow::Result<()> {
        self.cluster.nodes[node].spawn()?;
        self.world.recorder.note("chaos", Note::Restart { node: self.cluster.nodes[node].name.clone() });
        Ok(())
    }

    /// As when the power fails. Whoever comes back does so in any order.
    pub(super) async fn kill_all(&mut self) -> anyhow::Result<Struck> {
        let count = self.world.node_count();
        for node in 0..count {
            self.note_kill(node, Fault::All, None, None);
        }
        self.cluster.kill_all();
        let first = self.chance.random_range(0..count);
        for node in (0..count).map(|n| (first + n) % count) {
            self.pause(DOWN_MS).await;
            self.start(node)?;
        }
        Ok(Struck::Hit(count as u64))
    }

    /// Mostly a leader: it must not answer from a lease that has run out while it slept.
    async fn freeze(&mut self) -> anyhow::Result<Struck> {
        let (_, leader) = self.some_leader().await?;
        let node = if self.chance.random_bool(0.8) { leader } else { self.other_than(leader) };
        let process = &self.cluster.nodes[node];
        let (name, pid) = (process.name.clone(), process.pid().context("the node does not run")?);
        let thawer = Thawer::of(pid)?;
        self.world.recorder.note("chaos", Note::Freeze { node: name.clone() });
        self.cluster.nodes[node].freeze();
        self.pause(FROZEN_MS).await;
        drop(thawer);
        self.world.recorder.note("chaos", Note::Thaw { node: name });
        Ok(Struck::Hit(0))
    }

    /// Waits until every node serves.
    pub(super) async fn heal(&mut self) -> anyhow::Result<()> {
        self.cluster.ready(HEALS_WITHIN).await?;
        for node in 0..self.world.node_count() {
            self.world.set_up(node, true);
        }
        Ok(())
    }

    async fn pause(&mut self, between_ms: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.chance.random_range(between_ms))).await;
    }
}

/// Wakes a frozen process when it is dropped, and also when this process ends in any way: it waits for the end of a pipe.
struct Thawer(Child);

impl Thawer {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", "read -r _; kill -CONT \"$0\"", &pid.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.context("start sh, which wakes the frozen node again")?))
    }
}

impl Drop for Thawer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
