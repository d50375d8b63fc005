//! SIGTERM: what a rolling restart does to every node in turn.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kindred_core::id::{AccountId, SessionId};
use kindred_tests::people::{Level, validate};
use kindred_tests::{Cluster, Options, People, REGIONS, Told, story};

/// A node that is told to stop is gone within this time.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// A node that finds nobody to hand over to gives up after this time.
const ALL_STOP_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn sigterm_hands_leadership_over_and_exits_cleanly() {
    story(async {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        let all = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&all).await.unwrap();
        let mut phone = people.register(&all, "ann", REGIONS[0]).await.unwrap();
        let companion = people.link(&mut phone, &all, &all).await.unwrap();
        let leader = 0;
        cluster.leads_at_home(leader).await.unwrap();
        let others: Vec<_> = (0..REGIONS.len()).filter(|node| *node != leader).collect();
        let clients = [cluster.once(others[0]).unwrap(), cluster.once(others[1]).unwrap()];
        let (watch, is_over) = (Verdicts::default(), AtomicBool::new(false));
        let asking = async {
            let sessions = [phone.session, companion.member.session];
            let ask = |client| watch.ask(client, &phone.account, &sessions, &is_over);
            tokio::join!(ask(&clients[0]), ask(&clients[1]));
        };
        let stopping = async {
            watch.wait_for_more(10).await;
            cluster.nodes[leader].terminate().unwrap();
            let status = cluster.nodes[leader].ended(STOPS_WITHIN).await.unwrap();
            assert_eq!(status.code(), Some(0), "{status}");
            // Handed over, not lost: at the moment of its end others lead whatever it led, and know it.
            let now = cluster.nodes[others[0]].status().await.unwrap();
            let left = &cluster.nodes[leader].name;
            assert!(now.values().all(|shard| !shard.leader.is_empty() && shard.leader != *left), "{now:?}");
            watch.wait_for_more(10).await;
            is_over.store(true, Ordering::Relaxed);
        };
        tokio::join!(asking, stopping);
        println!("{watch:?}");

        cluster.level(&others).await.unwrap();
        let rest = cluster.client(&others).unwrap();
        people.link(&mut phone, &rest, &rest).await.unwrap();
        cluster.nodes[leader].start().unwrap();
        cluster.serves().await.unwrap();

        // All at once there is nobody to hand over to; they end all the same.
        for node in &cluster.nodes {
            node.terminate().unwrap();
        }
        for node in &mut cluster.nodes {
            let status = node.ended(ALL_STOP_WITHIN).await.unwrap();
            assert_eq!(status.code(), Some(0), "{}: {status}", node.name);
        }
    })
    .await;
}

/// What everybody was told.
#[derive(Debug, Default)]
struct Verdicts {
    valid: AtomicU32,
    doubtful: AtomicU32,
    doubts: Mutex<BTreeSet<String>>,
}

impl Verdicts {
    /// Asks about each session in turn until it is over. Doubt is allowed while leadership changes hands.
    async fn ask(
        &self,
        client: &kindred_client::Client,
        account: &AccountId,
        sessions: &[SessionId],
        is_over: &AtomicBool,
    ) {
        for session in sessions.iter().cycle() {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            match validate(client, account, session, Level::Linearizable).await {
                Told::Valid => self.valid.fetch_add(1, Ordering::Relaxed),
                Told::SignedOut => panic!("{session} was told to be signed out"),
                Told::Undetermined(why) => {
                    self.doubts.lock().unwrap().insert(why);
                    self.doubtful.fetch_add(1, Ordering::Relaxed)
                }
                Told::Nothing(why) => panic!("a node that runs gave no verdict: {why}"),
            };
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn wait_for_more(&self, count: u32) {
        let until = self.valid.load(Ordering::Relaxed) + count;
        kindred_tests::eventually("validations", kindred_tests::SOON, async || {
            let now = self.valid.load(Ordering::Relaxed);
            if now >= until { Ok(()) } else { Err(format!("{now} of {until}")) }
        })
        .await
        .unwrap();
    }
}
