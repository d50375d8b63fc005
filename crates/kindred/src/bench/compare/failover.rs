//! The gap in successful writes after SIGKILL of the leader, Kindred's beside etcd's. Writes go on all the time from many
//! callers, through any node that answers, so both cores are busy; each caller repeats its write until it is done.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::Context as _;
use kindred_client::{Client, Patience};
use kindred_core::id::{AccountId, RegionIndex};
use tokio::time::Instant;

use super::super::lab::{Lab, busy};
use super::super::prepare::Opened;
use super::etcd::Etcd;
use super::figures::median;
use super::store::{Peer, own_account};
use super::targets::ratio;

/// Writers.
const IN_FLIGHT: usize = 64;
/// The leader is killed after this part of the writes.
const KILL_AFTER_PART: usize = 4;
/// A write that is not done by then has failed.
const DONE_WITHIN: Duration = Duration::from_secs(30);
/// The shortest attempt of a writer; each next writer is a little more patient, so that attempts do not fall together.
/// What a dead leader has swallowed is never answered, so longer attempts would measure themselves.
const ATTEMPT_MIN: Duration = Duration::from_millis(200);
const ATTEMPT_STEP: Duration = Duration::from_millis(4);
const PAUSE: Duration = Duration::from_millis(20);
const LEADER_WITHIN: Duration = Duration::from_secs(20);
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Gaps of both, in ms, one for each kill. What made a kill worthless is kept too.
#[derive(Default)]
pub(super) struct Gaps {
    pub(super) ours_ms: Vec<f64>,
    pub(super) etcd_ms: Vec<f64>,
    pub(super) rejected: Vec<String>,
}

impl Gaps {
    /// Our median by etcd's.
    pub(super) fn ratio(&self) -> Result<f64, String> {
        if let Some(why) = self.rejected.first() {
            return Err(why.clone());
        }
        let medians = median(self.ours_ms.clone()).zip(median(self.etcd_ms.clone()));
        let (ours, theirs) = medians.ok_or("not measured")?;
        ratio(ours, theirs).ok_or_else(|| "no ratio to zero".to_owned())
    }

    /// Keeps one kill, or why it is worth nothing.
    pub(super) fn keep(gaps: &mut Vec<f64>, rejected: &mut Vec<String>, kill: anyhow::Result<f64>) {
        match kill {
            Ok(gap_ms) => gaps.push(gap_ms),
            Err(error) => rejected.push(format!("{error:#}")),
        }
    }
}

/// How long a writer waits before it asks the next node.
fn attempt(worker: usize) -> Duration {
    ATTEMPT_MIN + ATTEMPT_STEP * u32::try_from(worker).unwrap_or(u32::MAX)
}

/// The longest time without a write that was done, ending after the kill. None if none was done after it.
fn longest_gap(mut done: Vec<Instant>, killed: Instant) -> Option<Duration> {
    done.sort();
    let pairs = done.windows(2).filter(|pair| pair[1] > killed);
    pairs.map(|pair| pair[1].duration_since(pair[0])).max()
}

/// Keeps many writes going until all are done, and kills in the middle.
async fn gap(
    writes: usize,
    write: impl AsyncFn(usize, usize) -> Result<(), String>,
    kill: impl FnOnce(),
) -> anyhow::Result<f64> {
    let (next, failed) = (Cell::new(0), RefCell::new(None));
    let done = RefCell::new(Vec::with_capacity(writes));
    let enough = tokio::sync::Notify::new();
    let writers = (0..IN_FLIGHT).map(async |worker| {
        loop {
            let number = next.replace(next.get() + 1);
            if number >= writes {
                return;
            }
            match tokio::time::timeout(DONE_WITHIN, write(worker, number)).await {
                Ok(Ok(())) => done.borrow_mut().push(Instant::now()),
                Ok(Err(error)) => drop(failed.borrow_mut().replace(error)),
                Err(_) => drop(failed.borrow_mut().replace("a write was not done in time".to_owned())),
            }
            if done.borrow().len() >= writes / KILL_AFTER_PART {
                enough.notify_one();
            }
        }
    });
    let killer = async {
        enough.notified().await;
        kill();
        Instant::now()
    };
    let (_, killed) = futures::future::join(futures::future::join_all(writers), killer).await;
    if let Some(error) = failed.into_inner() {
        anyhow::bail!("a write failed: {error}");
    }
    let gap = longest_gap(done.into_inner(), killed).context("no write was done after the kill")?;
    Ok(gap.as_secs_f64() * 1000.0)
}

/// Kills the node that leads the accounts' shard while links go on; starts it again and waits until all is level.
pub(super) async fn kill_ours(lab: &mut Lab<'_>, writes: usize) -> anyhow::Result<f64> {
    let ready = lab.prepared(Opened::AtHome, writes).await?;
    let any = AccountId::new(b"any").context("account id")?;
    let shard = lab.map().account(RegionIndex(0), &any).context("the accounts' shard")?;
    let leader = lab.doors.leader(shard, LEADER_WITHIN).await?;
    let mut gateways = lab.cluster.gateways();
    // Callers reach the node of their home region first, as everywhere else.
    gateways.rotate_left(leader);
    let attempts = u32::try_from(DONE_WITHIN.as_millis() / PAUSE.as_millis()).unwrap_or(u32::MAX);
    let connections = (0..lab.channels.len())
        .map(|_| Ok(Client::connect(lab.net.clone(), &gateways)?))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let client = |worker: usize| {
        let patience = Patience { attempts, attempt: attempt(worker), pause: PAUSE, pause_max: 5 * PAUSE };
        connections[worker % connections.len()].clone().with_patience(patience)
    };
    let clients: Vec<_> = (0..IN_FLIGHT).map(client).collect();
    let write = async |worker: usize, number: usize| {
        let message = ready[number].message.clone();
        let sent = clients[worker].send_approval(message).await;
        sent.map(|_| ()).map_err(super::super::people::name)
    };
    let bar = busy("links while the leader is killed");
    let nodes = &mut lab.cluster.nodes;
    let gap_ms = gap(ready.len(), write, || nodes[leader].kill()).await;
    bar.finish_and_clear();
    if !lab.cluster.nodes[leader].running() {
        lab.cluster.nodes[leader].spawn()?;
    }
    lab.cluster.ready(READY_WITHIN).await?;
    lab.level().await?;
    lab.settle().await?;
    gap_ms
}

/// The same for etcd's leader. A write whose outcome is unknown is looked up before it is repeated.
pub(super) async fn kill_etcd(peer: &mut Peer<Etcd>, writes: usize) -> anyhow::Result<f64> {
    peer.store.settle().await?;
    let (leader, versions) = (peer.store.leader(), &peer.versions);
    let mut servers = std::mem::take(&mut peer.store.servers);
    let etcd = &peer.store;
    // Which member each worker prefers, and how many accounts it has had.
    let at = RefCell::new(vec![leader; IN_FLIGHT]);
    let turns = RefCell::new(vec![0_usize; IN_FLIGHT]);
    let write = async |worker: usize, _: usize| {
        let account = own_account(worker, IN_FLIGHT, &mut turns.borrow_mut()[worker]);
        let version = versions[account].get();
        loop {
            let member = at.borrow()[worker];
            let tried = async {
                if etcd.link_through(worker, member, account, version).await? {
                    return Ok(true);
                }
                Ok::<_, String>(etcd.version(worker, member, account).await? == version + 1)
            };
            if let Ok(Ok(true)) = tokio::time::timeout(attempt(worker), tried).await {
                versions[account].set(version + 1);
                return Ok(());
            }
            at.borrow_mut()[worker] += 1;
            tokio::time::sleep(PAUSE).await;
        }
    };
    let bar = busy("etcd's writes while its leader is killed");
    let gap_ms = gap(writes, write, || servers[leader].kill()).await;
    bar.finish_and_clear();
    peer.store.servers = servers;
    if !peer.store.servers[leader].is_running() {
        peer.store.servers[leader].spawn()?;
    }
    peer.store.settle().await?;
    gap_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_longest_silence_that_ends_after_the_kill() {
        let start = Instant::now();
        let at = |ms: &[u64]| ms.iter().map(|ms| start + Duration::from_millis(*ms)).collect::<Vec<_>>();
        let killed = start + Duration::from_millis(1_000);
        // A pause before the kill does not count, and answers may have been noted out of order.
        let done = at(&[0, 900, 1_850, 990, 1_010, 1_900]);
        assert_eq!(longest_gap(done, killed), Some(Duration::from_millis(840)));
        assert_eq!(longest_gap(at(&[0, 900]), killed), None);
    }

    #[tokio::test]
    async fn the_kill_comes_in_the_middle_and_a_write_that_fails_makes_it_worthless() {
        let killed_after = Cell::new(None);
        let done = Cell::new(0);
        let write = async |_: usize, _: usize| {
            tokio::task::yield_now().await;
            done.set(done.get() + 1);
            Ok(())
        };
        gap(1_000, write, || killed_after.set(Some(done.get()))).await.unwrap();
        assert_eq!(done.get(), 1_000);
        assert!((250..900).contains(&killed_after.get().unwrap()), "{killed_after:?}");
        let broken = async |_: usize, number: usize| if number == 999 { Err("lost".to_owned()) } else { Ok(()) };
        assert!(gap(1_000, broken, || {}).await.unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn a_worthless_kill_leaves_no_ratio() {
        let mut gaps = Gaps { ours_ms: vec![500.0, 700.0, 900.0], etcd_ms: vec![1_400.0], rejected: vec![] };
        assert_eq!(gaps.ratio(), Ok(0.5));
        let Gaps { ours_ms, rejected, .. } = &mut gaps;
        Gaps::keep(ours_ms, rejected, Err(anyhow::anyhow!("no write was done after the kill")));
        assert!(gaps.ratio().is_err());
        assert!(Gaps::default().ratio().is_err());
    }
}
