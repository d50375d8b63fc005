//! The command line, as people and programs use it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn sim(line: &str, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(line.split_whitespace()).current_dir(dir).output().unwrap()
}

#[track_caller]
fn ends(line: &str, dir: &Path, code: i32) -> String {
    let ran = sim(line, dir);
    let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(code), "sim {line}\n{out}\n{error}");
    format!("{out}{error}")
}

#[track_caller]
fn document(line: &str, dir: &Path, code: i32) -> Value {
    let ran = sim(line, dir);
    let error = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(code), "sim {line}\n{error}");
    serde_json::from_slice(&ran.stdout)
        .unwrap_or_else(|e| panic!("sim {line}: {e}\n{}", String::from_utf8_lossy(&ran.stdout)))
}

/// A history in which a link drops a sibling, and nobody named it.
const BAD: &str = r#"{"id":1,"client":"phone","at_us":1000,"kind":"call","op":"register","account":"alice","device_key":"k0"}
{"id":1,"client":"phone","at_us":2000,"kind":"return","op":"register","outcome":"ok","session":"s0","seq":0,"set_version":1}
{"id":2,"client":"world","at_us":2500,"kind":"note","note":"fault","fault":"partition","node":"boston-0"}
{"id":3,"client":"web","at_us":3000,"kind":"call","op":"open","device_key":"k1"}
{"id":3,"client":"web","at_us":4000,"kind":"return","op":"open","outcome":"ok","ticket":"t1"}
{"id":4,"client":"phone","at_us":5000,"kind":"call","op":"approve","account":"alice","ticket":"t1","device_key":"k1","request":"r1"}
{"id":4,"client":"phone","at_us":9000,"kind":"return","op":"approve","outcome":"ok","session":"s1","seq":1,"sessions":[{"id":"s1"}],"set_version":2}
{"id":5,"client":"world","at_us":9500,"kind":"note","note":"healed","fault":"partition","node":"boston-0"}
"#;

#[test]
fn every_command_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["run", "sweep", "twice", "explain", "mutants", "scenarios", "judge"] {
        assert!(ends("--help", dir.path(), 0).contains(command));
        assert!(ends(&format!("{command} --help"), dir.path(), 0).contains("Usage"), "{command}");
    }
}

#[test]
fn wrong_use_is_code_two_and_says_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    assert!(ends("sweep --seeds 9..3", dir.path(), 2).contains("ends before it begins"));
    assert!(ends("sweep link --gates weather", dir.path(), 2).contains("operations"));
    assert!(ends("run link --trace off --output json", dir.path(), 2).contains("choose one"));
    assert!(ends("run nothing-of-this-name", dir.path(), 2).contains("sim scenarios"));
    assert!(ends("judge nowhere.jsonl", dir.path(), 2).contains("docs/history.md"));
    assert!(ends("explain --dir nowhere", dir.path(), 2).contains("--out"));
}

#[test]
fn a_run_is_told_to_people_and_to_programs() {
    let dir = tempfile::tempdir().unwrap();
    assert!(ends("run link --seed 1", dir.path(), 0).ends_with("\nok\n"));
    let outcome = document("run link --seed 1 --output json", dir.path(), 0);
    assert_eq!((&outcome["scenario"], &outcome["ok"]), (&"link".into(), &true.into()));
    let trace = ends("run link --seed 1 --trace off", dir.path(), 0);
    assert!(trace.contains("linked ") && trace.contains("sessions valid everywhere"), "{trace}");
}

#[test]
fn a_sweep_adds_up_what_its_seeds_did() {
    let dir = tempfile::tempdir().unwrap();
    let line = "sweep link --seeds 1..3 --network tonic --gates none --out swept --output json";
    let report = document(line, dir.path(), 0);
    assert_eq!((&report["runs"], &report["ok"], &report["passed"]), (&3.into(), &3.into(), &true.into()));
    let kept: Value = serde_json::from_slice(&std::fs::read(dir.path().join("swept/sweep.json")).unwrap()).unwrap();
    assert_eq!(kept, report);
}

#[test]
fn twice_says_that_two_processes_gave_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = document("twice link crash --seeds 1..1 --network tonic --output json", dir.path(), 0);
    let pairs = pairs.as_array().unwrap();
    assert_eq!(pairs.len(), 2);
    for pair in pairs {
        assert_eq!(pair["identical"], true, "{pair}");
        assert!(pair["lines"].as_u64().unwrap() > 100, "too little was compared: {pair}");
    }
}

#[test]
fn a_history_that_breaks_a_promise_is_judged_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.jsonl"), BAD).unwrap();
    assert!(ends("judge bad.jsonl", dir.path(), 1).contains("siblings_lost"));
    assert_eq!(document("judge bad.jsonl --output json", dir.path(), 1)["siblings_lost"], 1);

    let text = ends("explain --dir bad.jsonl --html page.html", dir.path(), 1);
    for word in ["!1", "siblings_lost", "partition", "approve", "alice"] {
        assert!(text.contains(word), "{word}\n{text}");
    }
    let page = std::fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert!(page.contains("siblings_lost") && !page.contains("{{"));

    let told = document("explain --dir bad.jsonl --html none --account bob --output json", dir.path(), 1);
    let kinds: Vec<_> = told["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["fault", "fault"], "only what happens to the world concerns everybody");
}

#[test]
fn a_history_that_keeps_its_promises_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let good = BAD.replace(r#""sessions":[{"id":"s1"}]"#, r#""sessions":[{"id":"s0"},{"id":"s1"}]"#);
    std::fs::write(dir.path().join("good.jsonl"), good).unwrap();
    assert!(ends("judge good.jsonl", dir.path(), 0).ends_with("\nok\n"));
}

#[test]
fn scenarios_are_listed_with_what_happens_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let all = document("scenarios --output json", dir.path(), 0);
    for scenario in all.as_array().unwrap() {
        assert!(scenario["about"].as_str().unwrap().len() > 20, "{scenario}");
    }
    let text = ends("scenarios", dir.path(), 0);
    for name in ["default", "link", "two-wiped"] {
        assert!(text.contains(name), "{name}\n{text}");
    }
}
