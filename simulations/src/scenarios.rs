//! What happens in a run.

mod code;
pub mod file;
mod recovery;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use kindred_client::Client;
use kindred_core::canonical::sha256;
use kindred_core::id::SessionId;
use kindred_store::engine::{Column, Read as _};

pub use code::code;
pub use recovery::{lag, rot, two_wiped, wipe};

use crate::cluster::{Cluster, REGIONS, host, sim};
use crate::pairing::{Failed, Owner};
use crate::trace::{bare, line};
use crate::world::env;

/// Simulated time in which everything must be done.
const DURATION: Duration = Duration::from_secs(120);
/// The clients' entropy is no node's.
const CLIENT: u64 = 100;

/// A scenario that is a function of the seed.
pub type Told = fn(u64) -> Result<(), Failed>;

/// Those that are, by name.
pub const TOLD: [(&str, Told); 7] = [
    ("link", link),
    ("crash", crash),
    ("lag", lag),
    ("wipe", wipe),
    ("rot", rot),
    ("two-wiped", two_wiped),
    ("code", code),
];

/// The one of this name.
pub fn told(name: &str) -> Option<Told> {
    TOLD.iter().find(|(known, _)| *known == name).map(|(_, told)| *told)
}

/// What the devices have reached and what the world has done, each told to the other.
#[derive(Clone, Default)]
struct Stage(Rc<Cell<u32>>);

impl Stage {
    fn reach(&self, stage: u32) {
        self.0.set(stage);
    }

    fn at(&self) -> u32 {
        self.0.get()
    }

    async fn wait(&self, stage: u32) {
        while self.0.get() < stage {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Three companions link, each opened in another region; then all are valid everywhere.
pub fn link(seed: u64) -> Result<(), Failed> {
    let (cluster, mut sim) = (Cluster::new(seed), sim(seed, DURATION));
    cluster.hosts(&mut sim);
    sim.client("devices", async move {
        let mut owner = owner(seed).await?;
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
    let linked = Stage::default();
    let seen = linked.clone();
    sim.client("devices", async move {
        let mut owner = owner(seed).await?;
        for round in 1..=3 {
            link_and_check(&mut owner, 1).await?;
            linked.reach(round);
        }
        // The third crash comes after this.
        tokio::time::sleep(Duration::from_millis(100)).await;
        check(&owner).await
    });
    let mut crashed = 0;
    while !sim.step()? {
        if seen.at() > crashed {
            stop(&mut sim, &cluster, crashed as usize);
            sim.bounce(host(crashed as usize));
            crashed += 1;
        }
    }
    drop(sim);
    print_disks(&cluster);
    Ok(())
}

/// Power loss of one node: the later half of what it had not synced is gone.
fn stop(sim: &mut turmoil::Sim<'_>, cluster: &Cluster, index: usize) {
    sim.crash(host(index));
    let engine = cluster.engine(index);
    let lost = engine.crash(engine.unsynced().div_ceil(2));
    bare(format_args!("{:>9.3} {} crashed and lost {lost} batches", sim.elapsed().as_secs_f64(), host(index)));
}

async fn owner(seed: u64) -> Result<Owner, Failed> {
    Owner::register(&Cluster::client(&[0, 1, 2])?, env(seed, CLIENT), "alice", REGIONS[1]).await
}

/// Links so many companions, then validates every session of the account through every node.
async fn link_and_check(owner: &mut Owner, companions: usize) -> Result<(), Failed> {
    for number in 0..companions {
        let companion = Cluster::client(&[number % 3, (number + 1) % 3, (number + 2) % 3])?;
        let phone = Cluster::client(&[(number + 2) % 3, number % 3, (number + 1) % 3])?;
        let receipt = owner.link(&companion, &phone).await?;
        line(format_args!("linked {} at index {}", receipt.session, receipt.log_index));
    }
    check(owner).await
}

/// Every session that was ever linked is valid, whichever node is asked first.
async fn check(owner: &Owner) -> Result<(), Failed> {
    for index in 0..REGIONS.len() {
        let client = Cluster::client(&[index, (index + 1) % 3, (index + 2) % 3])?;
        for session in &owner.sessions {
            settled(owner, &client, *session, &host(index)).await?;
        }
    }
    line(format_args!("{} sessions valid everywhere", owner.sessions.len()));
    Ok(())
}

/// Asks until the verdict is one: a doubt may last as long as an election, anything but VALID after it is a violation.
async fn settled(owner: &Owner, client: &Client, session: SessionId, node: &str) -> Result<(), Failed> {
    for _ in 0..100 {
        let verdict = owner.verdict(client, session).await?;
        if verdict.starts_with("Some(Valid") {
            return Ok(());
        }
        if !verdict.starts_with("Some(Undetermined") {
            return Err(format!("{session} is {verdict} at {node}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("{session} stayed undetermined at {node}").into())
}

/// A digest of every disk: two runs that agree here agreed on every record.
fn print_disks(cluster: &Cluster) {
    for index in 0..REGIONS.len() {
        for column in Column::ALL {
            let pairs = cluster.engine(index).scan(column, &[], &[0xFF; 64], usize::MAX).unwrap_or_default();
            let parts: Vec<&[u8]> = pairs.iter().flat_map(|(key, value)| [key.as_slice(), value.as_ref()]).collect();
            bare(format_args!("{} {} {} records {}", host(index), column.name(), pairs.len(), sha256(&parts)));
        }
    }
}
