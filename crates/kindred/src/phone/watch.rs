//! `kindred phone watch`: what happens to the account, as it happens.

use kindred_core::id::hex;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::watch_account_reply::Event;
use serde_json::{Value, json};

use super::Phone;
use crate::connect::failed;
use crate::output::{self, Output};
use crate::records::{describe, device_json, printable, session_json, tombstone_json, why};

impl Phone {
    /// Tells every change and every request, until Ctrl-C or the end of the account. What does not follow from what this
    /// phone knows ends it.
    pub(super) async fn watch(&self) -> anyhow::Result<()> {
        let (mut view, _) = self.checked_list().await?;
        let from = view.version();
        if self.output == Output::Table {
            eprintln!("watching {} from set version {from} on; Ctrl-C ends", self.member.account);
        }
        let found = self.client.account(&self.member.account, &self.member.home_region).await;
        let found = found.map_err(|error| failed("ask for the account", &error))?;
        let watch = self.client.watch_account(&self.member.account, from, &self.member.home_region);
        let mut watch = watch.after_records(found.record_version);
        loop {
            let next = tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => return Ok(()),
                next = watch.next() => next,
            };
            let event = next.map_err(|error| failed("watch the account", &error))?;
            view.event(&event).map_err(|broken| self.broken("watch the account", &broken))?;
            if matches!(event, Event::Change(_) | Event::Snapshot(_)) {
                self.save_view(&view)?;
            }
            match self.output {
                Output::Json => output::json(&as_json(&event))?,
                Output::Table => lines(&event).iter().for_each(|line| println!("{line}")),
            }
            if matches!(event, Event::Deleted(_)) {
                return Ok(());
            }
        }
    }
}

fn as_json(event: &Event) -> Value {
    match event {
        Event::Snapshot(all) => json!({
            "event": "snapshot",
            "set_version": all.set_version,
            "set_digest": hex(&all.set_digest),
            "sessions": all.sessions.iter().map(session_json).collect::<Vec<_>>(),
        }),
        Event::Change(change) => json!({
            "event": "change",
            "set_version": change.version,
            "set_digest": hex(&change.digest),
            "added": change.added.iter().map(session_json).collect::<Vec<_>>(),
            "ended": change.ended.iter().map(tombstone_json).collect::<Vec<_>>(),
            "log_index": change.log_index,
        }),
        Event::Heartbeat(beat) => json!({ "event": "heartbeat", "set_version": beat.set_version }),
        Event::LinkRequested(request) => json!({
            "event": "link_requested",
            "ticket": hex(&request.ticket),
            "device": device_json(&request.device.clone().unwrap_or_default()),
            "location": request.location,
            "age_ms": request.age_ms,
            "ttl_ms": request.ttl_ms,
        }),
        Event::Records(now) => json!({
            "event": "records",
            "record_version": now.record_version,
            "set_version": now.set_version,
            "auth_epoch": now.auth_epoch,
            "locked": now.locked,
            "companion_limit": now.companion_limit,
            "sessions": now.sessions.iter().map(session_json).collect::<Vec<_>>(),
        }),
        Event::Deleted(end) => {
            json!({ "event": "deleted", "set_version": end.set_version, "log_index": end.log_index })
        }
        Event::LinkRequestOver(over) => json!({ "event": "link_request_over", "ticket": hex(&over.ticket) }),
    }
}

fn lines(event: &Event) -> Vec<String> {
    match event {
        Event::Snapshot(all) => vec![format!("set version {}: {} sessions", all.set_version, all.sessions.len())],
        Event::Change(change) => {
            let device = |session: &pb::SessionRecord| describe(&session.device.clone().unwrap_or_default());
            let linked = change.added.iter().map(|s| format!("linked: {} {}", hex(&s.session), device(s)));
            let ended = change.ended.iter().map(|t| {
                let session = t.session.clone().unwrap_or_default();
                format!("ended: {} {}: {}", hex(&session.session), device(&session), why(t))
            });
            linked.chain(ended).collect()
        }
        Event::Heartbeat(_) => Vec::new(),
        Event::Records(now) => vec![records(now)],
        Event::Deleted(_) => vec!["the account was deleted".into()],
        Event::LinkRequested(request) => {
            let from =
                if request.location.is_empty() { "a place not told".into() } else { printable(&request.location) };
            vec![
                format!(
                    "asks to be linked: {} from {from}, {} s ago; for {} s its code can be typed here",
                    describe(&request.device.clone().unwrap_or_default()),
                    request.age_ms / 1000,
                    request.ttl_ms / 1000
                ),
                "  is it yours? kindred phone pair --code XXXX-XXXX (as its screen shows); if not, do nothing".into(),
            ]
        }
        Event::LinkRequestOver(over) => vec![format!("that request is over (ticket {})", hex(&over.ticket))],
    }
}

fn records(now: &pb::Records) -> String {
    let pinned = now.sessions.iter().filter(|s| s.pinned).count();
    format!(
        "records {}: {}, {} companions at most, {pinned} pinned, auth epoch {}",
        now.record_version,
        if now.locked { "locked" } else { "not locked" },
        now.companion_limit,
        now.auth_epoch
    )
}
