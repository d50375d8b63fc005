//! One link at a time, held at a named point while the process that leads the shard concerned is killed.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kindred_check::Note;
use kindred_core::id::ShardId;
use kindred_core::model::Receipt;
use tokio::time::Instant;

use super::people::Phone;
use super::placing::Stand;
use super::steps::Stage;
use super::tour::{Kill, millis, spell};
use crate::points::Hold;

/// A point is armed, or the nodes agree on a leader, within this time.
pub(super) const SOON: Duration = Duration::from_secs(15);
/// The saga comes to the held point within this time.
const REACHED_WITHIN: Duration = Duration::from_secs(20);
/// A frozen leader is not yet replaced for this long: its followers wait out the lease and an election timeout first.
const NOT_REPLACED_FOR: Duration = Duration::from_millis(700);

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
                "Held right after the link is committed at the account's shard, whose leader is killed. The leader of",
                "the ticket's shard is frozen meanwhile, so that nothing settles the ticket. A naive retry would link a",
                "second time here; this one must find the session that is there.",
            ],
            Self::Settled => &[
                "Held when the ticket is settled, before the phone or the companion hears of it. Both lose their",
                "connections with the leader of the ticket's shard, and must learn of the one session elsewhere.",
            ],
        }
    }
}

/// What happened.
struct Fallen {
    at: Instant,
    node: usize,
    log_index: u64,
}

/// The armed points.
struct Holds {
    /// On the victim: the one that is waited for.
    at_victim: Hold,
    /// Before it, on the victim: there the leader of the ticket's shard is frozen.
    before: Option<Hold>,
    /// On everybody else, who is only kept waiting.
    _others: Vec<Hold>,
}

impl Stage<'_> {
    /// A fresh account with one companion links another one while a node dies at `point`.
    pub(super) async fn kill_at(&mut self, point: Point, account: &str) -> anyhow::Result<()> {
        let lab = self.lab;
        self.tour.begin(point.name(), point.title(), point.why());
        let place = self.place(point).await?;
        let phone = lab.register(account, place.home).await?;
        self.link(&phone, "laptop", place.home).await?;
        let region = |index: usize| lab.map.regions[index].name.as_str();
        self.tour.say(&format!(
            "{account} lives in {} and has a laptop; a browser opens its ticket in {}",
            region(place.home),
            region(place.opened_in)
        ));

        let browser = lab.companion(&phone, "browser");
        let shown = lab.open(&browser, place.opened_in).await?;
        let who = format!("{account}/phone");
        let member = lab.scan(&phone, &shown, &who).await?;
        let ticket_shard = lab.map.ticket(&shown.ticket).context("the ticket belongs to no shard")?;
        let stand = self.stand(point, &place, ticket_shard, &phone).await?;
        let holds = self.arm(point, &stand, &phone).await?;
        // A follower that is still catching up would make the link wait for one that is about to be frozen.
        self.doors.level(SOON).await?;

        let (phone_nodes, companion_nodes) = (lab.from(stand.phone_at), lab.from(stand.victim));
        let told = Cell::new(0);
        let approving = timed(&told, lab.approve(&member, &shown, &who, &phone_nodes));
        let watching = timed(&told, lab.await_linked(&browser, &shown, &companion_nodes));
        self.tour.wait(&format!("the saga to reach {}", point.name()));
        let striking = self.strike(point, &stand, holds, &phone, &told);
        let (approved, watched, fallen) = tokio::try_join!(approving, watching, striking)?;
        judge_link(account, &approved.0, &watched.0)?;
        self.tell_fall(point, stand.shard, &fallen, [approved.1, watched.1]);
        self.validate_all(account, Some(fallen.node)).await?;
        self.revive(fallen.node).await?;
        self.tour.end(&lab.recorder);
        Ok(())
    }

    async fn arm(&self, point: Point, stand: &Stand, phone: &Phone) -> anyhow::Result<Holds> {
        let account = &phone.member.account;
        let at_victim = self.doors.hold(stand.victim, point.name(), account, SOON).await?;
        let before = match stand.freeze {
            Some(_) => Some(self.doors.hold(stand.victim, Point::Approved.name(), account, SOON).await?),
            None => None,
        };
        let mut others = Vec::new();
        for node in (0..self.lab.node_count()).filter(|node| *node != stand.victim) {
            others.push(self.doors.hold(node, point.name(), account, SOON).await?);
        }
        if let Some(node) = stand.phone_held_at {
            others.push(self.doors.hold(node, Point::Linked.name(), account, SOON).await?);
        }
        Ok(Holds { at_victim, before, _others: others })
    }

    /// Waits until the saga stands at the point on the victim, looks whether that is so, kills, and lets go.
    async fn strike(
        &mut self,
        point: Point,
        stand: &Stand,
        mut holds: Holds,
        phone: &Phone,
        told: &Cell<u8>,
    ) -> anyhow::Result<Fallen> {
        let mut frozen = None;
        if let (Some(mut before), Some(node)) = (holds.before.take(), stand.freeze) {
            self.reached(&mut before, Point::Approved, phone).await?;
            self.cluster.nodes[node].freeze();
            frozen = Some((node, Instant::now()));
        }
        let log_index = self.reached(&mut holds.at_victim, point, phone).await?;
        self.witness(point, stand.victim, phone).await?;
        ensure!(told.get() == 0, "{}: somebody was told before the kill", point.name());
        let node = if self.doors.led_by(stand.victim).await.contains(&stand.shard) {
            stand.victim
        } else {
            self.doors.leader(stand.shard, SOON).await?
        };
        if let Some((ticket_leader, since)) = frozen
            && since.elapsed() > NOT_REPLACED_FOR
        {
            let name = &self.cluster.nodes[ticket_leader].name;
            self.tour.say(&format!("this took {}; {name} may have been replaced", spell(millis(since.elapsed()))));
        }
        let at = self.kill(node, point, stand.shard, log_index);
        drop(holds);
        if let Some((node, _)) = frozen {
            self.cluster.nodes[node].thaw();
        }
        self.tour.wait("the phone and the companion to be told");
        Ok(Fallen { at, node, log_index })
    }

    async fn reached(&self, hold: &mut Hold, point: Point, phone: &Phone) -> anyhow::Result<u64> {
        match tokio::time::timeout(REACHED_WITHIN, hold.reached()).await {
            Ok(reached) => reached,
            Err(_) => bail!(
                "waited {} s for {}'s link to reach {} on {}",
                REACHED_WITHIN.as_secs(),
                phone.account,
                point.name(),
                self.cluster.nodes[hold.node].name
            ),
        }
    }

    /// The account's shard itself says whether the link is there already.
    async fn witness(&self, point: Point, node: usize, phone: &Phone) -> anyhow::Result<()> {
        let listed = self.lab.list(&phone.member.account, "witness", node).await?.sessions.len();
        let expected = if point == Point::Approved { 2 } else { 3 };
        ensure!(
            listed == expected,
            "at {} {} has {listed} sessions, not {expected}: this is not the point that was meant",
            point.name(),
            phone.account
        );
        Ok(())
    }

    fn kill(&mut self, node: usize, point: Point, shard: ShardId, log_index: u64) -> Instant {
        let name = self.cluster.nodes[node].name.clone();
        let pid = self.cluster.nodes[node].pid().unwrap_or_default();
        self.lab.recorder.note(
            "demo",
            Note::Kill {
                node: name.clone(),
                shard: Some(shard.0),
                point: point.name().to_owned(),
                log_index: Some(log_index),
            },
        );
        self.lab.set_up(node, false);
        let at = Instant::now();
        self.cluster.nodes[node].kill();
        self.tour.say(&format!(
            "held at log index {log_index}; SIGKILL to {name} (process {pid}), which leads shard {shard}"
        ));
        at
    }

    fn tell_fall(&mut self, point: Point, shard: ShardId, fallen: &Fallen, told: [Instant; 2]) {
        let [phone_ms, companion_ms] = told.map(|at| millis(at.saturating_duration_since(fallen.at)));
        self.tour.say(&format!(
            "linked once: the phone knew {} after the kill, the browser {}; every sibling is there",
            spell(phone_ms),
            spell(companion_ms)
        ));
        self.tour.killed(Kill {
            node: self.cluster.nodes[fallen.node].name.clone(),
            shard: Some(shard.0),
            point: point.name().to_owned(),
            log_index: Some(fallen.log_index),
            phone_told_ms: Some(phone_ms),
            companion_told_ms: Some(companion_ms),
        });
    }
}

/// With the time at which it was there; `told` counts how many are.
async fn timed<T>(told: &Cell<u8>, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Instant)> {
    let done = work.await?;
    told.set(told.get() + 1);
    Ok((done, Instant::now()))
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
