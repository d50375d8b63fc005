//! Export, import and reconcile on the command line, over real processes. `KINDRED_TEST_ACCOUNTS` makes the import larger;
//! docs/figures.md says what came of 20,000.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kindred_core::id::{AccountId, SessionId};
use kindred_tests::people::{Level, validate};
use kindred_tests::{Cluster, Options, People, SOON, Told, eventually, kindred, story};
use kindred_wire::pb::admin::v1 as pb;
use kindred_wire::pb::admin::v1::export_frame::Frame;
use prost::Message as _;
use serde_json::Value;

fn addresses(cluster: &Cluster) -> String {
    cluster.nodes.iter().map(|node| node.gateway.clone()).collect::<Vec<_>>().join(",")
}

fn command(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = kindred().unwrap();
    command.env("KINDRED_ADDRESS", addresses(cluster)).env("KINDRED_TLS", cluster.tls());
    command.args(args).args(["--output", "json"]);
    command
}

/// Exit code, and the last value that was printed, or what was said on standard error.
async fn run(cluster: &Cluster, args: &[&str]) -> (i32, Value) {
    let mut command = command(cluster, args);
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    let value = told.lines().last().map(|line| serde_json::from_str(line).unwrap());
    (ran.status.code().unwrap(), value.unwrap_or_else(|| String::from_utf8_lossy(&ran.stderr).into()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Frames of an export file.
fn frames(path: &Path) -> Vec<Frame> {
    let bytes = std::fs::read(path).unwrap();
    let (mut left, mut frames) = (&bytes[..], Vec::new());
    while !left.is_empty() {
        frames.push(pb::ExportFrame::decode_length_delimited(&mut left).unwrap().frame.unwrap());
    }
    frames
}

fn bundles(path: &Path) -> Vec<pb::AccountBundle> {
    let pages = frames(path).into_iter().filter_map(|frame| match frame {
        Frame::Accounts(page) => Some(page.accounts),
        _ => None,
    });
    pages.flatten().collect()
}

/// The same account under as many names, as a file. Keys of devices differ; nobody signs with them here.
fn multiplied(path: &Path, one: &pb::AccountBundle, count: u64) {
    let mut bytes = Vec::new();
    let mut write = |frame| bytes.extend(pb::ExportFrame { frame: Some(frame) }.encode_length_delimited_to_vec());
    let export_id = vec![7; 16].into();
    write(Frame::Header(pb::ExportHeader { format: 1, export_id, ..pb::ExportHeader::default() }));
    let numbers: Vec<_> = (0..count).collect();
    for page in numbers.chunks(64) {
        let accounts = page.iter().map(|n| {
            let mut account = one.clone();
            account.account = format!("imported-{n:07}").into_bytes().into();
            for (session, at) in account.sessions.iter_mut().zip(0u8..) {
                session.session = [&n.to_be_bytes()[..], &[at; 8]].concat().into();
            }
            for (tombstone, at) in account.tombstones.iter_mut().zip(100u8..) {
                tombstone.session.as_mut().unwrap().session = [&n.to_be_bytes()[..], &[at; 8]].concat().into();
            }
            account.linked.clear();
            account
        });
        write(Frame::Accounts(pb::ExportAccountsReply { accounts: accounts.collect(), ..Default::default() }));
    }
    let hash = sha256(&bytes);
    let trailer = Frame::Trailer(pb::ExportTrailer { accounts: count, too_large: 0, sha256: hash.into() });
    bytes.extend(pb::ExportFrame { frame: Some(trailer) }.encode_length_delimited_to_vec());
    std::fs::write(path, bytes).unwrap();
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    kindred_core::canonical::sha256(&[bytes]).as_bytes().to_vec()
}

/// One account at each home, with a live companion and one that was signed out.
async fn populate(cluster: &Cluster) -> Vec<(AccountId, [(SessionId, Told); 3])> {
    let client = cluster.client(&[0, 1, 2]).unwrap();
    let people = People::new(&client).await.unwrap();
    let mut all = Vec::new();
    for region in kindred_tests::REGIONS {
        let mut phone = people.register(&client, &format!("moves-{region}"), region).await.unwrap();
        let gone = people.link(&mut phone, &client, &client).await.unwrap().receipt.session;
        let stays = people.link(&mut phone, &client, &client).await.unwrap().receipt.session;
        client.unlink(&phone, &gone, people.request()).await.unwrap();
        let sessions = [(phone.session, Told::Valid), (stays, Told::Valid), (gone, Told::SignedOut)];
        all.push((phone.account, sessions));
    }
    all
}

async fn said(cluster: &Cluster, account: &AccountId, session: &SessionId) -> Told {
    validate(&cluster.client(&[0, 1, 2]).unwrap(), account, session, Level::Linearizable).await
}

/// An import that is killed under way, and one that goes on while a node is killed and comes back.
async fn import_with_kills(cluster: &mut Cluster, file: &Path, count: u64) -> Value {
    let mut state = file.as_os_str().to_owned();
    state.push(".import");
    let state = PathBuf::from(state);
    let mut child =
        command(cluster, &["ctl", "import", text(file), "--jobs", "1"]).stdout(Stdio::null()).spawn().unwrap();
    eventually("a page to be done", SOON, async || if state.exists() { Ok(()) } else { Err("none yet".to_owned()) })
        .await
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let before = std::fs::read_to_string(&state).unwrap();
    let mut rest = command(cluster, &["ctl", "import", text(file)]).stdout(Stdio::piped()).spawn().unwrap();
    eventually("it to go on", SOON, async || {
        let now = std::fs::read_to_string(&state).map_err(|error| error.to_string())?;
        if now == before && rest.try_wait().unwrap().is_none() { Err("no page more".to_owned()) } else { Ok(()) }
    })
    .await
    .unwrap();
    cluster.nodes[0].kill();
    cluster.nodes[0].start().unwrap();
    let ran = tokio::task::spawn_blocking(move || rest.wait_with_output().unwrap()).await.unwrap();
    let (exit, told) = (ran.status.code().unwrap(), String::from_utf8_lossy(&ran.stdout).into_owned());
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    cluster.serves().await.unwrap();
    assert_eq!((exit, told["done"].as_u64(), &told["refused"]), (0, Some(count), &serde_json::json!({})), "{told}");
    assert!(told["resumed_at"].as_u64().unwrap() >= 64, "{told}");
    assert_eq!(told["installed"].as_u64().unwrap() + told["again"].as_u64().unwrap(), count, "{told}");
    told
}

#[tokio::test]
async fn accounts_move_to_another_cluster_by_file_and_an_import_that_was_killed_goes_on() {
    story(async {
        let count = std::env::var("KINDRED_TEST_ACCOUNTS").ok().map_or(1_000, |count| count.parse().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let (file, many) = (dir.path().join("accounts"), dir.path().join("many"));
        let people = {
            let cluster = Cluster::start(Options::default()).await.unwrap();
            let people = populate(&cluster).await;
            let (exit, told) = run(&cluster, &["ctl", "export", "--out", text(&file)]).await;
            assert_eq!((exit, told["accounts"].as_u64()), (0, Some(3)), "{told}");
            // A file that is there is not written over, and a whole one has nothing to go on with.
            assert_eq!(run(&cluster, &["ctl", "export", "--out", text(&file)]).await.0, 2);
            let (exit, told) = run(&cluster, &["ctl", "export", "--resume", "--out", text(&file)]).await;
            assert_eq!((exit, told["resumed_at"].as_u64()), (0, Some(3)), "{told}");
            // Where they came from, they are left alone.
            let (exit, told) = run(&cluster, &["ctl", "import", text(&file)]).await;
            assert_eq!((exit, &told["refused"]["ACCOUNT_EXISTS"]), (3, &3.into()), "{told}");
            people
        };
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        let (exit, told) = run(&cluster, &["ctl", "import", text(&file)]).await;
        assert_eq!((exit, told["installed"].as_u64()), (0, Some(3)), "{told}");
        for (account, sessions) in &people {
            for (session, expected) in sessions {
                assert_eq!(said(&cluster, account, session).await, *expected, "{account}");
            }
        }
        multiplied(&many, &bundles(&file)[0], count);
        let told = import_with_kills(&mut cluster, &many, count).await;
        eprintln!("import of {count}: {told}");
        // Out again: all of them, with the very same sets.
        let again = dir.path().join("again");
        let (exit, told) = run(&cluster, &["ctl", "export", "--out", text(&again)]).await;
        assert_eq!((exit, told["accounts"].as_u64()), (0, Some(count + 3)), "{told}");
        eprintln!("export of {}: {told}", count + 3);
        let sets = |path: &Path| {
            let ids = |s: &kindred_wire::pb::session::v1::SessionRecord| (s.session.clone(), s.seq);
            let mut sets: Vec<_> = bundles(path)
                .into_iter()
                .filter(|b| b.account.starts_with(b"imported-"))
                .map(|b| (b.account, b.set_version, b.set_digest, b.sessions.iter().map(ids).collect::<Vec<_>>()))
                .collect();
            sets.sort();
            sets
        };
        assert_eq!(sets(&again), sets(&many));
        // Another cluster's gateway may not do this.
        let (exit, told) = run_as_gateway(&cluster, &["ctl", "export", "--out", text(&dir.path().join("no"))]).await;
        assert!(exit == 3 && told.as_str().unwrap().contains("CALLER_NOT_ALLOWED"), "{exit} {told}");
    })
    .await;
}

/// With the gateway's certificate under the operator's name.
async fn run_as_gateway(cluster: &Cluster, args: &[&str]) -> (i32, Value) {
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [("gateway.pem", "operator.pem"), ("gateway.key", "operator.key"), ("ca.pem", "ca.pem")] {
        std::fs::copy(cluster.tls().join(from), dir.path().join(to)).unwrap();
    }
    let mut command = command(cluster, args);
    command.env("KINDRED_TLS", dir.path());
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (ran.status.code().unwrap(), String::from_utf8_lossy(&ran.stderr).into())
}

#[tokio::test]
async fn a_phone_notices_what_changed_since_and_refuses_a_history_that_is_not_its_own() {
    story(async {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (keys, view) = (dir.path().join("ann.json"), dir.path().join("ann.view.json"));
        let phone = async |act: &[&str]| run(&cluster, &[&["phone", "--keys", text(&keys)], act].concat()).await;
        assert_eq!(phone(&["register", "ann"]).await.0, 0);
        let (exit, told) = phone(&["list"]).await;
        assert_eq!((exit, told["set_version"].as_u64()), (0, Some(1)), "{told}");
        assert_eq!(phone(&["reconcile"]).await.1["result"], "IN_SYNC");
        let at_one = std::fs::read_to_string(&view).unwrap();

        // A companion comes; the phone's list is of before.
        let companion = link(&cluster, &dir.path().join("desk.json"), &keys).await;
        let (exit, told) = phone(&["reconcile", "--list"]).await;
        let told = told.as_str().unwrap().to_owned();
        assert!(exit == 3 && told.contains("WOULD_DROP_SIBLINGS") && told.contains(&companion), "{exit} {told}");
        let (exit, told) = phone(&["reconcile"]).await;
        assert_eq!((exit, told["result"].as_str(), told["from"].as_u64()), (0, Some("BEHIND"), Some(1)), "{told}");
        assert_eq!(told["changes"][0]["added"][0]["session"], companion.as_str());
        assert_eq!(phone(&["reconcile", "--list"]).await.1["result"], "IN_SYNC");

        // A view of another history: whatever is asked says so, and the view stays until its owner decides.
        let at_two = std::fs::read_to_string(&view).unwrap();
        let digest =
            |text: &str| serde_json::from_str::<Value>(text).unwrap()["set_digest"].as_str().unwrap().to_owned();
        let other = at_two.replace(&digest(&at_two), &digest(&at_one));
        std::fs::write(&view, &other).unwrap();
        assert_eq!(phone(&["list"]).await.0, 1);
        let (exit, told) = phone(&["reconcile"]).await;
        assert_eq!((exit, told["result"].as_str()), (1, Some("DIVERGED")), "{told}");
        assert_eq!(told["digest"]["set_digest"], digest(&at_two).as_str());
        assert_eq!(std::fs::read_to_string(&view).unwrap(), other);
        assert_eq!(phone(&["reconcile", "--adopt"]).await.0, 0);
        assert_eq!(phone(&["list"]).await.0, 0);

        // A cluster that has gone back: the view knows a later version.
        let later = at_two.replace("\"set_version\": 2", "\"set_version\": 3");
        std::fs::write(&view, &later).unwrap();
        let (exit, told) = phone(&["list"]).await;
        assert!(exit == 1 && told.as_str().unwrap().contains("does not go on"), "{exit} {told}");
        assert_eq!(std::fs::read_to_string(&view).unwrap(), later);
    })
    .await;
}

/// Links a companion by the text of its QR code; its session.
async fn link(cluster: &Cluster, companion: &Path, phone: &Path) -> String {
    use std::io::{BufRead as _, BufReader};
    let mut shows = command(cluster, &["companion", "--keys", text(companion)]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(shows.stdout.take().unwrap()).lines();
    let mut first = tokio::task::spawn_blocking(move || (lines.next().unwrap().unwrap(), lines)).await.unwrap();
    let offered: Value = serde_json::from_str(&first.0).unwrap();
    let qr = offered["qr"].as_str().unwrap().to_owned();
    let (exit, linked) = run(cluster, &["phone", "--keys", text(phone), "pair", "--yes", &qr]).await;
    assert_eq!(exit, 0, "{linked}");
    tokio::task::spawn_blocking(move || {
        while first.1.next().is_some() {}
        shows.wait().unwrap()
    })
    .await
    .unwrap();
    linked["session"].as_str().unwrap().to_owned()
}
