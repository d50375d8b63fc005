//! The steps of the demo, in order.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kindred_check::{Level, Note};
use kindred_core::id::hex;
use kindred_core::model::Receipt;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_wire::pb::session::v1::why_signed_out_reply::Answer as Why;
use tokio::time::Instant;

use super::kills::Point;
use super::lab::{ANSWER_WITHIN, Known, Lab};
use super::people::Phone;
use super::tour::{Kill, Tour};
use crate::cluster::Cluster;
use crate::points::Doors;

/// Steps of [`Stage::play`] and the start of the cluster before it.
pub(super) const STEPS: usize = 7;
/// A killed node is ready again within this time.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two questions about a session that nobody can say anything of just now.
const PAUSE: Duration = Duration::from_millis(40);

/// Everything that a step needs.
pub(super) struct Stage<'a> {
    pub(super) lab: &'a Lab,
    pub(super) cluster: &'a mut Cluster,
    pub(super) doors: Doors,
    pub(super) tour: &'a mut Tour,
}

impl Stage<'_> {
    /// The whole story, but for the start of the cluster.
    pub(super) async fn play(&mut self) -> anyhow::Result<()> {
        let alice = self.link_three_at_once().await?;
        self.kill_at(Point::Approved, "bob").await?;
        self.kill_at(Point::Linked, "carol").await?;
        self.kill_at(Point::Settled, "dave").await?;
        self.unlink_one(&alice).await?;
        self.power_loss().await
    }

    async fn link_three_at_once(&mut self) -> anyhow::Result<Phone> {
        let lab = self.lab;
        self.tour.begin(
            "concurrent_links",
            "alice links three companions at the same time, one from each region",
            &[
                "Each companion opens a ticket in its own region; the phone reads the text of its QR code, scans and",
                "approves it through that region's node. All three links race for one session set.",
            ],
        );
        self.tour.wait("three links at once");
        let phone = lab.register("alice", 0).await?;
        let names = ["laptop", "browser", "tablet"];
        let linking = names.iter().enumerate().map(|(at, name)| {
            let phone = &phone;
            async move { link(lab, phone, name, at, &format!("alice/phone {}", at + 1)).await }
        });
        let receipts = futures::future::try_join_all(linking).await?;
        for (name, receipt) in names.iter().zip(&receipts) {
            self.tour.say(&format!(
                "{name:8} session {} · set version {} to {}",
                receipt.session, receipt.version_before, receipt.version_after
            ));
        }
        self.validate_all("alice", None).await?;
        self.tour.end(&lab.recorder);
        Ok(phone)
    }

    /// One ordinary link.
    pub(super) async fn link(&mut self, phone: &Phone, what: &str, at: usize) -> anyhow::Result<Receipt> {
        link(self.lab, phone, what, at, &format!("{}/phone", phone.account)).await
    }

    async fn unlink_one(&mut self, alice: &Phone) -> anyhow::Result<()> {
        let lab = self.lab;
        self.tour.begin(
            "unlink",
            "alice unlinks her tablet, by name, and the tablet asks why",
            &["A sign-out is told only with its tombstone: who did it, by which command, at which place in the log."],
        );
        let tablet = lab.known().into_iter().find(|known| known.name == "alice's tablet");
        let tablet = tablet.context("alice has no tablet")?;
        lab.unlink(alice, &tablet).await?;
        match lab.why(&tablet, 1).await?.answer {
            Some(Why::Ended(tombstone)) => {
                self.tour.say(&crate::records::why(&tombstone));
                self.tour.say(&format!("command {}, log index {}", hex(&tombstone.command), tombstone.log_index));
            }
            Some(Why::Active(_)) | None => bail!("alice's tablet was unlinked, and nobody can say why"),
        }
        self.validate_all("alice", None).await?;
        self.tour.say("the tablet is signed out, with that proof; the laptop and the browser are not");
        self.tour.end(&lab.recorder);
        Ok(())
    }

    async fn power_loss(&mut self) -> anyhow::Result<()> {
        let lab = self.lab;
        self.tour.begin(
            "power_loss",
            "the lights go out: SIGKILL to all three nodes, then everybody is asked again",
            &["What was acknowledged is on the disks of a majority: every session, and every sign-out, must be there."],
        );
        for (index, node) in self.cluster.nodes.iter().enumerate() {
            lab.set_up(index, false);
            let (node, point) = (node.name.clone(), "power_loss".to_owned());
            lab.recorder
                .note("demo", Note::Kill { node: node.clone(), shard: None, point: point.clone(), log_index: None });
            self.tour.killed(Kill {
                node,
                shard: None,
                point,
                log_index: None,
                phone_told_ms: None,
                companion_told_ms: None,
            });
        }
        self.cluster.kill_all();
        let dark = Instant::now();
        for index in 0..self.cluster.nodes.len() {
            self.start(index)?;
        }
        self.tour.wait("the nodes to come back");
        self.cluster.ready(READY_WITHIN).await?;
        for index in 0..self.cluster.nodes.len() {
            lab.set_up(index, true);
        }
        self.tour
            .say(&format!("all three serve again after {}", super::tour::spell(super::tour::millis(dark.elapsed()))));
        for account in ["alice", "bob", "carol", "dave"] {
            self.validate_all(account, None).await?;
        }
        let (gone, live): (Vec<_>, Vec<_>) = lab.known().into_iter().partition(|known| known.is_unlinked);
        self.tour.say(&format!("{} sessions are valid, {} is signed out, with its proof", live.len(), gone.len()));
        self.tour.end(&lab.recorder);
        Ok(())
    }

    /// Starts a killed node again and waits until it serves.
    pub(super) async fn revive(&mut self, node: usize) -> anyhow::Result<()> {
        self.tour.wait(&format!("{} to come back", self.cluster.nodes[node].name));
        self.start(node)?;
        self.cluster.ready(READY_WITHIN).await?;
        self.lab.set_up(node, true);
        self.tour.say(&format!("{} is back", self.cluster.nodes[node].name));
        Ok(())
    }

    fn start(&mut self, node: usize) -> anyhow::Result<()> {
        self.cluster.nodes[node].spawn()?;
        self.lab.recorder.note("demo", Note::Restart { node: self.cluster.nodes[node].name.clone() });
        Ok(())
    }

    /// Everybody of the account hears what is true, and the list holds exactly the live ones. `down` is passed over.
    pub(super) async fn validate_all(&self, account: &str, down: Option<usize>) -> anyhow::Result<()> {
        let lab = self.lab;
        let all: Vec<_> =
            lab.known().into_iter().filter(|known| known.account.as_bytes() == account.as_bytes()).collect();
        let nodes: Vec<_> = (0..lab.node_count()).filter(|node| Some(*node) != down).collect();
        self.tour.wait(&format!("the verdicts on {account}'s sessions"));
        for known in &all {
            futures::future::try_join_all(nodes.iter().map(|node| verdict(lab, known, *node))).await?;
        }
        let id = &all.first().context("nobody is known")?.account;
        let live: Vec<_> = all.iter().filter(|k| !k.is_unlinked).map(|k| k.session.to_string()).collect();
        for &node in &nodes {
            let listed = lab.list(id, "auditor", node).await?;
            let told: Vec<_> = listed.sessions.iter().map(|s| hex(&s.session)).collect();
            ensure!(
                told.len() == live.len() && live.iter().all(|session| told.contains(session)),
                "the list of {account} shows {told:?}, and {live:?} are live"
            );
        }
        Ok(())
    }
}

/// Opens, scans, approves, and waits on the other side, through the node `at`.
async fn link(lab: &Lab, phone: &Phone, what: &str, at: usize, who: &str) -> anyhow::Result<Receipt> {
    let companion = lab.companion(phone, what);
    let shown = lab.open(&companion, at).await?;
    let nodes = lab.from(at);
    let approving = async {
        let member = lab.scan(phone, &shown, who).await?;
        lab.approve(&member, &shown, who, &nodes).await
    };
    let (receipt, told) = tokio::try_join!(approving, lab.await_linked(&companion, &shown, &nodes))?;
    ensure!(receipt.session == told.session, "the two sides of one link were told two sessions");
    Ok(receipt)
}

/// Asks one node until it can say something: valid for a live session, signed out with a proof for an unlinked one.
async fn verdict(lab: &Lab, known: &Known, node: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let who = format!("auditor {}", node + 1);
    loop {
        let verdict = match lab.validate(known, &who, node, Level::Linearizable).await {
            Ok(reply) => reply.verdict,
            Err(_) => None,
        };
        match (verdict, known.is_unlinked) {
            (Some(Verdict::Valid(_)), false) => return Ok(()),
            (Some(Verdict::SignedOut(out)), true) if out.tombstone.is_some() => return Ok(()),
            (Some(Verdict::Valid(_)), true) => bail!("{} is valid again after its unlink", known.name),
            (Some(Verdict::SignedOut(_)), _) => bail!("{} was told to be signed out, wrongly", known.name),
            _ if Instant::now() >= deadline => {
                bail!("waited {} s for a verdict on {} ({})", ANSWER_WITHIN.as_secs(), known.name, known.session)
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
