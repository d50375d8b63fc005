//! Random histories through apply and through the reference model: after every entry they agree on every answer, on who
//! is linked, who was ended and why, and on every ticket; and the law holds at every step (support/laws.rs).
//!
//! Seeds are fixed, so that a run repeats itself; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` go further.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use support::bridge::Bridge;
use support::model::{Approval, Model, Op, St, Tamper, Who, ticket_key};

const TICKETS: u8 = 72;
/// Tickets under way at once; when one is over, the next of its line takes its place.
const LINES: u8 = 9;
const ACCOUNTS: u8 = 3;

/// An intention; what it names is looked up when its turn comes.
#[derive(Clone, Debug)]
enum Wish {
    Claim {
        a: u8,
        claim: u8,
    },
    Register {
        a: u8,
        own_key: bool,
        forged: bool,
    },
    SetLimit {
        a: u8,
        who: By,
        limit: u32,
    },
    Unlink {
        a: u8,
        who: By,
        target: u8,
    },
    UnlinkOthers {
        a: u8,
        who: By,
        keep_self: bool,
        stale: bool,
    },
    Open {
        t: u8,
        forged: bool,
    },
    Scan {
        t: u8,
        a: u8,
        who: By,
    },
    Approve {
        t: u8,
        who: By,
        victim: Option<u8>,
        tamper: Option<Tamper>,
        lifetime_ms: u64,
    },
    Deny {
        t: u8,
        a: u8,
        who: By,
    },
    Cancel {
        t: u8,
        forged: bool,
    },
    Expire {
        t: u8,
    },
    Settle {
        t: u8,
    },
    Link {
        t: u8,
    },
    Decide {
        t: u8,
        cancelled: bool,
    },
    Lock {
        a: u8,
        who: By,
        locked: bool,
    },
    Pin {
        a: u8,
        who: By,
        target: u8,
        pinned: bool,
    },
    Rotate {
        a: u8,
        who: By,
        taken: bool,
    },
    Replace {
        a: u8,
        who: By,
        keep: bool,
        stale: bool,
        taken: bool,
    },
    Delete {
        a: u8,
        who: By,
        stale: bool,
    },
    Revoke {
        a: u8,
        who: By,
        target: u8,
    },
    /// Whatever brings this ticket a step further.
    Next {
        t: u8,
        a: u8,
        who: By,
        victim: Option<u8>,
    },
    Tick,
}

#[derive(Clone, Debug)]
struct By {
    /// See [`Run::seq`].
    session: u8,
    forged: bool,
    stale: bool,
    operator: bool,
}

#[derive(Clone, Debug)]
struct Round {
    sleep_ms: u64,
    elapsed_ms: u64,
    /// With the request id, or a fresh one.
    wishes: Vec<(Option<u64>, Wish)>,
}

fn by() -> impl Strategy<Value = By> {
    let session = prop_oneof![10 => Just(1u8), 1 => Just(0), 12 => 1..12u8];
    (session, prop::bool::weighted(0.04), prop::bool::weighted(0.06), prop::bool::weighted(0.06))
        .prop_map(|(session, forged, stale, operator)| By { session, forged, stale, operator })
}

fn wish() -> impl Strategy<Value = Wish> {
    // From LINES on: an old ticket, whatever has become of it.
    let (a, t) = (0..ACCOUNTS, 0..LINES + 3);
    let odd = || prop::bool::weighted(0.1);
    let tamper = || {
        let any = prop::sample::select(vec![
            Tamper::Envelope,
            Tamper::Key,
            Tamper::Ticket,
            Tamper::Account,
            Tamper::Approver,
        ]);
        prop::option::weighted(0.4, any)
    };
    let victim = || prop::option::weighted(0.25, 0..12u8);
    prop_oneof![
        1 => (a.clone(), 1..3u8).prop_map(|(a, claim)| Wish::Claim { a, claim }),
        2 => (a.clone(), any::<bool>(), odd()).prop_map(|(a, own_key, forged)| Wish::Register { a, own_key, forged }),
        1 => (a.clone(), by(), 0..7u32).prop_map(|(a, who, limit)| Wish::SetLimit { a, who, limit }),
        6 => (a.clone(), by(), 0..12u8).prop_map(|(a, who, target)| Wish::Unlink { a, who, target }),
        1 => (a.clone(), by(), prop::bool::weighted(0.9), prop::bool::weighted(0.3))
            .prop_map(|(a, who, keep_self, stale)| Wish::UnlinkOthers { a, who, keep_self, stale }),
        1 => (t.clone(), odd()).prop_map(|(t, forged)| Wish::Open { t, forged }),
        2 => (t.clone(), a.clone(), by()).prop_map(|(t, a, who)| Wish::Scan { t, a, who }),
        3 => (t.clone(), by(), victim(), tamper(), prop::sample::select(vec![0u64, 7_000, 160_000]))
            .prop_map(|(t, who, victim, tamper, lifetime_ms)| Wish::Approve { t, who, victim, tamper, lifetime_ms }),
        1 => (t.clone(), a.clone(), by()).prop_map(|(t, a, who)| Wish::Deny { t, a, who }),
        1 => (t.clone(), odd()).prop_map(|(t, forged)| Wish::Cancel { t, forged }),
        1 => t.clone().prop_map(|t| Wish::Expire { t }),
        1 => t.clone().prop_map(|t| Wish::Settle { t }),
        3 => t.clone().prop_map(|t| Wish::Link { t }),
        1 => (t.clone(), any::<bool>()).prop_map(|(t, cancelled)| Wish::Decide { t, cancelled }),
        1 => (a.clone(), by(), prop::bool::weighted(0.2)).prop_map(|(a, who, locked)| Wish::Lock {
            a,
            who: By { operator: who.session < 9, ..who },
            locked
        }),
        3 => (a.clone(), by(), 0..12u8, prop::bool::weighted(0.8))
            .prop_map(|(a, who, target, pinned)| {
                let operator = who.operator || who.session > 4;
                Wish::Pin { a, who: By { operator, ..who }, target, pinned }
            }),
        2 => (a.clone(), by(), odd()).prop_map(|(a, who, taken)| Wish::Rotate { a, who, taken }),
        1 => (a.clone(), by(), prop::bool::weighted(0.9), odd(), odd())
            .prop_map(|(a, who, keep, stale, taken)| Wish::Replace { a, who, keep, stale, taken }),
        1 => (a.clone(), by(), prop::bool::weighted(0.85)).prop_map(|(a, who, stale)| Wish::Delete { a, who, stale }),
        1 => (a.clone(), by(), 0..12u8).prop_map(|(a, who, target)| Wish::Revoke { a, who, target }),
        40 => (t, a, by(), victim()).prop_map(|(t, a, who, victim)| Wish::Next { t, a, who, victim }),
        2 => Just(Wish::Tick),
    ]
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let sleep = prop_oneof![
        40 => Just(0u64), 3 => 1_000..40_000u64, 1 => Just(161_000), 1 => Just(25 * support::HOUR_MS),
    ];
    let elapsed = prop_oneof![8 => 0..200u64, 1 => 0..9_000u64];
    let request = prop::option::weighted(0.25, 1..5u64);
    let round = (sleep, elapsed, prop::collection::vec((request, wish()), 1..5))
        .prop_map(|(sleep_ms, elapsed_ms, wishes)| Round { sleep_ms, elapsed_ms, wishes });
    prop::collection::vec(round, 1..120)
}

/// The model beside a real shard, and what a wish needs to become a command.
#[derive(Clone, Default)]
struct Run {
    model: Model,
    approved: BTreeMap<u8, Approval>,
    fresh: u64,
}

impl Run {
    fn who(&self, a: u8, by: &By) -> Who {
        let epoch = self.model.accounts.get(&a).map_or(1, |account| account.epoch);
        let epoch = epoch.saturating_sub(u64::from(by.stale));
        let seq = self.seq(a, by.session);
        Who { seq, key: self.key(a, seq), forged: by.forged, epoch, operator: by.operator }
    }

    /// 0 is nobody, 1 to 8 are among the live sessions in order of number, the rest are among all that ever were.
    fn seq(&self, a: u8, wanted: u8) -> u64 {
        let Some(account) = self.model.accounts.get(&a) else { return 0 };
        let live = account.live.keys().cycle().nth(usize::from(wanted.max(1)) - 1);
        match (wanted, live) {
            (0, _) => 0,
            (1..=8, Some(seq)) => *seq,
            _ => 1 + u64::from(wanted) % account.given,
        }
    }

    /// The key that the session has now, or had when it ended.
    fn key(&self, a: u8, seq: u64) -> u8 {
        let account = self.model.accounts.get(&a);
        let live = account.and_then(|account| account.live.get(&seq)).map(|m| m.key);
        let dead = || account.and_then(|account| account.dead.get(&seq)).map(|(_, key)| *key);
        live.or_else(dead).unwrap_or(200 + a)
    }

    /// A key that nobody has had, or one that somebody has.
    fn new_key(&self, a: u8, taken: bool) -> u8 {
        let given = self.model.accounts.get(&a).map_or(0, |account| account.given + account.epoch);
        if taken { ticket_key(0) } else { 20 + u8::try_from((given + self.fresh) % 60).unwrap() }
    }

    fn ticket(&self, t: u8) -> u8 {
        let over = |t: &u8| self.model.tickets.get(t).is_some_and(|ticket| matches!(ticket.st, St::Over(_)));
        if t >= LINES { t - LINES } else { (t..TICKETS).step_by(LINES.into()).find(|t| !over(t)).unwrap_or(t) }
    }

    /// What the wish comes to in the present state; `None` if nobody could ask for it now.
    fn op(&self, wish: &Wish) -> Option<Op> {
        Some(match wish {
            Wish::Claim { a, claim } => match self.model.accounts.get(a) {
                None if self.model.deleted.contains_key(a) && *claim == 1 => Op::Mark { a: *a, claim: 1 },
                None => Op::Claim { a: *a, claim: *claim },
                Some(_) => Op::Confirm { a: *a, claim: *claim },
            },
            Wish::Register { a, own_key, forged } => {
                let key = if *own_key { 10 + a } else { ticket_key(0) };
                Op::Register { a: *a, claim: 1, key, forged: *forged }
            }
            Wish::SetLimit { a, who, limit } => Op::SetLimit { a: *a, who: self.who(*a, who), limit: *limit },
            Wish::Unlink { a, who, target } => {
                Op::Unlink { a: *a, who: self.who(*a, who), target: self.seq(*a, *target) }
            }
            Wish::UnlinkOthers { a, who, keep_self, stale } => {
                let who = self.who(*a, who);
                let version = self.model.accounts.get(a)?.version.saturating_sub(u64::from(*stale));
                Op::UnlinkOthers { a: *a, who, keep: if *keep_self { who.seq } else { 1 }, version }
            }
            Wish::Open { t, forged } => Op::Open { t: self.ticket(*t), forged: *forged },
            Wish::Scan { t, a, who } => {
                self.model.accounts.get(a)?;
                Op::Scan { t: self.ticket(*t), a: *a, who: self.who(*a, who) }
            }
            Wish::Approve { t, who, victim, tamper, lifetime_ms } => {
                let t = self.ticket(*t);
                let St::Scanned(a, scan, _) = self.model.tickets.get(&t)?.st else { return None };
                // Mostly by who has scanned, else nothing but the proof would ever be looked at.
                let by = if who.session < 9 { scan } else { self.who(a, who) };
                let victim = victim.map(|v| self.seq(a, v));
                let epoch = if who.stale { by.epoch.wrapping_sub(1) } else { by.epoch };
                let (seq, key) = (by.seq, by.key);
                let approval = Approval { a, seq, key, epoch, victim, lifetime_ms: *lifetime_ms, tamper: *tamper };
                Op::Approve { t, who: by, approval }
            }
            Wish::Deny { t, a, who } => Op::Deny { t: self.ticket(*t), a: *a, who: self.who(*a, who) },
            Wish::Cancel { t, forged } => Op::Cancel { t: self.ticket(*t), forged: *forged },
            Wish::Expire { t } => Op::Expire { t: self.ticket(*t) },
            Wish::Settle { t } => {
                let t = self.ticket(*t);
                let a = self.approved.get(&t)?.a;
                Op::Settle { t, a, fate: self.model.fates.get(&(a, t))?.clone() }
            }
            Wish::Link { t } => {
                let t = self.ticket(*t);
                Op::Link { t, approval: *self.approved.get(&t)? }
            }
            Wish::Decide { t, cancelled } => {
                let t = self.ticket(*t);
                Op::Decide { t, a: self.approved.get(&t)?.a, cancelled: *cancelled }
            }
            Wish::Next { t, a, who, victim } => return self.next(self.ticket(t % LINES), *a, who, *victim),
            Wish::Tick => Op::Tick,
            _ => return self.life(wish),
        })
    }

    fn life(&self, wish: &Wish) -> Option<Op> {
        Some(match wish {
            Wish::Lock { a, who, locked } => Op::Lock { a: *a, who: self.who(*a, who), locked: *locked },
            Wish::Pin { a, who, target, pinned } => {
                let target = self.seq(*a, *target);
                Op::Pin { a: *a, who: self.who(*a, who), target, pinned: *pinned }
            }
            Wish::Rotate { a, who, taken } => {
                Op::Rotate { a: *a, who: self.who(*a, who), key: self.new_key(*a, *taken) }
            }
            Wish::Replace { a, who, keep, stale, taken } => {
                let mut ends = self.model.replaced(*a, *keep);
                if *stale {
                    ends.pop();
                }
                Op::Replace { a: *a, who: self.who(*a, who), key: self.new_key(*a, *taken), keep: *keep, ends }
            }
            Wish::Delete { a, who, stale } => {
                let version = self.model.accounts.get(a)?.version.saturating_sub(u64::from(*stale));
                Op::Delete { a: *a, who: self.who(*a, who), version }
            }
            Wish::Revoke { a, who, target } => {
                Op::Revoke { a: *a, who: self.who(*a, who), target: self.seq(*a, *target) }
            }
            _ => return None,
        })
    }

    fn next(&self, t: u8, a: u8, who: &By, victim: Option<u8>) -> Option<Op> {
        let Some(ticket) = self.model.tickets.get(&t) else { return Some(Op::Open { t, forged: false }) };
        Some(match &ticket.st {
            St::Open | St::Scanned(..) if self.model.now >= ticket.deadline => Op::Expire { t },
            St::Open => {
                let honest = By { forged: false, operator: false, session: who.session.max(1), ..who.clone() };
                self.model.accounts.get(&a)?;
                Op::Scan { t, a, who: self.who(a, &honest) }
            }
            St::Scanned(a, scan, _) => {
                let victim = victim.map(|v| self.seq(*a, v));
                let (seq, key, epoch) = (scan.seq, scan.key, scan.epoch);
                let approval = Approval { a: *a, seq, key, epoch, victim, lifetime_ms: 160_000, tamper: None };
                Op::Approve { t, who: *scan, approval }
            }
            St::Approved(a, approval) => match self.model.fates.get(&(*a, t)) {
                Some(fate) => Op::Settle { t, a: *a, fate: fate.clone() },
                None => Op::Link { t, approval: *approval },
            },
            St::Over(_) => Op::Open { t, forged: false },
        })
    }

    fn number(&mut self, wanted: Option<u64>) -> u64 {
        self.fresh += 1;
        wanted.unwrap_or(1_000_000 + self.fresh)
    }

    /// The round's operations, each with its request id, as they can be built before any of it is applied.
    fn resolve(&mut self, round: &Round) -> Vec<(u64, Op)> {
        let wishes = round.wishes.iter();
        let ops: Vec<_> = wishes.filter_map(|(request, wish)| Some((*request, self.op(wish)?))).collect();
        ops.into_iter().map(|(request, op)| (self.number(request), op)).collect()
    }

    fn sleep(&mut self, round: &Round, real: &mut Bridge) {
        real.shard.sleep(round.sleep_ms);
        self.model.now += round.sleep_ms;
        self.clean(round, real);
        if round.sleep_ms > 0 {
            self.model.step(0, &Op::Tick, "done").unwrap();
        }
    }

    /// The model knows no bound on what one Tick removes; after a long sleep the shard gets the Ticks that it needs.
    fn clean(&self, round: &Round, real: &mut Bridge) {
        let ticks = match round.sleep_ms {
            0 => 0,
            ms if ms < support::HOUR_MS => 1,
            _ => 8,
        };
        for _ in 0..ticks {
            real.entry(0, vec![real.command(0, &Op::Tick).unwrap()]);
        }
    }

    /// The model takes in what was said; they must agree, then and afterwards.
    fn judge(&mut self, round: &Round, ops: &[(u64, Op)], said: &[String]) -> Result<(), String> {
        self.model.now += round.elapsed_ms.min(5_000);
        for ((number, op), said) in ops.iter().zip(said) {
            // Open finds its ticket by the request id, so that is always the same one.
            let number = if let Op::Open { t, .. } = op { 5_000 + u64::from(*t) } else { *number };
            self.model.step(number, op, said).map_err(|why| format!("{op:?}\nsaid: {said}\n{why}"))?;
            if let Op::Approve { t, .. } = op
                && let Some(St::Approved(_, approval)) = self.model.tickets.get(t).map(|ticket| &ticket.st)
            {
                self.approved.insert(*t, *approval);
            }
        }
        Ok(())
    }
}

fn prelude() -> Vec<Round> {
    let claim = |a| (None, Wish::Claim { a, claim: 1 });
    let register = |a| (None, Wish::Register { a, own_key: true, forged: false });
    vec![
        Round { sleep_ms: 0, elapsed_ms: 0, wishes: vec![claim(0), claim(1)] },
        Round { sleep_ms: 0, elapsed_ms: 10, wishes: vec![register(0), register(1)] },
    ]
}

fn runner(cases: u32) -> TestRunner {
    let config = Config::default();
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(0x6b69_6e64),
        fixed => fixed,
    };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { cases };
    TestRunner::new(Config { cases, rng_seed, failure_persistence: None, max_shrink_iters: 2_000, ..config })
}

/// Goes through the rounds; `after` sees the state after each.
fn run(rounds: &[Round], seen: &mut BTreeMap<String, u64>) -> Result<(), String> {
    let (mut run, mut real) = (Run::default(), Bridge::default());
    for round in prelude().iter().chain(rounds) {
        let ops = run.resolve(round);
        let commands: Vec<_> = ops.iter().map(|(number, op)| real.command(*number, op).unwrap()).collect();
        run.sleep(round, &mut real);
        let said = real.entry(round.elapsed_ms, commands);
        run.judge(round, &ops, &said)?;
        for ((_, op), said) in ops.iter().zip(&said) {
            let op = format!("{op:?}");
            let op = op.split(' ').next().unwrap();
            let said = said.trim_start_matches("decided ");
            let words = if said.starts_with("no ") || said.starts_with("refused ") { 2 } else { 1 };
            let said: Vec<_> = said.split(' ').take(words).collect();
            *seen.entry(format!("{op} {}", said.join(" "))).or_default() += 1;
        }
        let (expected, found) = (run.model.picture(), real.picture(TICKETS));
        if expected != found {
            return Err(format!("after {ops:?}\nmodel: {expected:#?}\napply: {found:#?}"));
        }
    }
    Ok(())
}

#[test]
fn apply_and_the_reference_agree_on_every_history() {
    let seen = RefCell::new(BTreeMap::new());
    let result = runner(200).run(&rounds(), |rounds| run(&rounds, &mut seen.borrow_mut()).map_err(TestCaseError::fail));
    if let Err(failure) = result {
        panic!("{failure}");
    }
    // A run in which some answer never came would have shown nothing about it.
    let seen = seen.into_inner();
    for wanted in WANTED {
        assert!(seen.get(*wanted).is_some_and(|n| *n >= 3), "{wanted}: too rare\n{seen:#?}");
    }
}

const WANTED: &[&str] = &[
    "Link linked",
    "Link refused CompanionLimitReached",
    "Link refused DeviceKeyAlreadyLinked",
    "Link refused EpochChanged",
    "Link refused ApprovalInvalid",
    "Link refused QuarantinedActor",
    "Link refused CallerNotAllowed",
    "Link cancelled",
    "Link expired",
    "Decide linked",
    "Approve no ApprovalInvalid",
    "Approve no RequestIdReused",
    "Approve ticket",
    "Scan no TicketAlreadyUsed",
    "Scan no TicketExpired",
    "Unlink ended",
    "Unlink no QuarantinedActor",
    "Unlink no RequestIdReused",
    "Unlink no SessionEnded",
    "Unlink no EpochChanged",
    "Unlink no ProofInvalid",
    "UnlinkOthers ended",
    "UnlinkOthers no SetVersionConflict",
    "SetLimit done",
    "Settle ticket",
    "Link refused AccountLocked",
    "Link refused AccountNotFound",
    "Unlink no AccountLocked",
    "Lock locked",
    "Lock no CallerNotAllowed",
    "Pin session",
    "Rotate session",
    "Rotate no DeviceKeyAlreadyLinked",
    "Replace replaced",
    "Replace no SetVersionConflict",
    "Delete deleted",
    "Delete no SetVersionConflict",
    "Revoke ended",
    "Mark done",
    "Register no AccountExists",
];

#[test]
fn one_entry_or_many_give_the_same_membership() {
    let result = runner(48).run(&rounds(), |rounds| {
        let (mut run, mut batched, mut single) = (Run::default(), Bridge::default(), Bridge::default());
        for round in prelude().iter().chain(&rounds) {
            let ops = run.resolve(round);
            let build = |bridge: &Bridge| -> Vec<_> {
                ops.iter().map(|(number, op)| bridge.command(*number, op).unwrap()).collect()
            };
            let (together, apart) = (build(&batched), build(&single));
            run.sleep(round, &mut batched);
            single.shard.sleep(round.sleep_ms);
            run.clean(round, &mut single);
            let said = batched.entry(round.elapsed_ms, together);
            single.entry(round.elapsed_ms, Vec::new());
            let alone: Vec<_> = apart.into_iter().flat_map(|command| single.entry(0, vec![command])).collect();
            prop_assert_eq!(&said, &alone);
            prop_assert_eq!(batched.picture(TICKETS), single.picture(TICKETS));
            run.judge(round, &ops, &said).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
