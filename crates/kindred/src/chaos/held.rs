//! One link, held at a named point while the process that got there is killed. Its ticket is opened in another region, so
//! that Approve, Link and Settle are entries of their own.

use std::time::Duration;

use anyhow::Context as _;
use kindred_core::id::ShardId;
use rand::RngExt as _;

use super::household::Household;
use super::pairing::Sides;
use super::plan::{Fault, Point};
use super::strike::{HEALS_WITHIN, Striker, Struck};
use kindred_witness::Shown;

/// A household of held links makes way for the next after so many companions.
const COMPANIONS_OF_A_HOUSEHOLD: u64 = 12;
/// An armed point is armed within this time.
const ARMED_WITHIN: Duration = Duration::from_secs(5);
/// The link comes to the point within this time, or takes another way.
const REACHED_WITHIN: Duration = Duration::from_secs(6);

impl<'w> Striker<'w, '_> {
    /// Kills whoever comes to the point.
    pub(super) async fn kill_at(&mut self, point: Point) -> anyhow::Result<Struck> {
        let home = self.chance.random_range(0..self.world.node_count());
        let opened_at = self.other_than(home);
        let Some(household) = self.household(home).await else { return Ok(Struck::Missed) };
        let told = self.kill_in(&household, point, opened_at).await;
        self.held.insert(home, household);
        told
    }

    /// A household in this region with room for one more.
    async fn household(&mut self, home: usize) -> Option<Household<'w>> {
        let old = self.held.remove(&home).filter(|household| household.made() < COMPANIONS_OF_A_HOUSEHOLD);
        let household = match old {
            Some(household) => household,
            None => {
                self.held_made += 1;
                let name = format!("{}.held.{}", self.world.map.regions[home].name, self.held_made);
                Household::register(self.world, &name, home).await?
            }
        };
        let companions = household.companions();
        if let (Some(oldest), true) = (companions.first(), companions.len() >= 3) {
            household.unlink(&who(&household), &household.phone(), oldest.session, home).await;
        }
        Some(household)
    }

    async fn kill_in(&mut self, household: &Household<'_>, point: Point, opened_at: usize) -> anyhow::Result<Struck> {
        let who = who(household);
        let Some(shown) = household.open(opened_at).await else { return Ok(Struck::Missed) };
        let shards = self.shards(household, &shown)?;
        let replaces = match self.chance.random_bool(0.3) {
            true => household.companions().first().map(|companion| companion.session),
            false => None,
        };
        let Some(signed) = household.sign(&who, shown, opened_at, replaces).await else { return Ok(Struck::Missed) };
        let (victim, sides) = self.stand(point, shards).await?;
        let armed = self.doors.hold(victim, point.name(), &household.account, ARMED_WITHIN).await;
        // It may be down still, or stand still at a point of its own.
        let Ok(mut hold) = armed else { return Ok(Struck::Missed) };
        let linking = household.finish(&who, &signed, sides);
        let striking = async {
            let reached = tokio::time::timeout(REACHED_WITHIN, hold.reached()).await;
            let struck = match reached {
                Ok(Ok(log_index)) => {
                    let shard = if matches!(point, Point::Approved | Point::Settled) { shards.1 } else { shards.0 };
                    self.kill(victim, Fault::At(point), Some(shard), Some(log_index));
                    Struck::Hit(1)
                }
                Ok(Err(_)) | Err(_) => Struck::Missed,
            };
            drop(hold);
            if matches!(struck, Struck::Hit(_)) {
                self.revive(victim).await?;
            }
            anyhow::Ok(struck)
        };
        let (_, struck) = tokio::join!(linking, striking);
        struck
    }

    /// The account's shard and the ticket's.
    fn shards(&self, household: &Household<'_>, shown: &Shown) -> anyhow::Result<(ShardId, ShardId)> {
        let account = household.shards().first().copied().context("the account belongs to no shard")?;
        Ok((account, self.world.map.ticket(&shown.ticket).context("the ticket belongs to no shard")?))
    }

    /// Who is to come to the point, and through which nodes both sides ask, so that it is this one who does.
    async fn stand(&mut self, point: Point, (account, _): (ShardId, ShardId)) -> anyhow::Result<(usize, Sides)> {
        let anybody = self.chance.random_range(0..self.world.node_count());
        let leader = self.doors.leader(account, HEALS_WITHIN).await?;
        let victim = match point {
            // Whoever the phone, or the companion, is connected with.
            Point::Approved | Point::Committed | Point::Settled => anybody,
            Point::Proposed | Point::Answered => leader,
            // Every replica gets there; the leader is the more delicate one.
            Point::Appended | Point::Synced | Point::Applied => match self.chance.random_bool(0.6) {
                true => leader,
                false => self.other_than(leader),
            },
        };
        let elsewhere = self.chance.random_range(0..self.world.node_count());
        let sides = match point {
            Point::Settled => Sides { phone: elsewhere, companion: victim },
            Point::Approved | Point::Committed => Sides { phone: victim, companion: elsewhere },
            _ => Sides { phone: elsewhere, companion: anybody },
        };
        Ok((victim, sides))
    }
}

fn who(household: &Household<'_>) -> String {
    format!("{}/phone", household.name)
}
