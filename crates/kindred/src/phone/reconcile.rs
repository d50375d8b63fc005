//! `kindred phone reconcile`: what the phone knows, compared with the cluster.

use kindred_client::{View, request_id};
use kindred_core::id::hex;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::reconcile_reply::Result as Reconciled;
use kindred_wire::pb::session::v1::unexpected_session::Standing;
use serde_json::{Value, json};

use super::Phone;
use crate::connect::failed;
use crate::output::{self, Exit, Output, exit, table};
use crate::records::{describe, session_json, tombstone_json, why};

impl Phone {
    pub(super) async fn reconcile(&self, list: bool, adopt: bool) -> anyhow::Result<()> {
        let mut view = self.held_view()?;
        let from = view.version();
        let reply = if list {
            // Nothing happens by it, so there is no request to be remembered.
            let request = request_id(&crate::env::real());
            let reply = self.client.reconcile_signed(&self.member, &view.by_list(), request).await;
            reply.map_err(|error| failed("reconcile", &error))?
        } else {
            let reply = self.client.reconcile(&self.member.account, &view.by_digest(), &self.member.home_region).await;
            reply.map_err(|error| failed("reconcile", &error))?
        };
        view.reconciled(&reply).map_err(|broken| self.broken("reconcile", &broken))?;
        let diverged = match &reply.result {
            Some(Reconciled::Diverged(diverged)) => Some(diverged),
            _ => None,
        };
        if let Some(snapshot) = diverged.filter(|_| adopt).and_then(|diverged| diverged.snapshot.as_ref()) {
            view.adopt(snapshot).map_err(|error| self.broken("reconcile", &error.into()))?;
        }
        match self.output {
            Output::Json => output::json(&as_json(from, &view, &reply))?,
            Output::Table => lines(from, &view, &reply).iter().for_each(|line| println!("{line}")),
        }
        if diverged.is_some() && !adopt {
            let message = format!("{} stays as it is; --adopt takes over what the cluster says", self.view.display());
            return Err(Exit::error(exit::FAILED, message));
        }
        self.save_view(&view)
    }
}

fn as_json(from: u64, view: &View, reply: &pb::ReconcileReply) -> Value {
    let mut told = json!({
        "from": from,
        "set_version": reply.set_version,
        "set_digest": hex(&reply.set_digest),
        "sessions": view.sessions().iter().map(|(id, seq)| (id.to_string(), (*seq).into())).collect::<serde_json::Map<_, _>>(),
    });
    let rest = match &reply.result {
        Some(Reconciled::InSync(_)) => json!({ "result": "IN_SYNC" }),
        Some(Reconciled::Behind(behind)) => json!({
            "result": "BEHIND",
            "changes": behind.changes.iter().map(change_json).collect::<Vec<_>>(),
            "snapshot": behind.snapshot.is_some(),
            "ended": behind.ended.iter().map(tombstone_json).collect::<Vec<_>>(),
        }),
        Some(Reconciled::Diverged(diverged)) => json!({
            "result": "DIVERGED",
            "unexpected": diverged.unexpected.iter().map(unexpected_json).collect::<Vec<_>>(),
            "missing": diverged.missing.iter().map(session_json).collect::<Vec<_>>(),
            "digest": diverged.digest.as_ref().map(|digest| {
                json!({ "set_version": digest.set_version, "set_digest": hex(&digest.set_digest) })
            }),
        }),
        None => json!({ "result": Value::Null }),
    };
    if let (Value::Object(told), Value::Object(rest)) = (&mut told, rest) {
        told.extend(rest);
    }
    told
}

fn change_json(change: &pb::SetChange) -> Value {
    json!({
        "set_version": change.version,
        "added": change.added.iter().map(session_json).collect::<Vec<_>>(),
        "ended": change.ended.iter().map(tombstone_json).collect::<Vec<_>>(),
    })
}

fn unexpected_json(unexpected: &pb::UnexpectedSession) -> Value {
    let standing = match &unexpected.standing {
        Some(Standing::Ended(tombstone)) => json!({ "ended": tombstone_json(tombstone) }),
        Some(Standing::OtherSeq(seq)) => json!({ "other_seq": seq }),
        Some(Standing::Unknown(_)) | None => json!({ "unknown": {} }),
    };
    json!({ "session": hex(&unexpected.session), "seq": unexpected.seq, "standing": standing })
}

fn lines(from: u64, view: &View, reply: &pb::ReconcileReply) -> Vec<String> {
    match &reply.result {
        Some(Reconciled::InSync(_)) => {
            vec![format!("IN_SYNC at set version {from}, {} sessions", view.sessions().len())]
        }
        Some(Reconciled::Behind(pb::Behind { snapshot: Some(_), .. })) => {
            vec![format!(
                "BEHIND: from set version {from} to {}, as a whole: the changes between are no longer kept",
                reply.set_version
            )]
        }
        Some(Reconciled::Behind(behind)) => {
            let count = behind.changes.len();
            let mut lines = vec![format!("BEHIND {count}: from set version {from} to {}", reply.set_version)];
            lines.extend(behind.changes.iter().flat_map(change_lines));
            lines
        }
        Some(Reconciled::Diverged(diverged)) => {
            let mut lines = vec![format!("DIVERGED at set version {from}; the set is at {}", reply.set_version)];
            if let Some(digest) = &diverged.digest {
                lines.push(format!("digest of set version {} is {}", digest.set_version, hex(&digest.set_digest)));
            }
            lines.push(difference_table(diverged));
            lines
        }
        None => vec!["the answer says nothing; is this node of another version?".to_owned()],
    }
}

fn change_lines(change: &pb::SetChange) -> Vec<String> {
    let device = |session: &pb::SessionRecord| describe(&session.device.clone().unwrap_or_default());
    let linked = change.added.iter().map(|s| format!("  {} linked: {} {}", change.version, hex(&s.session), device(s)));
    let ended = change.ended.iter().map(|t| {
        let session = t.session.clone().unwrap_or_default();
        format!("  {} ended: {} {}: {}", change.version, hex(&session.session), device(&session), why(t))
    });
    linked.chain(ended).collect()
}

fn difference_table(diverged: &pb::Diverged) -> String {
    let mut shown = table(&["session", "seq", "differs"]);
    for unexpected in &diverged.unexpected {
        let standing = match &unexpected.standing {
            Some(Standing::Ended(tombstone)) => format!("has ended: {}", why(tombstone)),
            Some(Standing::OtherSeq(seq)) => format!("is live as number {seq}"),
            Some(Standing::Unknown(_)) | None => "was never a session of the account".to_owned(),
        };
        shown.add_row([hex(&unexpected.session), unexpected.seq.to_string(), standing]);
    }
    for session in &diverged.missing {
        shown.add_row([hex(&session.session), session.seq.to_string(), "is live and not known here".to_owned()]);
    }
    shown.to_string()
}
