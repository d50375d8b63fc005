//! The law as executable checks: run by `apply` before every write of a session set, in release builds too, and by the
//! log checker over whole histories.

use std::collections::BTreeMap;

use crate::id::SessionId;
use crate::model::{Account, Session, SetChange};

/// I1–I5: consecutive sets differ by exactly what the change names; siblings are unchanged byte for byte; numbers and ids
/// are new; version and digest follow the chain.
pub fn check_change(before: &Account, after: &Account, change: &SetChange) -> Result<(), String> {
    let old: BTreeMap<SessionId, &Session> = before.sessions.iter().map(|s| (s.id, s)).collect();
    let new: BTreeMap<SessionId, &Session> = after.sessions.iter().map(|s| (s.id, s)).collect();
    if new.len() != after.sessions.len() {
        return Err("two sessions share an id (I4)".into());
    }
    for (id, session) in &old {
        let named = change.ended.iter().find(|t| t.session.id == *id);
        match (new.get(id), named) {
            (Some(kept), None) if kept == session => {}
            (Some(_), None) => return Err(format!("sibling {id} was changed (I1)")),
            (None, Some(tombstone)) if tombstone.session == **session => {}
            (None, Some(_)) => return Err(format!("tombstone of {id} shows another session (I3)")),
            (None, None) => return Err(format!("session {id} left without being named (I2)")),
            (Some(_), Some(_)) => return Err(format!("session {id} has a tombstone and is live (I3)")),
        }
    }
    for (id, session) in new.iter().filter(|(id, _)| !old.contains_key(*id)) {
        if !change.added.iter().any(|s| s == *session) {
            return Err(format!("session {id} came unannounced (I1)"));
        }
        if session.seq < before.next_session_seq || session.seq >= after.next_session_seq {
            return Err(format!("session {id} has a used number {} (I4)", session.seq));
        }
    }
    if change.added.len() > 1 {
        return Err("more than one session was added (I1)".into());
    }
    if change.ended.iter().any(|t| !old.contains_key(&t.session.id)) {
        return Err("a tombstone names a session that was not live (I3)".into());
    }
    if after.set_version != before.set_version + 1 || change.version != after.set_version {
        return Err("set_version did not rise by one (I5)".into());
    }
    let chained = crate::digest::next(&before.set_digest, change.version, &change.added, &change.ended);
    if after.set_digest != chained || change.digest != chained {
        return Err("the digest chain is broken (I5)".into());
    }
    Ok(())
}

/// I8 and I5 on a set by itself.
pub fn check_account(account: &Account) -> Result<(), String> {
    if !account.sessions.windows(2).all(|w| w[0].seq < w[1].seq) {
        return Err("sessions are not in order of seq".into());
    }
    if account.sessions.iter().any(|s| s.seq >= account.next_session_seq) {
        return Err("a live seq was not yet given out (I4)".into());
    }
    Ok(())
}
