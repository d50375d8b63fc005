//! One link at a time, held at a named point while the process that leads the shard concerned is killed.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kindred_check::Note;
use kindred_core::id::{AccountId, ShardId};
use kindred_core::model::Receipt;
use tokio::time::Instant;

use super::steps::Stage;
use super::tour::{Kill, millis, spell};
use crate::points::Hold;

/// The nodes agree on a leader, or a point is armed, within this time.
const SOON: Duration = Duration::from_secs(15);
/// The saga comes to the held point within this time.
const REACHED_WITHIN: Duration = Duration::from_secs(20);

/// Where the saga is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// The ticket is approved, nobody has linked yet.
    Approved,
    /// The link is committed, the ticket not yet settled.
    Linked,
    /// The ticket is settled, nobody told yet.
    Settled,
}

impl Point {
    /// Its name, as in the interface and in the history.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Approved => "ticket.approved",
            Self::Linked => "link.committed",
            Self::Settled => "ticket.settled",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Approved => "ticket.approved: killed when the owner has said yes and nothing is linked yet",
            Self::Linked => "link.committed: killed when the session exists and the ticket does not know it",
            Self::Settled => "ticket.settled: killed when all is decided and neither side was told",
        }
    }

    fn why(self) -> &'static [&'static str] {
        match self {
            Self::Approved => &[
                "The pairing is held right after the approval is committed at the ticket's shard, and the process",
                "that leads that shard is killed. The phone loses its reply and asks again, under the same request id.",
            ],
            Self::Linked => &[
                "Held right after the link is committed at the account's shard, whose leader is killed. A naive retry",
                "would link a second time here; this one must find the session that is there.",
            ],
            Self::Settled => &[
                "Held when the ticket is settled, before the phone or the companion hears of it. Both lose their",
                "connections with the leader of the ticket's shard, and must learn of the one session elsewhere.",
            ],
        }
    }
}

/// Where the account lives and where its companion opens the ticket, by index of the region.
struct Place {
    home: usize,
    opened_in: usize,
}

/// Who is to be killed, and where the two sides are connected.
struct Stand {
    /// The shard whose leader dies.
    shard: ShardId,
    victim: usize,
    phone_at: usize,
    companion_at: usize,
    /// Nodes on which the phone's frontend is held besides, so that nobody is told.
    phone_held_at: Option<usize>,
}

/// What happened.
struct Fallen {
    at: Instant,
    node: usize,
    log_index: u64,
}

impl Stage<'_> {
    /// A fresh account with one companion links another one while a node dies at `point`.
    pub(super) async fn kill_at(&mut self, point: Point, account: &str) -> anyhow::Result<()> {
        let lab = self.lab;
        self.tour.begin(point.name(), point.title(), point.why());
        let place = self.place(point).await?;
        let phone = lab.register(account, place.home).await?;
        self.link(&phone, "laptop", place.home).await?;
        let regions = &lab.map.regions;
        self.tour.say(&format!(
            "{account} lives in {} and has a laptop; a browser opens its ticket in {}",
            regions[place.home].name, regions[place.opened_in].name
        ));

        let browser = lab.companion(&phone, "browser");
        let shown = lab.open(&browser, place.opened_in).await?;
        let who = format!("{account}/phone");
        let member = lab.scan(&phone, &shown, &who).await?;
        let ticket_shard = lab.map.ticket(&shown.ticket).context("the ticket belongs to no shard")?;
        let stand = self.stand(point, &place, ticket_shard, &member.account).await?;
        let holds = self.arm(point, &stand, &member.account).await?;

        let (phone_nodes, companion_nodes) = (lab.from(stand.phone_at), lab.from(stand.companion_at));
        let approving = timed(lab.approve(&member, &shown, &who, &phone_nodes));
        let watching = timed(lab.await_linked(&browser, &shown, &companion_nodes));
        self.tour.wait(&format!("the saga to reach {}", point.name()));
        let (approved, told, fallen) =
            tokio::try_join!(approving, watching, self.strike(point, &stand, holds, account))?;
        judge_link(account, &approved.0, &told.0)?;
        self.tell_fall(point, &stand, &fallen, [approved.1, told.1]);
        self.validate_all(account, Some(fallen.node)).await?;
        self.revive(fallen.node).await?;
        self.tour.end(&lab.recorder);
        Ok(())
    }

    /// Two regions whose shards are led by different nodes, so that only one side of the saga dies; any two regions if
    /// one node leads everything just now.
    async fn place(&mut self, point: Point) -> anyhow::Result<Place> {
        let mut leaders = Vec::new();
        for region in &self.lab.map.regions {
            let shard = *region.shards.first().context("a region without shards")?;
            leaders.push(self.doors.leader(shard, SOON).await?);
        }
        let count = leaders.len();
        let turn = point as usize;
        let pairs = (0..count).flat_map(|a| (1..count).map(move |b| ((a + turn) % count, (a + b + turn) % count)));
        let pairs: Vec<_> = pairs.collect();
        let apart = pairs.iter().find(|(home, opened_in)| leaders[*home] != leaders[*opened_in]);
        let (home, opened_in) = *apart.or(pairs.first()).context("the demo needs two regions")?;
        Ok(Place { home, opened_in })
    }

    async fn stand(
        &self,
        point: Point,
        place: &Place,
        ticket_shard: ShardId,
        account: &AccountId,
    ) -> anyhow::Result<Stand> {
        let home = kindred_core::id::RegionIndex(u16::try_from(place.home)?);
        let account_shard = self.lab.map.account(home, account).context("the account belongs to no shard")?;
        let ticket_leader = self.doors.leader(ticket_shard, SOON).await?;
        let account_leader = self.doors.leader(account_shard, SOON).await?;
        let (shard, victim) = match point {
            Point::Approved | Point::Settled => (ticket_shard, ticket_leader),
            Point::Linked => (account_shard, account_leader),
        };
        // The account's leader performs the outbox; were it held at link.committed, nothing would ever be settled.
        let phone_at = if point == Point::Settled && victim == account_leader {
            (victim + 1) % self.lab.node_count()
        } else {
            victim
        };
        let phone_held_at = (point == Point::Settled).then_some(phone_at);
        Ok(Stand { shard, victim, phone_at, companion_at: victim, phone_held_at })
    }

    async fn arm(&self, point: Point, stand: &Stand, account: &AccountId) -> anyhow::Result<Vec<Hold>> {
        let mut holds = Vec::new();
        for node in 0..self.lab.node_count() {
            holds.push(self.doors.hold(node, point.name(), account, SOON).await?);
        }
        // The victim's hold is the one that is waited for.
        holds.sort_by_key(|hold| hold.node != stand.victim);
        if let Some(node) = stand.phone_held_at {
            holds.push(self.doors.hold(node, Point::Linked.name(), account, SOON).await?);
        }
        Ok(holds)
    }

    /// Waits until the saga stands at the point on the victim, kills whoever leads the shard then, and lets go.
    async fn strike(
        &mut self,
        point: Point,
        stand: &Stand,
        mut holds: Vec<Hold>,
        account: &str,
    ) -> anyhow::Result<Fallen> {
        let hold = holds.first_mut().context("no point is armed")?;
        let log_index = match tokio::time::timeout(REACHED_WITHIN, hold.reached()).await {
            Ok(reached) => reached?,
            Err(_) => bail!(
                "waited {} s for {account}'s link to reach {} on {}",
                REACHED_WITHIN.as_secs(),
                point.name(),
                self.cluster.nodes[stand.victim].name
            ),
        };
        let node = self.doors.leader(stand.shard, SOON).await?;
        let name = self.cluster.nodes[node].name.clone();
        let pid = self.cluster.nodes[node].pid().unwrap_or_default();
        self.lab.recorder.note(
            "demo",
            Note::Kill {
                node: name.clone(),
                shard: Some(stand.shard.0),
                point: point.name().to_owned(),
                log_index: Some(log_index),
            },
        );
        self.lab.set_up(node, false);
        let at = Instant::now();
        self.cluster.nodes[node].kill();
        drop(holds);
        self.tour.say(&format!(
            "held at log index {log_index}; SIGKILL to {name} (process {pid}), which leads shard {}",
            stand.shard
        ));
        self.tour.wait("the phone and the companion to be told");
        Ok(Fallen { at, node, log_index })
    }

    fn tell_fall(&mut self, point: Point, stand: &Stand, fallen: &Fallen, told: [Instant; 2]) {
        let [phone_ms, companion_ms] = told.map(|at| millis(at.saturating_duration_since(fallen.at)));
        self.tour.say(&format!(
            "linked once: the phone knew {} after the kill, the browser {}; every sibling is there",
            spell(phone_ms),
            spell(companion_ms)
        ));
        self.tour.killed(Kill {
            node: self.cluster.nodes[fallen.node].name.clone(),
            shard: Some(stand.shard.0),
            point: point.name().to_owned(),
            log_index: Some(fallen.log_index),
            phone_told_ms: Some(phone_ms),
            companion_told_ms: Some(companion_ms),
        });
    }
}

/// The story goes on only if it is true so far; the figures are the checkers' to make.
fn judge_link(account: &str, approved: &Receipt, told: &Receipt) -> anyhow::Result<()> {
    ensure!(
        approved.session == told.session,
        "{account}'s phone was told session {} and its browser session {}",
        approved.session,
        told.session
    );
    let kept = approved.sessions_before.iter().all(|session| approved.sessions_after.contains(session));
    ensure!(kept, "the link of {account}'s browser dropped a sibling: {approved:?}");
    ensure!(
        approved.sessions_after.len() == approved.sessions_before.len() + 1,
        "the link of {account}'s browser made more than one session: {approved:?}"
    );
    Ok(())
}

/// With the time at which it was there.
async fn timed<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Instant)> {
    let done = work.await?;
    Ok((done, Instant::now()))
}
