//! Keys never leave a node by its logs, its errors or its operations port, however much it is asked to tell.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kindred_core::id::hex;
use kindred_tests::cluster::free_ports;
use kindred_tests::http::get;
use kindred_tests::{SOON, eventually, kindred, story};

const TICKET_KEY: [u8; 32] = [0xA7; 32];
const KEK: [u8; 32] = [0xB9; 32];

fn succeed(command: &mut Command) {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

/// A node's directory with keys that we know; and everything by which they would be recognised.
fn prepare(dir: &Path) -> (PathBuf, Vec<String>, String) {
    let of = |name: &str| dir.join(name);
    std::fs::write(of("plain"), format!("eu = {}\n", hex(&TICKET_KEY))).unwrap();
    std::fs::write(of("kek"), hex(&KEK)).unwrap();
    succeed(Command::new("chmod").arg("600").arg(of("kek")));
    let mut seal = kindred().unwrap();
    seal.current_dir(dir).args(["keys", "seal", "--plain", "plain", "--out", "keys", "--kek", "kek"]);
    succeed(&mut seal);
    succeed(kindred().unwrap().current_dir(dir).args(["certificates", "--nodes", "a", "--out", "tls"]));
    let ports = free_ports(3).unwrap();
    let text = format!(
        "[node]\nname = \"a\"\nregion = \"eu\"\ndata_dir = {:?}\n\n\
         [listen]\ngateway = \"127.0.0.1:{}\"\nnode = \"127.0.0.1:{}\"\noperations = \"127.0.0.1:{}\"\n\n\
         [cluster]\nregions = [\"eu\"]\nticket_keys = {:?}\nkey_encryption_key = {:?}\n\n\
         [cluster.peers]\na = \"127.0.0.1:{}\"\n\n[telemetry]\nlog = \"trace\"\n\n\
         [tls]\nmode = \"mutual\"\ncertificate = {:?}\nkey = {:?}\ntrust = {:?}\n",
        of("data"),
        ports[0],
        ports[1],
        ports[2],
        of("keys"),
        of("kek"),
        ports[1],
        of("tls/a.pem"),
        of("tls/a.key"),
        of("tls/ca.pem"),
    );
    std::fs::write(of("kindred.toml"), text).unwrap();
    let pem = std::fs::read_to_string(of("tls/a.key")).unwrap();
    let mut secrets = vec![pem.lines().nth(1).unwrap().to_owned()];
    for key in [TICKET_KEY, KEK] {
        // In hexadecimal, either case, and as a list of numbers.
        secrets.extend([hex(&key[..8]), hex(&key[..8]).to_uppercase(), format!("{0}, {0}, {0}, {0}", key[0])]);
    }
    (of("kindred.toml"), secrets, format!("127.0.0.1:{}", ports[2]))
}

#[tokio::test]
async fn a_node_that_logs_everything_logs_no_key() {
    story(async {
        let dir = tempfile::Builder::new().prefix("kindred-test-").tempdir().unwrap();
        let (config, secrets, port) = prepare(dir.path());
        let log = dir.path().join("log");
        let out = std::fs::File::create(&log).unwrap();
        let mut node = kindred().unwrap();
        node.arg("serve").arg("--config").arg(&config).arg("--lifeline").stdin(Stdio::piped());
        let mut node = node.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        // A cluster of one: it leads, and so it holds the keys that it needs.
        let ready = eventually("the node to be ready", SOON, async || match get(&port, "/readyz").await? {
            (200, _) => Ok(()),
            (code, body) => Err(format!("{code} {body}")),
        })
        .await;
        let (_, metrics) = get(&port, "/metrics").await.unwrap_or_default();
        node.kill().unwrap();
        node.wait().unwrap();
        let told = std::fs::read_to_string(&log).unwrap() + &metrics;
        ready.unwrap();
        assert!(told.contains("TRACE") || told.contains("DEBUG"), "it does not log everything: {told}");
        for secret in &secrets {
            assert!(!told.contains(secret.as_str()), "{secret}");
        }
        let sealed = std::fs::read_to_string(dir.path().join("keys")).unwrap();
        assert!(secrets.iter().all(|secret| !sealed.contains(secret.as_str())));
    })
    .await;
}
