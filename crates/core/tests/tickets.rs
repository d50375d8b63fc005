//! The ticket's state machine, as a table: every state × every command. And the stories of tickets that a table cannot tell.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_core::command::{Command, Decision, Effect, Outcome, Proven, Reply};
use kindred_core::id::{AccountId, TicketId};
use kindred_core::limits;
use kindred_core::model::{Approval, ApprovalKind, Rejection, Session, TicketOutcome, TicketState};
use kindred_core::state::{Key, Record, Timer, View as _, due};
use support::*;

/// The companion's key.
const NEW: u8 = 100;
const OPENED_BY: u64 = 77;

struct Pairing {
    shard: Shard,
    ann: (AccountId, Session),
    bob: (AccountId, Session),
    ticket: TicketId,
}

impl Pairing {
    /// Every timer, those among them that are put down together one by one.
    fn timers(&self) -> Vec<(u64, Timer)> {
        let one_by_one = |(key, record): (&Key, &Record)| match (key, record) {
            (Key::Timer(due_ms, _), Record::Removals(timers)) => timers.iter().map(|t| (*due_ms, t.clone())).collect(),
            (Key::Timer(due_ms, timer), _) => vec![(*due_ms, timer.clone())],
            _ => Vec::new(),
        };
        self.shard.memory.records.iter().flat_map(one_by_one).collect()
    }

    fn at(state: &str) -> Self {
        let mut shard = Shard::default();
        let (ann, bob) = (shard.registered(1), shard.registered(2));
        let mut pairing = Self { shard, ann, bob, ticket: ticket_id(NEW, OPENED_BY) };
        let path: &[&str] = match state {
            "none" => &[],
            "open" => &["open"],
            "scanned" => &["open", "scan"],
            "approved" => &["open", "scan", "approve"],
            "linked" => &["open", "scan", "approve", "settle linked"],
            "refused" => &["open", "scan", "approve", "settle refused"],
            "expired" => &["open", "late expire"],
            "denied" => &["open", "scan", "deny"],
            "cancelled" => &["open", "cancel"],
            _ => panic!("no state {state}"),
        };
        for step in path {
            pairing.step(step).unwrap();
        }
        assert_eq!(pairing.state(), state);
        pairing
    }

    fn state(&self) -> &'static str {
        match self.shard.memory.records.get(&Key::Ticket(self.ticket)) {
            Some(Record::Ticket(ticket)) => state_name(&ticket.state),
            _ => "none",
        }
    }

    fn approval(&self) -> Approval {
        approval(&self.shard.account(&self.ann.0), &self.ann.1, &self.ticket, NEW)
    }

    fn step(&mut self, step: &str) -> Reply {
        let ticket = self.ticket;
        let (ann, bob) = (self.shard.account(&self.ann.0), self.shard.account(&self.bob.0));
        let (by_ann, by_bob) = (proven(&ann, &self.ann.1), proven(&bob, &self.bob.1));
        let by_device = Proven::Key(key(NEW));
        if let Some(step) = step.strip_prefix("late ") {
            self.shard.sleep(limits::QR_TICKET_TTL_MS);
            return self.step(step);
        }
        let settle = |outcome| (Proven::Cluster, Command::Settle { ticket, outcome });
        let other_victim = ApprovalKind::LinkReplacing(nobody(5));
        let (proven, command) = match step {
            "open" => return self.shard.run(open(NEW, OPENED_BY)),
            "scan" => (by_ann, Command::Scan { ticket, scan: scan(&ann, &self.ann.1) }),
            "scan by another" => (by_bob, Command::Scan { ticket, scan: scan(&bob, &self.bob.1) }),
            "approve" => (by_ann, approve(ticket, self.approval())),
            "approve otherwise" => (by_ann, approve(ticket, Approval { kind: other_victim, ..self.approval() })),
            "approve by another" => (by_bob, approve(ticket, approval(&bob, &self.bob.1, &ticket, NEW))),
            "deny" => (by_ann, Command::Deny { ticket }),
            "deny by another" => (by_bob, Command::Deny { ticket }),
            "cancel" => (by_device, Command::Cancel { ticket }),
            "cancel by another" => (Proven::Key(key(9)), Command::Cancel { ticket }),
            "expire" => (Proven::Cluster, Command::Expire { tickets: vec![ticket] }),
            "settle linked" => settle(self.linked()),
            "settle refused" => settle(TicketOutcome::Refused(Rejection::ApprovalInvalid)),
            "settle cancelled" => settle(TicketOutcome::Cancelled),
            "settle expired" => settle(TicketOutcome::Expired),
            _ => panic!("no step {step}"),
        };
        self.shard.ask(proven, command)
    }

    fn linked(&mut self) -> TicketOutcome {
        let link = link(self.ticket, NEW, self.approval());
        TicketOutcome::Linked(receipt(&self.shard.by_cluster(link)))
    }
}

const STATES: [&str; 9] =
    ["none", "open", "scanned", "approved", "linked", "refused", "expired", "denied", "cancelled"];

/// Per command and state: the answer, and with → the state that it leads to. In the order of STATES.
const TABLE: &[(&str, [&str; 9])] = &[
    ("open", ["open → open", "open", "scanned", "approved", "linked", "refused", "expired", "denied", "cancelled"]),
    (
        "scan",
        [
            "TicketNotFound",
            "scanned → scanned",
            "scanned → scanned",
            "TicketAlreadyUsed",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "TicketDenied",
            "TicketCancelled",
        ],
    ),
    (
        "late scan",
        [
            "TicketNotFound",
            "TicketExpired",
            "TicketExpired",
            "TicketAlreadyUsed",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "TicketDenied",
            "TicketCancelled",
        ],
    ),
    (
        "scan by another",
        [
            "TicketNotFound",
            "scanned → scanned",
            // It stays bound, and its companion hears that there was another.
            "TicketAlreadyUsed → scanned",
            "TicketAlreadyUsed",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "TicketDenied",
            "TicketCancelled",
        ],
    ),
    (
        "approve",
        [
            "TicketNotFound",
            "TicketNotReady",
            "approved → approved",
            "approved",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "TicketDenied",
            "TicketCancelled",
        ],
    ),
    (
        "late approve",
        [
            "TicketNotFound",
            "TicketNotReady",
            "TicketExpired",
            "approved",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "TicketDenied",
            "TicketCancelled",
        ],
    ),
    (
        "approve otherwise",
        [
            "TicketNotFound",
            "TicketNotReady",
            "approved → approved",
            "TicketAlreadyUsed",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "TicketDenied",
            "TicketCancelled",
        ],
    ),
    (
        "approve by another",
        [
            "TicketNotFound",
            "TicketNotReady",
            "ProofInvalid",
            "TicketAlreadyUsed",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "TicketDenied",
            "TicketCancelled",
        ],
    ),
    (
        "deny",
        [
            "TicketNotFound",
            "TicketNotReady",
            "denied → denied",
            "TicketAlreadyUsed",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "denied",
            "TicketCancelled",
        ],
    ),
    (
        "deny by another",
        [
            "TicketNotFound",
            "TicketNotReady",
            "ProofInvalid",
            "TicketAlreadyUsed",
            "TicketAlreadyUsed",
            "ApprovalInvalid",
            "TicketExpired",
            "denied",
            "TicketCancelled",
        ],
    ),
    (
        "cancel",
        [
            "TicketNotFound",
            "cancelled → cancelled",
            "cancelled → cancelled",
            "approved",
            "linked",
            "refused",
            "expired",
            "denied",
            "cancelled",
        ],
    ),
    (
        "cancel by another",
        [
            "TicketNotFound",
            "ProofInvalid",
            "ProofInvalid",
            "ProofInvalid",
            "ProofInvalid",
            "ProofInvalid",
            "ProofInvalid",
            "ProofInvalid",
            "ProofInvalid",
        ],
    ),
    ("expire", ["done", "done", "done", "done", "done", "done", "done", "done", "done"]),
    ("late expire", ["done", "done → expired", "done → expired", "done", "done", "done", "done", "done", "done"]),
    (
        "settle linked",
        ["TicketNotFound", "open", "scanned", "linked → linked", "linked", "refused", "expired", "denied", "cancelled"],
    ),
    (
        "settle refused",
        [
            "TicketNotFound",
            "open",
            "scanned",
            "refused → refused",
            "linked",
            "refused",
            "expired",
            "denied",
            "cancelled",
        ],
    ),
    (
        "settle cancelled",
        [
            "TicketNotFound",
            "open",
            "scanned",
            "cancelled → cancelled",
            "linked",
            "refused",
            "expired",
            "denied",
            "cancelled",
        ],
    ),
    (
        "settle expired",
        [
            "TicketNotFound",
            "open",
            "scanned",
            "expired → expired",
            "linked",
            "refused",
            "expired",
            "denied",
            "cancelled",
        ],
    ),
];

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    for (step, row) in TABLE {
        for (state, expected) in STATES.iter().zip(row) {
            let mut pairing = Pairing::at(state);
            let before = pairing.shard.memory.records.get(&Key::Ticket(pairing.ticket)).cloned();
            let reply = pairing.step(step);
            let (said, leads_to) = expected.split_once(" → ").unwrap_or((expected, state));
            assert_eq!((answer(&reply).as_str(), pairing.state()), (said, leads_to), "{step} in {state}");
            let after = pairing.shard.memory.records.get(&Key::Ticket(pairing.ticket)).cloned();
            assert_eq!(before != after, expected.contains('→'), "{step} in {state} changes the ticket");
        }
    }
}

/// I13: whatever is not over has its deadline, whatever is over has its removal, and nothing has both.
#[test]
fn every_state_has_exactly_the_timer_that_belongs_to_it() {
    for (step, row) in TABLE {
        for (state, _) in STATES.iter().zip(row) {
            let mut pairing = Pairing::at(state);
            let _ = pairing.step(step);
            let of_ticket = pairing.timers().into_iter().filter_map(|(_, timer)| match timer {
                Timer::TicketDeadline(t) if t == pairing.ticket => Some("deadline"),
                Timer::Saga(t) if t == pairing.ticket => Some("saga"),
                Timer::TicketRemoval(t) if t == pairing.ticket => Some("removal"),
                _ => None,
            });
            let expected: &[&str] = match pairing.state() {
                "none" => &[],
                "open" | "scanned" => &["deadline"],
                "approved" => &["saga"],
                _ => &["removal"],
            };
            assert_eq!(of_ticket.collect::<Vec<_>>(), expected, "{step} in {state}");
        }
    }
}

#[test]
fn an_approval_that_does_not_cover_everything_is_refused() {
    type Spoil = fn(&mut Approval);
    let spoil: [(&str, Spoil); 6] = [
        ("account", |a| a.account = account(2)),
        ("ticket", |a| a.ticket = ticket_id(NEW, 1)),
        ("key", |a| a.device_key_hash = kindred_core::canonical::sha256(&[key(9).as_bytes()])),
        ("approver", |a| a.approver = nobody(9)),
        ("envelope", |a| a.envelope_hash = kindred_core::canonical::sha256(&[b"another"])),
        ("epoch", |a| a.auth_epoch += 1),
    ];
    for (field, spoil) in spoil {
        let mut pairing = Pairing::at("scanned");
        let mut approval = pairing.approval();
        spoil(&mut approval);
        let by_ann = proven(&pairing.shard.account(&pairing.ann.0), &pairing.ann.1);
        let reply = pairing.shard.ask(by_ann, approve(pairing.ticket, approval));
        let expected = if field == "epoch" { "EpochChanged" } else { "ApprovalInvalid" };
        assert_eq!((answer(&reply).as_str(), pairing.state()), (expected, "scanned"), "{field}");
    }
}

#[test]
fn an_approval_ends_with_its_lifetime_counted_from_the_scan() {
    let mut pairing = Pairing::at("scanned");
    let approval = Approval { lifetime_ms: 30_000, ..pairing.approval() };
    let by_ann = proven(&pairing.shard.account(&pairing.ann.0), &pairing.ann.1);
    let mut late = pairing.shard.clone();
    pairing.shard.sleep(30_000);
    let reply = pairing.shard.ask(by_ann.clone(), approve(pairing.ticket, approval.clone()));
    assert_eq!(answer(&reply), "approved");
    late.sleep(30_001);
    assert_eq!(answer(&late.ask(by_ann, approve(pairing.ticket, approval))), "TicketExpired");
}

#[test]
fn an_envelope_over_its_bound_is_refused() {
    let mut pairing = Pairing::at("scanned");
    let by_ann = proven(&pairing.shard.account(&pairing.ann.0), &pairing.ann.1);
    let envelope = vec![0; limits::ENVELOPE_BYTES_MAX + 1];
    let command = Command::Approve { ticket: pairing.ticket, approval: pairing.approval(), envelope, number: None };
    assert_eq!(pairing.shard.ask(by_ann, command), Err(Rejection::InvalidRequest("envelope")));
}

#[test]
fn a_ticket_is_opened_only_under_the_id_that_its_key_and_request_make() {
    let mut shard = Shard::default();
    let mut wrong = open(NEW, OPENED_BY);
    wrong.request = request(OPENED_BY + 1);
    assert_eq!(shard.run(wrong), Err(Rejection::InvalidRequest("ticket")));
    let mut stranger = open(NEW, OPENED_BY);
    stranger.proven = Proven::Key(key(9));
    assert_eq!(shard.run(stranger), Err(Rejection::ProofInvalid));
}

#[test]
fn cancel_and_link_never_both_win_whichever_comes_first() {
    for cancel_first in [true, false] {
        for one_entry in [true, false] {
            let mut pairing = Pairing::at("approved");
            let account = pairing.ann.0.clone();
            let decision = Decision::Cancelled;
            let decide = Command::DecideTicket { account: account.clone(), ticket: pairing.ticket, decision };
            let link = link(pairing.ticket, NEW, pairing.approval());
            let mut commands =
                vec![envelope(request(1), Proven::Cluster, link), envelope(request(2), Proven::Cluster, decide)];
            if cancel_first {
                commands.reverse();
            }
            let entries = if one_entry { vec![commands] } else { commands.into_iter().map(|c| vec![c]).collect() };
            let mut said = Vec::new();
            for entry in entries {
                said.extend(pairing.shard.entry(0, entry).into_iter().map(|(reply, _)| reply));
            }
            assert_eq!(said[0], said[1], "both are told what stands");
            let cancelled = said[0] == Ok(Outcome::Decided(TicketOutcome::Cancelled));
            assert_eq!(cancelled, cancel_first);
            let live = pairing.shard.account(&account).sessions.len();
            assert_eq!(live, if cancel_first { 1 } else { 2 });

            // Settled once; the other way round it would have stood as well.
            let outbox = pairing.shard.memory.outbox(0, 100).unwrap();
            let settles: Vec<_> = outbox.iter().filter(|i| matches!(i.effect, Effect::Settle { .. })).collect();
            assert_eq!(settles.len(), 1);
            let Effect::Settle { ticket, outcome } = settles[0].effect.clone() else { panic!() };
            pairing.shard.by_cluster(Command::Settle { ticket, outcome }).unwrap();
            pairing.step("settle refused").unwrap();
            assert_eq!(pairing.state(), if cancel_first { "cancelled" } else { "linked" });
        }
    }
}

#[test]
fn a_repeated_request_is_answered_with_the_ticket_as_it_is_now() {
    let mut pairing = Pairing::at("scanned");
    let by_ann = proven(&pairing.shard.account(&pairing.ann.0), &pairing.ann.1);
    let approve = envelope(request(1), by_ann, approve(pairing.ticket, pairing.approval()));
    let (first, decided_at) = pairing.shard.entry(0, vec![approve.clone()]).remove(0);
    assert_eq!(answer(&first), "approved");
    let outcome = pairing.linked();
    pairing.shard.by_cluster(Command::Settle { ticket: pairing.ticket, outcome }).unwrap();
    let (again, index) = pairing.shard.entry(0, vec![approve.clone()]).remove(0);
    assert_eq!((answer(&again).as_str(), index), ("linked", decided_at), "and with the index that decided it");

    let mut refused = Pairing::at("scanned");
    refused.shard.run(approve.clone()).unwrap();
    refused.step("settle refused").unwrap();
    assert_eq!(refused.shard.run(approve), Err(Rejection::ApprovalInvalid), "the refusal, not a ticket");
}

#[test]
fn a_second_scan_by_the_same_account_renews_what_the_approval_is_checked_against() {
    let mut pairing = Pairing::at("scanned");
    let account = pairing.shard.account(&pairing.ann.0);
    let by_ann = proven(&account, &pairing.ann.1);
    let others =
        Command::UnlinkOthers { account: account.id.clone(), keep: pairing.ann.1.id, set_version: account.set_version };
    pairing.shard.ask(by_ann, others).unwrap();
    assert_eq!(answer(&pairing.step("approve")), "EpochChanged");
    pairing.step("scan").unwrap();
    assert_eq!(answer(&pairing.step("approve")), "approved");
}

#[test]
fn a_settled_ticket_goes_a_day_later_and_its_decision_stays() {
    let mut pairing = Pairing::at("approved");
    let outcome = pairing.linked();
    let settle = Command::Settle { ticket: pairing.ticket, outcome: outcome.clone() };
    pairing.shard.by_cluster(settle).unwrap();
    pairing.shard.sleep(limits::TICKET_KEPT_MS - 1);
    pairing.shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(pairing.state(), "linked");
    pairing.shard.sleep(1);
    pairing.shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(pairing.state(), "none");
    assert_eq!(pairing.shard.outcome(&pairing.ann.0, &pairing.ticket), Some(outcome));
    // A decision repeated after the ticket has gone still decides nothing new.
    let again = link(pairing.ticket, NEW, pairing.approval());
    assert!(matches!(pairing.shard.by_cluster(again), Ok(Outcome::Decided(TicketOutcome::Linked(_)))));
    assert_eq!(pairing.shard.account(&pairing.ann.0).sessions.len(), 2);
    pairing.shard.sleep(limits::OUTCOME_TTL_MS);
    pairing.shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(pairing.shard.outcome(&pairing.ann.0, &pairing.ticket), None);
}

#[test]
fn what_one_entry_lets_go_at_one_moment_goes_by_one_timer_and_not_before() {
    let mut shard = Shard::default();
    let opened: Vec<_> = (1..=40).map(|n| open(n, OPENED_BY)).collect();
    let tickets: Vec<_> = (1..=40).map(|n| ticket_id(n, OPENED_BY)).collect();
    shard.entry(0, opened);
    let kept = |shard: &Shard| shard.count(|key| matches!(key, Key::TicketReply(..)));
    let removals = |shard: &Shard| shard.count(|key| matches!(key, Key::Timer(_, timer) if timer.is_removal()));
    assert_eq!((kept(&shard), removals(&shard)), (40, 1));
    shard.sleep(limits::QR_TICKET_TTL_MS);
    shard.by_cluster(Command::Expire { tickets: tickets.clone() }).unwrap();
    assert_eq!(removals(&shard), 2);
    shard.sleep(limits::RESULT_TTL_MS - limits::QR_TICKET_TTL_MS - 1);
    shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(kept(&shard), 40);
    shard.sleep(1);
    shard.by_cluster(Command::Tick).unwrap();
    assert_eq!((kept(&shard), removals(&shard)), (0, 1), "the answers are gone");
    assert_eq!(shard.count(|key| matches!(key, Key::Ticket(_))), 40, "the tickets are not");
    shard.sleep(limits::TICKET_KEPT_MS);
    shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(shard.count(|key| matches!(key, Key::Ticket(_) | Key::Timer(..))), 0);
}

#[test]
fn a_removal_does_not_starve_behind_sagas_that_cannot_end() {
    let mut pairing = Pairing::at("denied");
    let stuck = limits::TICK_REMOVALS_MAX + limits::TIMERS_SEEN_MAX + 1;
    for n in 0..u64::try_from(stuck).unwrap() {
        let timer = Key::Timer(0, Timer::Saga(ticket_id(NEW, 10_000 + n)));
        pairing.shard.memory.records.insert(timer, Record::Timer);
    }
    pairing.shard.sleep(limits::TICKET_KEPT_MS);
    pairing.shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(pairing.state(), "none");
    let sagas = |key: &Key| matches!(key, Key::Timer(_, Timer::Saga(_)));
    assert_eq!(pairing.shard.count(sagas), stuck, "Tick leaves them to the leader");
}

#[test]
fn a_look_at_the_timers_passes_over_the_unwanted_ones_in_order() {
    let mut shard = Shard::default();
    for n in 0..1_000u64 {
        let timer = if n % 100 == 99 { Timer::TicketDeadline } else { Timer::Saga };
        shard.memory.records.insert(Key::Timer(n, timer(ticket_id(NEW, n))), Record::Timer);
    }
    let deadlines = |_: u64, timer: &Timer| matches!(timer, Timer::TicketDeadline(_));
    let dues = |until_ms, limit| -> Vec<u64> {
        due(&shard.memory, until_ms, limit, deadlines).unwrap().into_iter().map(|(due_ms, _)| due_ms).collect()
    };
    assert_eq!(dues(u64::MAX, 3), [99, 199, 299]);
    assert_eq!(dues(250, 3), [99, 199]);
    assert_eq!(dues(u64::MAX, 64).len(), 10);
}

#[test]
fn two_ticks_in_one_entry_do_not_remove_what_was_written_between_them() {
    let mut pairing = Pairing::at("open");
    pairing.step("late expire").unwrap();
    pairing.shard.sleep(limits::RESULT_TTL_MS);
    let tick = || envelope(request(0), Proven::Cluster, Command::Tick);
    pairing.shard.entry(0, vec![tick(), open(NEW, OPENED_BY), tick()]);
    assert_eq!(pairing.state(), "open", "the ticket that was opened anew");
    let reply = Key::TicketReply(pairing.ticket, request(OPENED_BY));
    assert!(pairing.shard.memory.records.contains_key(&reply), "and its answer is kept");
}

#[test]
fn one_expire_names_no_more_than_its_bound() {
    let mut shard = Shard::default();
    let count = u64::try_from(limits::EXPIRE_TICKETS_MAX + 1).unwrap();
    let tickets: Vec<_> = (0..count).map(|n| ticket_id(NEW, n)).collect();
    (0..count).for_each(|n| drop(shard.run(open(NEW, n))));
    shard.sleep(limits::QR_TICKET_TTL_MS);
    shard.by_cluster(Command::Expire { tickets: tickets.clone() }).unwrap();
    let open = tickets.iter().filter(|t| shard.ticket(t).state == TicketState::Open).count();
    assert_eq!(open, 1);
}
