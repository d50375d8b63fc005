//! What a correct cluster would answer: one account, one ticket at a time, nothing lost. Written from domain.md.

use std::collections::BTreeMap;

use crate::history::{Answer, Held, Level, Member, Operation, Outcome, Refusal, TicketState, Told, Tombstone, Verdict};

const COMPANIONS_MAX: usize = 5;

#[derive(Clone)]
struct Live {
    id: String,
    seq: u64,
    key: String,
    is_primary: bool,
}

/// An account at one moment, as an older replica would still have it.
#[derive(Clone)]
struct Past {
    version: u64,
    live: Vec<Member>,
    is_locked: bool,
}

#[derive(Default)]
pub(super) struct Account {
    pub(super) version: u64,
    live: Vec<Live>,
    pub(super) ended: BTreeMap<String, Tombstone>,
    changes: Vec<Told>,
    past: Vec<Past>,
    is_locked: bool,
    is_deleted: bool,
    next_seq: u64,
    /// Raised by what voids earlier scans (I22).
    epoch: u64,
    phone_key: Option<String>,
}

struct Ticket {
    key: String,
    state: TicketState,
    account: Option<String>,
    /// Of the account, when the ticket was scanned last.
    epoch: u64,
    outcome: Option<Outcome>,
    /// Whom the approval that was accepted replaces.
    replaced: Option<String>,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) accounts: BTreeMap<String, Account>,
    tickets: BTreeMap<String, Ticket>,
    kept: BTreeMap<String, Outcome>,
    log_index: u64,
}

fn refused(reason: &str) -> Outcome {
    Outcome::Refused(Refusal { reason: reason.into(), tombstone: None })
}

fn ok(answer: Answer) -> Outcome {
    Outcome::Ok(Box::new(answer))
}

impl Account {
    pub(super) fn ids(&self) -> Vec<String> {
        self.live.iter().map(|live| live.id.clone()).collect()
    }

    pub(super) fn companions(&self) -> Vec<String> {
        self.live.iter().filter(|live| !live.is_primary).map(|live| live.id.clone()).collect()
    }

    pub(super) fn primary(&self) -> Option<String> {
        self.live.iter().find(|live| live.is_primary).map(|live| live.id.clone())
    }

    fn members(&self) -> Vec<Member> {
        self.live.iter().map(|live| Member { id: live.id.clone(), seq: Some(live.seq) }).collect()
    }

    fn remember(&mut self) {
        self.past.push(Past { version: self.version, live: self.members(), is_locked: self.is_locked });
    }

    fn add(&mut self, name: &str, key: &str, is_primary: bool) -> Member {
        self.next_seq += 1;
        let (id, seq) = (format!("{name}{}", self.next_seq), self.next_seq);
        self.live.push(Live { id: id.clone(), seq, key: key.into(), is_primary });
        Member { id, seq: Some(seq) }
    }

    /// One change: who comes is in `live` already, who leaves is taken out here.
    fn change(
        &mut self,
        added: Vec<Member>,
        leave: &[String],
        (reason, command, log_index): (&str, &str, u64),
    ) -> Vec<Tombstone> {
        self.version += 1;
        self.live.retain(|live| !leave.contains(&live.id));
        let tombstone = |session: &String| Tombstone {
            session: session.clone(),
            reason: reason.into(),
            command: command.into(),
            log_index,
            set_version: self.version,
        };
        let ended: Vec<_> = leave.iter().map(tombstone).collect();
        self.ended.extend(ended.iter().map(|tombstone| (tombstone.session.clone(), tombstone.clone())));
        self.changes.push(Told::Change { set_version: self.version, added, ended: ended.clone() });
        self.remember();
        ended
    }
}

impl Model {
    /// What the operation does and is answered; none if it has nothing to say yet. `age` is by how many states a local
    /// read is behind.
    pub(super) fn apply(&mut self, op: &Operation, age: usize) -> Option<Outcome> {
        self.log_index += 1;
        if let Some(kept) = op.request().filter(|_| !matches!(op, Operation::Approve { .. })) {
            if let Some(outcome) = self.kept.get(kept) {
                return Some(outcome.clone());
            }
            let outcome = self.command(op);
            self.kept.insert(kept.to_owned(), outcome.clone());
            return Some(outcome);
        }
        match op {
            Operation::Register { account, device_key } => Some(self.register(account, device_key)),
            Operation::List { .. } | Operation::Validate { .. } | Operation::Why { .. } | Operation::Watch { .. } => {
                Some(self.read(op, age))
            }
            _ => self.ticket(op),
        }
    }

    pub(super) fn held(&self) -> Vec<Held> {
        let held = |(id, ticket): (&String, &Ticket)| {
            let session = match &ticket.outcome {
                Some(Outcome::Ok(answer)) => answer.session.clone(),
                _ => None,
            };
            Held { ticket: id.clone(), state: ticket.state, session }
        };
        self.tickets.iter().map(held).collect()
    }

    /// Tickets in one of these states that this account may still do something about.
    pub(super) fn tickets_of(&self, account: &str, states: &[TicketState]) -> Vec<String> {
        let fits = |ticket: &Ticket| {
            states.contains(&ticket.state) && ticket.account.as_ref().is_none_or(|bound| bound == account)
        };
        self.tickets.iter().filter(|(_, ticket)| fits(ticket)).map(|(id, _)| id.clone()).collect()
    }

    fn register(&mut self, id: &str, key: &str) -> Outcome {
        let account = self.accounts.entry(id.into()).or_default();
        if account.phone_key.get_or_insert_with(|| key.into()) != key {
            return refused("ACCOUNT_EXISTS");
        }
        if account.version == 0 {
            let first = account.add(id, key, true);
            account.change(vec![first], &[], ("", "", self.log_index));
        }
        ok(Answer { session: Some(format!("{id}1")), set_version: Some(1), ..Answer::default() })
    }

    fn command(&mut self, op: &Operation) -> Outcome {
        let (log_index, request) = (self.log_index, op.request().unwrap());
        let account = op.account().and_then(|id| self.accounts.get_mut(id));
        let Some(account) = account.filter(|account| account.version > 0 && !account.is_deleted) else {
            return refused("ACCOUNT_NOT_FOUND");
        };
        match op {
            Operation::Unlink { session, .. } => {
                if let Some(tombstone) = account.ended.get(session) {
                    return ended(vec![tombstone.clone()], account.version);
                }
                if !account.ids().contains(session) {
                    return refused("SESSION_UNKNOWN");
                }
                let why = ("USER_UNLINKED_FROM_PRIMARY", request, log_index);
                let gone = account.change(Vec::new(), std::slice::from_ref(session), why);
                ended(gone, account.version)
            }
            Operation::UnlinkOthers { keep, set_version, .. } => {
                if set_version.is_some_and(|version| version != account.version) {
                    return refused("SET_VERSION_CONFLICT");
                }
                if !account.ids().contains(keep) {
                    return refused("SESSION_UNKNOWN");
                }
                account.epoch += 1;
                let leave: Vec<_> = account.companions().into_iter().filter(|id| id != keep).collect();
                if leave.is_empty() {
                    return ended(Vec::new(), account.version);
                }
                let gone = account.change(Vec::new(), &leave, ("LOGOUT_OTHERS", request, log_index));
                ended(gone, account.version)
            }
            Operation::ReplacePrimary { account: id, device_key, keep_companions, .. } => {
                account.epoch += 1;
                let stays = |live: &&Live| !live.is_primary && *keep_companions;
                let leave: Vec<_> = account.live.iter().filter(|l| !stays(l)).map(|l| l.id.clone()).collect();
                let new = account.add(id, device_key, true);
                let session = Some(new.id.clone());
                let gone = account.change(vec![new], &leave, ("PRIMARY_REPLACED", request, log_index));
                let set_version = Some(account.version);
                ok(Answer { session, set_version, tombstones: gone, ..Answer::default() })
            }
            Operation::RotateKey { session, device_key, .. } => {
                match account.live.iter_mut().find(|live| live.id == *session) {
                    Some(live) => live.key = device_key.clone(),
                    None => return refused("SESSION_UNKNOWN"),
                }
                ok(Answer::default())
            }
            Operation::Lock { .. } | Operation::Unlock { .. } => {
                account.epoch += 1;
                account.is_locked = matches!(op, Operation::Lock { .. });
                account.remember();
                ok(Answer::default())
            }
            Operation::Delete { .. } => {
                let leave = account.ids();
                account.change(Vec::new(), &leave, ("ACCOUNT_DELETED", request, log_index));
                account.is_deleted = true;
                for tombstone in account.ended.values_mut() {
                    (tombstone.command, tombstone.set_version) = (String::new(), 0);
                }
                account.past.drain(..account.past.len() - 1);
                let stubs = leave.iter().map(|id| account.ended[id].clone()).collect();
                ended(stubs, account.version)
            }
            other => panic!("{other:?} is no command of an account"),
        }
    }

    fn read(&self, op: &Operation, age: usize) -> Outcome {
        let account = op.account().and_then(|id| self.accounts.get(id)).filter(|account| account.version > 0);
        let Some(account) = account else {
            return match op {
                Operation::Validate { .. } => undetermined(),
                _ => refused("ACCOUNT_NOT_FOUND"),
            };
        };
        let behind = match op {
            Operation::List { level: Level::Local, .. } | Operation::Validate { level: Level::Local, .. } => age,
            _ => 0,
        };
        let past = &account.past[account.past.len().saturating_sub(1 + behind)];
        let set_version = Some(past.version);
        match op {
            Operation::List { .. } if account.is_deleted => refused("ACCOUNT_NOT_FOUND"),
            Operation::List { .. } => {
                ok(Answer { set_version, sessions: Some(past.live.clone()), ..Answer::default() })
            }
            Operation::Validate { session, .. } => {
                let tombstone = account.ended.get(session).filter(|t| t.set_version <= past.version);
                let verdict = match (past.live.iter().any(|live| live.id == *session), tombstone) {
                    (true, _) if past.is_locked => Verdict::Suspended,
                    (true, _) => Verdict::Valid,
                    (false, Some(_)) => Verdict::SignedOut,
                    (false, None) => return undetermined(),
                };
                let tombstones = tombstone.filter(|_| verdict == Verdict::SignedOut).cloned().into_iter().collect();
                ok(Answer { set_version, verdict: Some(verdict), tombstones, ..Answer::default() })
            }
            Operation::Why { session, .. } => ok(Answer {
                tombstones: account.ended.get(session).cloned().into_iter().collect(),
                ..Answer::default()
            }),
            Operation::Watch { from, .. } => {
                let told = account.told(*from, age.is_multiple_of(2));
                ok(Answer { told, ..Answer::default() })
            }
            other => panic!("{other:?} is no read"),
        }
    }

    fn ticket(&mut self, op: &Operation) -> Option<Outcome> {
        if let Operation::Open { device_key } = op {
            let id = format!("t-{device_key}");
            let state = TicketState::Open;
            let key = device_key.clone();
            let new = Ticket { key, state, account: None, epoch: 0, outcome: None, replaced: None };
            self.tickets.entry(id.clone()).or_insert(new);
            return Some(ok(Answer { ticket: Some(id), ..Answer::default() }));
        }
        let (Operation::Scan { ticket: id, .. }
        | Operation::Approve { ticket: id, .. }
        | Operation::Deny { ticket: id, .. }
        | Operation::Cancel { ticket: id }
        | Operation::WatchLinked { ticket: id, .. }) = op
        else {
            panic!("{op:?} is about no ticket")
        };
        let Some(ticket) = self.tickets.get_mut(id) else { return Some(refused("TICKET_NOT_FOUND")) };
        let over = ticket.outcome.clone();
        if matches!(op, Operation::Deny { .. } | Operation::Approve { .. }) {
            if ticket.state == TicketState::Open {
                return Some(refused("TICKET_NOT_READY"));
            }
            if op.account() != ticket.account.as_deref() {
                return Some(refused("PROOF_INVALID"));
            }
        }
        let is_pending = matches!(ticket.state, TicketState::Open | TicketState::Scanned);
        match op {
            Operation::Scan { account, .. } if is_pending => {
                if ticket.account.get_or_insert_with(|| account.clone()) != account {
                    return Some(refused("TICKET_ALREADY_USED"));
                }
                ticket.state = TicketState::Scanned;
                ticket.epoch = self.accounts.get(account).map_or(0, |account| account.epoch);
                Some(ok(Answer { ticket: Some(id.clone()), ..Answer::default() }))
            }
            Operation::Deny { .. } if is_pending => Some(ticket.close(TicketState::Denied, "TICKET_DENIED")),
            Operation::Cancel { .. } if is_pending => Some(ticket.close(TicketState::Cancelled, "TICKET_CANCELLED")),
            Operation::Approve { request, replaces, .. } if is_pending => {
                let outcome = self.link(id, request, replaces.as_ref());
                Some(outcome)
            }
            Operation::Deny { .. } if ticket.state == TicketState::Denied => Some(ok(Answer::default())),
            Operation::Deny { .. } | Operation::Scan { .. } => Some(refused("TICKET_ALREADY_USED")),
            Operation::Cancel { .. } => Some(ok(Answer::default())),
            Operation::Approve { replaces, .. } if *replaces != ticket.replaced => Some(refused("TICKET_ALREADY_USED")),
            Operation::Approve { .. } => over,
            _ => over.map(|outcome| match outcome {
                Outcome::Ok(answer) => ok(Answer { account: ticket.account.clone(), ..*answer }),
                other => other,
            }),
        }
    }

    fn link(&mut self, id: &str, request: &str, replaces: Option<&String>) -> Outcome {
        let ticket = self.tickets.get_mut(id).unwrap();
        let name = ticket.account.clone().unwrap();
        let account = self.accounts.entry(name.clone()).or_default();
        let stays = |live: &&Live| replaces != Some(&live.id);
        let reason = if account.is_deleted || account.version == 0 {
            "ACCOUNT_NOT_FOUND"
        } else if account.epoch != ticket.epoch {
            "EPOCH_CHANGED"
        } else if account.is_locked {
            "ACCOUNT_LOCKED"
        } else if replaces.is_some_and(|victim| !account.companions().contains(victim)) {
            "SESSION_UNKNOWN"
        } else if account.live.iter().filter(stays).any(|live| live.key == ticket.key) {
            "DEVICE_KEY_ALREADY_LINKED"
        } else if account.companions().len() - usize::from(replaces.is_some()) >= COMPANIONS_MAX {
            "COMPANION_LIMIT_REACHED"
        } else {
            ""
        };
        if !reason.is_empty() {
            ticket.state = TicketState::Refused;
            ticket.outcome = Some(refused(reason));
            return refused(reason);
        }
        let new = account.add(&name, &ticket.key, false);
        let leave: Vec<String> = replaces.into_iter().cloned().collect();
        let command = format!("link of {request}");
        account.change(vec![new.clone()], &leave, ("REPLACED_BY_LINK", &command, self.log_index));
        let sessions = account.ids().into_iter().map(|id| Member { id, seq: None }).collect();
        let (session, set_version) = (Some(new.id), Some(account.version));
        let answer = Answer { session, seq: new.seq, sessions: Some(sessions), set_version, ..Answer::default() };
        ticket.replaced = replaces.cloned();
        ticket.state = TicketState::Linked;
        ticket.outcome = Some(ok(answer.clone()));
        ok(answer)
    }
}

impl Account {
    fn told(&self, from: u64, whole: bool) -> Vec<Told> {
        let set_version = self.version;
        if self.is_deleted {
            return vec![Told::Deleted { set_version }];
        }
        if from == 0 && whole {
            return vec![Told::Snapshot { set_version, sessions: self.members() }];
        }
        let later: Vec<_> = self.changes.iter().filter(|change| change.set_version() > from).take(3).cloned().collect();
        if later.is_empty() { vec![Told::Same { set_version }] } else { later }
    }
}

impl Ticket {
    fn close(&mut self, state: TicketState, reason: &str) -> Outcome {
        self.state = state;
        self.outcome = Some(refused(reason));
        ok(Answer::default())
    }
}

fn ended(tombstones: Vec<Tombstone>, version: u64) -> Outcome {
    let made = tombstones.first().map(|tombstone| tombstone.set_version).filter(|made| *made > 0);
    ok(Answer { set_version: Some(made.unwrap_or(version)), tombstones, ..Answer::default() })
}

fn undetermined() -> Outcome {
    ok(Answer { verdict: Some(Verdict::Undetermined), ..Answer::default() })
}
