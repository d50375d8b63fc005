//! A client that somebody wrote in Python from `proto/` and `docs/` alone, with an Ed25519 of its own (`tests/foreign/`), lives
//! through everything that a household does. Where it cannot, the documents are wrong, or the cluster is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

use kindred_tests::{Cluster, Options, story};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// KINDRED_PYTHON, or the one that `scripts/setup` makes. That it is missing is a failure, never a test passed over.
fn interpreter() -> PathBuf {
    let named = std::env::var_os("KINDRED_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/kindred/python/bin/python")
    });
    assert!(
        python.is_file(),
        "no Python at {}: run scripts/setup, or set KINDRED_PYTHON to an interpreter (3.10 or later) that has what \
         tests/foreign/requirements.txt names",
        python.display()
    );
    python
}

/// Runs the client, and kills it if the test ends first.
async fn foreign(args: &[&OsStr]) -> Output {
    let mut command = tokio::process::Command::new(interpreter());
    command.arg(root().join("tests/foreign/run.py")).args(args).kill_on_drop(true);
    command.output().await.unwrap()
}

fn told(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

async fn lives_with(cluster: &Cluster, tls: Option<&Path>) {
    let (page, protos) = (root().join("docs/encoding.md"), root().join("proto"));
    let nodes: Vec<_> = cluster.nodes.iter().map(|node| node.gateway.as_str()).collect();
    let nodes = nodes.join(",");
    let mut args = vec![OsStr::new("cluster"), page.as_os_str(), protos.as_os_str(), OsStr::new(&nodes)];
    args.extend(tls.map(Path::as_os_str));
    let output = foreign(&args).await;
    assert!(output.status.success(), "{}", told(&output));
}

#[tokio::test]
async fn the_foreign_client_makes_every_vector_of_the_page_and_notices_a_wrong_digit() {
    story(async {
        let page = root().join("docs/encoding.md");
        let right = foreign(&[OsStr::new("vectors"), page.as_os_str()]).await;
        assert!(right.status.success(), "{}", told(&right));

        let text = std::fs::read_to_string(&page).unwrap();
        let line = text.lines().find(|line| line.starts_with("ticket id  ")).unwrap();
        let digit = if line.ends_with('0') { "1" } else { "0" };
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("encoding.md");
        std::fs::write(&copy, text.replace(line, &format!("{}{digit}", &line[..line.len() - 1]))).unwrap();
        let wrong = foreign(&[OsStr::new("vectors"), copy.as_os_str()]).await;
        assert!(
            !wrong.status.success() && told(&wrong).contains("vectors that differ:\nticket id:"),
            "{}",
            told(&wrong)
        );
    })
    .await;
}

#[tokio::test]
async fn a_client_from_protos_and_docs_alone_lives_with_a_cluster_over_mutual_tls() {
    story(async {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        lives_with(&cluster, Some(&cluster.tls())).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_from_protos_and_docs_alone_lives_with_a_cluster_in_plaintext() {
    story(async {
        let cluster = Cluster::start(Options { is_plaintext: true, ..Options::default() }).await.unwrap();
        lives_with(&cluster, None).await;
    })
    .await;
}
