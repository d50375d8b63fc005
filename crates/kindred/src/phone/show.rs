//! What the phone prints.

use std::path::Path;

use kindred_client::Member;
use kindred_core::code::MatchNumber;
use kindred_core::id::{DeviceKey, SessionId, TicketId, hex};
use kindred_core::model::Receipt;
use kindred_wire::pb::account::v1::RegisterReply;
use kindred_wire::pb::pairing::v1::ScanTicketReply;
use kindred_wire::pb::session::v1 as pb;
use serde_json::json;

use crate::output::{self, Output, fields, table, wall};
use crate::records::{describe, device_json, print_tombstone, printable, role, session_json, tombstone_json};

pub(super) fn registered(member: &Member, reply: &RegisterReply, keys: &Path, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return output::json(&json!({
            "account": member.account.to_string(),
            "session": member.session.to_string(),
            "home_region": member.home_region,
            "set_version": reply.set_version,
            "auth_epoch": reply.auth_epoch,
            "log_index": reply.log_index,
        }));
    }
    print!(
        "{}",
        fields(&[
            ("account", member.account.to_string()),
            ("home region", member.home_region.clone()),
            ("session", format!("{} (this phone, the primary)", member.session)),
            ("keys", keys.display().to_string()),
        ])
    );
    Ok(())
}

pub(super) fn scanned(member: &Member, reply: &ScanTicketReply, output: Output) -> anyhow::Result<()> {
    if output == Output::Table {
        print!("{}", question(member, reply));
        return Ok(());
    }
    let requester = reply.requester.clone().unwrap_or_default();
    output::json(&json!({
        "account": member.account.to_string(),
        "ticket": hex(&reply.ticket),
        "device_key": hex(&reply.device_key),
        "device": device_json(&requester.device.unwrap_or_default()),
        "location": requester.location,
        "ticket_age_ms": reply.ticket_age_ms,
        "ticket_ttl_ms": reply.ticket_ttl_ms,
        "companions": reply.companions,
        "companion_limit": reply.companion_limit,
        "number": number(reply).map(|number| number.to_string()),
    }))
}

/// The number that both screens must show, where the approval has to carry one.
fn number(reply: &ScanTicketReply) -> Option<MatchNumber> {
    let (key, ticket) = (DeviceKey::from_slice(&reply.device_key)?, TicketId::from_slice(&reply.ticket)?);
    reply.number_match.then(|| MatchNumber::of(&key, &ticket))
}

/// Who asks, for the person who decides.
pub(super) fn question(member: &Member, reply: &ScanTicketReply) -> String {
    let requester = reply.requester.clone().unwrap_or_default();
    let location = if requester.location.is_empty() { "not told".to_owned() } else { printable(&requester.location) };
    let mut rows = vec![
        ("  device", describe(&requester.device.unwrap_or_default())),
        ("  location", location),
        ("  device key", hex(&reply.device_key)),
        ("  ticket", hex(&reply.ticket)),
        ("  opened", format!("{} s ago, {} s left", reply.ticket_age_ms / 1000, reply.ticket_ttl_ms / 1000)),
        ("  companions", format!("{} of {} linked now", reply.companions, reply.companion_limit)),
    ];
    if let Some(number) = number(reply) {
        rows.push(("  number", format!("{number}, and the other device must show the same")));
    }
    format!("A device asks to be linked to {}:\n{}", member.account, fields(&rows))
}

pub(super) fn linked(
    member: &Member,
    receipt: &Receipt,
    replaced: Option<SessionId>,
    output: Output,
) -> anyhow::Result<()> {
    let ids = |ids: &[SessionId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    if output == Output::Json {
        return output::json(&json!({
            "account": member.account.to_string(),
            "session": receipt.session.to_string(),
            "seq": receipt.seq,
            "version_before": receipt.version_before,
            "version_after": receipt.version_after,
            "sessions_before": ids(&receipt.sessions_before),
            "sessions_after": ids(&receipt.sessions_after),
            "log_index": receipt.log_index,
        }));
    }
    let siblings: Vec<_> = receipt.sessions_before.iter().filter(|id| Some(**id) != replaced).collect();
    let kept = siblings.iter().filter(|id| receipt.sessions_after.contains(id)).count();
    let mut rows = vec![
        ("linked", receipt.session.to_string()),
        ("account", member.account.to_string()),
        ("siblings kept", format!("{kept} of {}", siblings.len())),
        ("set version", format!("{} to {}", receipt.version_before, receipt.version_after)),
    ];
    if let Some(replaced) = replaced {
        rows.insert(1, ("replaces", replaced.to_string()));
    }
    print!("{}", fields(&rows));
    Ok(())
}

pub(super) fn denied(ticket: &TicketId, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => output::json(&json!({ "denied": ticket.to_string() })),
        Output::Table => {
            println!("denied; ticket {ticket} will never be linked");
            Ok(())
        }
    }
}

pub(super) fn sessions(member: &Member, reply: &pb::ListSessionsReply, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return output::json(&json!({
            "account": member.account.to_string(),
            "home_region": reply.home_region,
            "set_version": reply.set_version,
            "companion_limit": reply.companion_limit,
            "locked": reply.locked,
            "sessions": reply.sessions.iter().map(session_json).collect::<Vec<_>>(),
        }));
    }
    let mut shown = table(&["session", "seq", "role", "device", "linked", ""]);
    for session in &reply.sessions {
        let own = match session.pinned {
            _ if session.session == member.session.as_bytes() => "this phone",
            true => "pinned",
            false => "",
        };
        shown.add_row([
            hex(&session.session),
            session.seq.to_string(),
            role(session).to_owned(),
            describe(&session.device.clone().unwrap_or_default()),
            wall(session.linked_wall_ms),
            own.to_owned(),
        ]);
    }
    println!("{shown}");
    println!(
        "account {} at {}, set version {}, at most {} companions{}",
        member.account,
        reply.home_region,
        reply.set_version,
        reply.companion_limit,
        if reply.locked { "; LOCKED by an operator" } else { "" }
    );
    Ok(())
}

pub(super) fn ended(tombstone: Option<&pb::Tombstone>, already: bool, output: Output) -> anyhow::Result<()> {
    let Some(tombstone) = tombstone else { anyhow::bail!("unlink: the answer shows no tombstone") };
    if output == Output::Json {
        return output::json(&json!({ "already_ended": already, "tombstone": tombstone_json(tombstone) }));
    }
    println!("{}", if already { "it had ended before:" } else { "ended:" });
    print_tombstone(tombstone);
    Ok(())
}

pub(super) fn ended_others(reply: &pb::UnlinkOthersReply, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return output::json(&json!({
            "set_version": reply.set_version,
            "auth_epoch": reply.auth_epoch,
            "tombstones": reply.tombstones.iter().map(tombstone_json).collect::<Vec<_>>(),
        }));
    }
    println!("{} ended; this phone stays", reply.tombstones.len());
    for tombstone in &reply.tombstones {
        let session = tombstone.session.clone().unwrap_or_default();
        println!("  {}  {}", hex(&session.session), describe(&session.device.unwrap_or_default()));
    }
    Ok(())
}

pub(super) fn why(reply: &pb::WhySignedOutReply, output: Output) -> anyhow::Result<()> {
    use pb::why_signed_out_reply::Answer;
    match (&reply.answer, output) {
        (Some(Answer::Ended(tombstone)), Output::Json) => output::json(&json!({ "ended": tombstone_json(tombstone) })),
        (Some(Answer::Active(session)), Output::Json) => output::json(&json!({ "active": session_json(session) })),
        (Some(Answer::Ended(tombstone)), Output::Table) => {
            print_tombstone(tombstone);
            Ok(())
        }
        (Some(Answer::Active(session)), Output::Table) => {
            println!("{} has not ended; it was linked at {}", hex(&session.session), wall(session.linked_wall_ms));
            Ok(())
        }
        (None, _) => anyhow::bail!("why: the answer says nothing; is this node of another version?"),
    }
}
