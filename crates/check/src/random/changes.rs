//! Single changes of a good history, each of which makes it wrong. A change picks a place where it contradicts something
//! that the history itself holds, or does not apply.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::history::{
    Answer, Body, Event, Held, Member, Note, Operation, Outcome, Refusal, TicketState, Told, Tombstone, Verdict,
};
use crate::timeline::{Op, Timeline, ids};

/// One kind of change: where it applies, by index of the operation in the timeline, and what it does to its outcome.
pub(super) struct Change {
    pub(super) name: &'static str,
    applies: fn(&Timeline<'_>, &Op<'_>) -> bool,
    change: fn(&Timeline<'_>, &Op<'_>, &mut Outcome),
}

impl Change {
    /// The history with one such change; none if there is no place for it.
    pub(super) fn apply(&self, events: &[Event], chance: &mut StdRng) -> Option<Vec<Event>> {
        let timeline = Timeline::new(events).unwrap();
        let places: Vec<_> = timeline.operations.iter().filter(|op| (self.applies)(&timeline, op)).collect();
        let op = places.choose(chance)?;
        let mut changed = events.to_vec();
        if let Body::Return { outcome, .. } = &mut changed[op.done?].body {
            (self.change)(&timeline, op, outcome);
        }
        Some(changed)
    }
}

/// All kinds.
pub(super) const ALL: &[Change] = &[
    Change { name: "a list drops a sibling", applies: |t, op| sibling(t, op).is_some(), change: drop_sibling },
    Change { name: "a receipt drops a sibling", applies: |t, op| in_receipt(t, op).is_some(), change: drop_in_receipt },
    Change { name: "a list brings back who was unlinked", applies: |t, op| gone(t, op).is_some(), change: resurrect },
    Change { name: "a list shows a session that nobody linked", applies: all_explained, change: add_ghost },
    Change { name: "a list gives a session another number", applies: numbered, change: renumber },
    Change { name: "a read goes back by one version", applies: newest, change: |_, _, o| shift(o, -1) },
    Change { name: "a read is far ahead", applies: newest, change: |_, _, o| shift(o, 50) },
    Change { name: "VALID becomes SIGNED_OUT, forged", applies: valid, change: forge },
    Change {
        name: "SIGNED_OUT without a tombstone",
        applies: signed_out,
        change: |_, _, o| answer(o).tombstones.clear(),
    },
    Change { name: "a tombstone cites a foreign command", applies: signed_out, change: cite_foreign },
    Change { name: "a tombstone tells another reason", applies: shown_twice, change: other_reason },
    Change { name: "SIGNED_OUT becomes VALID", applies: dead, change: revive },
    Change { name: "VALID becomes SUSPENDED without a lock", applies: never_locked, change: suspend },
    Change { name: "SUSPENDED becomes VALID under a lock", applies: locked, change: revive },
    Change { name: "a ticket tells a second session", applies: told_twice, change: second_session },
    Change { name: "two links swap their versions", applies: linked_late, change: |_, _, o| shift(o, -1) },
    Change { name: "an unlink is refused and happens", applies: unlink_shown, change: refuse },
    Change {
        name: "a watch leaves a change out",
        applies: told_many,
        change: |_, _, o| drop(answer(o).told.remove(0)),
    },
    Change { name: "a watch tells a change twice", applies: told_some, change: tell_twice },
    Change { name: "a watch ends a sibling", applies: told_with_sibling, change: watch_ends },
    Change { name: "an account is forgotten", applies: registered, change: forget },
    Change {
        name: "a question is never answered in the calm",
        applies: in_calm,
        change: |_, _, o| *o = Outcome::Unknown,
    },
];

/// Changes of notes.
pub(super) fn of_notes(events: &[Event], which: usize) -> Option<Vec<Event>> {
    let mut changed = events.to_vec();
    let notes = changed.iter_mut().filter_map(|event| match &mut event.body {
        Body::Note(note) => Some(note),
        _ => None,
    });
    let opened = |ticket: &Held| {
        events.iter().any(|event| {
            matches!(&event.body, Body::Return { outcome: Outcome::Ok(answer), .. } if answer.ticket.as_ref() == Some(&ticket.ticket))
        })
    };
    for note in notes {
        match note {
            Note::Tickets { tickets, .. } if which == 0 => {
                let place = tickets.iter().position(opened)?;
                tickets.remove(place);
                return Some(changed);
            }
            Note::Tickets { tickets, .. } if which == 1 => {
                tickets.extend((0..100).map(|n| Held {
                    ticket: format!("ghost {n}"),
                    state: TicketState::Open,
                    session: None,
                }));
                return Some(changed);
            }
            Note::Leader { shard, term, .. } if which == 2 => {
                let (shard, term) = (*shard, *term);
                let last = changed.last().unwrap().clone();
                let body = Body::Note(Note::Leader { shard, node: "n9".into(), term });
                changed.push(Event { id: 1_000_000, body, ..last });
                return Some(changed);
            }
            _ => {}
        }
    }
    None
}

fn answer(outcome: &mut Outcome) -> &mut Answer {
    let Outcome::Ok(answer) = outcome else { panic!("answered") };
    answer
}

fn shift(outcome: &mut Outcome, by: i64) {
    let version = answer(outcome).set_version.as_mut().unwrap();
    *version = version.checked_add_signed(by).unwrap();
}

fn is_list(op: &Op<'_>) -> bool {
    matches!(op.op, Operation::List { .. }) && op.op.is_linearizable_read() && op.answer().is_some()
}

/// A session in the list that was acknowledged before it and that nothing had named by its answer.
fn sibling(timeline: &Timeline<'_>, op: &Op<'_>) -> Option<String> {
    let done = op.done.filter(|_| is_list(op))?;
    ids(op.answer()?.sessions.as_deref()?)
        .into_iter()
        .map(str::to_owned)
        .find(|session| safe(timeline, session, op.call, done))
}

fn safe(timeline: &Timeline<'_>, session: &str, call: usize, done: usize) -> bool {
    let birth = timeline.births.get(session);
    birth.is_some_and(|birth| birth.acknowledged < call && done < timeline.named_from(birth.account, session))
}

fn drop_sibling(timeline: &Timeline<'_>, op: &Op<'_>, outcome: &mut Outcome) {
    let session = sibling(timeline, op).unwrap();
    answer(outcome).sessions.as_mut().unwrap().retain(|member| member.id != session);
}

fn in_receipt(timeline: &Timeline<'_>, op: &Op<'_>) -> Option<String> {
    let Operation::Approve { .. } = op.op else { return None };
    let (told, done) = (op.answer()?, op.done?);
    let is_safe = |session: &String| {
        let birth = timeline.births.get(session.as_str());
        Some(session) != told.session.as_ref()
            && birth.is_some_and(|b| b.version < told.set_version && done < timeline.named_from(b.account, session))
    };
    told.sessions.as_ref()?.iter().map(|member| member.id.clone()).find(is_safe)
}

fn drop_in_receipt(timeline: &Timeline<'_>, op: &Op<'_>, outcome: &mut Outcome) {
    let session = in_receipt(timeline, op).unwrap();
    answer(outcome).sessions.as_mut().unwrap().retain(|member| member.id != session);
}

/// A session of the account whose end was acknowledged before the list was asked for.
fn gone(timeline: &Timeline<'_>, op: &Op<'_>) -> Option<String> {
    let account = op.account.filter(|_| is_list(op))?;
    let before = |other: &&Op<'_>| other.done.is_some_and(|done| done < op.call);
    timeline.of_account(account).filter(before).find_map(|other| Some((*timeline.ended_by(other).first()?).to_owned()))
}

fn resurrect(timeline: &Timeline<'_>, op: &Op<'_>, outcome: &mut Outcome) {
    let id = gone(timeline, op).unwrap();
    answer(outcome).sessions.as_mut().unwrap().push(Member { id, seq: None });
}

fn all_explained(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let makes = |other: &&Op<'_>| matches!(other.op, Operation::Approve { .. } | Operation::ReplacePrimary { .. });
    let account = op.account.unwrap_or_default();
    let told = |ticket: &str| {
        timeline.operations.iter().any(|other| {
            matches!(other.op, Operation::Approve { ticket: of, .. } | Operation::WatchLinked { ticket: of, .. } if of == ticket)
                && other.answer().is_some()
        })
    };
    is_list(op)
        && timeline.of_account(account).filter(makes).all(|other| match other.op {
            Operation::Approve { ticket, .. } => other.is_refused() || told(ticket),
            _ => other.is_refused() || other.answer().is_some(),
        })
}

fn add_ghost(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    answer(outcome).sessions.as_mut().unwrap().push(Member { id: "ghost".into(), seq: None });
}

fn numbered(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let first = op.answer().and_then(|answer| answer.sessions.as_deref()?.first());
    let told = |id: &str| {
        let shows = |other: &&Op<'_>| {
            is_list(other) && other.answer().is_some_and(|a| a.sessions.iter().flatten().any(|m| m.id == id))
        };
        timeline.operations.iter().filter(shows).count() > 1
    };
    is_list(op) && first.is_some_and(|member| member.seq.is_some() && told(&member.id))
}

fn renumber(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    answer(outcome).sessions.as_mut().unwrap()[0].seq = Some(999);
}

/// A linearizable read of the very version that somebody was told before it was asked for.
fn newest(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let Some(version) = op.answer().and_then(|answer| answer.set_version).filter(|_| op.op.is_linearizable_read())
    else {
        return false;
    };
    let told = |other: &Op<'_>| {
        other.done.is_some_and(|done| done < op.call) && other.answer().is_some_and(|a| a.set_version == Some(version))
    };
    timeline.of_account(op.account.unwrap()).any(told)
}

fn verdict(op: &Op<'_>) -> Option<Verdict> {
    op.answer().filter(|_| op.op.is_linearizable_read())?.verdict
}

fn valid(_: &Timeline<'_>, op: &Op<'_>) -> bool {
    verdict(op) == Some(Verdict::Valid)
}

fn forge(_: &Timeline<'_>, op: &Op<'_>, outcome: &mut Outcome) {
    let Operation::Validate { session, .. } = op.op else { panic!("a verdict") };
    let answer = answer(outcome);
    let set_version = answer.set_version.unwrap_or_default();
    let (reason, command) = ("SELF_LOGOUT".into(), "forged".into());
    answer.tombstones = vec![Tombstone { session: session.clone(), reason, command, log_index: 1, set_version }];
    answer.verdict = Some(Verdict::SignedOut);
}

fn signed_out(_: &Timeline<'_>, op: &Op<'_>) -> bool {
    verdict(op) == Some(Verdict::SignedOut) && op.answer().is_some_and(|a| !a.tombstones[0].is_stub())
}

fn cite_foreign(timeline: &Timeline<'_>, op: &Op<'_>, outcome: &mut Outcome) {
    let tombstone = &mut answer(outcome).tombstones[0];
    let names = |other: &Op<'_>| timeline.names(other, &tombstone.session);
    let foreign =
        timeline.of_account(op.account.unwrap()).filter(|other| !names(other)).find_map(|other| other.op.request());
    tombstone.command = foreign.unwrap_or("nobody's").to_owned();
    tombstone.reason = "SELF_LOGOUT".into();
}

fn shown_twice(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let session = op.answer().and_then(|a| a.tombstones.first()).map(|t| t.session.clone());
    session.is_some_and(|session| timeline.tombstones().filter(|(_, _, t)| t.session == session).count() > 1)
}

fn other_reason(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    answer(outcome).tombstones[0].reason = "ADMIN_REVOKED".into();
}

/// Signed out, and its end was acknowledged before the question.
fn dead(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let Operation::Validate { session, account, .. } = op.op else { return false };
    let before = |other: &&Op<'_>| other.done.is_some_and(|done| done < op.call);
    verdict(op) == Some(Verdict::SignedOut)
        && timeline.of_account(account).filter(before).any(|o| timeline.ended_by(o).contains(&session.as_str()))
}

fn revive(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    let answer = answer(outcome);
    answer.tombstones.clear();
    answer.verdict = Some(Verdict::Valid);
}

fn never_locked(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let is_lock = |other: &Op<'_>| matches!(other.op, Operation::Lock { .. }) && other.call < op.done.unwrap();
    valid(timeline, op) && !timeline.of_account(op.account.unwrap()).any(is_lock)
}

fn suspend(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    answer(outcome).verdict = Some(Verdict::Suspended);
}

fn locked(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let of_account = || timeline.of_account(op.account.unwrap());
    let is_lock = |o: &Op<'_>| matches!(o.op, Operation::Lock { .. }) && o.answer().is_some() && o.done < Some(op.call);
    verdict(op) == Some(Verdict::Suspended)
        && of_account().any(is_lock)
        && !of_account().any(|other| matches!(other.op, Operation::Unlock { .. }))
}

fn told_twice(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let (Operation::Approve { .. } | Operation::WatchLinked { .. }) = op.op else { return false };
    let session = op.answer().and_then(|answer| answer.session.clone());
    let tells = |other: &&Op<'_>| other.answer().is_some_and(|answer| answer.session == session);
    session.is_some() && timeline.operations.iter().filter(tells).count() > 1
}

fn second_session(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    answer(outcome).session = Some("another".into());
}

/// A link that was called after the version before it was acknowledged.
fn linked_late(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let Operation::Approve { ticket, .. } = op.op else { return false };
    let Some(version) = op.answer().and_then(|answer| answer.set_version) else { return false };
    let before = |other: &Op<'_>| {
        let is_same = matches!(other.op, Operation::Approve { ticket: of, .. } | Operation::WatchLinked { ticket: of, .. } if of == ticket);
        let is_change = !other.op.is_read() && !is_same;
        is_change && other.done < Some(op.call) && other.answer().is_some_and(|a| a.set_version == Some(version - 1))
    };
    timeline.of_account(op.account.unwrap()).any(before)
}

/// An unlink by the command that the tombstone cites, asked for once, whose tombstone others were shown.
fn unlink_shown(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let Operation::Unlink { request, .. } = op.op else { return false };
    let once = timeline.operations.iter().filter(|other| other.op.request() == Some(request)).count() == 1;
    let cited = timeline.tombstones().filter(|(_, _, tombstone)| tombstone.command == *request).count() > 1;
    op.answer().is_some() && once && cited
}

fn refuse(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    *outcome = Outcome::Refused(Refusal { reason: "QUARANTINED_ACTOR".into(), tombstone: None });
}

fn told_some(_: &Timeline<'_>, op: &Op<'_>) -> bool {
    op.answer().is_some_and(|answer| matches!(answer.told.first(), Some(Told::Change { .. })))
}

fn told_many(_: &Timeline<'_>, op: &Op<'_>) -> bool {
    op.answer().is_some_and(|answer| answer.told.len() >= 2)
}

fn tell_twice(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    let told = &mut answer(outcome).told;
    told.insert(0, told[0].clone());
}

fn told_with_sibling(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    told_some(timeline, op) && watched_sibling(timeline, op).is_some()
}

fn watched_sibling(timeline: &Timeline<'_>, op: &Op<'_>) -> Option<String> {
    let (account, done) = (op.account?, op.done?);
    let is_it = |session: &str| timeline.births[session].account == account && safe(timeline, session, op.call, done);
    timeline.births.keys().find(|session| is_it(session)).map(|session| (*session).to_owned())
}

fn watch_ends(timeline: &Timeline<'_>, op: &Op<'_>, outcome: &mut Outcome) {
    let session = watched_sibling(timeline, op).unwrap();
    let Some(Told::Change { set_version, ended, .. }) = answer(outcome).told.first_mut() else { panic!("a change") };
    let (reason, command, log_index) = ("SELF_LOGOUT".into(), "forged".into(), 1);
    ended.push(Tombstone { session, reason, command, log_index, set_version: *set_version });
}

fn registered(timeline: &Timeline<'_>, op: &Op<'_>) -> bool {
    let before = |other: &Op<'_>| {
        matches!(other.op, Operation::Register { .. }) && other.answer().is_some() && other.done < Some(op.call)
    };
    is_list(op) && timeline.of_account(op.account.unwrap()).any(before)
}

fn forget(_: &Timeline<'_>, _: &Op<'_>, outcome: &mut Outcome) {
    *outcome = Outcome::Refused(Refusal { reason: "ACCOUNT_NOT_FOUND".into(), tombstone: None });
}

fn in_calm(_: &Timeline<'_>, op: &Op<'_>) -> bool {
    op.client == "scan" && is_list(op)
}
