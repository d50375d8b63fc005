//! JSON of the history format in few words.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Characters that are left of an id. Ids begin with random ones, so that many tell them apart within one account.
const ID_CHARS: usize = 8;
/// Members of a set that are named.
const MEMBERS_MAX: usize = 8;
/// Fields that are told before all others, which follow by name.
const FIRST: [&str; 9] = ["what", "verdict", "reason", "session", "keep", "replaces", "ticket", "set_version", "seq"];
/// Fields that hold a session's id.
const SESSION_FIELDS: [&str; 5] = ["session", "keep", "replaces", "victim", "id"];

/// An id, short enough for a line.
pub fn short(id: &str) -> &str {
    let is_id = id.len() > ID_CHARS + 4 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_id && id.bytes().any(|byte| byte.is_ascii_digit()) { &id[..ID_CHARS] } else { id }
}

/// `field value` pairs of an object, but for the fields named.
pub fn fields(object: &Map<String, Value>, but: &[&str]) -> String {
    let mut text = String::new();
    let mut all: Vec<_> = object.iter().filter(|(field, _)| !but.contains(&field.as_str())).collect();
    all.sort_by_key(|(field, _)| FIRST.iter().position(|first| first == field).unwrap_or(FIRST.len()));
    for (field, value) in all {
        if !text.is_empty() {
            text.push(' ');
        }
        let _ = match (field.as_str(), value) {
            ("detail", Value::String(word)) => write!(text, "{}", detail(word, &["fault", "node"])),
            ("verdict" | "reason", Value::String(word)) => write!(text, "{word}"),
            ("set_version", Value::Number(version)) => write!(text, "v{version}"),
            ("sessions", Value::Array(members)) => write!(text, "{}", set(members)),
            ("tombstones", Value::Array(all)) => {
                let all: Vec<_> = all.iter().map(tombstone).collect();
                write!(text, "{}", all.join(" "))
            }
            ("told", Value::Array(steps)) => {
                let steps: Vec<_> = steps.iter().filter_map(Value::as_object).map(|step| fields(step, &[])).collect();
                write!(text, "{}", steps.join(", "))
            }
            ("ended", Value::Array(all)) => {
                let all: Vec<_> = all.iter().map(tombstone).collect();
                write!(text, "{}", all.join(" "))
            }
            ("added", Value::Array(members)) => write!(text, "+{}", set(members)),
            ("what", Value::String(word)) => write!(text, "{word}"),
            ("tombstone", one) => write!(text, "{}", tombstone(one)),
            (field, Value::String(word)) => write!(text, "{} {}", field.replace('_', " "), short(word)),
            (field, other) => write!(text, "{} {other}", field.replace('_', " ")),
        };
    }
    text
}

/// How much of a fault there is: an injection as JSON, but for the fields named, or words.
pub fn detail(text: &str, but: &[&str]) -> String {
    match serde_json::from_str(text) {
        Ok(Value::Object(injection)) => fields(&injection, but),
        _ => text.to_owned(),
    }
}

fn set(members: &[Value]) -> String {
    let name = |member: &Value| {
        member.as_str().or_else(|| member["id"].as_str()).map_or("?".to_owned(), |id| short(id).to_owned())
    };
    let named: Vec<_> = members.iter().take(MEMBERS_MAX).map(name).collect();
    let more = if members.len() > MEMBERS_MAX { format!(" +{}", members.len() - MEMBERS_MAX) } else { String::new() };
    format!("{{{}{more}}}", named.join(" "))
}

fn tombstone(one: &Value) -> String {
    let word = |field: &str| short(one[field].as_str().unwrap_or("?")).to_owned();
    format!("†{} {} by {}", word("session"), word("reason"), word("command"))
}

/// Ids of all sessions that stand anywhere in a value, in order, each once.
pub fn sessions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| sessions(one, found)),
        Value::Object(object) => {
            for (field, value) in object {
                match value {
                    Value::String(id) if SESSION_FIELDS.contains(&field.as_str()) => {
                        if !found.contains(id) {
                            found.push(id.clone());
                        }
                    }
                    other => sessions(other, found),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_told_in_one_line() {
        let answer = serde_json::json!({
            "verdict": "SIGNED_OUT", "set_version": 5, "sessions": [{"id": "0123456789abcdef0123", "seq": 1}],
            "tombstones": [{"session": "aaaabbbbccccdddd11", "reason": "SELF_LOGOUT", "command": "ffff0000ffff0000"}],
        });
        let text = fields(answer.as_object().unwrap(), &[]);
        assert_eq!(text, "SIGNED_OUT v5 {01234567} †aaaabbbb SELF_LOGOUT by ffff0000");
        let mut found = Vec::new();
        sessions(&answer, &mut found);
        assert_eq!(found, ["0123456789abcdef0123", "aaaabbbbccccdddd11"]);
    }

    #[test]
    fn what_a_watch_told_is_told_step_by_step() {
        let answer = serde_json::json!({"told": [
            {"what": "snapshot", "set_version": 1, "sessions": [{"id": "0123456789abcdef0123", "seq": 0}]},
            {"what": "change", "set_version": 2, "added": [{"id": "aaaabbbbccccdddd11", "seq": 1}]},
        ]});
        let text = fields(answer.as_object().unwrap(), &[]);
        assert_eq!(text, "snapshot v1 {01234567}, change v2 +{aaaabbbb}");
    }

    #[test]
    fn how_much_of_a_fault_there_is_reads_as_words() {
        let note = serde_json::json!({"detail": r#"{"fault":"message_loss","per_mille":200,"for_ms":3000}"#});
        assert_eq!(fields(note.as_object().unwrap(), &[]), "for ms 3000 per mille 200");
    }

    #[test]
    fn words_are_not_cut_like_ids() {
        assert_eq!(short("COMPANION_LIMIT_REACHED"), "COMPANION_LIMIT_REACHED");
        assert_eq!(short("crashatpointisaword"), "crashatpointisaword");
        assert_eq!(short("5e5e5e5e5e5e5e5e"), "5e5e5e5e");
    }
}
