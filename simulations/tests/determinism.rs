//! A run that cannot be repeated proves nothing, so this comes first.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

fn run(scenario: &str, seed: u64) -> Vec<u8> {
    let seed = seed.to_string();
    let ran =
        Command::new(env!("CARGO_BIN_EXE_sim")).args(["run", scenario, "--seed", &seed, "--trace"]).output().unwrap();
    let tail = String::from_utf8_lossy(&ran.stdout).lines().rev().take(30).collect::<Vec<_>>().join("\n");
    assert!(ran.status.success(), "sim run {scenario} --seed {seed}\n{tail}\n{}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

fn twice(scenario: &str, seed: u64) {
    let (first, second) = (run(scenario, seed), run(scenario, seed));
    assert!(first.len() > 10_000, "a trace this short saw nothing of the network");
    if first != second {
        let (first, second) = (String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
        let at = first.lines().zip(second.lines()).position(|(a, b)| a != b);
        panic!("sim run {scenario} --seed {seed}: two processes differ from line {at:?}");
    }
}

#[test]
fn a_link_over_tonic_gives_the_same_bytes_in_two_processes() {
    twice("link", 1);
}

#[test]
fn crashes_that_lose_unsynced_writes_give_the_same_bytes_in_two_processes_and_lose_no_session() {
    for seed in 1..=4 {
        twice("crash", seed);
    }
}

#[test]
fn a_link_by_a_typed_code_gives_the_same_bytes_in_two_processes() {
    twice("code", 1);
}

#[test]
fn another_seed_gives_another_run() {
    assert_ne!(run("link", 1), run("link", 2));
}
