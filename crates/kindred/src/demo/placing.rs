//! Where an account lives and its ticket is opened, who is to be killed, and where both sides are connected.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kindred_core::id::{RegionIndex, ShardId};

use super::kills::{Point, SOON};
use super::people::Phone;
use super::steps::Stage;

/// A node hands its shards over and ends within this time.
const ENDED_WITHIN: Duration = Duration::from_secs(15);
/// Hand-overs that are tried to get two leaders apart; each succeeds three times of four.
const HAND_OVERS_MAX: usize = 8;

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
    /// Two regions whose shards are led by different nodes, so that only one side of the saga dies.
    pub(super) async fn place(&mut self, point: Point) -> anyhow::Result<Place> {
        for _ in 0..HAND_OVERS_MAX {
            let leaders = self.leaders().await?;
            let count = leaders.len();
            let turn = point as usize;
            let mut pairs =
                (0..count).flat_map(|a| (1..count).map(move |b| ((a + turn) % count, (a + b + turn) % count)));
            if let Some((home, opened_in)) = pairs.find(|(home, opened_in)| leaders[*home] != leaders[*opened_in]) {
                return Ok(Place { home, opened_in });
            }
            let everything = *leaders.first().context("the demo needs regions")?;
            self.hand_over(everything).await?;
        }
        bail!("one node led all regions, and still after {HAND_OVERS_MAX} hand-overs")
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

    /// A clean restart: its shards go to the others, whoever is up to date.
    async fn hand_over(&mut self, node: usize) -> anyhow::Result<()> {
        let name = self.cluster.nodes[node].name.clone();
        self.tour
            .say(&format!("{name} leads all regions; it hands over and restarts, so that two sides have two leaders"));
        self.tour.wait(&format!("{name} to hand over"));
        self.lab.set_up(node, false);
        self.cluster.nodes[node].terminate(ENDED_WITHIN).await;
        self.revive(node).await
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
            Point::Settled => Stand {
                shard: ticket_shard,
                victim: ticket_leader,
                phone_at: ticket_leader,
                phone_held_at: Some(ticket_leader),
                freeze: None,
            },
        })
    }
}
