//! Where an account lives and its ticket is opened, who is to be killed, and where both sides are connected.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kindred_core::id::{RegionIndex, ShardId};
use tokio::time::Instant;

use super::kills::{Point, SOON};
use super::people::Phone;
use super::steps::Stage;

/// Leaders go home within this time once their nodes are up.
const AT_HOME_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks at who leads.
const PAUSE: Duration = Duration::from_millis(50);

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
    /// Two regions whose shards are led by different nodes, so that one side of the saga dies and the other lives. Each
    /// point takes another victim.
    pub(super) async fn place(&self, point: Point) -> anyhow::Result<Place> {
        self.tour.wait("each region's shard to be led at home");
        let deadline = Instant::now() + AT_HOME_WITHIN;
        let count = self.lab.map.regions.len();
        let (first, second) = (point as usize % count, (point as usize + 1) % count);
        let place = match point {
            Point::Linked => Place { home: first, opened_in: second },
            Point::Approved | Point::Settled => Place { home: second, opened_in: first },
        };
        loop {
            let leaders = self.leaders().await?;
            if leaders.iter().enumerate().all(|(region, leader)| region == *leader) {
                return Ok(place);
            }
            if Instant::now() >= deadline {
                // It also works elsewhere, as long as no node is on both sides.
                if leaders[place.home] != leaders[place.opened_in] {
                    return Ok(place);
                }
                bail!("waited {} s for leaders to go to their home regions", AT_HOME_WITHIN.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
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
