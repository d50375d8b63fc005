//! `kindred serve` and its configuration: what is wrong is told, with exit code 2, before anything is touched.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Output;

const USAGE: i32 = 2;

/// A directory with a configuration that is good.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("kindred-test-").tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let ran = kindred_tests::kindred().unwrap().args(arguments).current_dir(dir.path()).output().unwrap();
            assert!(ran.status.success(), "{arguments:?}: {ran:?}");
        };
        run(&["keys", "new", "--regions", "eu", "--out", "keys", "--kek", "kek"]);
        run(&["certificates", "--nodes", "a,b", "--out", "tls"]);
        std::fs::write(dir.path().join("file"), "not a directory").unwrap();
        Self { dir }
    }

    fn good(&self) -> String {
        format!(
            "[node]\nname = \"a\"\nregion = \"eu\"\ndata_dir = {:?}\n\n[listen]\ngateway = \"127.0.0.1:0\"\n\
             node = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\n\n[cluster]\nregions = [\"eu\"]\nticket_keys = {:?}\n\
             key_encryption_key = {:?}\n\n[cluster.peers]\na = \"127.0.0.1:1\"\n\n[raft]\nheartbeat_ms = 75\n\n\
             [telemetry]\nlog = \"info\"\n\n[tls]\nmode = \"mutual\"\ncertificate = {:?}\nkey = {:?}\ntrust = {:?}\n\n\
             [limits]\nhandshake_ms = 5000\n",
            self.data(),
            self.path("keys"),
            self.path("kek"),
            self.path("tls/a.pem"),
            self.path("tls/a.key"),
            self.path("tls/ca.pem"),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs `kindred serve` on this configuration.
    fn serve(&self, text: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let file = self.dir.path().join("kindred.toml");
        std::fs::write(&file, text).unwrap();
        serve(&file, arguments, environment)
    }
}

fn serve(file: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = kindred_tests::kindred().unwrap();
    command.arg("serve").arg("--config").arg(file).args(arguments).envs(environment.iter().copied());
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

/// What is written instead of what, and what the message must name.
const WRONG: &[(&str, &str, &str)] = &[
    ("heartbeat_ms = 75", "heartbeats_ms = 75", "heartbeats_ms"),
    ("[raft]", "[rafts]", "rafts"),
    ("region = \"eu\"\n", "region = \"eu\"\ncolour = \"blue\"\n", "colour"),
    ("[telemetry]", "[telemetry]\nlevel = 3", "level"),
    ("name = \"a\"", "name = \"b\"", "node.name"),
    ("region = \"eu\"", "region = \"us\"", "node.region"),
    ("regions = [\"eu\"]", "regions = \"eu\"", "regions"),
    ("regions = [\"eu\"]", "regions = [\"eu\"]\nshards_per_region = 0", "shards_per_region"),
    ("regions = [\"eu\"]", "regions = [\"eu\"]\nshards_per_region = 65", "shards_per_region"),
    ("regions = [\"eu\"]", "regions = [\"eu\"]\nshards_per_region = -1", "shards_per_region"),
    ("regions = [\"eu\"]", "regions = [\"eu\"]\nshards_per_region = 1.5", "shards_per_region"),
    ("regions = [\"eu\"]", "regions = [\"eu\"]\nshards_per_region = true", "shards_per_region"),
    ("regions = [\"eu\"]", "regions = [\"eu\"]\nshards_per_region = 99999999999999", "shards_per_region"),
    ("regions = [\"eu\"]", "regions = [\"eu\", \"eu\"]", "`eu` twice"),
    ("regions = [\"eu\"]", "regions = [\"eu\", \"\"]", "cluster.regions"),
    ("regions = [\"eu\"]", "regions = [\"eu\", \"a b\"]", "`a b`"),
    ("a = \"127.0.0.1:1\"", "a = \"127.0.0.1\"", "cluster.peers.a"),
    ("a = \"127.0.0.1:1\"", "a = \"\"", "cluster.peers.a"),
    ("a = \"127.0.0.1:1\"", "a = \"127.0.0.1:0\"", "cluster.peers.a"),
    ("a = \"127.0.0.1:1\"", "a = \"127.0.0.1:70000\"", "cluster.peers.a"),
    ("a = \"127.0.0.1:1\"", "a = \"http://a:1\"", "cluster.peers.a"),
    ("a = \"127.0.0.1:1\"", "a = \"127.0.0.1:1\"\nb = \"127.0.0.1:1\"", "cluster.peers.b"),
    ("a = \"127.0.0.1:1\"", "a = \"127.0.0.1:1\"\n\"b/c\" = \"127.0.0.1:2\"", "`b/c`"),
    ("gateway = \"127.0.0.1:0\"", "gateway = \"127.0.0.1\"", "listen.gateway"),
    ("gateway = \"127.0.0.1:0\"", "gateway = \"\"", "listen.gateway"),
    ("gateway = \"127.0.0.1:0\"", "gateway = \":7400\"", "listen.gateway"),
    ("gateway = \"127.0.0.1:0\"", "gateway = \"::1:7400\"", "listen.gateway"),
    ("gateway = \"127.0.0.1:0\"", "gateway = \"127.0.0.1:65536\"", "listen.gateway"),
    ("gateway = \"127.0.0.1:0\"", "gateway = 7400", "listen.gateway"),
    ("node = \"127.0.0.1:0\"", "node = \"127.0.0.1:+1\"", "listen.node"),
    ("operations = \"127.0.0.1:0\"", "operations = \"no\"", "listen.operations"),
    (
        "node = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"",
        "node = \"127.0.0.1:7401\"\noperations = \"127.0.0.1:7401\"",
        "listen.operations",
    ),
    ("region = \"eu\"\n", "region = \"eu\"\nworker_threads = 1025\n", "worker_threads"),
    ("region = \"eu\"\n", "region = \"eu\"\nworker_threads = -1\n", "worker_threads"),
    ("/data\"", "/file/data\"", "node.data_dir"),
    ("/data\"", "/file\"", "node.data_dir"),
    ("heartbeat_ms = 75", "heartbeat_ms = 75.5", "heartbeat_ms"),
    ("heartbeat_ms = 75", "election_max_ms = 60001", "election_max_ms"),
    ("heartbeat_ms = 75", "election_max_ms = 9223372036854775807", "election_max_ms"),
    ("heartbeat_ms = 75", "heartbeat_ms = 9223372036854775807", "election_min_ms"),
    ("heartbeat_ms = 75", "snapshot_every_entries = 10000001", "snapshot_every_entries"),
    ("log = \"info\"", "log = \"info,kindred=loud\"", "telemetry.log"),
    ("mode = \"mutual\"\n", "", "mode"),
    ("mode = \"mutual\"", "mode = \"none\"", "none"),
    ("mode = \"mutual\"", "mode = \"plaintext\"", "tls.certificate"),
    ("mode = \"mutual\"", "mode = \"mutual\"\nplaintext_role = \"operator\"", "tls.plaintext_role"),
    ("mode = \"mutual\"", "mode = \"mutual\"\nreload_interval_ms = 5", "tls.reload_interval_ms"),
    ("/tls/a.pem", "/tls/missing.pem", "missing.pem"),
    ("/tls/a.pem", "/tls/a.key", "a.key"),
    ("/tls/a.pem", "/tls/b.pem", "b.pem"),
    ("/tls/a.key", "/tls/b.key", "b.key"),
    ("/tls/ca.pem", "/tls/b.pem", "b.pem"),
    ("/kek\"", "/no-kek\"", "no-kek"),
    ("/kek\"", "/tls/a.pem\"", "cluster.key_encryption_key"),
    ("/keys\"", "/file\"", "keys seal"),
    ("handshake_ms = 5000", "handshake_ms = 1", "limits.handshake_ms"),
    ("handshake_ms = 5000", "request_bytes_max = 1000", "limits.request_bytes_max"),
    ("handshake_ms = 5000", "connections_max = 0", "limits.connections_max"),
    ("handshake_ms = 5000", "connection_max = 1", "connection_max"),
    ("regions = [\"eu\"]", "regions = [\"eu\", \"us\"]", "us"),
    ("heartbeat_ms = 75", "heartbeat_ms = \"often\"", "heartbeat_ms"),
    ("heartbeat_ms = 75", "heartbeat_ms = 0", "heartbeat_ms"),
    ("heartbeat_ms = 75", "heartbeat_ms = 200", "election_min_ms"),
    ("heartbeat_ms = 75", "election_max_ms = 250", "election_max_ms"),
    ("heartbeat_ms = 75", "snapshot_every_entries = 0", "snapshot_every_entries"),
    ("log = \"info\"", "log_format = \"xml\"", "log_format"),
    ("/keys\"", "/no-keys\"", "no-keys"),
    ("name = \"a\"", "name = a", "kindred.toml"),
    ("name = \"a\"\n", "", "name"),
    ("[cluster.peers]\na = \"127.0.0.1:1\"\n", "", "peers"),
];

#[test]
fn the_configuration_refuses_unknown_keys_and_wrong_values_with_exit_code_2() {
    let place = Place::new();
    let mut problems = Vec::new();
    for (instead_of, written, named) in WRONG.iter().copied() {
        let text = place.good().replace(instead_of, written);
        assert_ne!(text, place.good(), "`{instead_of}` is not in the file");
        // A node that is really started refuses no less than one that is only checked.
        for arguments in [&["--check"][..], &[]] {
            let ran = place.serve(&text, arguments, &[]);
            let told = String::from_utf8_lossy(&ran.stderr);
            let is_one_line = told.trim().lines().count() == 1 || named == "kindred.toml";
            if ran.status.code() != Some(USAGE) || !told.contains(named) || !is_one_line {
                problems.push(format!("{written:?} {arguments:?}: {}, {:?}", ran.status, told.trim()));
            }
        }
    }
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
    assert!(!place.data().exists(), "a node that may not start made its directory");
}

#[test]
fn a_configuration_that_is_good_is_said_to_be_good_and_starts_nothing() {
    let place = Place::new();
    let ran = place.serve(&place.good(), &["--check"], &[]);
    assert!(ran.status.success(), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stdout).contains("the configuration is good"), "{ran:?}");
    assert!(!place.data().exists());
    let nowhere = serve(&place.dir.path().join("nowhere.toml"), &["--check"], &[]);
    assert_eq!(nowhere.status.code(), Some(USAGE), "{nowhere:?}");
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let place = Place::new();
    let told = |arguments: &[&str], environment: &[(&str, &str)]| {
        let ran = place.serve(&place.good(), &[&["--check"], arguments].concat(), environment);
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    for (environment, named) in [
        (("KINDRED_NODE__NAME", "z"), "`z`"),
        (("KINDRED_NODE__REGION", "mars"), "`mars`"),
        (("KINDRED_RAFT__HEARTBEAT_MS", "0"), "heartbeat_ms"),
        (("KINDRED_RAFT__HEARTBEATS_MS", "75"), "heartbeats_ms"),
        (("KINDRED_CLUSTER__SHARDS_PER_REGION", "many"), "shards_per_region"),
        (("KINDRED_CLUSTER__TICKET_KEYS", "/no/keys"), "/no/keys"),
        (("KINDRED_COLOUR__OF_SKY", "blue"), "colour"),
    ] {
        let (code, text) = told(&[], &[environment]);
        assert!(code == Some(USAGE) && text.contains(named), "{environment:?}: {code:?} {text}");
    }
    let (code, text) = told(&["--name", "a"], &[("KINDRED_NODE__NAME", "z")]);
    assert_eq!(code, Some(0), "the flag wins: {text}");
    let (code, text) = told(&["--name", "y"], &[("KINDRED_NODE__NAME", "a")]);
    assert!(code == Some(USAGE) && text.contains("`y`"), "the flag wins: {code:?} {text}");
    // What stands for flags of commands is no key.
    let (code, text) = told(&[], &[("KINDRED_ADDRESS", "127.0.0.1:1"), ("KINDRED_RAFT__HEARTBEAT_MS", "50")]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_node_without_a_section_about_tls_says_what_to_write() {
    let place = Place::new();
    let text = place.good();
    let (before, after) = (text.find("[tls]").unwrap(), text.find("[limits]").unwrap());
    let ran = place.serve(&[&text[..before], &text[after..]].concat(), &[], &[]);
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(USAGE), "{told}");
    for word in ["[tls]", "mode = \"mutual\"", "mode = \"plaintext\"", "certificate", "kindred certificates"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn a_certificate_that_is_not_for_this_node_is_refused() {
    let place = Place::new();
    let with = |holder: &str| place.good().replace("/tls/a.", &format!("/tls/{holder}."));
    for holder in ["b", "gateway", "operator"] {
        let ran = place.serve(&with(holder), &["--check"], &[]);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(USAGE) && told.contains("/node/a"), "{holder}: {ran:?}");
    }
}

#[test]
fn keys_that_are_sealed_under_another_key_are_refused() {
    let place = Place::new();
    let other = kindred_core::id::hex(&[5; 32]);
    std::fs::write(place.path("kek"), format!("{other}\n")).unwrap();
    let ran = place.serve(&place.good(), &["--check"], &[]);
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(USAGE) && told.contains("sealed under another key"), "{ran:?}");
    assert!(!told.contains(&other), "{told}");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    std::fs::set_permissions(place.path("kek"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = place.serve(&place.good(), &["--check"], &[]);
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(USAGE) && told.contains("chmod 600"), "{ran:?}");
}
