//! What happens in a run.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use kindred_core::canonical::sha256;
use kindred_store::engine::{Column, Read as _};

use crate::cluster::{Cluster, REGIONS, host, sim};
use crate::pairing::{Failed, Owner};
use crate::trace::line;
use crate::world::env;

/// Simulated time in which everything must be done.
const DURATION: Duration = Duration::from_secs(60);
/// The clients' entropy is no node's.
const CLIENT: u64 = 100;

/// Three companions link, each opened in another region; then all are valid everywhere.
pub fn link(seed: u64) -> Result<(), Failed> {
    let (cluster, mut sim) = (Cluster::new(seed), sim(seed, DURATION));
    cluster.hosts(&mut sim);
    sim.client("devices", async move {
        let mut owner = Owner::register(&Cluster::client(&[0, 1, 2])?, env(seed, CLIENT), "alice", REGIONS[1]).await?;
        link_and_check(&mut owner, 3).await
    });
    sim.run()?;
    drop(sim);
    print_disks(&cluster);
    Ok(())
}

/// Companions link while the nodes crash one after the other.
pub fn crash(seed: u64) -> Result<(), Failed> {
    let (cluster, mut sim) = (Cluster::new(seed), sim(seed, DURATION));
    cluster.hosts(&mut sim);
    let linked = Rc::new(RefCell::new(0));
    let seen = linked.clone();
    sim.client("devices", async move {
        let mut owner = Owner::register(&Cluster::client(&[0, 1, 2])?, env(seed, CLIENT), "alice", REGIONS[1]).await?;
        for round in 0..3 {
            link_and_check(&mut owner, 1).await?;
            *seen.borrow_mut() = round + 1;
        }
        Ok(())
    });
    let mut crashed = 0;
    while !sim.step()? {
        if *linked.borrow() > crashed && crashed < REGIONS.len() {
            // All but the first half of what was not synced is lost.
            let node = host(crashed);
            sim.crash(node.as_str());
            let lost = cluster.engine(crashed).crash(cluster.engine(crashed).unsynced().div_ceil(2));
            println!("{:>9.3} {node} crashed and lost {lost} batches", sim.elapsed().as_secs_f64());
            sim.bounce(node.as_str());
            crashed += 1;
        }
    }
    drop(sim);
    print_disks(&cluster);
    Ok(())
}

async fn link_and_check(owner: &mut Owner, companions: usize) -> Result<(), Failed> {
    let mut sessions = vec![owner.phone.session];
    for number in 0..companions {
        let companion = Cluster::client(&[number % 3, (number + 1) % 3])?;
        let phone = Cluster::client(&[(number + 2) % 3, number % 3])?;
        let receipt = owner.link(&companion, &phone).await?;
        line(format_args!("linked {} at index {}", receipt.session, receipt.log_index));
        sessions = receipt.sessions_after;
    }
    for index in 0..REGIONS.len() {
        let client = Cluster::client(&[index, (index + 1) % 3])?;
        for session in &sessions {
            let verdict = owner.verdict(&client, *session).await?;
            if !verdict.starts_with("Some(Valid") {
                return Err(format!("{session} is {verdict} at {}", host(index)).into());
            }
        }
    }
    line(format_args!("{} sessions valid everywhere", sessions.len()));
    Ok(())
}

/// A digest of every disk: two runs that agree here agreed on every record.
fn print_disks(cluster: &Cluster) {
    for index in 0..REGIONS.len() {
        for column in Column::ALL {
            let pairs = cluster.engine(index).scan(column, &[], &[0xFF; 64], usize::MAX).unwrap_or_default();
            let parts: Vec<&[u8]> = pairs.iter().flat_map(|(key, value)| [key.as_slice(), value.as_ref()]).collect();
            println!("{} {} {} records {}", host(index), column.name(), pairs.len(), sha256(&parts));
        }
    }
}
