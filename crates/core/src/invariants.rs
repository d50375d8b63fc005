//! The law as executable checks: run by `apply` before every write of a session set, in release builds too, and by the
//! log checker over whole histories.

use std::collections::BTreeMap;

use crate::id::SessionId;
use crate::limits::CODE_TRIES_MAX;
use crate::model::{Account, Method, Role, Session, SetChange, Ticket, TicketState};

/// I1–I5 and I8: consecutive sets differ by exactly what the change names; siblings are unchanged byte for byte; numbers
/// and ids are new; version and digest follow the chain; nothing is linked over the limit.
pub fn check_change(before: &Account, after: &Account, change: &SetChange) -> Result<(), String> {
    let old: BTreeMap<SessionId, &Session> = before.sessions.iter().map(|s| (s.id, s)).collect();
    let new: BTreeMap<SessionId, &Session> = after.sessions.iter().map(|s| (s.id, s)).collect();
    if new.len() != after.sessions.len() {
        return Err("two sessions share an id (I4)".into());
    }
    check_departures(&old, &new, change)?;
    check_arrivals(before, after, &old, &new, change)?;
    if (&after.id, after.home, after.claim) != (&before.id, before.home, before.claim) {
        return Err("the account became another one".into());
    }
    if after.auth_epoch < before.auth_epoch {
        return Err("auth_epoch ran back (I22)".into());
    }
    let is_next = after.set_version == before.set_version + 1;
    #[cfg(kindred_mutants)]
    let is_next = is_next || crate::mutants::is("replacing-bumps-twice");
    if !is_next || change.version != after.set_version {
        return Err("set_version did not rise by one (I5)".into());
    }
    let chained = crate::digest::next(&before.set_digest, change.version, &change.added, &change.ended);
    if after.set_digest != chained || change.digest != chained {
        return Err("the digest chain is broken (I5)".into());
    }
    check_account(after)
}

/// Who left was named, once, with a tombstone that shows it as it was; who stayed is unchanged.
fn check_departures(
    old: &BTreeMap<SessionId, &Session>,
    new: &BTreeMap<SessionId, &Session>,
    change: &SetChange,
) -> Result<(), String> {
    for (id, session) in old {
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
    let left = old.keys().filter(|id| !new.contains_key(*id)).count();
    if change.ended.len() != left {
        return Err("a tombstone is for a session that was not live, or is there twice (I3)".into());
    }
    Ok(())
}

/// At most one came, announced, under a new number, and there was room for it.
fn check_arrivals(
    before: &Account,
    after: &Account,
    old: &BTreeMap<SessionId, &Session>,
    new: &BTreeMap<SessionId, &Session>,
    change: &SetChange,
) -> Result<(), String> {
    #[cfg(kindred_mutants)]
    if crate::mutants::is("seq-from-live-set") {
        return Ok(());
    }
    if after.next_session_seq < before.next_session_seq {
        return Err("the next session number ran back (I4)".into());
    }
    let came: Vec<_> = new.iter().filter(|(id, _)| !old.contains_key(*id)).map(|(_, session)| *session).collect();
    if change.added.len() > 1 || came.len() > 1 {
        return Err("more than one session was added (I1)".into());
    }
    if came.first().copied() != change.added.first() {
        return Err("a session came unannounced, or was announced and did not come (I1)".into());
    }
    let Some(session) = came.first() else { return Ok(()) };
    if session.seq < before.next_session_seq || session.seq >= after.next_session_seq {
        return Err(format!("session {} has a used number {} (I4)", session.id, session.seq));
    }
    let companions = after.sessions.iter().filter(|s| s.role == Role::Companion).count();
    if session.role == Role::Companion && u32::try_from(companions).is_ok_and(|n| n > after.companion_limit) {
        return Err(format!("session {} was linked over the limit (I8)", session.id));
    }
    Ok(())
}

/// What is none of membership leaves it alone: the same sessions under the same numbers, version and digest (I1, I2, I5);
/// only `named` has another record, and of that only its key (with the next generation, I11) or its pin.
pub fn check_records(before: &Account, after: &Account, named: Option<&SessionId>) -> Result<(), String> {
    let whole = |a: &Account| Account { sessions: Vec::new(), ..a.clone() };
    let allowed = Account {
        auth_epoch: after.auth_epoch,
        companion_limit: after.companion_limit,
        locked_at_ms: after.locked_at_ms,
        record_version: before.record_version + 1,
        ..whole(before)
    };
    if whole(after) != allowed || after.auth_epoch < before.auth_epoch {
        return Err("more of the account changed than may".into());
    }
    if before.sessions.len() != after.sessions.len() {
        return Err("membership changed without a version (I5)".into());
    }
    for (old, new) in before.sessions.iter().zip(&after.sessions) {
        if old == new {
            continue;
        }
        let rotated = old.device_key != new.device_key;
        let allowed = Session {
            device_key: new.device_key,
            key_generation: old.key_generation + u64::from(rotated),
            pinned: new.pinned,
            record_version: old.record_version + 1,
            ..old.clone()
        };
        #[cfg(kindred_mutants)]
        let allowed = match crate::mutants::is("rotate-reissues-session") {
            true => Session { id: new.id, ..allowed },
            false => allowed,
        };
        if named != Some(&old.id) || *new != allowed {
            return Err(format!("sibling {} was changed (I1)", old.id));
        }
    }
    check_account(after)
}

/// I4 on a set by itself: in order of number, every number given out before, one session per device key, one primary at most. The
/// limit is no property of a set: it may be lowered below what is linked, and then ends nobody (I8).
pub fn check_account(account: &Account) -> Result<(), String> {
    if !account.sessions.windows(2).all(|w| w[0].seq < w[1].seq) {
        return Err("sessions are not in order of seq".into());
    }
    if account.sessions.iter().any(|s| s.seq >= account.next_session_seq) {
        return Err("a live seq was not yet given out (I4)".into());
    }
    if account.sessions.iter().filter(|s| s.role == Role::Primary).count() > 1 {
        return Err("an account has two primaries".into());
    }
    let keys: std::collections::BTreeSet<_> = account.sessions.iter().map(|s| s.device_key).collect();
    let is_one_each = keys.len() == account.sessions.len();
    #[cfg(kindred_mutants)]
    let is_one_each = is_one_each || crate::mutants::is("link-twice");
    if !is_one_each {
        return Err("two sessions share a device key (I6)".into());
    }
    Ok(())
}

/// A ticket is LOCKED exactly when its guesses are used up, and there are never more of them.
pub fn check_ticket(ticket: &Ticket) -> Result<(), String> {
    let used_up = match ticket.method {
        Method::Qr => false,
        Method::Code { wrong_tries, .. } if wrong_tries > CODE_TRIES_MAX => {
            return Err(format!("ticket {} had {wrong_tries} wrong tries", ticket.id));
        }
        Method::Code { wrong_tries, .. } => wrong_tries == CODE_TRIES_MAX,
    };
    if used_up == (ticket.state == TicketState::Locked) {
        Ok(())
    } else {
        Err(format!("ticket {} is locked without its guesses used up, or the other way round", ticket.id))
    }
}
