//! Nodes that lose their directories: one comes back under new ids; two of three stop the cluster, and nothing is made up.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use futures::future::join_all;
use kindred_client::Member;
use kindred_core::id::SessionId;
use kindred_tests::people::{Level, validate};
use kindred_tests::points::Replicas;
use kindred_tests::{Cluster, Options, People, REGIONS, SOON, Told, eventually, story};
use kindred_wire::convert::raw;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;
use kindred_wire::reason::Reason;

/// Whoever cannot help says so within this time.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// A majority that is there elects a leader and decides within this time; one that is not takes no longer to be missed.
const DECIDED_WITHIN: Duration = Duration::from_secs(6);

/// Between two such looks.
const THAWED_FOR: Duration = Duration::from_secs(2);

/// Long enough for whoever would found another cluster or elect a leader without a majority to have done so.
const WATCHED_FOR: Duration = Duration::from_secs(3);

/// So few entries that a wiped replica is filled by a snapshot; what it needs is no longer in anybody's log.
const SNAPSHOT_EVERY: u64 = 8;

/// An account and the sessions that it must have.
struct Household {
    phone: Member,
    sessions: Vec<SessionId>,
}

#[tokio::test]
async fn a_wiped_directory_comes_back_under_new_ids_and_is_made_a_voter_again() {
    story(async {
        let options = Options { snapshot_every: SNAPSHOT_EVERY, ..Options::default() };
        let mut cluster = Cluster::start(options).await.unwrap();
        let all = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&all).await.unwrap();
        let phone = people.register(&all, "ann", REGIONS[1]).await.unwrap();
        let mut household = Household { sessions: vec![phone.session], phone };
        all.set_limit(&household.phone, 16, people.request()).await.unwrap();

        // Any node; then the founder, which must not found another cluster.
        for (wiped, other) in [(2, 1), (0, 2)] {
            link(&people, &cluster, &mut household, &[0, 1, 2]).await;
            fill_log(&cluster, &people, &household).await;
            let before = cluster.level(&[0, 1, 2]).await.unwrap();

            cluster.nodes[wiped].kill();
            cluster.nodes[wiped].wipe().unwrap();
            link(&people, &cluster, &mut household, &up(&[wiped])).await;
            cluster.nodes[wiped].start().unwrap();
            let after = cluster.level(&[0, 1, 2]).await.unwrap();
            assert_new_ids(&before[wiped], &after[wiped]);
            assert!(
                after[wiped].values().any(|replica| replica.entries_applied < replica.applied_index),
                "no replica came by snapshot: {:?}",
                after[wiped]
            );
            cluster.serves().await.unwrap();
            assert_valid(&cluster, &[wiped], &household).await;
            assert_eq!(cluster.client(&[wiped]).unwrap().cluster().await.unwrap().0, people.cluster());

            takes_part(&cluster, &people, wiped, other).await;
            cluster.nodes[other].kill();
            link(&people, &cluster, &mut household, &up(&[other])).await;
            assert_valid(&cluster, &up(&[other]), &household).await;
            cluster.nodes[other].start().unwrap();
            cluster.serves().await.unwrap();
        }
        cluster.level(&[0, 1, 2]).await.unwrap();
        assert_valid(&cluster, &[0, 1, 2], &household).await;
    })
    .await;
}

#[tokio::test]
async fn with_two_of_three_directories_wiped_the_survivor_refuses_and_nothing_is_invented() {
    story(async {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        let all = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&all).await.unwrap();
        let phone = people.register(&all, "ann", REGIONS[1]).await.unwrap();
        let mut household = Household { sessions: vec![phone.session], phone };
        link(&people, &cluster, &mut household, &[0, 1, 2]).await;
        let gone = all.unlink(&household.phone, &household.sessions[1], people.request()).await;
        gone.unwrap();
        household.sessions.remove(1);
        link(&people, &cluster, &mut household, &[0, 1, 2]).await;
        let survivor = 1;
        cluster.leads_at_home(survivor).await.unwrap();
        let before = cluster.level(&[0, 1, 2]).await.unwrap();

        // The founder is among them, and the survivor leads the account's shard when it happens.
        wipe_all_but(&mut cluster, survivor);
        for wiped in up(&[survivor]) {
            has_replicas(&cluster, wiped).await;
        }
        assert_nothing_is_invented(&cluster, &people, &household, &[0, 1, 2]).await;
        // What the survivor has stands.
        let home = cluster.map().regions[survivor].shards[0].0;
        let now = cluster.nodes[survivor].status().await.unwrap();
        assert_eq!(now[&home].replica, before[survivor][&home].replica);
        assert!(now[&home].applied_index >= before[survivor][&home].applied_index, "{now:?}");

        // Once more, while the survivor is down, so that nobody tells them that there is a cluster.
        cluster.nodes[survivor].kill();
        wipe_all_but(&mut cluster, survivor);
        for wiped in up(&[survivor]) {
            listens(&cluster, wiped).await;
        }
        assert_nothing_is_invented(&cluster, &people, &household, &up(&[survivor])).await;
        cluster.nodes[survivor].start().unwrap();
        for node in 0..REGIONS.len() {
            has_replicas(&cluster, node).await;
        }
        assert_nothing_is_invented(&cluster, &people, &household, &[0, 1, 2]).await;
        for node in &mut cluster.nodes {
            assert!(node.runs(), "{} gave up", node.name);
        }
        for wiped in up(&[survivor]) {
            let node = &mut cluster.nodes[wiped];
            assert_ne!(node.check_health().await, Ok(()), "{} says that it serves", node.name);
        }
    })
    .await;
}

/// SIGKILL to all but one; they come back with nothing.
fn wipe_all_but(cluster: &mut Cluster, survivor: usize) {
    for node in up(&[survivor]) {
        cluster.nodes[node].kill();
    }
    for node in up(&[survivor]) {
        cluster.nodes[node].wipe().unwrap();
        cluster.nodes[node].start().unwrap();
    }
}

/// Every node but these.
fn up(down: &[usize]) -> Vec<usize> {
    (0..REGIONS.len()).filter(|node| !down.contains(node)).collect()
}

/// Links a companion through these nodes: its ticket is opened at the last, approved at the first.
async fn link(people: &People, cluster: &Cluster, household: &mut Household, nodes: &[usize]) {
    let companion = cluster.client(&nodes[nodes.len() - 1..]).unwrap();
    let through = cluster.client(nodes).unwrap();
    let receipt = people.link(&mut household.phone, &companion, &through).await.unwrap().receipt;
    assert_eq!(receipt.sessions_before, household.sessions, "a sibling is lost");
    household.sessions.push(receipt.session);
}

/// Waits until the wiped node is a voter again. Voters have names, and its name was there all the time; so this looks at
/// what a voter is for: with another node frozen, a majority of any shard is one with it, or none.
async fn takes_part(cluster: &Cluster, people: &People, wiped: usize, frozen: usize) {
    let client = cluster.once(wiped).unwrap();
    eventually(&format!("{} to be a voter", cluster.nodes[wiped].name), SOON, async || {
        cluster.nodes[frozen].freeze().unwrap();
        // A registration is decided in the directory's shard and in its region's.
        let decided = REGIONS.iter().map(async |region| {
            eventually(region, DECIDED_WITHIN, async || {
                let name = people.request().to_string();
                people.register(&client, &name, region).await.map(drop).map_err(|error| format!("{error:#}"))
            })
            .await
        });
        let decided = futures::future::try_join_all(decided).await;
        cluster.nodes[frozen].thaw().unwrap();
        if decided.is_err() {
            // A node that is frozen nearly all the time would itself be in the way.
            tokio::time::sleep(THAWED_FOR).await;
        }
        decided.map(drop).map_err(|error| format!("{error:#}"))
    })
    .await
    .unwrap();
}

/// Gives the home shard so many entries that its replicas have taken snapshots and purged what lies before.
async fn fill_log(cluster: &Cluster, people: &People, household: &Household) {
    let all = cluster.client(&[1, 0, 2]).unwrap();
    for limit in (0..5 * SNAPSHOT_EVERY).map(|n| 16 + u32::try_from(n % 2).unwrap()) {
        all.set_limit(&household.phone, limit, people.request()).await.unwrap();
    }
}

#[track_caller]
fn assert_new_ids(before: &Replicas, after: &Replicas) {
    let ids = |replicas: &Replicas| replicas.values().map(|replica| replica.replica).collect::<Vec<_>>();
    let old = ids(before);
    assert!(ids(after).iter().all(|id| *id != 0 && !old.contains(id)), "{before:?} then {after:?}");
}

/// Each of these nodes says, linearizably, that every session is live.
async fn assert_valid(cluster: &Cluster, nodes: &[usize], household: &Household) {
    for node in nodes {
        let client = cluster.once(*node).unwrap();
        for session in &household.sessions {
            eventually(&format!("a verdict through {}", cluster.nodes[*node].name), SOON, async || {
                match validate(&client, &household.phone.account, session, Level::Linearizable).await {
                    Told::Valid => Ok(()),
                    Told::SignedOut => panic!("{session} was told to be signed out"),
                    doubt => Err(format!("{doubt:?}")),
                }
            })
            .await
            .unwrap();
        }
    }
}

/// Waits until the node's gateway port answers.
async fn listens(cluster: &Cluster, node: usize) {
    let node = &cluster.nodes[node];
    eventually(&format!("{} to answer", node.name), SOON, async || node.status().await.map(drop)).await.unwrap();
}

/// Waits until the node has made its replicas: of a cluster that it founds, or that it has found.
async fn has_replicas(cluster: &Cluster, node: usize) {
    let (node, count) = (&cluster.nodes[node], cluster.map().shards().len());
    eventually(&format!("{} to have replicas", node.name), SOON, async || {
        let seen = node.status().await?;
        if seen.len() == count { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await
    .unwrap();
}

/// For several election timeouts these nodes give no verdict, link nobody, know of nobody's absence, and belong to no
/// other cluster.
async fn assert_nothing_is_invented(cluster: &Cluster, people: &People, household: &Household, nodes: &[usize]) {
    let until = tokio::time::Instant::now() + WATCHED_FOR;
    while tokio::time::Instant::now() < until {
        ask_for_everything(cluster, people, household, nodes).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ask_for_everything(cluster: &Cluster, people: &People, household: &Household, nodes: &[usize]) {
    let asked = nodes.iter().map(|node| async {
        let (client, phone, name) = (cluster.once(*node).unwrap(), &household.phone, &cluster.nodes[*node].name);
        let verdicts = household.sessions.iter().map(async |session| {
            let told = validate(&client, &phone.account, session, Level::Linearizable).await;
            assert!(matches!(&told, Told::Undetermined(_)), "{session} through {name}: {told:?}");
            let told = validate(&client, &phone.account, session, Level::Local).await;
            assert_ne!(told, Told::SignedOut, "{session} through {name}");
        });
        let which = Which::Session(raw(phone.session.as_bytes()));
        let stranger = people.register(&client, name, REGIONS[*node]);
        let (_, opened, unlinked, listed, account, why, registered, known) = tokio::join!(
            join_all(verdicts),
            people.open(&client),
            client.unlink(phone, &household.sessions[1], people.request()),
            client.sessions(&phone.account, ""),
            client.account(&phone.account, REGIONS[1]),
            client.why(&phone.account, which, ""),
            stranger,
            client.cluster(),
        );
        refused(name, opened.map(drop));
        refused(name, unlinked);
        refused(name, listed);
        refused(name, account);
        refused(name, why);
        assert!(registered.is_err(), "{name} registered an account");
        if let Ok((cluster, _)) = known {
            assert_eq!(cluster, people.cluster(), "{name} belongs to another cluster");
        }
    });
    let told = tokio::time::timeout(REFUSED_WITHIN, join_all(asked)).await;
    told.unwrap_or_else(|_| panic!("a refusal takes longer than {} s", REFUSED_WITHIN.as_secs()));
}

/// Refused for now; nothing is said about anybody.
#[track_caller]
fn refused<T>(node: &str, answer: Result<T, kindred_client::Error>) {
    let Err(error) = answer else { panic!("{node} did it") };
    let reasons = [Reason::ShardUnavailable, Reason::OutcomeUnknown];
    assert!(error.reason().is_some_and(|reason| reasons.contains(&reason)), "{node}: {error}");
}
