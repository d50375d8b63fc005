//! Pairing by a typed code on the command line, over real processes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use kindred_tests::{Cluster, Options, kindred, story};
use serde_json::Value;

/// The devices' commands, all with JSON.
struct Hands<'a> {
    dir: &'a Path,
    address: String,
}

impl Hands<'_> {
    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = kindred().unwrap();
        command.current_dir(self.dir).env("KINDRED_ADDRESS", &self.address).args(args).args(["--output", "json"]);
        command
    }

    /// Exit code and the value that was printed.
    fn phone(&self, args: &[&str]) -> (i32, Value) {
        let args: Vec<_> = ["phone", "--keys", "phone.json"].into_iter().chain(args.iter().copied()).collect();
        let ran = self.command(&args).output().unwrap();
        let value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| String::from_utf8_lossy(&ran.stderr).into());
        (ran.status.code().unwrap(), value)
    }

    fn follow(&self, args: &[&str]) -> Follower {
        let mut child = self.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follower { child, lines: Box::new(lines.map(Result::unwrap)) }
    }
}

/// A command that tells one event per line.
struct Follower {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Follower {
    fn next(&mut self, event: &str) -> Value {
        let line = self.lines.next().unwrap_or_else(|| panic!("it ended before {event}"));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], event, "{value}");
        value
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same letters, each moved on by one: a code that is not this one.
fn wrong(code: &str) -> String {
    let alphabet = kindred_core::code::ALPHABET;
    let moved = |letter: u8| match alphabet.iter().position(|l| *l == letter) {
        Some(at) => char::from(alphabet[(at + 1) % alphabet.len()]),
        None => char::from(letter),
    };
    code.bytes().map(moved).collect()
}

fn by_hand(hands: &Hands<'_>) {
    assert_eq!(hands.phone(&["register", "ann"]).0, 0);
    let mut companion = hands.follow(&["companion", "--keys", "desk.json", "--code", "--account", "ann"]);
    let code = companion.next("offered")["code"].as_str().unwrap().to_owned();

    // A wrong code costs a try, and says how many are left. A phone that was faster than the news asks again.
    let (exit, said) = (0..100)
        .map(|_| hands.phone(&["scan", "--code", &wrong(&code)]))
        .find(|(_, said)| !said.as_str().is_some_and(|said| said.contains("TICKET_NOT_FOUND")))
        .unwrap();
    assert!(exit == 3 && said.as_str().unwrap().contains("CODE_MISMATCH (left 4)"), "{exit} {said}");

    // A watch that begins now hears of the request.
    let mut watch = hands.follow(&["phone", "--keys", "phone.json", "watch"]);
    assert_eq!(watch.next("link_requested")["device"]["display_name"], "desk");

    let (exit, asking) = hands.phone(&["scan", "--code", &code.to_lowercase()]);
    let number = asking["number"].as_str().unwrap().to_owned();
    assert_eq!((exit, companion.next("scanned")["number"].as_str()), (0, Some(number.as_str())), "both show the same");

    let another = if number == "0000" { "0001" } else { "0000" };
    assert_eq!(hands.phone(&["approve", "--code", &code, "--number", another]).0, 3);
    let (exit, linked) = hands.phone(&["approve", "--code", &code, "--number", &number]);
    assert_eq!(exit, 0, "{linked}");
    assert_eq!(companion.next("linked")["session"]["session"], linked["session"]);
    assert!(companion.child.wait().unwrap().success());
}

#[tokio::test]
async fn a_code_typed_on_the_command_line_links_the_companion_once_both_numbers_agree() {
    story(async {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        let address = cluster.nodes.iter().map(|node| node.gateway.clone()).collect::<Vec<_>>().join(",");
        tokio::task::spawn_blocking(move || {
            let dir = tempfile::tempdir().unwrap();
            by_hand(&Hands { dir: dir.path(), address });
        })
        .await
        .unwrap();
    })
    .await;
}
