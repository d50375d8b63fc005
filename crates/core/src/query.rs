//! Reads: pure functions of a view.

use crate::bundle::page;
use crate::canonical::TicketKey;
use crate::code::{AttachedCode, Codes, Standing};
use crate::command::{Answer, Brief, CodeAnswer, Compared, Query, SessionStatus, TicketAnswer};
use crate::id::{AccountId, Digest, SessionId};
use crate::limits::{CHANGES_KEPT, CODE_TICKET_TTL_MS, REF_WINDOW_FIRST_MS, REF_WINDOW_MS, SESSIONS_ASKED_MAX};
use crate::model::{Account, Deletion, Method, Session, SetChange, Ticket};
use crate::nonce::{is_fresh, nonce};
use crate::reconcile::compare;
use crate::state::{Key, ReadError, Record, View};

/// Answers `query`. `now_ms` is the replica's estimate of shard time; `ticket_key` that of the shard's region.
pub fn answer(
    view: &dyn View,
    ticket_key: Option<&TicketKey>,
    now_ms: u64,
    query: &Query,
) -> Result<Answer, ReadError> {
    Ok(match query {
        Query::Account(id) => match (account(view, id)?, deletion(view, id)?) {
            (None, Some(deletion)) => Answer::Deleted(deletion),
            (account, _) => Answer::Account(account.map(Box::new)),
        },
        Query::Session(id, session) => session_answer(view, id, Some(*session))?,
        Query::Sessions(asked) => {
            let one = |(id, session): &(AccountId, SessionId)| brief(view, id, *session);
            Answer::Sessions(asked.iter().take(SESSIONS_ASKED_MAX).map(one).collect::<Result<_, _>>()?)
        }
        Query::SessionByKey(id, key) => {
            let live = account(view, id)?.and_then(|a| a.sessions.into_iter().find(|s| s.device_key == *key));
            let session = match live {
                Some(session) => Some(session.id),
                None => view.ended_by_key(id, key)?,
            };
            session_answer(view, id, session)?
        }
        Query::Changes(id, from) => match (account(view, id)?, deletion(view, id)?) {
            (None, Some(deletion)) => Answer::Deleted(deletion),
            (None, None) => Answer::Changes { account: None, changes: Vec::new() },
            (Some(account), _) => {
                let changes = changes(view, &account, *from)?;
                Answer::Changes { account: Some(Box::new(account)), changes }
            }
        },
        Query::Ticket(id) => Answer::Ticket(match view.get(&Key::Ticket(*id))? {
            Some(Record::Ticket(ticket)) => Some(Box::new(ticket_answer(ticket, ticket_key, now_ms))),
            _ => None,
        }),
        Query::Directory(id) => Answer::Directory(match view.get(&Key::Directory(id.clone()))? {
            Some(Record::Directory(entry)) => Some(entry),
            _ => None,
        }),
        Query::Outcome(id, ticket) => Answer::Outcome(match view.get(&Key::Outcome(id.clone(), *ticket))? {
            Some(Record::Outcome(outcome)) => Some(outcome),
            _ => None,
        }),
        Query::Export(after) => Answer::Export(Box::new(page(view, after.as_ref(), now_ms)?)),
        Query::Reconcile(id, believed) => Answer::Reconcile(match account(view, id)? {
            Some(account) => {
                let verdict = compare(view, &account, believed)?;
                Some(Box::new(Compared { account, verdict }))
            }
            None => None,
        }),
        Query::Nonce(shard, asked) => Answer::Nonce {
            is_fresh: ticket_key.is_some_and(|key| is_fresh(key, *shard, now_ms, asked)),
            next: ticket_key.map(|key| nonce(key, *shard, now_ms).to_vec()).unwrap_or_default(),
        },
        Query::Code(id) => Answer::Code(match view.get(&Key::Codes(id.clone()))? {
            Some(Record::Codes(Codes { attached: Some(code), .. })) => Some(Box::new(code_answer(code, now_ms))),
            _ => None,
        }),
    })
}

/// The latest code. That its time is over home need not be told.
fn code_answer(code: AttachedCode, now_ms: u64) -> CodeAnswer {
    let age_ms = now_ms.saturating_sub(code.attached_at_ms);
    let (ttl_ms, standing) = match CODE_TICKET_TTL_MS.checked_sub(age_ms) {
        Some(left_ms) if left_ms > 0 && code.standing != Standing::Over => (left_ms, code.standing),
        _ => (0, Standing::Over),
    };
    CodeAnswer { ticket: code.ticket, requester: code.requester, age_ms, ttl_ms, standing }
}

/// The window whose ref is on screen at `now_ms`, and how long it stays.
pub fn window(ticket: &Ticket, now_ms: u64) -> (u16, u64) {
    let age = now_ms.saturating_sub(ticket.opened_at_ms);
    match age.checked_sub(REF_WINDOW_FIRST_MS) {
        None => (0, REF_WINDOW_FIRST_MS - age),
        Some(later) => {
            let number = u16::try_from(1 + later / REF_WINDOW_MS).unwrap_or(u16::MAX);
            (number, REF_WINDOW_MS - later % REF_WINDOW_MS)
        }
    }
}

fn ticket_answer(ticket: Ticket, ticket_key: Option<&TicketKey>, now_ms: u64) -> TicketAnswer {
    let ticket_ttl_ms = ticket.deadline_ms.saturating_sub(now_ms);
    let (window, left_ms) = match ticket.method {
        Method::Qr => window(&ticket, now_ms),
        Method::Code { .. } => (0, ticket_ttl_ms),
    };
    let on_screen = |key: &TicketKey| match ticket.method {
        Method::Qr => key.reference(&ticket.id, window),
        Method::Code { .. } => key.code(&ticket.id).letters().to_vec(),
    };
    TicketAnswer {
        reference: ticket_key.map(on_screen).unwrap_or_default(),
        reference_ttl_ms: left_ms.min(ticket_ttl_ms),
        ticket_ttl_ms,
        watch_secret: ticket_key.map_or(Digest([0; 32]), |key| key.watch_secret(&ticket.id)),
        ticket,
    }
}

fn account(view: &dyn View, id: &AccountId) -> Result<Option<Account>, ReadError> {
    Ok(match view.get(&Key::Account(id.clone()))? {
        Some(Record::Account(account)) => Some(account),
        _ => None,
    })
}

fn deletion(view: &dyn View, id: &AccountId) -> Result<Option<Deletion>, ReadError> {
    Ok(match view.get(&Key::Deleted(id.clone()))? {
        Some(Record::Deleted(deletion)) => Some(deletion),
        _ => None,
    })
}

/// What is known of the session; `None` asks only for the version of the set.
fn session_answer(view: &dyn View, id: &AccountId, session: Option<SessionId>) -> Result<Answer, ReadError> {
    let account = account(view, id)?;
    let set_version = match &account {
        Some(account) => Some(account.set_version),
        None => deletion(view, id)?.map(|deletion| deletion.set_version),
    };
    let (Some(session), Some(_)) = (session, set_version) else {
        return Ok(Answer::Session { status: SessionStatus::Unknown, set_version });
    };
    let status = match account.and_then(|account| live(account, &session)) {
        Some(status) => status,
        None => ended(view, id, session)?,
    };
    Ok(Answer::Session { status, set_version })
}

/// The same without the record, and without a copy of the account.
fn brief(view: &dyn View, id: &AccountId, session: SessionId) -> Result<(Brief, Option<u64>), ReadError> {
    let mut found = None;
    view.look_at_account(id, &mut |account| {
        let live = account.sessions.iter().any(|s| s.id == session);
        found = Some((account.set_version, live, account.locked_at_ms));
    })?;
    let status = match found {
        Some((set_version, true, None)) => return Ok((Brief::Active, Some(set_version))),
        Some((set_version, true, Some(since_ms))) => return Ok((Brief::Suspended { since_ms }, Some(set_version))),
        Some((set_version, false, _)) => (ended(view, id, session)?, Some(set_version)),
        None => match deletion(view, id)? {
            Some(deletion) => (ended(view, id, session)?, Some(deletion.set_version)),
            None => (SessionStatus::Unknown, None),
        },
    };
    Ok(match status {
        (SessionStatus::Ended(tombstone), set_version) => (Brief::Ended(tombstone), set_version),
        (SessionStatus::Stub(stub), set_version) => (Brief::Stub(stub), set_version),
        (_, set_version) => (Brief::Unknown, set_version),
    })
}

fn live(account: Account, session: &SessionId) -> Option<SessionStatus> {
    let locked_at_ms = account.locked_at_ms;
    let session: Box<Session> = account.sessions.into_iter().find(|s| s.id == *session).map(Box::new)?;
    Some(match locked_at_ms {
        Some(since_ms) => SessionStatus::Suspended { session, since_ms },
        None => SessionStatus::Active(session),
    })
}

fn ended(view: &dyn View, id: &AccountId, session: SessionId) -> Result<SessionStatus, ReadError> {
    if let Some(Record::Tombstone(tombstone)) = view.get(&Key::Tombstone(id.clone(), session))? {
        return Ok(SessionStatus::Ended(Box::new(tombstone)));
    }
    Ok(match view.get(&Key::Stub(id.clone(), session))? {
        Some(Record::Stub(stub)) => SessionStatus::Stub(stub),
        _ => SessionStatus::Unknown,
    })
}

/// All changes after `from`, or none if the first of them is no longer kept.
pub(crate) fn changes(view: &dyn View, account: &Account, from: u64) -> Result<Vec<SetChange>, ReadError> {
    if account.set_version.saturating_sub(from) > CHANGES_KEPT {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    // `from` is the caller's word and may be any number; one from the future has no changes after it.
    for version in from.saturating_add(1)..=account.set_version {
        match view.get(&Key::Change(account.id.clone(), version))? {
            Some(Record::Change(change)) => found.push(change),
            _ => return Ok(Vec::new()),
        }
    }
    Ok(found)
}
