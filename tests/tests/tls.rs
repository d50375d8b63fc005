//! Mutual TLS between real processes: who may call what, and new certificates while everything runs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use kindred_tests::cluster::{files, make_certificates};
use kindred_tests::http::{get, metric};
use kindred_tests::{Cluster, Options, People, REGIONS, SOON, eventually, story};
use kindred_wire::net::{Net, Tcp, channel};
use kindred_wire::pb::account::v1::GetClusterRequest;
use kindred_wire::pb::account::v1::account_client::AccountClient;
use kindred_wire::pb::session::v1::WatchAccountRequest;
use kindred_wire::pb::session::v1::session_client::SessionClient;
use kindred_wire::pb::session::v1::watch_account_reply::Event;
use kindred_wire::reason::Reason;
use kindred_wire::tls::Tls;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Sockets with the certificate of this holder.
fn net(dir: &Path, holder: &str) -> Arc<dyn Net> {
    Arc::new(Tls::new(Arc::new(Tcp), files(dir, holder)).unwrap())
}

/// A call over a connection of its own.
async fn cluster_id(net: &Arc<dyn Net>, address: &str) -> Result<(), Status> {
    let mut client = AccountClient::new(channel(net.clone(), address).unwrap());
    client.get_cluster(GetClusterRequest::default()).await.map(drop)
}

async fn health(net: &Arc<dyn Net>, address: &str) -> Result<(), Status> {
    let channel = channel(net.clone(), address).unwrap();
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(drop)
}

#[tokio::test]
async fn a_certificate_opens_what_its_role_may_do_and_nothing_else() {
    story(async {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        let (dir, gateway) = (cluster.tls(), &cluster.nodes[0].gateway);
        for holder in ["gateway", "operator"] {
            cluster_id(&net(&dir, holder), gateway).await.unwrap();
        }
        let node = net(&dir, &cluster.nodes[1].name);
        let status = cluster_id(&node, gateway).await.unwrap_err();
        assert_eq!(Reason::of(&status), Some(Reason::CallerNotAllowed), "{status:?}");
        health(&node, gateway).await.unwrap();

        // Neither plaintext nor another authority's certificate gets as far as an answer.
        let plain: Arc<dyn Net> = Arc::new(Tcp);
        assert_eq!(Reason::of(&cluster_id(&plain, gateway).await.unwrap_err()), None);
        let elsewhere = cluster.root().join("elsewhere");
        make_certificates(&elsewhere).unwrap();
        // It even believes our nodes.
        std::fs::copy(elsewhere.join("ca.pem"), elsewhere.join("own.pem")).unwrap();
        let both = [elsewhere.join("own.pem"), dir.join("ca.pem")].map(|file| std::fs::read_to_string(file).unwrap());
        std::fs::write(elsewhere.join("ca.pem"), both.concat()).unwrap();
        assert_eq!(Reason::of(&cluster_id(&net(&elsewhere, "gateway"), gateway).await.unwrap_err()), None);
    })
    .await;
}

#[tokio::test]
async fn plaintext_is_served_where_it_was_asked_for_by_name() {
    story(async {
        let cluster = Cluster::start(Options { is_plaintext: true, ..Options::default() }).await.unwrap();
        let client = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&client).await.unwrap();
        let mut phone = people.register(&client, "ann", REGIONS[0]).await.unwrap();
        people.link(&mut phone, &client, &client).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_authority_is_replaced_while_a_watch_goes_on() {
    story(async {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        let dir = cluster.tls();
        let old = net(&dir, "gateway");
        let client = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&client).await.unwrap();
        let mut phone = people.register(&client, "ann", REGIONS[0]).await.unwrap();
        // A watch that does not connect anew by itself.
        let mut watcher = SessionClient::new(channel(old.clone(), &cluster.nodes[0].gateway).unwrap());
        let request = WatchAccountRequest { account: phone.account.as_bytes().to_vec().into(), ..Default::default() };
        let mut watch = watcher.watch_account(request).await.unwrap().into_inner();
        watch.message().await.unwrap().unwrap();

        // First everybody believes both authorities.
        let next = cluster.root().join("next");
        make_certificates(&next).unwrap();
        let [first, second] = [&dir, &next].map(|dir| std::fs::read_to_string(dir.join("ca.pem")).unwrap());
        std::fs::write(dir.join("ca.pem"), format!("{first}{second}")).unwrap();
        taken(&cluster, 1).await;
        // Then everybody shows the new one's certificates.
        for holder in cluster.nodes.iter().map(|node| node.name.as_str()).chain(["gateway", "operator"]) {
            for ending in ["pem", "key"] {
                let name = format!("{holder}.{ending}");
                std::fs::copy(next.join(&name), dir.join(&name)).unwrap();
            }
        }
        let new = net(&next, "gateway");
        for node in &cluster.nodes {
            let what = format!("{} to show its new certificate", node.name);
            eventually(&what, SOON, async || health(&new, &node.gateway).await.map_err(|s| s.to_string()))
                .await
                .unwrap();
        }
        // Then only that one is believed. The old gateway's own files were read long ago, and say so.
        std::fs::write(dir.join("ca.pem"), &second).unwrap();
        for node in &cluster.nodes {
            let what = format!("{} to refuse the old authority", node.name);
            eventually(&what, SOON, async || match cluster_id(&old, &node.gateway).await {
                Err(status) if Reason::of(&status).is_none() => Ok(()),
                answer => Err(format!("{answer:?}")),
            })
            .await
            .unwrap();
        }

        // The nodes reach each other anew, a restarted one too, and the watch of before has missed nothing.
        cluster.set_net(&new);
        cluster.nodes[1].kill();
        cluster.nodes[1].start().unwrap();
        cluster.serves().await.unwrap();
        cluster.level(&[0, 1, 2]).await.unwrap();
        let client = cluster.client(&[0, 1, 2]).unwrap();
        people.link(&mut phone, &client, &client).await.unwrap();
        loop {
            let told = tokio::time::timeout(SOON, watch.message()).await.expect("the watch is silent").unwrap();
            if let Some(Event::Change(change)) = told.expect("the watch has ended").event
                && change.version == 2
            {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_and_sighup_looks_at_once() {
    story(async {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        let (dir, node) = (cluster.tls(), &cluster.nodes[0]);
        let key = dir.join(format!("{}.key", node.name));
        let good = std::fs::read(&key).unwrap();
        std::fs::copy(dir.join("gateway.key"), &key).unwrap();
        node.hang_up().unwrap();
        let refused = || counted(&node.operations, "refused");
        eventually("the refusal", SOON, async || match refused().await? {
            Some(count) if count >= 1.0 => Ok(()),
            count => Err(format!("{count:?}")),
        })
        .await
        .unwrap();
        cluster_id(&cluster.net, &node.gateway).await.unwrap();
        assert_eq!(counted(&node.operations, "taken").await.unwrap(), None);
        std::fs::write(&key, good).unwrap();
        cluster_id(&cluster.net, &node.gateway).await.unwrap();
    })
    .await;
}

async fn counted(operations: &str, outcome: &str) -> Result<Option<f64>, String> {
    let (_, text) = get(operations, "/metrics").await?;
    Ok(metric(&text, "kindred_wire_tls_reloads_total", &format!("outcome=\"{outcome}\"")))
}

/// Waits until every node has taken new files this many times.
async fn taken(cluster: &Cluster, times: u32) {
    for node in &cluster.nodes {
        eventually(&format!("{} to take the new files", node.name), SOON, async || {
            match counted(&node.operations, "taken").await? {
                Some(count) if count >= f64::from(times) => Ok(()),
                count => Err(format!("{count:?}")),
            }
        })
        .await
        .unwrap();
    }
}
