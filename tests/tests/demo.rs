//! The main job, as anybody would run it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

/// Three kills, a power loss and a first start, on a machine that does other things as well.
const TAKES_AT_MOST: Duration = Duration::from_secs(180);

#[tokio::test]
async fn the_demo_holds_and_its_history_says_so() {
    let dir = tempfile::Builder::new().prefix("kindred-test-").tempdir().unwrap();
    let history = dir.path().join("history.jsonl");
    let mut command = tokio::process::Command::from(kindred_tests::kindred().unwrap());
    command.args(["demo", "--output", "json", "--history"]).arg(&history);
    // Whatever it leaves behind goes away with the test; its nodes end with it.
    command.env("TMPDIR", dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn().unwrap();
    let ran = tokio::time::timeout(TAKES_AT_MOST, child.wait_with_output()).await.expect("the demo hangs").unwrap();
    let (told, aside) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n{told}\n{aside}", ran.status);

    let line: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    for zero in ["siblings_lost", "duplicate_sessions", "signed_out_without_tombstone"] {
        assert_eq!(line[zero], 0, "{zero} in {line}");
    }
    assert_eq!((&line["nodes"], &line["regions"]), (&Value::from(3), &Value::from(3)));
    assert_eq!(line["durable_after_power_loss"], true, "{line}");
    assert_eq!(line["links_completed"], line["links_attempted"], "{line}");
    assert!(line["failover_ms"].as_u64().is_some_and(|ms| ms > 0), "{line}");
    let kills = line["steps"].as_array().unwrap().iter().filter_map(|step| step["kills"].as_array()).flatten();
    let points: Vec<_> = kills.map(|kill| kill["point"].as_str().unwrap_or_default()).collect();
    for point in ["ticket.approved", "link.committed", "ticket.settled", "power_loss"] {
        assert!(points.contains(&point), "nobody was killed at {point}: {points:?}");
    }

    // The history alone says the same, to whoever judges it again.
    let report = kindred_check::judge(&kindred_check::read_file(&history).unwrap());
    assert!(report.is_clean(), "{:?}", report.violations);
    assert_eq!(report.durable_after_power_loss, Some(true));
    assert_eq!(line["links_attempted"], report.links_attempted);
    assert!(report.links_attempted >= 6, "{report:?}");
    assert_eq!(line["failover_ms"], report.failover_ms.unwrap());
    assert_eq!(line["operations"], report.operations);
}
