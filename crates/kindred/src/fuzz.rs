//! Mangled files and arguments: an error that says what is wrong, or a value; never a panic.

use std::path::Path;

use kindred_wire::pb::admin::v1 as pb;

use crate::config::{Config, Overrides};
use crate::ctl::file::{FORMAT, Reader, Writer};
use crate::keys::{KeyFile, account_id, session_id};
use crate::region_keys::{self, Kek};

#[path = "../../../tests/support/fuzz.rs"]
mod mangled;

const CONFIG: &str = r#"
    [node]
    name = "a"
    region = "eu"
    data_dir = "/tmp/a"
    worker_threads = 2
    [listen]
    gateway = "127.0.0.1:7400"
    [cluster]
    regions = ["eu", "us"]
    shards_per_region = 2
    ticket_keys = "/tmp/keys"
    key_encryption_key = "/tmp/kek"
    [tls]
    mode = "plaintext"
    [cluster.peers]
    a = "127.0.0.1:1"
    [limits]
    [raft]
    heartbeat_ms = 75
    [telemetry]
    log = "info"
"#;

/// Writes each mutation of `whole` to a file and has it read.
fn files(seed: u64, whole: &[u8], rounds: usize, read: impl Fn(&Path) -> anyhow::Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, whole).unwrap();
    read(&path).unwrap();
    mangled::run(seed, vec![whole.to_vec()], rounds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = read(&path) {
            assert!(!format!("{error:#}").is_empty());
        }
    });
}

#[test]
fn configurations() {
    files(1, CONFIG.as_bytes(), 500, |path| Config::load(path, Overrides::default()).map(drop));
}

#[test]
fn files_of_region_keys() {
    let env = crate::env::real();
    let dir = tempfile::tempdir().unwrap();
    let (kek, _) = Kek::read_or_make(&dir.path().join("kek"), &env).unwrap();
    let text = region_keys::fresh(&["eu".to_owned(), "us".to_owned()], &kek, &env).unwrap();
    files(2, text.as_bytes(), 500, |path| region_keys::open(path, &kek).map(drop));
    let plain = format!("# old\neu = {}\n", "01".repeat(32));
    files(3, plain.as_bytes(), 500, |path| region_keys::read_plain(path).map(drop));
}

#[test]
fn files_of_devices() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("phone.json");
    KeyFile::open_or_create(&path).unwrap().begin("unlink a").unwrap();
    let whole = std::fs::read(&path).unwrap();
    files(4, &whole, 500, |path| {
        let file = KeyFile::open(path)?;
        let _ = (file.secret(), file.account(), file.session());
        Ok(())
    });
}

#[test]
fn export_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.kindred");
    let (export_id, cluster) = (vec![7; 16].into(), vec![8; 16].into());
    let header = pb::ExportHeader { format: FORMAT, export_id, cluster, regions: vec!["north".into()] };
    let mut writer = Writer::create(&path, header).unwrap();
    for n in 1..=3 {
        let bundle = pb::AccountBundle { account: vec![n; 3].into(), ..pb::AccountBundle::default() };
        let cursor = Some(pb::Cursor { shard: 100, account: vec![n; 3].into() });
        let page = pb::ExportAccountsReply { accounts: vec![bundle], cursor, ..pb::ExportAccountsReply::default() };
        writer.add(page).unwrap();
    }
    writer.finish().unwrap();
    let whole = std::fs::read(&path).unwrap();
    files(5, &whole, 500, |path| {
        let is_whole = std::fs::read(path)? == whole;
        let extent = Reader::open(path)?.read_all()?;
        // The trailer's checksum covers every byte before it.
        assert!(is_whole || !extent.is_complete, "a mangled export passed for whole");
        Ok(())
    });
}

#[test]
fn ids_on_the_command_line() {
    mangled::run_text(6, &["ann", "0x616e6e", "0x", &"33".repeat(16), ""], 2_000, |text| {
        if let Ok(id) = account_id(text) {
            assert!((1..=64).contains(&id.as_bytes().len()));
        }
        if let Ok(id) = session_id(text) {
            assert_eq!(id.to_string(), text.to_lowercase());
        }
    });
}
