//! Random histories of people who ask the model, each operation at one instant between its call and its answer. Answers are
//! lost, requests that were lost take effect late or never, and whoever got no answer asks again.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use super::model::Model;
use crate::history::{Answer, Body, Event, Level, Note, Operation, Outcome, TicketState};

/// An operation under way, or one whose client has given up.
struct Pending {
    id: u64,
    client: String,
    op: Operation,
    outcome: Option<Outcome>,
}

struct People {
    chance: StdRng,
    model: Model,
    events: Vec<Event>,
    pending: Vec<Pending>,
    /// Lost on the way there: they may still arrive.
    ghosts: Vec<Operation>,
    /// To be asked again.
    again: Vec<(String, Operation)>,
    watched: std::collections::BTreeMap<String, u64>,
    made: u64,
}

/// A history of about `actions` events about `accounts`, right in every respect.
pub(super) fn history(seed: u64, actions: usize, accounts: &[&str]) -> Vec<Event> {
    let mut people = People {
        chance: StdRng::seed_from_u64(seed),
        model: Model::default(),
        events: Vec::new(),
        pending: Vec::new(),
        ghosts: Vec::new(),
        again: Vec::new(),
        watched: std::collections::BTreeMap::new(),
        made: 0,
    };
    for account in accounts {
        let op = Operation::Register { account: (*account).into(), device_key: format!("{account}-phone") };
        people.call(&format!("{account}/phone"), op);
    }
    for _ in 0..actions {
        match people.chance.random_range(0..100) {
            0..38 => people.ask(accounts),
            38..68 => people.serve(),
            68..97 => people.answer(),
            97..99 => people.haunt(),
            _ => people.elect(),
        }
    }
    people.settle(accounts);
    people.events
}

impl People {
    fn push(&mut self, id: u64, client: &str, body: Body) {
        let at_us = self.events.len() as u64 * 10;
        self.events.push(Event { id, client: client.into(), at_us, body });
    }

    fn call(&mut self, client: &str, op: Operation) {
        if self.pending.iter().any(|pending| pending.client == client) {
            return;
        }
        self.made += 1;
        let id = self.made;
        self.push(id, client, Body::Call(op.clone()));
        self.pending.push(Pending { id, client: client.into(), op, outcome: None });
    }

    fn note(&mut self, note: Note) {
        self.made += 1;
        self.push(self.made, "world", Body::Note(note));
    }

    fn elect(&mut self) {
        let term = 1 + self.events.len() as u64;
        let node = format!("n{}", 1 + term % 3);
        self.note(Note::Leader { shard: 200, node, term });
    }

    /// Somebody asks for something.
    fn ask(&mut self, accounts: &[&str]) {
        if self.chance.random_bool(0.6)
            && let Some(index) = (0..self.again.len()).choose(&mut self.chance)
        {
            let (client, op) = self.again.swap_remove(index);
            self.call(&client, op);
            return;
        }
        let account = (*accounts.choose(&mut self.chance).unwrap()).to_owned();
        let part = self.chance.random_range(0..10);
        let client = match part {
            0 | 7 => format!("{account}/phone"),
            1 | 8 => format!("{account}/phone b"),
            2 | 9 => format!("{account}/web"),
            3 => format!("{account}/watch"),
            _ => format!("gateway {part}"),
        };
        let op = match part {
            0 | 1 | 7 | 8 => self.of_phone(account),
            2 | 9 => self.of_companion(account),
            3 => {
                let from = self.watched.get(&client).copied().unwrap_or_default();
                Some(Operation::Watch { account, from })
            }
            _ => self.of_gateway(account),
        };
        if let Some(op) = op {
            self.call(&client, op);
        }
    }

    fn request(&mut self) -> String {
        format!("r{}", self.chance.random::<u32>())
    }

    /// Mostly a ticket that stands in one of these states; now and then any of the latest.
    fn ticket(&mut self, account: &str, states: &[TicketState]) -> Option<(String, String)> {
        let held: Vec<String> = self.model.held().into_iter().rev().take(4).map(|held| held.ticket).collect();
        let fits = self.model.tickets_of(account, states);
        let from = if fits.is_empty() || self.chance.random_bool(0.15) { held } else { fits };
        let ticket = from.choose(&mut self.chance)?.clone();
        let key = ticket.trim_start_matches("t-").to_owned();
        Some((ticket, key))
    }

    fn of_phone(&mut self, account: String) -> Option<Operation> {
        let request = self.request();
        let companions = self.model.accounts.get(&account)?.companions();
        let one = companions.choose(&mut self.chance).cloned();
        Some(match self.chance.random_range(0..100) {
            0..30 => Operation::Scan { ticket: self.ticket(&account, &[TicketState::Open])?.0, account },
            30..62 => {
                let (ticket, device_key) = self.ticket(&account, &[TicketState::Scanned])?;
                let replaces = one.filter(|_| self.chance.random_bool(0.2));
                // The request of an approval is the ticket's: a retry is the same one.
                Operation::Approve { account, request: format!("a-{ticket}"), ticket, device_key, replaces }
            }
            62..65 => Operation::Deny { ticket: self.ticket(&account, &[TicketState::Scanned])?.0, account },
            65..80 => Operation::Unlink { account, session: one?, request },
            80..86 => {
                let known = self.model.accounts.get(&account)?;
                let set_version = self.chance.random_bool(0.5).then_some(known.version);
                Operation::UnlinkOthers { keep: known.primary()?, account, request, set_version }
            }
            86..89 => {
                let (device_key, keep_companions) = (format!("k-{request}"), self.chance.random_bool(0.7));
                Operation::ReplacePrimary { account, device_key, keep_companions, request, ends: None }
            }
            89..93 => Operation::RotateKey { account, session: one?, device_key: format!("k-{request}"), request },
            93..95 => Operation::Lock { account, request },
            95..99 => Operation::Unlock { account, request },
            // Only one of the accounts is ever deleted, and late.
            _ if account == "b" && self.events.len() > 150 => Operation::Delete { account, request },
            _ => Operation::List { account, level: Level::Linearizable },
        })
    }

    fn of_companion(&mut self, account: String) -> Option<Operation> {
        let number = self.chance.random_range(0..1_000_000);
        Some(match self.chance.random_range(0..100) {
            0..50 => {
                Operation::Open { device_key: format!("{:06}", self.events.len() as u64 * 1_000 + number % 1_000) }
            }
            50..85 => {
                let (ticket, device_key) = self.ticket(&account, &[TicketState::Scanned, TicketState::Linked])?;
                Operation::WatchLinked { ticket, device_key }
            }
            85..90 => Operation::Cancel { ticket: self.ticket(&account, &[TicketState::Open])?.0 },
            _ => {
                let session = self.model.accounts.get(&account)?.companions().choose(&mut self.chance).cloned()?;
                Operation::Unlink { account, session, request: self.request() }
            }
        })
    }

    fn of_gateway(&mut self, account: String) -> Option<Operation> {
        let known = self.model.accounts.get(&account)?;
        let ended = known.ended.keys().cloned().choose(&mut self.chance);
        let live = known.ids().choose(&mut self.chance).cloned();
        let level = if self.chance.random_bool(0.3) { Level::Local } else { Level::Linearizable };
        Some(match self.chance.random_range(0..100) {
            0..40 => Operation::List { account, level },
            40..70 => Operation::Validate { account, session: live?, level },
            70..90 => Operation::Validate { account, session: ended?, level },
            _ => Operation::Why { account, session: ended.or(live)? },
        })
    }

    /// The cluster does something of what it was asked for.
    fn serve(&mut self) {
        let age = self.chance.random_range(0..3);
        let waiting: Vec<usize> = (0..self.pending.len()).filter(|i| self.pending[*i].outcome.is_none()).collect();
        let Some(index) = waiting.choose(&mut self.chance) else { return };
        let pending = &mut self.pending[*index];
        pending.outcome = self.model.apply(&pending.op, age);
    }

    /// Somebody is answered, or gives up.
    fn answer(&mut self) {
        let Some(index) = (0..self.pending.len()).choose(&mut self.chance) else { return };
        let is_lost = self.chance.random_bool(0.08);
        if self.pending[index].outcome.is_none() && !is_lost {
            return;
        }
        let pending = self.pending.swap_remove(index);
        match pending.outcome.clone().filter(|_| !is_lost) {
            Some(outcome) => self.tell(&pending, outcome),
            None => {
                if self.chance.random_bool(0.7) {
                    self.tell(&pending, Outcome::Unknown);
                }
                if pending.outcome.is_none() {
                    self.ghosts.push(pending.op.clone());
                }
                self.again.push((pending.client, pending.op));
            }
        }
    }

    fn tell(&mut self, pending: &Pending, outcome: Outcome) {
        if let (Operation::Watch { .. }, Outcome::Ok(answer)) = (&pending.op, &outcome)
            && let Some(last) = answer.told.last()
        {
            self.watched.insert(pending.client.clone(), last.set_version());
        }
        let op = pending.op.name().to_owned();
        self.push(pending.id, &pending.client, Body::Return { op, outcome });
    }

    /// What was lost arrives after all.
    fn haunt(&mut self) {
        if let Some(index) = (0..self.ghosts.len()).choose(&mut self.chance) {
            let op = self.ghosts.swap_remove(index);
            self.model.apply(&op, 0);
        }
    }

    /// Everything that is under way ends; then everybody is asked about, and nothing may fail.
    fn settle(&mut self, accounts: &[&str]) {
        for mut pending in std::mem::take(&mut self.pending) {
            if pending.outcome.is_none() {
                pending.outcome = self.model.apply(&pending.op, 0);
            }
            if let Some(outcome) = pending.outcome.clone() {
                self.tell(&pending, outcome);
            }
        }
        self.elect();
        self.note(Note::Step { name: "serve".into(), ms: 1 });
        for account in accounts {
            let name = (*account).to_owned();
            let known = &self.model.accounts[&name];
            let everybody: Vec<String> = known.ids().into_iter().chain(known.ended.keys().cloned()).collect();
            let validate = |session| Operation::Validate { account: name.clone(), session, level: Level::Linearizable };
            let mut ops: Vec<Operation> = everybody.into_iter().map(validate).collect();
            ops.push(Operation::List { account: name.clone(), level: Level::Linearizable });
            for op in ops {
                // The first attempt at the list is lost, and that is no harm yet.
                if matches!(op, Operation::List { .. }) {
                    self.call("scan", op.clone());
                    let lost = self.pending.remove(0);
                    self.tell(&lost, Outcome::Unknown);
                }
                self.call("scan", op);
                let mut pending = self.pending.remove(0);
                pending.outcome = self.model.apply(&pending.op, 0);
                self.tell(&pending, pending.outcome.clone().unwrap());
            }
        }
        let tickets = self.model.held();
        self.note(Note::Tickets { shard: 200, node: "n1".into(), tickets });
    }
}

/// The same without any version, as a system would tell it that has none.
pub(super) fn without_versions(events: &[Event]) -> Vec<Event> {
    let mut events = events.to_vec();
    for event in &mut events {
        if let Body::Return { outcome: Outcome::Ok(answer), .. } = &mut event.body {
            let Answer { set_version, told, tombstones, .. } = answer.as_mut();
            (*set_version, *told) = (None, Vec::new());
            tombstones.iter_mut().for_each(|tombstone| tombstone.set_version = 0);
        }
    }
    events
}
