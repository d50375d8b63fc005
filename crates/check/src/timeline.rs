//! A history made ready for the checkers: operations with their place in real time, and what follows from them.
//!
//! Time here is the *position* of an event in the history: `a` was over before `b` began if and only if `a.done <
//! b.call`. Nothing else about time is ever concluded.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::commands::Commands;
use crate::history::{Answer, Body, Event, Member, Note, Operation, Outcome, Told, Tombstone, Verdict};
use crate::views::{self, Gap, View};

/// Position of an event in the history.
pub type Position = usize;

/// The history, indexed.
#[derive(Debug)]
pub struct Timeline<'a> {
    /// All operations in the order of their calls.
    pub operations: Vec<Op<'a>>,
    /// All notes with the time at which they were made.
    pub notes: Vec<(u64, Position, &'a Note)>,
    /// Sessions of which some acknowledged answer said that they began.
    pub births: BTreeMap<&'a str, Birth<'a>>,
    /// Per account what happened in it, by index into [`Self::operations`].
    pub accounts: BTreeMap<&'a str, Vec<usize>>,
    /// Where a watch left something out, repeated it or went back.
    pub gaps: Vec<Gap>,
    /// Sets that follow from what watches told, per account.
    views: BTreeMap<&'a str, Vec<View>>,
    /// What answers tell of the commands that name many sessions.
    commands: Commands<'a>,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op<'a> {
    /// Its id in the history.
    pub id: u64,
    /// Who asked.
    pub client: &'a str,
    /// Where its call stands.
    pub call: Position,
    /// Where its return stands; none if there is none.
    pub done: Option<Position>,
    /// Time of the return.
    pub done_us: u64,
    /// What was asked.
    pub op: &'a Operation,
    /// What came of it; a missing return is an unknown outcome.
    pub outcome: &'a Outcome,
    /// The account concerned, named by the call, the answer, or an approval of the same ticket.
    pub account: Option<&'a str>,
}

/// How a session began.
#[derive(Clone, Debug)]
pub struct Birth<'a> {
    /// In which account.
    pub account: &'a str,
    /// set_version that it made, if an answer told.
    pub version: Option<u64>,
    /// Its number, if an answer told.
    pub seq: Option<u64>,
    /// Return of the first answer that told of it.
    pub acknowledged: Position,
    /// Earliest call of what made it.
    pub asked: Position,
    /// The operation that told first.
    pub told_by: u64,
    /// The device key with which it began.
    pub device_key: &'a str,
    /// It is a phone that owns the account, not a companion.
    pub is_primary: bool,
}

/// An acknowledged statement of a whole session set.
#[derive(Clone, Debug)]
pub struct SetSeen<'a> {
    /// The operation that was answered.
    pub op: &'a Op<'a>,
    /// Where the answer stands.
    pub done: Position,
    /// set_version of the set, if the answer tells it.
    pub version: Option<u64>,
    /// The sessions.
    pub sessions: &'a [Member],
    /// A linearizable read, as opposed to a local one or a receipt, which may be told long after it was true.
    pub is_current: bool,
}

/// An acknowledged statement that a session is over.
#[derive(Clone, Debug)]
pub struct SignOut<'a> {
    /// The operation that was answered.
    pub op: &'a Op<'a>,
    /// Where the answer stands.
    pub done: Position,
    /// The session; none if a refusal did not even say whose sign-out it is.
    pub session: Option<&'a str>,
    /// The proof.
    pub tombstone: Option<&'a Tombstone>,
}

const NO_ANSWER: &Outcome = &Outcome::Unknown;

impl<'a> Timeline<'a> {
    /// Pairs calls and returns; fails if they do not fit together.
    pub fn new(events: &'a [Event]) -> Result<Self, Error> {
        let mut operations: Vec<Op<'a>> = Vec::new();
        let mut notes = Vec::new();
        let mut by_id: BTreeMap<u64, usize> = BTreeMap::new();
        let mut last_us = 0;
        for (position, event) in events.iter().enumerate() {
            let wrong = |what| Error::Order { position, id: event.id, what };
            if event.at_us < last_us {
                return Err(wrong("time runs back"));
            }
            last_us = event.at_us;
            match &event.body {
                Body::Note(note) => notes.push((event.at_us, position, note)),
                Body::Call(op) => {
                    if by_id.insert(event.id, operations.len()).is_some() {
                        return Err(wrong("a second call under this id"));
                    }
                    operations.push(Op {
                        id: event.id,
                        client: &event.client,
                        call: position,
                        done: None,
                        done_us: 0,
                        op,
                        outcome: NO_ANSWER,
                        account: op.account(),
                    });
                }
                Body::Return { op, outcome } => {
                    let index = *by_id.get(&event.id).ok_or_else(|| wrong("a return without a call"))?;
                    let called = &mut operations[index];
                    if called.done.is_some() {
                        return Err(wrong("a second return under this id"));
                    }
                    if called.op.name() != op || called.client != event.client {
                        return Err(wrong("the return is of another operation or client than the call"));
                    }
                    called.done = Some(position);
                    called.done_us = event.at_us;
                    called.outcome = outcome;
                }
            }
        }
        let commands = Commands::new(&operations);
        let (views, gaps) = views::follow(&operations);
        let (births, accounts) = (BTreeMap::new(), BTreeMap::new());
        let mut timeline = Self { operations, notes, births, accounts, gaps, views, commands };
        timeline.find_accounts();
        timeline.find_births();
        Ok(timeline)
    }

    /// The operations of an account.
    pub fn of_account<'t>(&'t self, account: &str) -> impl Iterator<Item = &'t Op<'a>> + use<'t, 'a> {
        self.accounts.get(account).into_iter().flatten().map(|&index| &self.operations[index])
    }

    /// Whether `op` names `session` as one to end. What was refused had no effect and names nobody.
    pub fn names(&self, op: &Op<'_>, session: &str) -> bool {
        if op.is_refused() {
            return false;
        }
        self.commands.names(op, session, self.births.get(session))
    }

    /// Earliest call of an operation that names `session`; from there on it may be over. `Position::MAX` if none does.
    pub fn named_from(&self, account: &str, session: &str) -> Position {
        self.of_account(account).find(|op| self.names(op, session)).map_or(Position::MAX, |op| op.call)
    }

    /// The sessions of which the answer to `op` says that they are over through it, or were before.
    pub fn ended_by(&self, op: &Op<'a>) -> Vec<&'a str> {
        let Some(answer) = op.answer() else { return Vec::new() };
        match op.op {
            Operation::Unlink { session, .. } => vec![session],
            Operation::Approve { replaces: Some(victim), .. } => vec![victim],
            Operation::UnlinkOthers { .. } | Operation::ReplacePrimary { .. } | Operation::Delete { .. } => {
                answer.tombstones.iter().map(|t| t.session.as_str()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Every acknowledged statement of a session set of `account`, what follows from watches too.
    pub fn sets<'t>(&'t self, account: &str) -> impl Iterator<Item = SetSeen<'t>> + use<'t, 'a> {
        let told = self.views.get(account).into_iter().flatten().map(|view| SetSeen {
            op: &self.operations[view.op],
            done: view.done,
            version: Some(view.version),
            sessions: &view.sessions,
            is_current: false,
        });
        let answered = self.of_account(account).filter_map(|op| {
            let answer = op.answer()?;
            Some(SetSeen {
                op,
                done: op.done?,
                version: answer.set_version,
                sessions: answer.sessions.as_deref()?,
                is_current: op.op.is_linearizable_read(),
            })
        });
        answered.chain(told)
    }

    /// Every statement that a session is over: verdicts, and refusals for that reason.
    pub fn sign_outs(&self) -> impl Iterator<Item = SignOut<'_>> {
        self.operations.iter().filter_map(|op| {
            let done = op.done?;
            match (op.op, op.outcome) {
                (Operation::Validate { session, .. }, Outcome::Ok(answer))
                    if answer.verdict == Some(Verdict::SignedOut) =>
                {
                    Some(SignOut { op, done, session: Some(session), tombstone: answer.tombstones.first() })
                }
                (_, Outcome::Refused(refusal)) if matches!(refusal.reason.as_str(), "SIGNED_OUT" | "SESSION_ENDED") => {
                    let tombstone = refusal.tombstone.as_ref();
                    Some(SignOut { op, done, session: tombstone.map(|t| t.session.as_str()), tombstone })
                }
                _ => None,
            }
        })
    }

    /// Every tombstone that anybody was shown, in refusals and watches too.
    pub fn tombstones(&self) -> impl Iterator<Item = (&Op<'a>, Position, &Tombstone)> {
        self.operations.iter().flat_map(|op| {
            let shown: Vec<&Tombstone> = match op.outcome {
                Outcome::Ok(answer) => answer.tombstones.iter().chain(answer.told.iter().flat_map(ended)).collect(),
                Outcome::Refused(refusal) => refusal.tombstone.iter().collect(),
                Outcome::Unknown => Vec::new(),
            };
            shown.into_iter().filter_map(move |tombstone| Some((op, op.done?, tombstone)))
        })
    }

    fn find_accounts(&mut self) {
        let mut by_ticket: BTreeMap<&'a str, &'a str> = BTreeMap::new();
        for op in &self.operations {
            if let Operation::Approve { ticket, account, .. } = op.op
                && !op.is_refused()
            {
                by_ticket.insert(ticket, account);
            }
        }
        for (index, op) in self.operations.iter_mut().enumerate() {
            if let Operation::WatchLinked { ticket, .. } = op.op {
                let told = op.answer().and_then(|answer| answer.account.as_deref());
                op.account = told.or_else(|| by_ticket.get(ticket.as_str()).copied());
            }
            if let Some(account) = op.account {
                self.accounts.entry(account).or_default().push(index);
            }
        }
    }

    fn find_births(&mut self) {
        let mut asked: BTreeMap<&'a str, Position> = BTreeMap::new();
        for op in &self.operations {
            if let Operation::Approve { ticket, .. } = op.op {
                asked.entry(ticket).or_insert(op.call);
            }
        }
        for op in &self.operations {
            let (ticket, key) = match op.op {
                Operation::Register { device_key, .. } | Operation::ReplacePrimary { device_key, .. } => {
                    (None, device_key)
                }
                Operation::Approve { ticket, device_key, .. } | Operation::WatchLinked { ticket, device_key } => {
                    (Some(ticket.as_str()), device_key)
                }
                _ => continue,
            };
            let (Some(answer), Some(done), Some(account)) = (op.answer(), op.done, op.account) else { continue };
            let Some(session) = answer.session.as_deref() else { continue };
            let birth = self.births.entry(session).or_insert_with(|| Birth {
                account,
                version: None,
                seq: None,
                acknowledged: done,
                asked: ticket.and_then(|t| asked.get(t).copied()).unwrap_or(op.call),
                told_by: op.id,
                device_key: key,
                is_primary: ticket.is_none(),
            });
            if done < birth.acknowledged {
                (birth.acknowledged, birth.told_by) = (done, op.id);
            }
            birth.version = birth.version.or(answer.set_version);
            birth.seq = birth.seq.or(answer.seq);
        }
    }
}

impl<'a> Op<'a> {
    /// What was answered, if it was.
    pub fn answer(&self) -> Option<&'a Answer> {
        match self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Refused(_) | Outcome::Unknown => None,
        }
    }

    /// It was refused: no effect, now or later.
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Refused(_))
    }
}

fn ended(told: &Told) -> &[Tombstone] {
    match told {
        Told::Change { ended, .. } => ended,
        Told::Snapshot { .. } | Told::Same { .. } | Told::Deleted { .. } => &[],
    }
}

/// The ids of a set.
pub(crate) fn ids(sessions: &[Member]) -> BTreeSet<&str> {
    sessions.iter().map(|member| member.id.as_str()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::story::Story;

    #[test]
    fn a_missing_return_is_unknown_and_names() {
        let mut story = Story::family();
        story.call("phone", Story::unlink("s2", "r9"));
        let timeline = Timeline::new(&story.events).unwrap();
        assert_eq!(timeline.named_from("a", "s2"), story.events.len() - 1);
        assert_eq!(timeline.named_from("a", "s1"), Position::MAX);
    }

    #[test]
    fn unlink_others_names_only_sessions_of_its_version() {
        let mut story = Story::family();
        story.call("phone", Story::unlink_others("s1", "r9", Some(2)));
        let timeline = Timeline::new(&story.events).unwrap();
        let others = timeline.operations.last().unwrap();
        assert!(timeline.names(others, "s2"), "linked under version 2");
        assert!(!timeline.names(others, "s3"), "linked under version 3");
        assert!(!timeline.names(others, "s1"), "kept");
    }

    #[test]
    fn the_answer_to_unlink_others_tells_whom_its_lost_attempts_named() {
        let mut story = Story::family();
        let lost = story.call("phone", Story::unlink_others("s1", "r9", None));
        story.ret(lost, Outcome::Unknown);
        story.ok("phone", Story::unlink_others("s1", "r9", None), Story::ended(&[("s2", "r9", 4), ("s3", "r9", 4)]));
        story.ok("phone", Story::approve("t4", "k4"), Story::linked("s4", 5, &["s1", "s4"]));
        let timeline = Timeline::new(&story.events).unwrap();
        assert_eq!(timeline.named_from("a", "s4"), Position::MAX, "linked after it");
        assert_eq!(timeline.named_from("a", "s2"), timeline.operations[3].call);
        assert_eq!(timeline.ended_by(&timeline.operations[4]), ["s2", "s3"]);
    }

    #[test]
    fn events_that_do_not_fit_together_are_refused() {
        let mut story = Story::family();
        let id = story.events[0].id;
        story.ret(id, Outcome::Unknown);
        assert!(matches!(Timeline::new(&story.events), Err(Error::Order { .. })));
    }
}
