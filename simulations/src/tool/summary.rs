//! What a run left behind in `summary.json`, as this tool reads it. Unknown fields are passed over and missing ones are
//! empty, so that summaries of older and newer builds can be read.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::explain::words;

/// Name of the file in a run's directory.
pub const FILE: &str = "summary.json";
/// The history beside it.
pub const HISTORY: &str = "history.jsonl";

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// What was played.
    pub scenario: String,
    /// What everything random followed from.
    pub seed: u64,
    /// `tonic` or `messages`.
    pub network: String,
    /// The bug that was put back, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// Whether nothing contradicts a promise.
    pub ok: bool,
    /// Whether so little succeeded that the run proves nothing.
    pub vacuous: bool,
    /// Why there was no run: what it was asked for does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misuse: Option<String>,
    /// Why the run itself is no verdict, if it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// What contradicts a promise.
    pub violations: Vec<Violation>,
    /// Simulated time, ms.
    pub simulated_ms: u64,
    /// Per operation what came of it.
    pub operations: BTreeMap<String, Counts>,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<String, u64>,
    /// Times that a shard got another leader.
    pub leader_changes: u64,
    /// Snapshots that a replica took from another.
    pub snapshots_installed: u64,
    /// Starts of a node after its first.
    pub restarts: u64,
    /// Log entries applied, over all replicas.
    pub entries_applied: u64,
    /// The faults that were drawn, in the order of time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<Planned>,
    /// SHA-256 over the run's trace and all disks at its end.
    pub digest: String,
}

/// One contradiction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Violation {
    /// Which rule.
    pub rule: String,
    /// The contradiction in words.
    pub detail: String,
    /// In which account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whose session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When, in µs of simulated time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_us: Option<u64>,
    /// Ids of the events of the history that contradict each other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<u64>,
}

/// What came of the operations of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Answered.
    pub ok: u64,
    /// Refused, without effect.
    pub refused: u64,
    /// Nobody knows.
    pub unknown: u64,
}

impl Counts {
    /// All of them.
    pub fn total(self) -> u64 {
        self.ok + self.refused + self.unknown
    }

    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }
}

/// A fault that a seed drew: an event of its plan, or a kind that lasts for the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Planned {
    /// Its number in the plan, by which `--only-faults #N` chooses it; none for what is no event, as knobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// When it begins, ms of simulated time.
    pub at_ms: u64,
    /// Which kind.
    pub fault: String,
    /// Whom it strikes and how, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Planned {
    /// Its word for `--only-faults`.
    pub fn word(&self) -> String {
        self.index.map_or_else(|| self.fault.clone(), |index| format!("#{index}"))
    }
}

impl Summary {
    /// Reads `summary.json` of a run's directory.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let text = std::fs::read(&path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let mut summary: Self =
            serde_json::from_slice(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        for planned in &mut summary.plan {
            planned.detail = planned.detail.as_deref().map(|detail| words::detail(detail, &["fault"]));
        }
        Ok(summary)
    }

    /// All operations together.
    pub fn operations_total(&self) -> Counts {
        let mut total = Counts::default();
        self.operations.values().for_each(|counts| total.add(*counts));
        total
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_summary_of_another_build_can_be_read() {
        let text = r#"{"scenario":"default","seed":7,"ok":false,"violations":[{"rule":"siblings_lost","detail":"d"}],
            "operations":{"list":{"ok":3,"unknown":1}},"new_field":[1]}"#;
        let summary: Summary = serde_json::from_str(text).unwrap();
        assert_eq!(summary.operations_total(), Counts { ok: 3, refused: 0, unknown: 1 });
        assert_eq!(summary.violations[0].rule, "siblings_lost");
        assert_eq!(summary.leader_changes, 0);
    }
}
