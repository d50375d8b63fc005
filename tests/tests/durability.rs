//! P6: what was acknowledged is on disk on a majority.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use futures::future::join_all;
use kindred_client::{Client, Member};
use kindred_core::id::{RegionIndex, SessionId};
use kindred_core::model::Receipt;
use kindred_tests::people::{Level, validate};
use kindred_tests::trace::{self, Synced};
use kindred_tests::{Cluster, Options, People, REGIONS, SOON, Told, eventually, story};

#[tokio::test]
async fn a_link_is_acknowledged_only_after_fdatasync_on_a_majority() {
    story(async {
        if let Err(error) = trace::check() {
            panic!("{error}");
        }
        let cluster = Cluster::start(Options { is_traced: true, ..Options::default() }).await.unwrap();
        let all = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&all).await.unwrap();
        let mut phone = people.register(&all, "ann", REGIONS[0]).await.unwrap();
        // A ticket that was opened at home is linked in one entry, one from another region in an entry of either shard.
        for (opened_in, at) in [(0, "at home"), (1, "in another region")] {
            let companion = cluster.client(&[opened_in]).unwrap();
            let shown = people.open(&companion).await.unwrap();
            all.scan(&mut phone, &shown.qr.reference, people.request()).await.unwrap();
            let approval = all.approval(&phone, &shown.approve().unwrap(), people.request());

            let sent_us = trace::now_us();
            let receipt = all.send_approval(approval).await.unwrap();
            let acknowledged_us = trace::now_us();

            let home = cluster.map().account(RegionIndex(0), &phone.account).unwrap();
            let traces: Vec<_> = (0..REGIONS.len()).map(|node| cluster.trace(node).unwrap()).collect();
            let disks: Vec<_> = traces.iter().map(|calls| trace::synced(calls, home, receipt.log_index)).collect();
            println!("a ticket opened {at}: entry {} of shard {home}", receipt.log_index);
            for (region, synced) in REGIONS.iter().zip(&disks) {
                println!("  {region:9} {}", tell(synced.as_ref(), sent_us));
            }
            println!("  receipt   {} µs after the approval was sent", acknowledged_us - sent_us);
            let is_before = |synced: &&Synced| sent_us <= synced.written_us && synced.synced_us <= acknowledged_us;
            let in_time = disks.iter().flatten().filter(is_before).count();
            assert!(in_time >= 2, "only {in_time} of 3 nodes had it on disk before the receipt: {disks:?}");
        }
    })
    .await;
}

fn tell(synced: Option<&Synced>, sent_us: u64) -> String {
    let Some(synced) = synced else { return "not on disk yet".to_owned() };
    let [written, began, ended] =
        [synced.written_us, synced.sync_began_us, synced.synced_us].map(|at| at.saturating_sub(sent_us));
    format!("written at {written} µs, fdatasync from {began} to {ended} µs")
}

#[tokio::test]
async fn kill_all_and_restart_keeps_every_session() {
    story(async {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        let all = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&all).await.unwrap();
        let mut families = Vec::new();
        for (home, account) in [(0, "ann"), (1, "ben"), (2, "cleo")] {
            families.push(Family::new(&people, &cluster, &all, account, home).await);
        }
        let mut before = Vec::new();
        for family in &families {
            before.push(all.sessions(&family.phone.account, "").await.unwrap());
        }

        cluster.kill_all();
        for node in &mut cluster.nodes {
            node.start().unwrap();
        }
        cluster.serves().await.unwrap();

        for (family, before) in families.iter().zip(before) {
            assert_eq!(all.sessions(&family.phone.account, "").await.unwrap(), before);
            for node in 0..REGIONS.len() {
                let client = cluster.once(node).unwrap();
                join_all(family.live.iter().map(|session| family.told(&client, session, Told::Valid))).await;
                family.told(&client, &family.unlinked, Told::SignedOut).await;
            }
        }
    })
    .await;
}

/// A phone with two companions, and one that was unlinked.
struct Family {
    phone: Member,
    live: Vec<SessionId>,
    unlinked: SessionId,
}

impl Family {
    async fn new(people: &People, cluster: &Cluster, all: &Client, account: &str, home: usize) -> Self {
        let mut phone = people.register(all, account, REGIONS[home]).await.unwrap();
        let mut receipts: Vec<Receipt> = Vec::new();
        for node in 0..REGIONS.len() {
            let companion = cluster.client(&[node]).unwrap();
            receipts.push(people.link(&mut phone, &companion, all).await.unwrap().receipt);
        }
        let unlinked = receipts[0].session;
        all.unlink(&phone, &unlinked, people.request()).await.unwrap();
        let live = [phone.session, receipts[1].session, receipts[2].session].to_vec();
        Self { phone, live, unlinked }
    }

    /// Doubt is allowed until the shards have leaders again; a wrong answer never is.
    async fn told(&self, client: &Client, session: &SessionId, expected: Told) {
        eventually("a verdict", SOON, async || {
            match validate(client, &self.phone.account, session, Level::Linearizable).await {
                told if told == expected => Ok(()),
                wrong @ (Told::Valid | Told::SignedOut) => panic!("{session} is {wrong:?}, not {expected:?}"),
                doubt => Err(format!("{doubt:?}")),
            }
        })
        .await
        .unwrap();
    }
}
