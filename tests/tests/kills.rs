//! A short kill loop on real processes, as `make kill-loops` runs it at length: every kind of fault once, and a history that
//! the checkers pass, and would not pass if it told something else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Stdio;
use std::time::Duration;

use kindred_check::{Answer, Body, Event, Level, Operation, Outcome, Report, Verdict, judge};
use serde_json::Value;

/// Half a minute of storm, a first start and a last one, on a machine that does other things as well.
const TAKES_AT_MOST: Duration = Duration::from_secs(400);

const FAULTS: [&str; 13] = [
    "follower",
    "leader",
    "frontend",
    "power_loss",
    "freeze",
    "ticket.approved",
    "link.proposed",
    "link.appended",
    "link.synced",
    "link.committed",
    "link.applied",
    "link.answered",
    "ticket.settled",
];

#[tokio::test]
async fn thirty_kills_of_every_kind_lose_nothing_and_their_history_could_tell() {
    let dir = tempfile::Builder::new().prefix("kindred-test-").tempdir().unwrap();
    let history = dir.path().join("history.jsonl");
    let mut command = tokio::process::Command::from(kindred_tests::kindred().unwrap());
    command.args(["chaos", "--kills", "30", "--accounts", "4", "--output", "json", "--history"]).arg(&history);
    // Whatever it leaves behind goes away with the test; its nodes end with it.
    command.env("TMPDIR", dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn().unwrap();
    let ran = tokio::time::timeout(TAKES_AT_MOST, child.wait_with_output()).await.expect("it hangs").unwrap();
    let (told, aside) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n{told}\n{aside}", ran.status);

    let line: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&line["ok"], &line["violations"]), (&Value::from(true), &Value::from(Vec::<Value>::new())), "{line}");
    assert!(line["kills"].as_u64().unwrap() >= 30, "{line}");
    let faults = line["faults"].as_array().unwrap();
    let struck = |name: &str| faults.iter().find(|fault| fault["fault"] == name).unwrap()["strikes"].as_u64().unwrap();
    for name in FAULTS {
        assert!(struck(name) > 0, "no {name} in {line}");
    }

    // The history alone says the same, to whoever judges it again; and it is not blind.
    let events = kindred_check::read_file(&history).unwrap();
    let report = judge(&events);
    assert!(report.is_clean(), "{:?}", report.violations);
    assert_eq!(report.durable_after_power_loss, Some(true));
    let told_otherwise = |change: fn(&Body, &mut Answer) -> bool| judge(&retold(&events, change));
    let lost: Report = told_otherwise(without_the_latest_session);
    assert!(lost.siblings_lost > 0 && lost.durability_lost > 0, "{lost:?}");
    assert!(told_otherwise(signed_out).signed_out_without_tombstone > 0);
    assert!(told_otherwise(another_session).duplicate_sessions > 0);
}

/// The history with its last answer that `change` can change, changed.
fn retold(events: &[Event], change: fn(&Body, &mut Answer) -> bool) -> Vec<Event> {
    let mut events = events.to_vec();
    for at in (0..events.len()).rev() {
        let Some(call) = events.iter().take(at).rev().find(|call| call.id == events[at].id).cloned() else { continue };
        if let Body::Return { outcome: Outcome::Ok(answer), .. } = &mut events[at].body
            && change(&call.body, answer)
        {
            return events;
        }
    }
    panic!("there is nothing in this history that could be told otherwise");
}

/// A list that leaves out the youngest of several.
fn without_the_latest_session(call: &Body, answer: &mut Answer) -> bool {
    match (call, &mut answer.sessions) {
        (Body::Call(Operation::List { level: Level::Linearizable, .. }), Some(sessions)) if sessions.len() > 1 => {
            let youngest = (0..sessions.len()).max_by_key(|at| sessions[*at].seq).unwrap();
            sessions.remove(youngest);
            true
        }
        _ => false,
    }
}

/// A sign-out out of the blue.
fn signed_out(_: &Body, answer: &mut Answer) -> bool {
    let is_valid = answer.verdict == Some(Verdict::Valid);
    if is_valid {
        answer.verdict = Some(Verdict::SignedOut);
    }
    is_valid
}

/// One side of a link is told another session than the other side.
fn another_session(call: &Body, answer: &mut Answer) -> bool {
    let is_link = matches!(call, Body::Call(Operation::WatchLinked { .. })) && answer.session.is_some();
    if is_link {
        answer.session = Some("another".into());
    }
    is_link
}
