//! After the storm: the lights go out once more, everybody comes back, and each account and each session that was ever
//! acknowledged is asked about.

use std::time::Duration;

use anyhow::bail;
use kindred_check::Level;
use kindred_core::id::AccountId;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use tokio::time::Instant;

use super::strike::{HEALS_WITHIN, Striker};
use super::world::{Known, World};
use crate::points::Doors;

/// Questions under way at once.
const LANES: usize = 12;
/// Somebody can say something of a session within this time.
const VERDICT_WITHIN: Duration = Duration::from_secs(30);
/// Between two questions about one session.
const PAUSE: Duration = Duration::from_millis(100);

/// Fails if anybody cannot be asked; what they say is for the checkers.
pub(super) async fn settle(striker: &mut Striker<'_, '_>) -> anyhow::Result<()> {
    striker.kill_all().await?;
    striker.heal().await?;
    level(&striker.doors).await?;
    let world = striker.world;
    let (accounts, known) = (world.accounts(), world.known());
    let lanes = (0..LANES).map(|lane| audit(world, lane, &accounts, &known));
    futures::future::try_join_all(lanes).await?;
    Ok(())
}

/// All replicas have applied the same entries.
async fn level(doors: &Doors) -> anyhow::Result<()> {
    doors.level(HEALS_WITHIN).await.map(drop)
}

async fn audit(world: &World, lane: usize, accounts: &[AccountId], known: &[Known]) -> anyhow::Result<()> {
    let who = format!("auditor {}", lane + 1);
    for (number, account) in accounts.iter().enumerate().skip(lane).step_by(LANES) {
        let what = format!("the sessions of {account}");
        let asked = world.learn_at_last(&what, number % world.node_count(), async |client| {
            world.ask(client, &who).list(account).await
        });
        asked.await?;
    }
    for (number, known) in known.iter().enumerate().skip(lane).step_by(LANES) {
        verdict(world, &who, number % world.node_count(), known).await?;
    }
    Ok(())
}

async fn verdict(world: &World, who: &str, first: usize, known: &Known) -> anyhow::Result<()> {
    let deadline = Instant::now() + VERDICT_WITHIN;
    for node in (0..world.node_count()).cycle().skip(first) {
        let client = world.client(node);
        let told = world.ask(client, who).validate((&known.account, known.session), Level::Linearizable).await;
        match told.ok().and_then(|reply| reply.verdict) {
            Some(Verdict::Valid(_)) => return Ok(()),
            Some(Verdict::SignedOut(_)) => {
                let what = format!("why {} has ended", known.session);
                let asked = world.learn_at_last(&what, node, async |client| {
                    world.ask(client, who).why(&known.account, known.session).await
                });
                return asked.await.map(drop);
            }
            _ if Instant::now() >= deadline => break,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
    bail!("nobody can say whether session {} of {} is valid", known.session, known.account)
}
