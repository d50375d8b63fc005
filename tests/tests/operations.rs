//! The operations port of real nodes: what it says while they start, serve, lose their quorum and stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use kindred_tests::http::{get, metric};
use kindred_tests::{Cluster, Options, People, REGIONS, SOON, eventually, story};

/// A node that finds nobody to hand over to gives up after this time.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_node_that_serves_is_live_ready_started_and_counts() {
    story(async {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        let client = cluster.client(&[0]).unwrap();
        let people = People::new(&client).await.unwrap();
        let mut phone = people.register(&client, "ann", REGIONS[0]).await.unwrap();
        people.link(&mut phone, &client, &client).await.unwrap();
        let port = &cluster.nodes[0].operations;
        for (path, what) in [("/livez", "live"), ("/readyz", "ready"), ("/startupz", "started")] {
            let (code, body) = get(port, path).await.unwrap();
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((code, body), (200, serde_json::json!({ what: true, "why": [] })), "{path}");
        }
        for (path, code) in [("/", 404), ("/metrics/", 404), ("/debug", 404)] {
            assert_eq!(get(port, path).await.unwrap().0, code, "{path}");
        }
        let links = "kindred_frontend_link_seconds_count";
        let approve = "method=\"kindred.pairing.v1.Pairing/ApproveTicket\",role=\"gateway\"";
        let (_, text) = get(port, "/metrics").await.unwrap();
        assert_eq!(metric(&text, links, ""), Some(1.0), "{text}");
        assert_eq!(metric(&text, "kindred_frontend_call_seconds_count", approve), Some(1.0), "{text}");
        assert_eq!(metric(&text, "kindred_node_connections", "listener=\"node\""), Some(2.0), "{text}");
        assert_eq!(metric(&text, "kindred_replica_hosted_shards", ""), Some(4.0), "{text}");
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            assert!(line.starts_with("kindred_"), "{line}");
            assert!(!line.contains("ann"), "{line}");
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_quorum_a_node_is_live_and_not_ready_and_says_why() {
    story(async {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        cluster.nodes[1].kill();
        cluster.nodes[2].kill();
        let port = cluster.nodes[0].operations.clone();
        let told = eventually("the node to be unready", SOON, async || match get(&port, "/readyz").await? {
            (503, body) => Ok(body),
            (code, body) => Err(format!("{code} {body}")),
        })
        .await
        .unwrap();
        assert!(told.contains("\"ready\":false") && told.contains("shard "), "{told}");
        // A restart would bring no quorum back.
        assert_eq!(get(&port, "/livez").await.unwrap().0, 200);
        assert_eq!(get(&port, "/startupz").await.unwrap().0, 200);
        cluster.nodes[1].start().unwrap();
        eventually("the node to be ready", SOON, async || match get(&port, "/readyz").await? {
            (200, _) => Ok(()),
            (code, body) => Err(format!("{code} {body}")),
        })
        .await
        .unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_is_unready_before_it_hands_leadership_over() {
    story(async {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        cluster.leads_at_home(0).await.unwrap();
        // Nobody can take anything over, so what is led stays led until the node gives up.
        cluster.nodes[1].freeze().unwrap();
        cluster.nodes[2].freeze().unwrap();
        let port = cluster.nodes[0].operations.clone();
        cluster.nodes[0].terminate().unwrap();
        eventually("the node to say that it stops", SOON, async || match get(&port, "/readyz").await? {
            (503, body) if body.contains("this node is stopping") => Ok(()),
            (code, body) => Err(format!("{code} {body}")),
        })
        .await
        .unwrap();
        let now = cluster.nodes[0].status().await.unwrap();
        assert!(now.values().any(|shard| shard.leader == cluster.nodes[0].name), "{now:?}");
        let status = cluster.nodes[0].ended(STOPS_WITHIN).await.unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        for node in [1, 2] {
            cluster.nodes[node].thaw().unwrap();
        }
    })
    .await;
}
