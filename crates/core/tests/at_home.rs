//! A ticket that was opened in the shard where its account lives is approved, linked and settled in one entry.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_core::command::{Command, Envelope, Outcome, Proven, Reply};
use kindred_core::id::{AccountId, Slot, TicketId};
use kindred_core::model::{
    Approval, ApprovalKind, EndReason, Method, Rejection, Requester, Session, TicketOutcome, TicketState,
};
use kindred_core::state::Key;
use support::{REGION, Shard, account, approval, approve, envelope, key, request};

/// A shard with one account, and tickets of its own region.
struct Home {
    shard: Shard,
    id: AccountId,
    phone: Session,
    fresh: u64,
}

impl Home {
    fn new() -> Self {
        let mut shard = Shard::default();
        let (id, phone) = shard.registered(1);
        Self { shard, id, phone, fresh: 0 }
    }

    /// A ticket of the device with `key(n)`, scanned by the phone.
    fn scanned(&mut self, n: u8) -> TicketId {
        self.fresh += 1;
        let opened_by = request(7_000 + self.fresh);
        let ticket = TicketId::compose(REGION, Slot::of(key(n).as_bytes()), &key(n), &opened_by);
        let open = Command::Open { ticket, device_key: key(n), method: Method::Qr, requester: Requester::default() };
        self.shard.run(envelope(opened_by, Proven::Key(key(n)), open)).unwrap();
        let scan = support::scan(&self.shard.account(&self.id), &self.phone);
        let proven = self.proven();
        self.shard.ask(proven, Command::Scan { ticket, scan }).unwrap();
        ticket
    }

    fn proven(&self) -> Proven {
        support::proven(&self.shard.account(&self.id), &self.phone)
    }

    fn approval(&self, ticket: &TicketId, n: u8) -> Approval {
        approval(&self.shard.account(&self.id), &self.phone, ticket, n)
    }

    fn approving(&mut self, n: u8, kind: ApprovalKind) -> (TicketId, Envelope) {
        let ticket = self.scanned(n);
        self.fresh += 1;
        let approval = Approval { kind, ..self.approval(&ticket, n) };
        (ticket, envelope(request(8_000 + self.fresh), self.proven(), approve(ticket, approval)))
    }

    fn outbox(&self) -> usize {
        self.shard.count(|key| matches!(key, Key::Outbox(_)))
    }

    fn settle_effects(&self, before: usize) -> usize {
        self.outbox() - before
    }
}

fn state(reply: &Reply) -> TicketState {
    match reply {
        Ok(Outcome::Ticket(ticket)) => ticket.state.clone(),
        other => panic!("no ticket: {other:?}"),
    }
}

#[test]
fn one_entry_approves_links_and_settles_and_leaves_nothing_to_do() {
    let mut home = Home::new();
    let effects = home.outbox();
    let (ticket, approving) = home.approving(2, ApprovalKind::Link);
    let reply = home.shard.run(approving);
    let TicketState::Linked { account, receipt, envelope } = state(&reply) else { panic!("{reply:?}") };
    assert_eq!((account, envelope), (home.id.clone(), support::ENVELOPE.to_vec()));
    assert_eq!(receipt.sessions_after, [home.phone.id, receipt.session]);
    assert_eq!(receipt.log_index, home.shard.index);
    assert_eq!(home.shard.outcome(&home.id, &ticket), Some(TicketOutcome::Linked(receipt)));
    assert_eq!(home.settle_effects(effects), 0);
    assert_eq!(home.shard.count(|key| matches!(key, Key::Timer(_, kindred_core::state::Timer::Saga(_)))), 0);
}

#[test]
fn a_repeat_of_the_approval_gets_the_same_session_and_links_nothing_more() {
    let mut home = Home::new();
    let (_, approving) = home.approving(2, ApprovalKind::Link);
    let first = home.shard.run(approving.clone());
    let version = home.shard.account(&home.id).set_version;
    assert_eq!(state(&home.shard.run(approving.clone())), state(&first));
    let twice = home.shard.entry(0, vec![approving.clone(), approving]);
    assert!(twice.iter().all(|(reply, _)| state(reply) == state(&first)));
    assert_eq!(home.shard.account(&home.id).set_version, version);
}

#[test]
fn two_approvals_in_one_entry_race_for_the_last_place_and_nobody_is_evicted() {
    let mut home = Home::new();
    let limit = Command::SetLimit { account: home.id.clone(), limit: 1 };
    let proven = home.proven();
    home.shard.ask(proven, limit).unwrap();
    let (_, first) = home.approving(2, ApprovalKind::Link);
    let (late, second) = home.approving(3, ApprovalKind::Link);
    let replies = home.shard.entry(0, vec![first, second.clone()]);
    let TicketState::Linked { receipt, .. } = state(&replies[0].0) else { panic!("{replies:?}") };
    let reason = Rejection::CompanionLimitReached { now: 1, max: 1 };
    let refused = TicketState::Refused { account: home.id.clone(), reason: reason.clone() };
    assert_eq!(state(&replies[1].0), refused);
    assert_eq!(home.shard.ticket(&late).state, refused);
    assert_eq!(home.shard.run(second), Err(reason), "a repeat is told the refusal");
    let sessions: Vec<_> = home.shard.account(&home.id).sessions.iter().map(|s| s.id).collect();
    assert_eq!(sessions, [home.phone.id, receipt.session]);
}

#[test]
fn a_link_that_replaces_ends_the_session_that_its_approval_names_and_no_other() {
    let mut home = Home::new();
    let victim = {
        let (id, phone) = (home.id.clone(), home.phone.clone());
        home.shard.linked(&id, &phone, 4)
    };
    let sibling = {
        let (id, phone) = (home.id.clone(), home.phone.clone());
        home.shard.linked(&id, &phone, 5)
    };
    let (_, approving) = home.approving(2, ApprovalKind::LinkReplacing(victim.id));
    let reply = home.shard.run(approving);
    let TicketState::Linked { receipt, .. } = state(&reply) else { panic!("{reply:?}") };
    assert_eq!(receipt.sessions_after, [home.phone.id, sibling.id, receipt.session]);
    assert_eq!(home.shard.tombstone(&home.id, &victim.id).unwrap().reason, EndReason::ReplacedByLink);
    assert_eq!(home.shard.tombstone(&home.id, &sibling.id), None);
}

#[test]
fn a_link_approved_before_all_others_were_signed_out_is_refused_here_too() {
    let mut home = Home::new();
    let (ticket, approving) = home.approving(2, ApprovalKind::Link);
    let version = home.shard.account(&home.id).set_version;
    let others = Command::UnlinkOthers { account: home.id.clone(), keep: home.phone.id, set_version: version };
    let proven = home.proven();
    home.shard.ask(proven, others).unwrap();
    let reply = home.shard.run(approving);
    let TicketState::Refused { reason, .. } = state(&reply) else { panic!("{reply:?}") };
    assert_eq!(reason, Rejection::EpochChanged { auth_epoch: 2 });
    assert_eq!(home.shard.account(&home.id).sessions.len(), 1);
    assert!(matches!(home.shard.outcome(&home.id, &ticket), Some(TicketOutcome::Refused(_))));
}

#[test]
fn an_account_that_lives_elsewhere_leaves_the_ticket_approved_for_the_saga() {
    let mut home = Home::new();
    let ticket = home.scanned(2);
    // The same ticket as a shard sees it that does not have the account.
    home.shard.memory.records.remove(&Key::Account(home.id.clone()));
    let approval = Approval { account: account(1), auth_epoch: 1, ..template(&home, &ticket) };
    let proven = Proven::Session { session: home.phone.id, key: key(1), auth_epoch: 1 };
    home.shard.unwatched();
    let reply = home.shard.ask(proven, approve(ticket, approval));
    assert!(matches!(state(&reply), TicketState::Approved { .. }), "{reply:?}");
}

fn template(home: &Home, ticket: &TicketId) -> Approval {
    let mut account = Shard::default();
    let (id, _) = account.registered(1);
    approval(&account.account(&id), &home.phone, ticket, 2)
}
