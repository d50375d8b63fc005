//! Nodes that fall behind, lose their directory, or find a damaged record.

use kindred_core::id::ShardId;
use kindred_core::state::Key;
use kindred_store::engine::{Column, Read as _};
use kindred_store::keys;

use super::{DURATION, Stage, check, link_and_check, owner, print_disks, stop};
use crate::cluster::{Cluster, REGIONS, host, sim};
use crate::pairing::Failed;
use crate::trace::line;

/// The node that suffers; any but the one that formed the cluster and leads at first.
const VICTIM: usize = 2;
/// The home shard of the account in these scenarios (region 1).
const HOME: ShardId = ShardId(200);

/// A run in which the devices link, the world does something, and the devices link again.
fn between(
    seed: u64,
    snapshot_every_entries: u64,
    mut act: impl FnMut(&mut turmoil::Sim<'_>, &Cluster, u32) -> Result<bool, Failed>,
) -> Result<Cluster, Failed> {
    let mut cluster = Cluster::new(seed);
    cluster.snapshot_every_entries = snapshot_every_entries;
    let mut sim = sim(seed, DURATION);
    cluster.hosts(&mut sim);
    let stage = Stage::default();
    let devices = stage.clone();
    sim.client("devices", async move {
        let mut owner = owner(seed).await?;
        link_and_check(&mut owner, 1).await?;
        devices.reach(1);
        devices.wait(2).await;
        link_and_check(&mut owner, 2).await?;
        devices.reach(3);
        devices.wait(4).await;
        check(&owner).await?;
        link_and_check(&mut owner, 1).await
    });
    while !sim.step()? {
        let now = stage.at();
        if matches!(now, 1 | 3) && act(&mut sim, &cluster, now)? {
            stage.reach(now + 1);
        }
    }
    drop(sim);
    Ok(cluster)
}

/// True once the node has applied as much of the home shard as the node of index 0.
fn caught_up(cluster: &Cluster) -> bool {
    let state = |index: usize| {
        let engine = cluster.engine(index);
        let all = (0..u32::MAX).take(16).map(|generation| keys::state_range(HOME, generation));
        let of = |(from, to): (Vec<u8>, Vec<u8>)| {
            let pairs = engine.scan(Column::State, &from, &to, usize::MAX).unwrap_or_default();
            let relative = |(key, value): (Vec<u8>, bytes::Bytes)| (key[from.len()..].to_vec(), value);
            pairs.into_iter().map(relative).collect::<Vec<_>>()
        };
        all.map(of).find(|pairs| !pairs.is_empty()).unwrap_or_default()
    };
    !state(0).is_empty() && state(0) == state(VICTIM)
}

/// One node is away while the others purge the log that it would need: it gets a snapshot, in chunks, and catches up.
pub fn lag(seed: u64) -> Result<(), Failed> {
    let cluster = between(seed, 4, |sim, cluster, stage| {
        if stage == 1 {
            stop(sim, cluster, VICTIM);
            return Ok(true);
        }
        if !sim.is_host_running(host(VICTIM)) {
            sim.bounce(host(VICTIM));
        }
        Ok(caught_up(cluster))
    })?;
    let (first, _) = keys::state_range(HOME, 2);
    let (_, last) = keys::state_range(HOME, u32::MAX);
    if cluster.engine(VICTIM).scan(Column::State, &first, &last, 1)?.is_empty() {
        return Err("the lagging replica caught up without a snapshot".into());
    }
    print_disks(&cluster);
    Ok(())
}

/// One node loses its directory: it comes back under new ids, is made a voter again, and takes part.
pub fn wipe(seed: u64) -> Result<(), Failed> {
    let mut before = None;
    let cluster = between(seed, 1_000, |sim, cluster, stage| {
        if stage == 1 {
            before = cluster.replica_id(VICTIM, HOME);
            stop(sim, cluster, VICTIM);
            cluster.wipe(VICTIM);
            sim.bounce(host(VICTIM));
            return Ok(true);
        }
        // The other two can only go on with it from here.
        if caught_up(cluster) && sim.is_host_running(host(0)) {
            stop(sim, cluster, 0);
            return Ok(true);
        }
        Ok(false)
    })?;
    let after = cluster.replica_id(VICTIM, HOME);
    if before.is_none() || after.is_none() || before == after {
        return Err(format!("replica ids before and after the loss: {before:?}, {after:?}").into());
    }
    print_disks(&cluster);
    Ok(())
}

/// Records of one replica rot: that replica is rebuilt from its peers under a new id, the others never notice. Its node is
/// restarted, because what a running one has in memory it need not read again; the shard's own record stays whole, so that
/// the replica opens and meets the damage while it applies.
pub fn rot(seed: u64) -> Result<(), Failed> {
    let mut before = None;
    let cluster = between(seed, 1_000, |sim, cluster, stage| {
        if stage == 1 {
            before = cluster.replica_id(VICTIM, HOME);
            stop(sim, cluster, VICTIM);
            let engine = cluster.engine(VICTIM);
            let (from, to) = keys::state_range(HOME, 1);
            let whole = keys::state(HOME, 1, &Key::Shard);
            for (key, _) in engine.scan(Column::State, &from, &to, usize::MAX)? {
                if key != whole {
                    engine.damage(Column::State, &key, 77);
                }
            }
            sim.bounce(host(VICTIM));
            return Ok(true);
        }
        Ok(cluster.replica_id(VICTIM, HOME) != before && caught_up(cluster))
    })?;
    print_disks(&cluster);
    Ok(())
}

/// Two of three lose their directories at once: the survivor refuses service, and nothing is invented.
pub fn two_wiped(seed: u64) -> Result<(), Failed> {
    let cluster = Cluster::new(seed);
    let mut sim = sim(seed, DURATION);
    cluster.hosts(&mut sim);
    let stage = Stage::default();
    let devices = stage.clone();
    sim.client("devices", async move {
        let mut owner = owner(seed).await?;
        link_and_check(&mut owner, 1).await?;
        devices.reach(1);
        devices.wait(2).await;
        for index in 0..REGIONS.len() {
            let client = Cluster::client(&[index])?;
            for session in &owner.sessions {
                let verdict = owner.verdict(&client, *session).await;
                // Any doubt is fine, and so is no answer; a sign-out, or a promise without a quorum, is not.
                match verdict {
                    Ok(verdict) if !verdict.starts_with("Some(Undetermined") => {
                        return Err(format!("{session} is {verdict} at {}", host(index)).into());
                    }
                    _ => {}
                }
            }
            let client = Cluster::client(&[index])?;
            if owner.link(&client, &client).await.is_ok() {
                return Err("a link was promised without a quorum".into());
            }
        }
        line("refused everywhere, nobody signed out");
        Ok(())
    });
    while !sim.step()? {
        if stage.at() == 1 {
            for index in [0, VICTIM] {
                stop(&mut sim, &cluster, index);
                cluster.wipe(index);
                sim.bounce(host(index));
            }
            stage.reach(2);
        }
    }
    drop(sim);
    print_disks(&cluster);
    Ok(())
}
