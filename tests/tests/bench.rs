//! `kindred bench` over real processes: every operation is done and told, whatever the figures are on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Output;

use serde_json::Value;

fn bench(arguments: &[&str], path: Option<&str>) -> Output {
    let mut command = kindred_tests::kindred().unwrap();
    command.arg("bench").args(arguments).stdin(std::process::Stdio::null());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.output().unwrap()
}

#[test]
fn a_bench_does_every_operation_and_every_replica_takes_part() {
    let few = "--links 200 --round 200 --seconds 1 --in-flight 4 --watchers 6 --watched 2 --changes 10 --output json";
    let output = bench(&few.split(' ').collect::<Vec<_>>(), None);
    let told = String::from_utf8_lossy(&output.stderr);
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no figures: {told}"));
    let done: Vec<_> = figures["operations"].as_array().unwrap().iter().collect();
    let names: Vec<_> = done.iter().map(|operation| operation["name"].as_str().unwrap()).collect();
    let all = [
        "link",
        "link-abroad",
        "link-shard",
        "validate",
        "validate-stream",
        "validate-local",
        "mixed",
        "pairing",
        "watch",
    ];
    assert_eq!(names, all);
    for operation in &done {
        assert!(operation["answered"].as_u64().unwrap() > 0, "nothing was answered: {operation}");
        assert!(operation["cpu"]["wall_s"].as_f64().unwrap() > 0.0, "{operation}");
    }
    let kinds = done[6]["kinds"].as_object().unwrap();
    assert!(kinds["validate"]["answered"].as_u64() > kinds["link"]["answered"].as_u64(), "the mix: {kinds:?}");
    assert!(figures["entries_applied_by_every_replica"].as_u64().unwrap() > 0);
    // A busy machine may refuse a call; then the run says so and does not end well.
    let failed = done.iter().any(|operation| !operation["errors"].as_object().unwrap().is_empty());
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{told}");
}

#[test]
fn a_comparison_without_its_programs_says_what_to_install_and_starts_nothing() {
    let output = bench(&["compare", "--peers", "etcd,redis"], Some("/nowhere"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("apt-get install etcd-server redis-server") && told.lines().count() == 1, "{told}");
}
