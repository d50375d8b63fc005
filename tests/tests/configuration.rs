//! `kindred serve` and its configuration: what is wrong is told, with exit code 2, before anything is touched.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Output;

use kindred_core::id::hex;

const USAGE: i32 = 2;

/// A directory with a configuration that is good.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("kindred-test-").tempdir().unwrap();
        std::fs::write(dir.path().join("keys"), format!("eu = {}\n", hex(&[1; 32]))).unwrap();
        Self { dir }
    }

    fn good(&self) -> String {
        format!(
            "[node]\nname = \"a\"\nregion = \"eu\"\ndata_dir = {:?}\n\n[listen]\ngateway = \"127.0.0.1:0\"\n\
             node = \"127.0.0.1:0\"\n\n[cluster]\nregions = [\"eu\"]\nticket_keys = {:?}\n\n[cluster.peers]\n\
             a = \"127.0.0.1:1\"\n\n[raft]\nheartbeat_ms = 75\n\n[telemetry]\nlog = \"info\"\n",
            self.data(),
            self.dir.path().join("keys"),
        )
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

#[test]
fn the_configuration_refuses_unknown_keys_and_wrong_values_with_exit_code_2() {
    let place = Place::new();
    // What is written instead of what, and what the message must name.
    let wrong = [
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
    let mut problems = Vec::new();
    for (instead_of, written, named) in wrong {
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
