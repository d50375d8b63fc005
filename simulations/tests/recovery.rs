//! Nodes that come back different from how they went.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

fn holds(scenario: &str, seeds: std::ops::RangeInclusive<u64>) {
    for seed in seeds {
        let seed = seed.to_string();
        let args = ["run", scenario, "--seed", &seed, "--trace", "off,kindred_replica=info"];
        let ran = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().unwrap();
        let out = String::from_utf8_lossy(&ran.stdout);
        let tail = out.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        let error = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "sim run {scenario} --seed {seed}\n{tail}\n{error}");
    }
}

#[test]
fn a_replica_that_fell_behind_the_purged_log_installs_a_snapshot_and_catches_up() {
    holds("lag", 1..=5);
}

#[test]
fn a_wiped_node_comes_back_under_new_ids_and_takes_its_old_place() {
    holds("wipe", 1..=5);
}

#[test]
fn a_replica_with_a_damaged_record_is_rebuilt_from_its_peers() {
    holds("rot", 1..=5);
}

#[test]
fn a_leader_that_dies_between_wrong_codes_gives_no_try_back() {
    holds("code", 1..=5);
}

#[test]
fn with_two_of_three_wiped_the_survivor_refuses_and_invents_nothing() {
    holds("two-wiped", 1..=5);
}
