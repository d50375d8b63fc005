//! Sessions and tombstones as a person or a program reads them.

use kindred_core::id::hex;
use kindred_wire::pb::session::v1 as pb;
use serde_json::{Value, json};

use crate::output::{fields, wall};

/// A tombstone in one line.
pub fn why(tombstone: &pb::Tombstone) -> String {
    if tombstone.stub {
        return format!("{} (no more is kept of it)", tombstone.reason().as_str_name());
    }
    let actor = match &tombstone.actor {
        Some(pb::tombstone::Actor::ActorSession(id)) => format!("session {}", hex(id)),
        Some(pb::tombstone::Actor::ActorOperator(name)) => format!("operator {}", printable(name)),
        None => "nobody named".to_owned(),
    };
    format!("{} by {actor} at {}", tombstone.reason().as_str_name(), wall(tombstone.wall_ms))
}

/// Prints a tombstone.
pub fn print_tombstone(tombstone: &pb::Tombstone) {
    let session = tombstone.session.clone().unwrap_or_default();
    if tombstone.stub {
        let index = tombstone.log_index.to_string();
        let rows = [("session", hex(&session.session)), ("signed out", why(tombstone)), ("log index", index)];
        print!("{}", fields(&rows));
        return;
    }
    print!(
        "{}",
        fields(&[
            ("session", hex(&session.session)),
            ("device", describe(&session.device.unwrap_or_default())),
            ("signed out", why(tombstone)),
            ("command", hex(&tombstone.command)),
            ("set version", tombstone.set_version.to_string()),
            ("log index", tombstone.log_index.to_string()),
        ])
    );
}

/// Its role in one word.
pub fn role(session: &pb::SessionRecord) -> &'static str {
    match session.role() {
        pb::Role::Primary => "primary",
        pb::Role::Companion => "companion",
        pb::Role::Unspecified => "unknown",
    }
}

/// `Ann's laptop (web 1.2.3)`. The name is whatever the device says, so nothing in it may steer the terminal.
pub fn describe(device: &pb::Device) -> String {
    let name = printable(&String::from_utf8_lossy(&device.display_name));
    format!("{name} ({} {})", printable(&device.platform), printable(&device.app_version))
}

/// `text` without control characters.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A device for programs.
pub fn device_json(device: &pb::Device) -> Value {
    json!({
        "platform": device.platform,
        "app_version": device.app_version,
        "display_name": String::from_utf8_lossy(&device.display_name),
    })
}

/// A session for programs.
pub fn session_json(session: &pb::SessionRecord) -> Value {
    json!({
        "session": hex(&session.session),
        "seq": session.seq,
        "role": role(session),
        "device_key": hex(&session.device_key),
        "device": device_json(&session.device.clone().unwrap_or_default()),
        "linked_wall_ms": session.linked_wall_ms,
        "linked_by": hex(&session.linked_by),
        "ticket": hex(&session.ticket),
        "key_generation": session.key_generation,
        "pinned": session.pinned,
    })
}

/// A tombstone for programs.
pub fn tombstone_json(tombstone: &pb::Tombstone) -> Value {
    use pb::tombstone::Actor;
    let actor = match &tombstone.actor {
        Some(Actor::ActorSession(id)) => json!({ "session": hex(id) }),
        Some(Actor::ActorOperator(name)) => json!({ "operator": name }),
        None => Value::Null,
    };
    json!({
        "session": session_json(&tombstone.session.clone().unwrap_or_default()),
        "reason": tombstone.reason().as_str_name(),
        "actor": actor,
        "command": hex(&tombstone.command),
        "log_index": tombstone.log_index,
        "set_version": tombstone.set_version,
        "wall_ms": tombstone.wall_ms,
        "stub": tombstone.stub,
    })
}
