//! Accounts leave a shard as a whole and come into another one: nothing that was promised is lost on the way, and what is
//! there is never touched.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_core::bundle::Bundle;
use kindred_core::command::{Answer, Command, Effect, Outcome, Proven, Query, Reply};
use kindred_core::id::{AccountId, ClaimId, Digest, RegionIndex, SessionId};
use kindred_core::limits;
use kindred_core::memory::Memory;
use kindred_core::model::{Actor, ApprovalKind, EndReason, Receipt, Rejection, Role, Session, TicketOutcome};
use kindred_core::query::answer;
use kindred_core::state::{Key, Record};
use proptest::prelude::*;
use support::*;

fn operator() -> Proven {
    Proven::Operator("ops".into())
}

/// All accounts of a shard, page by page.
fn exported(shard: &Shard) -> Vec<Bundle> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Answer::Export(page) = answer(&shard.memory, None, shard.now(), &Query::Export(after)).unwrap() else {
            panic!("another answer");
        };
        assert!(page.too_large.is_empty() && page.bundles.len() <= limits::EXPORT_ACCOUNTS_MAX);
        if page.last.is_none() {
            return all;
        }
        after = page.last;
        all.extend(page.bundles);
    }
}

fn export(shard: &Shard, id: &AccountId) -> Bundle {
    exported(shard).into_iter().find(|bundle| bundle.account.id == *id).unwrap()
}

fn install(bundle: &Bundle, n: u64) -> Command {
    let claim = bundle.claim(&request(n), REGION);
    Command::Install { bundle: Box::new(bundle.clone()), claim, home: REGION }
}

fn installed(shard: &mut Shard, bundle: &Bundle) -> Reply {
    shard.ask(operator(), install(bundle, 1))
}

/// Everything but the clock.
fn records(memory: &Memory) -> Memory {
    let mut memory = memory.clone();
    memory.records.remove(&Key::Shard);
    memory
}

/// What must survive, with times as they look from the moment of the export.
fn essence(bundle: &Bundle) -> Bundle {
    let mut bundle = bundle.clone();
    let now_ms = bundle.time_ms;
    let session = |s: &mut Session| {
        s.linked_at_ms = now_ms - s.linked_at_ms;
        // What is left of a quarantine, or how long ago it ended; never either as the other.
        s.quarantine_until_ms = match s.quarantine_until_ms {
            0 => 0,
            until_ms => (1 << 50) + until_ms - now_ms,
        };
    };
    bundle.account.sessions.iter_mut().for_each(session);
    for tombstone in &mut bundle.tombstones {
        session(&mut tombstone.session);
        tombstone.at_ms = now_ms - tombstone.at_ms;
    }
    bundle.account.registered_at_ms = now_ms - bundle.account.registered_at_ms;
    bundle.time_ms = 0;
    bundle
}

/// A primary, a companion past its quarantine, a young one, and three that have ended.
fn family(shard: &mut Shard, n: u8) -> (AccountId, Session) {
    let (id, primary) = shard.registered(n);
    let old = shard.linked(&id, &primary, n + 1);
    let gone = shard.linked(&id, &primary, n + 2);
    shard.grow_up();
    let young = shard.linked(&id, &primary, n + 3);
    let by = proven(&shard.account(&id), &primary);
    shard.ask(by, Command::Unlink { account: id.clone(), session: gone.id }).unwrap();
    let by = proven(&shard.account(&id), &young);
    shard.ask(by, Command::Unlink { account: id.clone(), session: young.id }).unwrap();
    let replaced = shard.linked(&id, &primary, n + 4);
    receipt(&shard.link(&id, &primary, n + 5, ApprovalKind::LinkReplacing(replaced.id)));
    shard.sleep(1_234);
    assert_eq!(shard.account(&id).sessions[1], old);
    (id, primary)
}

/// A shard whose clock shows something else.
fn elsewhere(hours: u64) -> Shard {
    let mut shard = Shard::default();
    shard.sleep(hours * HOUR_MS);
    shard
}

#[test]
fn an_account_comes_out_as_it_went_in_but_for_its_epochs_and_its_claim() {
    let mut source = Shard::default();
    let (id, _) = family(&mut source, 10);
    let bundle = export(&source, &id);
    assert_eq!((bundle.account.sessions.len(), bundle.tombstones.len(), bundle.linked.len()), (3, 3, 5));
    let mut target = elsewhere(50);
    let reply = installed(&mut target, &bundle);
    let (set_version, auth_epoch) = (bundle.account.set_version, bundle.account.auth_epoch + 1);
    assert_eq!(reply, Ok(Outcome::Installed { set_version, auth_epoch, again: false }));
    let (mut was, mut is) = (essence(&bundle), essence(&export(&target, &id)));
    assert_eq!(is.account.home_epoch, was.account.home_epoch + 1);
    assert_eq!(is.account.auth_epoch, was.account.auth_epoch + 1);
    assert_eq!(is.account.claim, bundle.claim(&request(1), REGION));
    (was.account.home_epoch, was.account.auth_epoch, was.account.claim) = (0, 0, ClaimId([0; 16]));
    (is.account.home_epoch, is.account.auth_epoch, is.account.claim) = (0, 0, ClaimId([0; 16]));
    assert_eq!(is, was);
}

#[test]
fn the_directory_is_told_of_an_account_that_was_installed() {
    let mut source = Shard::default();
    let (id, _) = family(&mut source, 10);
    let mut target = Shard::default();
    installed(&mut target, &export(&source, &id)).unwrap();
    let effects = target.memory.records.values().filter_map(|record| match record {
        Record::Outbox(item) => Some(item.effect.clone()),
        _ => None,
    });
    let claim = export(&source, &id).claim(&request(1), REGION);
    assert_eq!(effects.collect::<Vec<_>>(), [Effect::ConfirmClaim { account: id, claim, home_epoch: 2 }]);
}

#[test]
fn what_is_there_is_not_touched_whatever_comes_and_a_repeat_is_told_so() {
    let mut source = Shard::default();
    let (id, primary) = family(&mut source, 10);
    let early = export(&source, &id);
    source.linked(&id, &primary, 30);
    let late = export(&source, &id);
    let mut target = Shard::default();
    installed(&mut target, &early).unwrap();
    target.linked(&id, &primary, 40);
    let before = records(&target.memory);
    // The same again, whatever happened since.
    let set_version = target.account(&id).set_version;
    let again = Ok(Outcome::Installed { set_version, auth_epoch: early.account.auth_epoch + 1, again: true });
    assert_eq!(installed(&mut target, &early), again);
    assert_eq!(installed(&mut target, &late), Err(Rejection::AccountExists), "the same request, another account");
    assert_eq!(target.ask(operator(), install(&early, 2)), Err(Rejection::AccountExists), "another request");
    assert_eq!(records(&target.memory), before);
    // One that was registered is as little overwritten, and is no import's to answer for.
    let mut registered = Shard::default();
    registered.ask(Proven::Key(key(10)), register(&id, key(10))).unwrap();
    let before = records(&registered.memory).records.remove(&Key::Account(id.clone()));
    assert_eq!(installed(&mut registered, &early), Err(Rejection::AccountExists));
    assert_eq!(records(&registered.memory).records.remove(&Key::Account(id)), before);
}

#[test]
fn only_an_operator_installs_and_only_at_the_home() {
    let mut source = Shard::default();
    let (id, primary) = family(&mut source, 10);
    let bundle = export(&source, &id);
    let mut target = Shard::default();
    for by in [Proven::Cluster, Proven::Key(key(10)), proven(&bundle.account, &primary)] {
        assert_eq!(target.ask(by, install(&bundle, 1)), Err(Rejection::CallerNotAllowed));
    }
    let abroad = Command::Install { bundle: Box::new(bundle), claim: claim(1), home: ABROAD };
    assert_eq!(target.ask(operator(), abroad), Err(Rejection::InvalidRequest("home")));
    assert_eq!(records(&target.memory), Memory::default());
}

#[test]
fn a_bundle_that_breaks_a_law_is_refused_by_the_name_of_what_is_wrong() {
    type Spoil = fn(&mut Bundle);
    let spoils: [(&str, Spoil); 27] = [
        ("companion_limit", |b| b.account.companion_limit = 0),
        ("companion_limit", |b| b.account.companion_limit = 65),
        ("epoch", |b| b.account.auth_epoch = 0),
        ("epoch", |b| b.account.home_epoch = 0),
        ("sessions", |b| b.account.sessions[1].role = Role::Primary),
        ("sessions", |b| b.account.sessions.swap(0, 1)),
        ("sessions", |b| b.account.sessions[1].device_key = b.account.sessions[0].device_key),
        ("sessions.device", |b| b.account.sessions[1].device.platform = "x".repeat(65)),
        ("tombstones.device", |b| b.tombstones[0].session.device.display_name = vec![0; 129]),
        ("sessions", |b| b.account.next_session_seq = 3),
        ("session.seq", |b| b.account.sessions[0].seq = 0),
        ("session.seq", |b| b.tombstones[0].session.seq = b.account.sessions[0].seq),
        ("session.seq", |b| b.tombstones[0].session.id = b.account.sessions[0].id),
        ("session.seq", |b| b.tombstones[1] = b.tombstones[0].clone()),
        ("next_session_seq", |b| _ = b.tombstones.pop()),
        ("next_session_seq", |b| _ = b.account.sessions.pop()),
        ("next_session_seq", |b| b.account.next_session_seq += 1),
        ("set_version", |b| b.account.set_version = 5),
        ("set_version", |b| b.account.set_version = 10),
        ("tombstones.set_version", |b| b.tombstones[0].set_version = b.account.set_version + 1),
        ("tombstones", |b| b.tombstones.swap(0, 1)),
        ("time_ms", |b| b.account.sessions[0].linked_at_ms = b.time_ms + 1),
        ("time_ms", |b| b.tombstones[0].at_ms = b.time_ms + 1),
        ("time_ms", |b| b.account.sessions[1].quarantine_until_ms = b.time_ms + limits::QUARANTINE_MS + 1),
        ("linked", |b| b.linked[0].1.session = SessionId([9; 16])),
        ("linked", |b| b.linked[0].1.version_after = b.account.set_version + 1),
        ("size", |b| b.linked = vec![b.linked[0].clone(); limits::BUNDLE_RECORDS_MAX + 1]),
    ];
    let mut source = Shard::default();
    let (id, _) = family(&mut source, 10);
    let good = export(&source, &id);
    for (at, (what, spoil)) in spoils.into_iter().enumerate() {
        let (mut target, mut bad) = (Shard::default(), good.clone());
        spoil(&mut bad);
        assert_eq!(installed(&mut target, &bad), Err(Rejection::InvalidRequest(what)), "spoil {at}");
        assert_eq!(records(&target.memory), Memory::default());
    }
    assert_eq!(good.check(), Ok(()));
}

#[test]
fn no_approval_and_no_proof_from_before_counts_after() {
    let mut source = Shard::default();
    let (id, primary) = family(&mut source, 10);
    let bundle = export(&source, &id);
    let ticket = ticket_id(50, 50);
    let approved = approval(&source.account(&id), &primary, &ticket, 50);
    let by = proven(&source.account(&id), &primary);
    let mut target = Shard::default();
    installed(&mut target, &bundle).unwrap();
    let auth_epoch = bundle.account.auth_epoch + 1;
    let epoch = Rejection::EpochChanged { auth_epoch };
    assert_eq!(target.by_cluster(link(ticket, 50, approved)), refused(epoch.clone()));
    assert_eq!(target.ask(by, Command::SetLimit { account: id, limit: 5 }), Err(epoch));
}

#[test]
fn a_ticket_that_was_linked_before_is_linked_once_after() {
    let mut source = Shard::default();
    let (id, primary) = source.registered(10);
    let ticket = ticket_id(11, 11);
    let wanted = link(ticket, 11, approval(&source.account(&id), &primary, &ticket, 11));
    let linked = receipt(&source.by_cluster(wanted.clone()));
    let mut target = Shard::default();
    installed(&mut target, &export(&source, &id)).unwrap();
    assert_eq!(target.by_cluster(wanted), Ok(Outcome::Decided(TicketOutcome::Linked(linked))));
    assert_eq!(target.account(&id).sessions.len(), 2);
}

#[test]
fn the_young_stay_young_for_as_long_as_they_would_have() {
    for hours in [0, 1, 500] {
        let mut source = Shard::default();
        source.sleep(100 * HOUR_MS);
        let (id, primary) = source.registered(10);
        let old = source.linked(&id, &primary, 11);
        source.sleep(20 * HOUR_MS);
        let young = source.linked(&id, &primary, 12);
        source.sleep(10 * HOUR_MS);
        let mut target = elsewhere(hours);
        installed(&mut target, &export(&source, &id)).unwrap();
        let end = |target: &mut Shard, who: &Session, whom: &Session| {
            let by = proven(&target.account(&id), who);
            target.ask(by, Command::Unlink { account: id.clone(), session: whom.id })
        };
        let early = end(&mut target, &young, &old);
        assert!(matches!(early, Err(Rejection::QuarantinedActor { .. })), "{hours}: {early:?}");
        target.sleep(14 * HOUR_MS - 1);
        assert!(matches!(end(&mut target, &young, &old), Err(Rejection::QuarantinedActor { .. })), "{hours}");
        target.sleep(1);
        assert_eq!(reason(&end(&mut target, &young, &old)), EndReason::UserUnlinkedFromSibling, "{hours}");
    }
}

#[test]
fn signed_out_stays_signed_out_with_the_same_tombstone() {
    let mut source = Shard::default();
    let (id, _) = family(&mut source, 10);
    let bundle = export(&source, &id);
    let mut target = elsewhere(50);
    installed(&mut target, &bundle).unwrap();
    for was in &bundle.tombstones {
        let is = target.tombstone(&id, &was.session.id).unwrap();
        let told = |t: &kindred_core::model::Tombstone| {
            (t.session.id, t.session.seq, t.reason, t.actor.clone(), t.command, t.log_index, t.set_version, t.wall_ms)
        };
        assert_eq!(told(&is), told(was));
        let by_key = Query::SessionByKey(id.clone(), was.session.device_key);
        assert!(matches!(answer(&target.memory, None, 0, &by_key).unwrap(), Answer::Session { status, .. }
            if format!("{status:?}").starts_with("Ended")));
    }
    assert!(bundle.tombstones.iter().all(|t| matches!(t.actor, Actor::Session(_))));
}

#[test]
fn an_account_with_too_much_history_is_named_and_does_not_stop_the_others() {
    let mut source = Shard::default();
    source.unwatched();
    let (first, _) = source.registered(1);
    let (big, primary) = source.registered(2);
    let (last, _) = source.registered(3);
    let one = source.linked(&big, &primary, 10);
    for n in 0..=limits::BUNDLE_RECORDS_MAX as u64 {
        let ticket = kindred_core::id::TicketId(request(n).0);
        let receipt = Receipt {
            session: one.id,
            seq: one.seq,
            version_before: 1,
            version_after: 2,
            digest_after: Digest([0; 32]),
            sessions_before: vec![],
            sessions_after: vec![],
            log_index: 1,
        };
        source
            .memory
            .records
            .insert(Key::Outcome(big.clone(), ticket), Record::Outcome(TicketOutcome::Linked(receipt)));
    }
    let Answer::Export(page) = answer(&source.memory, None, 0, &Query::Export(None)).unwrap() else { panic!() };
    let ids: Vec<_> = page.bundles.iter().map(|b| b.account.id.clone()).collect();
    assert_eq!((ids, page.too_large, page.last), (vec![first, last.clone()], vec![big], Some(last)));
}

/// What happens to an account; whom it is about is looked up when its turn comes.
#[derive(Clone, Debug)]
enum Deed {
    Link { a: u8, approver: u8, replacing: Option<u8> },
    Unlink { a: u8, target: u8, operator: bool },
    UnlinkOthers { a: u8 },
    SetLimit { a: u8, limit: u32 },
    Sleep { ms: u64 },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        5 => (0..3u8, any::<u8>(), proptest::option::weighted(0.2, any::<u8>()))
            .prop_map(|(a, approver, replacing)| Deed::Link { a, approver, replacing }),
        3 => (0..3u8, any::<u8>(), any::<bool>()).prop_map(|(a, target, operator)| Deed::Unlink { a, target, operator }),
        1 => (0..3u8).prop_map(|a| Deed::UnlinkOthers { a }),
        1 => (0..3u8, 1..=8u32).prop_map(|(a, limit)| Deed::SetLimit { a, limit }),
        2 => (1..30 * HOUR_MS).prop_map(|ms| Deed::Sleep { ms }),
    ]
}

/// Does it; refusals are part of life. The laws look at every step (support/laws.rs).
fn act(shard: &mut Shard, deed: &Deed, n: u8) {
    let (a, deed) = match deed {
        Deed::Sleep { ms } => return shard.sleep(*ms),
        Deed::Link { a, .. } | Deed::Unlink { a, .. } | Deed::UnlinkOthers { a } | Deed::SetLimit { a, .. } => {
            (*a, deed)
        }
    };
    let id = account(a);
    let set = shard.account(&id);
    let pick = |n: u8| set.sessions.get(usize::from(n) % set.sessions.len().max(1)).cloned();
    let Some(first) = pick(0) else { return };
    let command = match deed {
        Deed::Link { approver, replacing, .. } => {
            let victim = replacing.and_then(pick).map(|s| s.id);
            let kind = victim.map_or(ApprovalKind::Link, ApprovalKind::LinkReplacing);
            let _ = shard.link(&id, &pick(*approver).unwrap(), n, kind);
            return;
        }
        Deed::Unlink { target, .. } => Command::Unlink { account: id, session: pick(*target).unwrap().id },
        Deed::UnlinkOthers { .. } => {
            Command::UnlinkOthers { account: id, keep: first.id, set_version: set.set_version }
        }
        Deed::SetLimit { limit, .. } => Command::SetLimit { account: id, limit: *limit },
        Deed::Sleep { .. } => return,
    };
    let by = if matches!(deed, Deed::Unlink { operator: true, .. }) { operator() } else { proven(&set, &first) };
    let _ = shard.ask(by, command);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x696e_7374),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_moves_as_a_whole_and_goes_on_under_the_law(
        before in proptest::collection::vec(deed(), 0..40),
        after in proptest::collection::vec(deed(), 0..20),
        hours in 0..2_000u64,
    ) {
        let mut source = Shard::default();
        source.sleep(HOUR_MS);
        (0..3).for_each(|a| _ = source.registered(a));
        for (n, deed) in (100..).zip(&before) {
            act(&mut source, deed, n);
        }
        let bundles = exported(&source);
        prop_assert_eq!(bundles.len(), 3);
        let mut target = Shard::default();
        // Behind the source's clock, or before it: ages that fit below the target's clock stay exact.
        target.sleep(source.now() + hours * HOUR_MS);
        for bundle in &bundles {
            prop_assert_eq!(bundle.check(), Ok(()));
            prop_assert!(installed(&mut target, bundle).is_ok());
            prop_assert_eq!(installed(&mut target, bundle).map(|o| matches!(o, Outcome::Installed { again: true, .. })), Ok(true));
        }
        for (was, is) in bundles.iter().zip(exported(&target)) {
            let (mut was, mut is) = (essence(was), essence(&is));
            was.account = kindred_core::model::Account { home_epoch: 0, auth_epoch: 0, claim: ClaimId([0; 16]), ..was.account };
            is.account = kindred_core::model::Account { home_epoch: 0, auth_epoch: 0, claim: ClaimId([0; 16]), ..is.account };
            prop_assert_eq!(is, was);
        }
        for (n, deed) in (150..).zip(&after) {
            act(&mut target, deed, n);
        }
        // And it moves again.
        let mut third = Shard::default();
        for bundle in exported(&target) {
            prop_assert!(installed(&mut third, &bundle).is_ok());
        }
    }
}

#[test]
fn a_young_clock_makes_things_younger_and_never_older() {
    let mut source = Shard::default();
    source.sleep(100 * HOUR_MS);
    let (id, _) = family(&mut source, 10);
    source.sleep(50 * HOUR_MS);
    let bundle = export(&source, &id);
    let mut target = Shard::default();
    installed(&mut target, &bundle).unwrap();
    for (was, is) in bundle.tombstones.iter().zip(&export(&target, &id).tombstones) {
        assert!(target.now() - is.at_ms <= bundle.time_ms - was.at_ms);
    }
    assert_eq!(RegionIndex(0), REGION);
}

#[test]
fn a_session_that_ended_long_ago_is_still_known_to_have_ended_where_the_account_goes() {
    let mut source = Shard::default();
    let (id, _) = family(&mut source, 10);
    source.sleep(limits::TOMBSTONE_TTL_MS);
    // The first look takes the answers and the outcomes, the next ones what is left.
    for _ in 0..4 {
        source.by_cluster(Command::Tick).unwrap();
    }
    let bundle = export(&source, &id);
    assert_eq!((bundle.tombstones.len(), bundle.stubs.len(), bundle.check()), (0, 3, Ok(())));
    let mut target = elsewhere(50);
    installed(&mut target, &bundle).unwrap();
    assert_eq!(export(&target, &id).stubs, bundle.stubs);
    // One of them is missing: a number that was given out to nobody.
    let lacking = Bundle { stubs: bundle.stubs[1..].to_vec(), ..bundle.clone() };
    assert_eq!(lacking.check(), Err("next_session_seq"));
}

#[test]
fn tombstones_that_came_along_age_as_they_would_have_at_home() {
    let mut source = Shard::default();
    let (id, _) = family(&mut source, 10);
    source.sleep(limits::TOMBSTONE_TTL_MS - 2 * HOUR_MS);
    let bundle = export(&source, &id);
    let mut target = elsewhere(24 * 100);
    installed(&mut target, &bundle).unwrap();
    target.by_cluster(Command::Tick).unwrap();
    assert_eq!(export(&target, &id).stubs.len(), 0, "not yet");
    target.sleep(2 * HOUR_MS);
    for _ in 0..4 {
        target.by_cluster(Command::Tick).unwrap();
    }
    assert_eq!(export(&target, &id).stubs.len(), 3);
}

#[test]
fn a_deleted_account_is_not_installed_over() {
    let mut shard = Shard::default();
    let (id, _) = family(&mut shard, 10);
    let bundle = export(&shard, &id);
    let set_version = bundle.account.set_version;
    shard.ask(operator(), Command::Delete { account: id, set_version }).unwrap();
    let before = records(&shard.memory);
    assert_eq!(installed(&mut shard, &bundle), Err(Rejection::AccountExists));
    assert_eq!(records(&shard.memory), before);
}
