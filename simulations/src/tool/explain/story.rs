//! A run as rows: operations with their answers, and notes, in the order of time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kindred_check::{Body, Event};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::output::Exit;
use super::super::summary::{HISTORY, Summary, Violation};
use super::words;

/// Most violations that are shown; a broken build may have one per operation.
const VIOLATIONS_MAX: usize = 200;

/// A run.
#[derive(Debug)]
pub struct Story {
    /// What it left in summary.json; of a history by itself, only what follows from that.
    pub summary: Summary,
    /// What was said and done.
    pub rows: Vec<Row>,
    /// What contradicts a promise, the earliest first: as the run said, and as the checkers say of the history now.
    pub violations: Vec<Violation>,
    /// The last event, µs.
    pub end_us: u64,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A client asked for something.
    Operation,
    /// The world was made worse, or well again.
    Fault,
    /// A node went, came, froze, thawed.
    Node,
    /// A shard has a leader.
    Leader,
    /// A replica installed a snapshot.
    Snapshot,
    /// Anything else.
    Step,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Id in the history.
    pub id: u64,
    /// When it began, µs.
    pub at_us: u64,
    /// When its answer was seen, µs; none for notes and for what was never answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_us: Option<u64>,
    /// Who acted, or the node concerned.
    pub who: String,
    /// The operation or the note.
    pub what: String,
    /// What it was about, in words.
    pub about: String,
    /// What it is.
    pub kind: Kind,
    /// `ok`, `refused`, `unknown`; empty for notes.
    pub outcome: String,
    /// What the answer said, in words.
    pub answer: String,
    /// The account concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Sessions that it speaks of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<String>,
    /// The violations that it helps to prove, by place in [`Story::violations`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proves: Vec<usize>,
    /// The call, or the note, as in the history.
    pub call: Map<String, Value>,
    /// The answer as in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Map<String, Value>>,
}

impl Story {
    /// Reads a run's directory, or a history by itself.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let is_dir = path.is_dir();
        let history = if is_dir { path.join(HISTORY) } else { path.to_owned() };
        let hint = "give the directory that `sim run --out DIR` made, or a history as in docs/history.md";
        let events = kindred_check::read_file(&history).map_err(|error| Exit::usage(format!("{error}; {hint}")))?;
        let summary = if is_dir { Summary::read(path).unwrap_or_default() } else { Summary::default() };
        Self::new(summary, &events)
    }

    /// Puts calls and answers together and judges the history.
    pub fn new(summary: Summary, events: &[Event]) -> anyhow::Result<Self> {
        let violations = violations(&summary, events);
        let mut rows: Vec<Row> = Vec::new();
        let mut by_id = BTreeMap::new();
        for event in events {
            let Value::Object(mut json) = serde_json::to_value(event)? else { continue };
            for field in ["id", "client", "at_us", "kind"] {
                json.remove(field);
            }
            match &event.body {
                Body::Call(_) => {
                    by_id.insert(event.id, rows.len());
                    rows.push(operation(event, json));
                }
                Body::Note(_) => rows.push(note(event, json)),
                Body::Return { .. } => {
                    if let Some(row) = by_id.get(&event.id).and_then(|index| rows.get_mut(*index)) {
                        row.answered(event.at_us, json);
                    }
                }
            }
        }
        accounts_of_tickets(&mut rows);
        for (index, violation) in violations.iter().enumerate() {
            for row in rows.iter_mut().filter(|row| violation.events.contains(&row.id)) {
                row.proves.push(index);
            }
        }
        let end_us = events.last().map_or(0, |event| event.at_us);
        Ok(Self { summary, rows, violations, end_us })
    }

    /// For file names: scenario and seed.
    pub fn name(&self) -> String {
        if self.summary.scenario.is_empty() {
            return "history".to_owned();
        }
        let scenario = self.summary.scenario.rsplit('/').next().unwrap_or_default().trim_end_matches(".toml");
        format!("{scenario}-{}", self.summary.seed)
    }
}

impl Row {
    fn answered(&mut self, at_us: u64, mut json: Map<String, Value>) {
        json.remove("op");
        self.done_us = Some(at_us);
        self.outcome = json.get("outcome").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.answer = words::fields(&json, &["outcome", "account"]);
        if self.account.is_none() {
            self.account = json.get("account").and_then(Value::as_str).map(str::to_owned);
        }
        let json = Value::Object(json);
        words::sessions(&json, &mut self.sessions);
        if let Value::Object(json) = json {
            self.reply = Some(json);
        }
    }
}

fn operation(event: &Event, json: Map<String, Value>) -> Row {
    let text = |field: &str| json.get(field).and_then(Value::as_str).map(str::to_owned);
    let (what, account) = (text("op").unwrap_or_default(), text("account"));
    let about = words::fields(&json, &["op", "account"]);
    let json = Value::Object(json);
    let mut sessions = Vec::new();
    words::sessions(&json, &mut sessions);
    let call = if let Value::Object(json) = json { json } else { Map::new() };
    Row {
        id: event.id,
        at_us: event.at_us,
        done_us: None,
        who: event.client.clone(),
        what,
        about,
        kind: Kind::Operation,
        outcome: "unknown".to_owned(),
        answer: String::new(),
        account,
        sessions,
        proves: Vec::new(),
        call,
        reply: None,
    }
}

fn note(event: &Event, json: Map<String, Value>) -> Row {
    let text = |field: &str| json.get(field).and_then(Value::as_str).map(str::to_owned);
    let name = text("note").unwrap_or_default();
    let kind = match name.as_str() {
        "fault" | "healed" => Kind::Fault,
        "leader" => Kind::Leader,
        "installed" => Kind::Snapshot,
        "kill" | "freeze" | "thaw" | "restart" => Kind::Node,
        _ => Kind::Step,
    };
    let what = match (kind, text("fault")) {
        (Kind::Fault, Some(fault)) if name == "healed" => format!("{fault} healed"),
        (Kind::Fault, Some(fault)) => fault,
        _ => name,
    };
    Row {
        id: event.id,
        at_us: event.at_us,
        done_us: None,
        who: text("node").unwrap_or_else(|| event.client.clone()),
        what,
        about: words::fields(&json, &["note", "node", "fault", "account"]),
        kind,
        outcome: String::new(),
        answer: String::new(),
        account: text("account"),
        sessions: Vec::new(),
        proves: Vec::new(),
        call: json,
        reply: None,
    }
}

/// An operation that names no account belongs to the one that scanned or approved its ticket, or, for a ticket that nobody
/// scanned, to the one that the client is called after (`a7/web 31`).
fn accounts_of_tickets(rows: &mut [Row]) {
    let ticket = |row: &Row| {
        let in_reply = row.reply.as_ref().and_then(|reply| reply.get("ticket"));
        row.call.get("ticket").or(in_reply).and_then(Value::as_str).map(str::to_owned)
    };
    let known: BTreeMap<String, String> =
        rows.iter().filter_map(|row| Some((ticket(row)?, row.account.clone()?))).collect();
    let accounts: BTreeSet<String> = rows.iter().filter_map(|row| row.account.clone()).collect();
    for row in rows.iter_mut().filter(|row| row.account.is_none() && row.kind == Kind::Operation) {
        let scanned = ticket(row).and_then(|ticket| known.get(&ticket).cloned());
        let called = row.who.split('/').next().filter(|name| accounts.contains(*name)).map(str::to_owned);
        row.account = scanned.or(called);
    }
}

/// What the run said, with the events that prove it where the checkers know them, then what only the checkers say.
fn violations(summary: &Summary, events: &[Event]) -> Vec<Violation> {
    let mut all = summary.violations.clone();
    let times: BTreeMap<u64, u64> = events.iter().map(|event| (event.id, event.at_us)).collect();
    for found in kindred_check::judge(events).violations {
        let same = all.iter_mut().find(|known| known.rule == found.checker && known.detail.contains(&found.text));
        match same {
            Some(known) if known.events.is_empty() => known.events = found.events,
            Some(_) => {}
            None => all.push(Violation {
                rule: found.checker,
                detail: found.text,
                events: found.events,
                ..Violation::default()
            }),
        }
    }
    for violation in all.iter_mut().filter(|violation| violation.at_us.is_none()) {
        violation.at_us = violation.events.iter().filter_map(|id| times.get(id)).max().copied();
    }
    // The first is nearest to its cause.
    all.sort_by_key(|violation| violation.at_us.unwrap_or(u64::MAX));
    all.truncate(VIOLATIONS_MAX);
    all
}
