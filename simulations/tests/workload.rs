//! People in a simulated world: the swarm, and the scenarios that are files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use kindred_simulations::scenarios::file::BUILT_IN;

/// One run in a process of its own: its summary and its history.
fn run(scenario: &str, seed: u64, more: &[&str]) -> (serde_json::Value, String, PathBuf) {
    let name = Path::new(scenario).file_stem().unwrap().to_string_lossy();
    let place = format!("{name}-{seed}-{}-{}", more.join("").replace(['-', ' ', '#'], ""), std::process::id());
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(place);
    let _ = std::fs::remove_dir_all(&out);
    let seed = seed.to_string();
    let args = ["run", scenario, "--seed", &seed, "--trace", "off", "--out", out.to_str().unwrap()];
    let ran = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).args(more).output().unwrap();
    let told = || format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let summary = std::fs::read_to_string(out.join("summary.json"));
    let summary = summary.unwrap_or_else(|_| panic!("sim run {scenario} --seed {seed}: {}", told()));
    let history = std::fs::read_to_string(out.join("history.jsonl")).unwrap();
    (serde_json::from_str(&summary).unwrap(), history, out)
}

#[track_caller]
fn holds(scenario: &str, seed: u64, more: &[&str]) -> serde_json::Value {
    let (summary, _, out) = run(scenario, seed, more);
    assert_eq!(summary["ok"], true, "sim run {scenario} --seed {seed} {}\n{summary:#}", more.join(" "));
    std::fs::remove_dir_all(out).unwrap();
    summary
}

#[test]
fn a_run_of_the_swarm_gives_the_same_history_and_the_same_disks_in_two_processes() {
    let (first, second) = (run("default", 1, &[]), run("default", 1, &["--until-ms", "1000000"]));
    assert_eq!((&first.0, &first.1), (&second.0, &second.1));
    assert!(first.1.lines().count() > 200, "{}", first.1);
}

#[test]
fn the_swarm_breaks_no_promise() {
    let runs: Vec<_> = (1..=3).map(|seed| holds("default", seed, &[])).collect();
    // A storm may be so hard that most operations come to nothing; then the run proves little. Not all of them may be.
    assert!(runs.iter().any(|summary| summary["vacuous"] == false), "{runs:#?}");
}

#[test]
fn every_scenario_that_tells_a_story_comes_to_its_end_as_written() {
    for (name, _) in BUILT_IN.iter().filter(|(_, text)| text.contains("[[step]]")) {
        holds(name, 1, &[]);
    }
}

#[test]
fn without_its_faults_a_run_has_none() {
    let summary = holds("rolling-restart", 1, &["--until-ms", "1"]);
    assert_eq!((&summary["faults"], &summary["restarts"]), (&serde_json::json!({}), &serde_json::json!(0)));
}

#[test]
fn a_step_that_comes_to_something_else_is_a_violation() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.toml");
    let story = "# Nobody was linked.\n[[step]]\ndo = \"register\"\naccount = \"alice\"\nhome = \"boston\"\n\
                 [[step]]\ndo = \"list\"\naccount = \"alice\"\nexpect = 2\n";
    std::fs::write(&file, story).unwrap();
    let (summary, ..) = run(file.to_str().unwrap(), 1, &[]);
    assert_eq!((&summary["ok"], &summary["violations"][0]["rule"]), (&false.into(), &"scenario".into()), "{summary:#}");
}
