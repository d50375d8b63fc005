//! Typed codes: tries are counted once and never given back, a locked ticket never links, an account has one code at a
//! time, and an approval carries the number that both screens show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;

use kindred_core::code::{Code, MatchNumber, Standing};
use kindred_core::command::{Answer, Command, Effect, Envelope, Proven, Query, Reply};
use kindred_core::id::{AccountId, Digest, RequestId, TicketId};
use kindred_core::limits::{CODE_TICKET_TTL_MS, CODE_TRIES_MAX, CODES_KEPT_MS, CODES_OVER_MAX};
use kindred_core::model::{Method, Rejection, Requester, Session, TicketState};
use kindred_core::query::answer as read;
use kindred_core::state::{Key, Record, View as _};
use proptest::prelude::*;
use support::{Shard, answer, approval, approve, envelope, key, proven, request, scan, ticket_id};

/// The companion's key.
const NEW: u8 = 100;

struct Pairing {
    shard: Shard,
    ann: (AccountId, Session),
    ticket: TicketId,
}

fn open(n: u8, opened_by: u64, account: &AccountId) -> Envelope {
    let method = Method::Code { account: account.clone(), wrong_tries: 3 };
    let requester = Requester { location: format!("place {n}"), ..Requester::default() };
    let command = Command::Open { ticket: ticket_id(n, opened_by), device_key: key(n), method, requester };
    envelope(request(opened_by), Proven::Key(key(n)), command)
}

impl Pairing {
    fn opened() -> Self {
        let mut shard = Shard::default();
        let ann = shard.registered(1);
        let mut pairing = Self { shard, ticket: ticket_id(NEW, 77), ann };
        pairing.shard.run(open(NEW, 77, &pairing.ann.0.clone())).unwrap();
        pairing.told_home();
        pairing
    }

    fn typed(&self, account: &AccountId, session: &Session, word: u8) -> (Proven, Command) {
        let account = self.shard.account(account);
        // Word 0 stands for the right code.
        let command = Command::ScanCode {
            ticket: self.ticket,
            scan: scan(&account, session),
            tried: Digest([word; 32]),
            right: word == 0,
        };
        (proven(&account, session), command)
    }

    fn tries(&mut self, word: u8) -> Reply {
        let (proven, command) = self.typed(&self.ann.0, &self.ann.1, word);
        self.shard.ask(proven, command)
    }

    fn tries_as(&mut self, id: RequestId, word: u8) -> Reply {
        let (proven, command) = self.typed(&self.ann.0, &self.ann.1, word);
        self.shard.run(envelope(id, proven, command))
    }

    fn approves(&mut self, number: Option<MatchNumber>) -> Reply {
        let account = self.shard.account(&self.ann.0);
        let said = approval(&account, &self.ann.1, &self.ticket, NEW);
        let Command::Approve { ticket, approval, envelope, .. } = approve(self.ticket, said) else { panic!() };
        let command = Command::Approve { ticket, approval, envelope, number };
        self.shard.ask(proven(&account, &self.ann.1), command)
    }

    fn number(&self) -> Option<MatchNumber> {
        Some(MatchNumber::of(&key(NEW), &self.ticket))
    }

    fn wrong_tries(&self) -> u8 {
        match self.shard.ticket(&self.ticket).method {
            Method::Code { wrong_tries, .. } => wrong_tries,
            Method::Qr => panic!("a QR ticket"),
        }
    }

    fn state(&self) -> &'static str {
        support::state_name(&self.shard.ticket(&self.ticket).state)
    }

    /// Performs what the outbox has for the account's home.
    fn told_home(&mut self) {
        for item in self.shard.memory.outbox(0, 100).unwrap() {
            let command = match item.effect {
                Effect::AttachCode { account, ticket, requester } => Command::AttachCode { account, ticket, requester },
                Effect::HoldCode { account, ticket } => Command::HoldCode { account, ticket },
                Effect::DetachCode { account, ticket } => Command::DetachCode { account, ticket },
                _ => continue,
            };
            let _ = self.shard.by_cluster(command);
            self.shard.by_cluster(Command::AckEffects { effects: vec![item.id] }).unwrap();
        }
    }

    fn attached(&self) -> Option<TicketId> {
        let query = Query::Code(self.ann.0.clone());
        match read(&self.shard.memory, None, self.shard.now(), &query).unwrap() {
            Answer::Code(code) => code.filter(|code| code.standing != Standing::Over).map(|code| code.ticket),
            other => panic!("{other:?}"),
        }
    }

    /// A newer ticket opens for ann, and home hears of it.
    fn opens_another(&mut self, n: u8) -> TicketId {
        self.shard.run(open(n, 900, &self.ann.0.clone())).unwrap();
        self.told_home();
        ticket_id(n, 900)
    }
}

#[test]
fn five_wrong_codes_lock_the_ticket_and_the_right_one_comes_too_late() {
    let mut pairing = Pairing::opened();
    for left in (0..CODE_TRIES_MAX).rev() {
        assert_eq!(pairing.state(), "open");
        assert_eq!(pairing.tries(1 + left), Err(Rejection::CodeMismatch { left }));
    }
    assert_eq!(pairing.state(), "locked");
    assert_eq!(pairing.tries(0), Err(Rejection::TicketLocked));
    assert_eq!(pairing.tries(9), Err(Rejection::TicketLocked));
    assert_eq!(pairing.approves(pairing.number()), Err(Rejection::TicketLocked));
    pairing.told_home();
    assert_eq!(pairing.attached(), None, "nobody can type it any more");
}

#[test]
fn a_try_that_is_sent_again_is_one_try_and_the_same_id_with_another_code_is_refused() {
    let mut pairing = Pairing::opened();
    for _ in 0..4 {
        assert_eq!(pairing.tries_as(request(5), 1), Err(Rejection::CodeMismatch { left: 4 }));
    }
    assert_eq!(pairing.wrong_tries(), 1);
    assert_eq!(pairing.tries_as(request(5), 0), Err(Rejection::RequestIdReused));
    assert_eq!(pairing.state(), "open");
    assert_eq!(answer(&pairing.tries(0)), "scanned");
}

#[test]
fn a_wrong_code_counts_after_the_right_one_too() {
    let mut pairing = Pairing::opened();
    assert_eq!(answer(&pairing.tries(0)), "scanned");
    for left in (0..CODE_TRIES_MAX).rev() {
        assert_eq!(pairing.tries(1 + left), Err(Rejection::CodeMismatch { left }));
    }
    assert_eq!(pairing.state(), "locked");
    assert_eq!(pairing.approves(pairing.number()), Err(Rejection::TicketLocked));
}

#[test]
fn a_code_is_approved_with_its_number_and_with_nothing_else() {
    let mut pairing = Pairing::opened();
    assert_eq!(pairing.approves(pairing.number()), Err(Rejection::TicketNotReady));
    pairing.tries(0).unwrap();
    let other = MatchNumber::new((pairing.number().unwrap().number() + 1) % 10_000);
    assert_eq!(pairing.approves(None), Err(Rejection::StepUpRequired));
    assert_eq!(pairing.approves(other), Err(Rejection::StepUpRequired));
    assert_eq!(pairing.state(), "scanned");
    assert_eq!(answer(&pairing.approves(pairing.number())), "approved");
}

#[test]
fn a_code_ticket_is_found_by_its_account_alone() {
    let mut pairing = Pairing::opened();
    let bob = pairing.shard.registered(2);
    let (by_bob, typed_by_bob) = pairing.typed(&bob.0, &bob.1, 0);
    assert_eq!(pairing.shard.ask(by_bob, typed_by_bob), Err(Rejection::TicketNotFound));
    // Its ref, which nobody has seen, is none.
    let ann = pairing.shard.account(&pairing.ann.0);
    let by_ref = Command::Scan { ticket: pairing.ticket, scan: scan(&ann, &pairing.ann.1) };
    assert_eq!(pairing.shard.ask(proven(&ann, &pairing.ann.1), by_ref), Err(Rejection::TicketNotFound));
    // And a QR ticket has no code.
    pairing.shard.run(support::open(NEW, 78)).unwrap();
    pairing.ticket = ticket_id(NEW, 78);
    assert_eq!(pairing.tries(0), Err(Rejection::TicketNotFound));
    // A try without proof of the session that it names is none.
    pairing.ticket = ticket_id(NEW, 77);
    let (_, typed) = pairing.typed(&pairing.ann.0, &pairing.ann.1, 1);
    assert_eq!(pairing.shard.ask(Proven::Key(key(1)), typed), Err(Rejection::ProofInvalid));
    assert_eq!(pairing.wrong_tries(), 0);
}

#[test]
fn a_code_lives_for_three_minutes() {
    let mut pairing = Pairing::opened();
    pairing.shard.sleep(CODE_TICKET_TTL_MS - 1);
    assert_eq!(answer(&pairing.tries(1)), "CodeMismatch");
    assert_eq!(pairing.attached(), Some(pairing.ticket));
    pairing.shard.sleep(1);
    assert_eq!(pairing.tries(0), Err(Rejection::TicketExpired));
    assert_eq!(pairing.wrong_tries(), 1, "what comes too late is no try");
    assert_eq!(pairing.attached(), None);
    pairing.shard.by_cluster(Command::Expire { tickets: vec![pairing.ticket] }).unwrap();
    assert_eq!(pairing.state(), "expired");
}

#[test]
fn a_newer_code_replaces_an_older_one_that_nobody_typed_and_waits_for_one_that_somebody_did() {
    let mut pairing = Pairing::opened();
    assert_eq!(pairing.attached(), Some(pairing.ticket));
    let second = pairing.opens_another(101);
    assert_eq!(pairing.attached(), Some(second));
    // The older one is not told: the companion of an account that nobody has is not told anything, either.
    assert_eq!(pairing.state(), "open");

    pairing.ticket = second;
    pairing.tries(0).unwrap();
    pairing.told_home();
    pairing.opens_another(102);
    assert_eq!(pairing.attached(), Some(second), "it is held while somebody decides");
    let ann = pairing.shard.account(&pairing.ann.0);
    pairing.shard.ask(proven(&ann, &pairing.ann.1), Command::Deny { ticket: second }).unwrap();
    pairing.told_home();
    assert_eq!(pairing.attached(), None, "the one that came meanwhile is not brought back");
    let fourth = pairing.opens_another(103);
    assert_eq!(pairing.attached(), Some(fourth));
}

#[test]
fn what_home_is_told_late_or_twice_brings_no_code_back() {
    let mut pairing = Pairing::opened();
    let attach = |ticket| Command::AttachCode { account: support::account(1), ticket, requester: Requester::default() };
    let first = pairing.ticket;
    let second = pairing.opens_another(101);
    pairing.shard.by_cluster(attach(first)).unwrap();
    assert_eq!(pairing.attached(), Some(second));
    // Detached before it was attached.
    let third = ticket_id(102, 1);
    pairing.shard.by_cluster(Command::DetachCode { account: support::account(1), ticket: third }).unwrap();
    pairing.shard.by_cluster(attach(third)).unwrap();
    assert_eq!(pairing.attached(), Some(second));
    // However many come, what is remembered is bounded, and in the end it goes.
    for n in 0..200 {
        pairing.shard.by_cluster(attach(ticket_id(103, n))).unwrap();
    }
    let Some(Record::Codes(codes)) = pairing.shard.memory.get(&Key::Codes(support::account(1))).unwrap() else {
        panic!("no codes")
    };
    assert_eq!(codes.over.len(), CODES_OVER_MAX);
    pairing.shard.sleep(CODES_KEPT_MS);
    for _ in 0..3 {
        pairing.shard.by_cluster(Command::Tick).unwrap();
    }
    assert_eq!(pairing.shard.count(|key| matches!(key, Key::Codes(_))), 0);
    let timers = |key: &Key| matches!(key, Key::Timer(_, kindred_core::state::Timer::CodesRemoval(_)));
    assert_eq!(pairing.shard.count(timers), 0);
}

#[test]
fn a_ticket_for_an_account_that_nobody_has_is_like_any_other_but_that_nobody_finds_it() {
    let mut pairing = Pairing::opened();
    let nobody = AccountId::new(b"nobody").unwrap();
    let (known, unknown) = (open(101, 5, &support::account(1)), open(101, 6, &nobody));
    let known = pairing.shard.run(known).unwrap();
    let unknown = pairing.shard.run(unknown).unwrap();
    let (kindred_core::command::Outcome::Ticket(mut a), kindred_core::command::Outcome::Ticket(mut b)) =
        (known, unknown)
    else {
        panic!("no tickets")
    };
    (a.id, a.opened_by, a.method) = (b.id, b.opened_by, b.method.clone());
    assert_eq!(a, b);
    b.state = TicketState::Open;
    pairing.told_home();
    assert_eq!(pairing.shard.count(|key| *key == Key::Codes(nobody.clone())), 0);
    let attach = Command::AttachCode { account: nobody, ticket: b.id, requester: Requester::default() };
    assert_eq!(pairing.shard.by_cluster(attach), Err(Rejection::AccountNotFound));
}

#[test]
fn a_second_account_at_one_qr_code_is_refused_once_and_the_companion_hears_of_it() {
    let mut shard = Shard::default();
    let (ann, bob) = (shard.registered(1), shard.registered(2));
    shard.run(support::open(NEW, 77)).unwrap();
    let ticket = ticket_id(NEW, 77);
    let scans = |shard: &mut Shard, who: &(AccountId, Session)| {
        let account = shard.account(&who.0);
        shard.ask(proven(&account, &who.1), Command::Scan { ticket, scan: scan(&account, &who.1) })
    };
    scans(&mut shard, &ann).unwrap();
    let version = shard.ticket(&ticket).version;
    for _ in 0..3 {
        assert_eq!(scans(&mut shard, &bob), Err(Rejection::TicketAlreadyUsed));
        let now = shard.ticket(&ticket);
        assert!(now.contested && matches!(&now.state, TicketState::Scanned(scan) if scan.account == ann.0));
        assert_eq!(now.version, version + 1, "told once");
    }
    scans(&mut shard, &ann).unwrap();
    assert!(shard.ticket(&ticket).contested);
}

#[derive(Clone, Debug)]
enum Act {
    Try { request: u64, word: u8 },
    Approve { with_number: bool },
    Deny,
    Cancel,
    Sleep(u64),
    Expire,
    OpenAnother(u8),
    TellHome,
    TellAgain { late: u8 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..9u64, prop_oneof![1 => Just(0u8), 6 => 1..4u8]).prop_map(|(request, word)| Act::Try { request, word }),
        2 => any::<bool>().prop_map(|with_number| Act::Approve { with_number }),
        1 => Just(Act::Deny),
        1 => Just(Act::Cancel),
        2 => prop::sample::select(vec![1_000u64, 100_000]).prop_map(Act::Sleep),
        1 => Just(Act::Expire),
        2 => (101..104u8).prop_map(Act::OpenAnother),
        3 => Just(Act::TellHome),
        3 => (0..4u8).prop_map(|late| Act::TellAgain { late }),
    ]
}

/// Whatever happens in whatever order: as many tries are counted as request ids had a wrong code while it counted, never
/// more than five; LOCKED is the end; nothing is approved without its number; at most one code is attached, and never one
/// that is over.
fn holds(acts: &[Act]) -> Result<(), TestCaseError> {
    let mut pairing = Pairing::opened();
    let (first, mut counted) = (pairing.ticket, BTreeSet::new());
    for act in acts {
        let before = pairing.shard.ticket(&first);
        match act {
            Act::Try { request: n, word } => {
                let reply = pairing.tries_as(request(*n), *word);
                if matches!(reply, Err(Rejection::CodeMismatch { .. })) {
                    counted.insert(*n);
                }
            }
            Act::Approve { with_number } => {
                let number = pairing.number().filter(|_| *with_number);
                let reply = pairing.approves(number);
                let approved = |state: &TicketState| matches!(state, TicketState::Approved { .. });
                let now = pairing.shard.ticket(&first).state;
                prop_assert!(*with_number || !approved(&now) || approved(&before.state), "{reply:?}");
            }
            Act::Deny => {
                let ann = pairing.shard.account(&pairing.ann.0);
                let _ = pairing.shard.ask(proven(&ann, &pairing.ann.1), Command::Deny { ticket: first });
            }
            Act::Cancel => _ = pairing.shard.ask(Proven::Key(key(NEW)), Command::Cancel { ticket: first }),
            Act::Sleep(ms) => pairing.shard.sleep(*ms),
            Act::Expire => _ = pairing.shard.by_cluster(Command::Expire { tickets: vec![first] }),
            Act::OpenAnother(n) => _ = pairing.shard.run(open(*n, 900, &pairing.ann.0.clone())),
            Act::TellHome => pairing.told_home(),
            Act::TellAgain { late } => {
                let (account, ticket) = (pairing.ann.0.clone(), first);
                let _ = pairing.shard.by_cluster(match late {
                    0 => Command::AttachCode { account, ticket, requester: Requester::default() },
                    1 => Command::HoldCode { account, ticket },
                    2 => Command::Tick,
                    _ => Command::AttachCode { account, ticket: ticket_id(104, 3), requester: Requester::default() },
                });
            }
        }
        let now = pairing.shard.ticket(&first);
        let locked = |state: &TicketState| *state == TicketState::Locked;
        prop_assert_eq!(usize::from(pairing.wrong_tries()), counted.len());
        prop_assert!(pairing.wrong_tries() <= CODE_TRIES_MAX);
        prop_assert_eq!(locked(&now.state), pairing.wrong_tries() == CODE_TRIES_MAX);
        prop_assert!(!locked(&before.state) || before == now, "LOCKED is the end");
        let kept = pairing.shard.memory.get(&Key::Codes(pairing.ann.0.clone())).unwrap();
        if let Some(Record::Codes(codes)) = kept {
            prop_assert!(codes.over.len() <= CODES_OVER_MAX);
            prop_assert!(codes.attached.is_none_or(|code| !codes.over.contains(&code.ticket)));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x636f_6465),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn tries_never_exceed_five_a_locked_ticket_never_links_and_one_code_is_attached_at_most(
        acts in prop::collection::vec(act(), 1..60)
    ) {
        holds(&acts)?;
    }
}

#[test]
fn no_code_can_be_taken_for_a_ref() {
    use kindred_core::arguments;
    let code = Code::parse("BCDF-GHJK").unwrap();
    assert_ne!(arguments::scan_code(&code), arguments::scan(code.letters()));
    let ann = support::account(1);
    let requester = Requester::default();
    assert_ne!(arguments::open(&key(1), &requester), arguments::open_code(&key(1), &requester, &ann));
}
