//! What the search places: each mutation with all its attempts as one step, each linearizable read as one; and what a
//! step makes of a session set. Written from domain.md, as the smallest model that can tell right from wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::earlier;
use crate::history::{Answer, Operation, Verdict};
use crate::timeline::{Op, Position, Timeline, ids};

/// The session set, as far as a history can know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State<'a> {
    version: u64,
    live: BTreeSet<&'a str>,
    /// Live companions of which no answer told; links of unknown outcome make them.
    nameless: usize,
    /// And phones.
    nameless_phones: usize,
}

/// One step.
#[derive(Clone, Debug)]
pub(super) struct Step<'a> {
    /// Earliest call.
    pub(super) call: Position,
    /// Earliest answer; none if its outcome is unknown, and then it may never happen.
    pub(super) done: Option<Position>,
    what: What<'a>,
    /// The version that it made or saw, as each answer tells it: one, if all is right.
    versions: BTreeSet<u64>,
    /// The whole set after it, as each answer tells it.
    sets: BTreeSet<BTreeSet<&'a str>>,
    known: std::rc::Rc<Known<'a>>,
    /// Its attempts do not ask for the same.
    is_unclear: bool,
    /// An attempt was answered: that is the one.
    is_told: bool,
}

/// What is known of an account's sessions from the whole history.
#[derive(Debug)]
struct Known<'a> {
    named: BTreeSet<&'a str>,
    primaries: BTreeSet<&'a str>,
}

#[derive(Clone, Debug)]
enum What<'a> {
    /// A companion comes, of this id if it is known; these leave.
    Come(Option<&'a str>, Ends<'a>),
    /// A phone comes; these leave.
    Phone(Option<&'a str>, Ends<'a>),
    /// These leave.
    Leave(Ends<'a>),
    Set,
    One(&'a str, bool),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ends<'a> {
    These(Vec<&'a str>),
    /// All but this one and the primary.
    AllBut(&'a str),
    /// The primary.
    Primary,
    Everybody,
}

impl<'a> Step<'a> {
    pub(super) fn is_read(&self) -> bool {
        matches!(self.what, What::Set | What::One(..))
    }

    /// The state after it; none if it cannot come here.
    pub(super) fn after(&self, state: &State<'a>) -> Option<State<'a>> {
        let mut after = state.clone();
        match &self.what {
            What::Set => {}
            What::One(session, is_live) => {
                if state.live.contains(session) != *is_live {
                    return None;
                }
            }
            What::Leave(ends) => {
                self.leave(&mut after, ends)?;
                after.version += 1;
            }
            What::Come(session, ends) | What::Phone(session, ends) => {
                self.leave(&mut after, ends)?;
                match session {
                    Some(session) if !after.live.insert(session) => return None,
                    Some(_) => {}
                    None if matches!(self.what, What::Phone(..)) => after.nameless_phones += 1,
                    None => after.nameless += 1,
                }
                after.version += 1;
            }
        }
        let fits = self.versions.iter().all(|version| *version == after.version)
            && self.sets.iter().all(|set| self.shows(set, &after));
        fits.then_some(after)
    }

    /// A set shows the live sessions that are known, and as many others as there are nameless ones.
    fn shows(&self, set: &BTreeSet<&'a str>, state: &State<'a>) -> bool {
        let (named, others): (BTreeSet<&str>, BTreeSet<&str>) =
            set.iter().copied().partition(|session| self.known.named.contains(session));
        named == state.live && others.len() == state.nameless + state.nameless_phones
    }

    fn leave(&self, state: &mut State<'a>, ends: &Ends<'a>) -> Option<()> {
        let Known { named, primaries } = self.known.as_ref();
        match ends {
            Ends::These(sessions) => {
                let of_phone = matches!(self.what, What::Phone(..));
                for session in sessions {
                    if named.contains(session) {
                        state.live.remove(session).then_some(())?;
                    } else if of_phone && state.nameless_phones > 0 {
                        // Another phone ends the one before, whoever else it ends.
                        state.nameless_phones -= 1;
                    } else {
                        state.nameless = state.nameless.checked_sub(1)?;
                    }
                }
            }
            Ends::AllBut(keep) => {
                let keeps_nameless = !named.contains(keep) && state.nameless_phones == 0;
                state.live.retain(|session| session == keep || primaries.contains(session));
                state.nameless = state.nameless.min(usize::from(keeps_nameless));
            }
            Ends::Primary => {
                state.live.retain(|session| !primaries.contains(session));
                state.nameless_phones = 0;
            }
            Ends::Everybody => {
                state.live.clear();
                (state.nameless, state.nameless_phones) = (0, 0);
            }
        }
        Some(())
    }
}

/// The steps of an account; none if it is older than the history, or a link is told of that nobody asked for.
pub(super) fn of<'a>(timeline: &Timeline<'a>, account: &str, versions: bool) -> Option<Vec<Step<'a>>> {
    let of_account = || timeline.births.iter().filter(|(_, birth)| birth.account == account);
    let known = std::rc::Rc::new(Known {
        named: of_account().map(|(session, _)| *session).collect(),
        primaries: of_account().filter(|(_, birth)| birth.is_primary).map(|(session, _)| *session).collect(),
    });
    let mut is_registered = false;
    let mut reads = Vec::new();
    let mut mutations: BTreeMap<String, Step<'a>> = BTreeMap::new();
    for op in timeline.of_account(account).filter(|op| !op.is_refused()) {
        is_registered |= matches!(op.op, Operation::Register { .. });
        if let Some(read) = read(op, &known, versions) {
            reads.push(read);
            continue;
        }
        let Some((key, what)) = mutation(op) else { continue };
        let step = mutations.entry(key).or_insert_with(|| Step {
            call: Position::MAX,
            done: None,
            what: what.clone(),
            versions: BTreeSet::new(),
            sets: BTreeSet::new(),
            known: known.clone(),
            is_unclear: false,
            is_told: false,
        });
        step.merge(op, what);
        if !matches!(op.op, Operation::WatchLinked { .. }) {
            step.call = step.call.min(op.call);
        }
        if let (Some(answer), Some(done)) = (op.answer(), op.done) {
            step.learn(answer, done, versions);
        }
    }
    let steps: Vec<_> = mutations.into_values().chain(reads).collect();
    let is_clear = |step: &Step<'_>| step.call < Position::MAX && (step.is_told || !step.is_unclear);
    (is_registered && steps.iter().all(is_clear)).then_some(steps)
}

impl<'a> Step<'a> {
    /// What another attempt tells. An answer is exact; a watch of a ticket knows the session, and not who was replaced.
    fn merge(&mut self, op: &Op<'a>, what: What<'a>) {
        let is_exact = op.answer().is_some() || self.done.is_none();
        self.what = match (self.what.clone(), what) {
            (What::Come(known, ends), What::Come(told, others)) => {
                let (is_watch, is_first) = (matches!(op.op, Operation::WatchLinked { .. }), self.call == Position::MAX);
                let is_answer = op.answer().is_some() && !is_watch;
                self.is_unclear |= !is_watch && !is_first && ends != others;
                self.is_told |= is_answer;
                let ends = if is_answer || (is_first && !is_watch) { others } else { ends };
                What::Come(told.or(known), ends)
            }
            (What::Phone(known, ends), What::Phone(told, others)) => {
                What::Phone(told.or(known), if is_exact { others } else { ends })
            }
            (_, what) if is_exact => what,
            (known, _) => known,
        };
    }

    fn learn(&mut self, answer: &'a Answer, done: Position, versions: bool) {
        self.done = earlier(self.done, done);
        // The tombstone knows better than an answer that an earlier command had made it so.
        let version = answer.tombstones.iter().find_map(|tombstone| tombstone.version()).or(answer.set_version);
        self.versions.extend(version.filter(|_| versions));
        self.sets.extend(answer.sessions.as_deref().map(ids));
    }
}

fn read<'a>(op: &Op<'a>, known: &std::rc::Rc<Known<'a>>, versions: bool) -> Option<Step<'a>> {
    if !op.op.is_linearizable_read() {
        return None;
    }
    let answer = op.answer()?;
    let (what, set) = match op.op {
        Operation::Validate { session, .. } => match answer.verdict? {
            // Of a session that no answer told of nothing is known but the version.
            _ if !known.named.contains(session.as_str()) => (What::Set, None),
            Verdict::Valid | Verdict::Suspended => (What::One(session, true), None),
            Verdict::SignedOut => (What::One(session, false), None),
            Verdict::Stale | Verdict::Malformed | Verdict::Undetermined => (What::Set, None),
        },
        Operation::List { .. } => (What::Set, Some(ids(answer.sessions.as_deref()?))),
        _ => return None,
    };
    let versions = answer.set_version.filter(|_| versions).into_iter().collect();
    Some(Step {
        call: op.call,
        done: op.done,
        what,
        versions,
        sets: set.into_iter().collect(),
        known: known.clone(),
        is_unclear: false,
        is_told: true,
    })
}

/// Which mutation an operation attempts, under a name that all its attempts share, and what it does as far as this attempt
/// tells. None if it is none, or is known to have changed nothing.
fn mutation<'a>(op: &Op<'a>) -> Option<(String, What<'a>)> {
    let answer = op.answer();
    let session = answer.and_then(|answer| answer.session.as_deref());
    let ended: Option<Vec<&str>> = answer.map(|answer| answer.tombstones.iter().map(|t| t.session.as_str()).collect());
    let these = Ends::These;
    Some(match op.op {
        Operation::Register { .. } => ("register".to_owned(), What::Phone(session, these(Vec::new()))),
        Operation::Approve { ticket, replaces, .. } => {
            (format!("link {ticket}"), What::Come(session, these(replaces.iter().map(String::as_str).collect())))
        }
        Operation::WatchLinked { ticket, .. } if session.is_some() => {
            (format!("link {ticket}"), What::Come(session, these(Vec::new())))
        }
        Operation::Unlink { session, request, .. } => {
            let by_another = answer.and_then(|answer| answer.tombstones.first()).is_some_and(|t| t.command != *request);
            if by_another {
                return None;
            }
            (format!("unlink {session}"), What::Leave(these(vec![session])))
        }
        Operation::UnlinkOthers { keep, request, .. } => {
            let ends = match ended {
                Some(ended) if ended.is_empty() => return None,
                Some(ended) => these(ended),
                None => Ends::AllBut(keep),
            };
            (format!("others {request}"), What::Leave(ends))
        }
        Operation::ReplacePrimary { keep_companions, request, .. } => {
            let ends = match ended {
                Some(ended) => these(ended),
                None if *keep_companions => Ends::Primary,
                None => Ends::Everybody,
            };
            (format!("phone {request}"), What::Phone(session, ends))
        }
        Operation::Delete { .. } => ("delete".to_owned(), What::Leave(Ends::Everybody)),
        _ => return None,
    })
}
