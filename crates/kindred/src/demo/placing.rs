//! Where an account lives and its ticket is opened, who is to be killed, and where both sides are connected.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kindred_core::id::{RegionIndex, ShardId};

use super::kills::{Point, SOON};
use super::people::Phone;
use super::steps::Stage;

/// Somebody else takes over from a frozen leader within this time.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);
/// Elections that are tried to get two leaders apart; nearly always one is enough.
const ELECTIONS_MAX: usize = 10;
/// Between two looks at who leads; shorter than shards usually lie apart in their election timeouts.
const PAUSE: Duration = Duration::from_millis(4);

/// Where the account lives and where its companion opens the ticket, by index of the region.
pub(super) struct Place {
    pub(super) home: usize,
    pub(super) opened_in: usize,
}

/// Who is to be killed, and where the phone is connected. The companion watches through the victim.
pub(super) struct Stand {
    /// The shard whose leader dies.
    pub(super) shard: ShardId,
    pub(super) victim: usize,
    pub(super) phone_at: usize,
    /// A node on which the phone's call is held at link.committed besides, so that the phone is not told.
    pub(super) phone_held_at: Option<usize>,
    /// Leads the ticket's shard, and is frozen so that the ticket is not settled.
    pub(super) freeze: Option<usize>,
}

impl Stage<'_> {
    /// Two regions, led by different nodes if possible, so that only one side of the saga dies. Where one side is frozen
    /// while the other dies, that is a must.
    pub(super) async fn place(&mut self, point: Point) -> anyhow::Result<Place> {
        for _ in 0..ELECTIONS_MAX {
            let leaders = self.leaders().await?;
            let count = leaders.len();
            let turn = point as usize;
            let pairs = (0..count).flat_map(|a| (1..count).map(move |b| ((a + turn) % count, (a + b + turn) % count)));
            let pairs: Vec<_> = pairs.collect();
            let apart = pairs.iter().find(|(home, opened_in)| leaders[*home] != leaders[*opened_in]);
            let any = pairs.first().filter(|_| point != Point::Linked);
            if let Some((home, opened_in)) = apart.or(any) {
                return Ok(Place { home: *home, opened_in: *opened_in });
            }
            self.unseat(*leaders.first().context("the demo needs regions")?).await?;
        }
        bail!("one node led all regions, and still after {ELECTIONS_MAX} elections")
    }

    /// The leader of each region's shard.
    async fn leaders(&self) -> anyhow::Result<Vec<usize>> {
        let mut leaders = Vec::new();
        for region in &self.lab.map.regions {
            let shard = *region.shards.first().context("a region without shards")?;
            leaders.push(self.doors.leader(shard, SOON).await?);
        }
        Ok(leaders)
    }

    /// Freezes the node that leads everything until the first of its shards has another leader; it keeps the rest.
    async fn unseat(&mut self, node: usize) -> anyhow::Result<()> {
        let name = self.cluster.nodes[node].name.clone();
        self.tour.say(&format!("{name} leads all regions: it is frozen until it has lost the first of them"));
        let regions: Vec<_> = self.lab.map.regions.iter().flat_map(|region| &region.shards).collect();
        let others: Vec<_> = (0..self.lab.node_count()).filter(|other| *other != node).collect();
        self.cluster.nodes[node].freeze();
        let lost = tokio::time::timeout(TAKEN_OVER_WITHIN, async {
            loop {
                for other in &others {
                    if self.doors.led_by(*other).await.iter().any(|shard| regions.contains(&shard)) {
                        return;
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        let lost = lost.await;
        self.cluster.nodes[node].thaw();
        ensure!(lost.is_ok(), "waited {} s for others to take over from {name}", TAKEN_OVER_WITHIN.as_secs());
        Ok(())
    }

    /// Who leads what just now.
    pub(super) async fn stand(
        &self,
        point: Point,
        place: &Place,
        ticket_shard: ShardId,
        phone: &Phone,
    ) -> anyhow::Result<Stand> {
        let home = RegionIndex(u16::try_from(place.home)?);
        let account_shard = self.lab.map.account(home, &phone.member.account);
        let account_shard = account_shard.context("the account belongs to no shard")?;
        let ticket_leader = self.doors.leader(ticket_shard, SOON).await?;
        let account_leader = self.doors.leader(account_shard, SOON).await?;
        Ok(match point {
            Point::Approved => Stand {
                shard: ticket_shard,
                victim: ticket_leader,
                phone_at: ticket_leader,
                phone_held_at: None,
                freeze: None,
            },
            Point::Linked => Stand {
                shard: account_shard,
                victim: account_leader,
                phone_at: account_leader,
                phone_held_at: None,
                freeze: Some(ticket_leader).filter(|leader| *leader != account_leader),
            },
            Point::Settled => {
                // Whoever leads the account's shard settles the ticket, and must be free to do so.
                let is_free = ticket_leader != account_leader;
                let phone_at = if is_free { ticket_leader } else { (ticket_leader + 1) % self.lab.node_count() };
                let phone_held_at = Some(phone_at);
                Stand { shard: ticket_shard, victim: ticket_leader, phone_at, phone_held_at, freeze: None }
            }
        })
    }
}
