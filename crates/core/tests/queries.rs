//! Reads, the digest chain as a client follows it, refs and their windows, and which shard owns what.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_core::canonical::TicketKey;
use kindred_core::command::{Answer, Command, Proven, Query, SessionStatus, TicketAnswer};
use kindred_core::digest;
use kindred_core::id::{AccountId, RegionIndex, SessionId, ShardId, Slot, TicketId};
use kindred_core::invariants::check_change;
use kindred_core::limits::{CHANGES_KEPT, QR_TICKET_TTL_MS, REF_WINDOW_FIRST_MS, REF_WINDOW_MS};
use kindred_core::map::ShardMap;
use kindred_core::model::{Account, ApprovalKind, EndReason, Role, Session, SetChange};
use kindred_core::query::answer;
use support::{HOUR_MS, REGION, Shard, account, key, nobody, open, proven, ticket_id};

const TICKET_KEY: TicketKey = TicketKey([0x44; 32]);

fn ask(shard: &Shard, query: &Query) -> Answer {
    answer(&shard.memory, Some(&TICKET_KEY), shard.now(), query).unwrap()
}

fn status(shard: &Shard, account: &AccountId, session: SessionId) -> (SessionStatus, Option<u64>) {
    match ask(shard, &Query::Session(account.clone(), session)) {
        Answer::Session { status, set_version } => (status, set_version),
        other => panic!("{other:?}"),
    }
}

fn changes(shard: &Shard, account: &AccountId, from: u64) -> Vec<SetChange> {
    match ask(shard, &Query::Changes(account.clone(), from)) {
        Answer::Changes { changes, .. } => changes,
        other => panic!("{other:?}"),
    }
}

/// A life with links, replacements and departures; ends with the primary and one companion.
fn lived() -> (Shard, AccountId, Session) {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    for n in 10..13 {
        shard.linked(&id, &primary, n);
    }
    let victim = shard.account(&id).sessions[1].id;
    support::receipt(&shard.link(&id, &primary, 20, ApprovalKind::LinkReplacing(victim)));
    let session = shard.account(&id).sessions[1].id;
    shard.ask(proven(&shard.account(&id), &primary), Command::Unlink { account: id.clone(), session }).unwrap();
    let set_version = shard.account(&id).set_version;
    let others = Command::UnlinkOthers { account: id.clone(), keep: primary.id, set_version };
    shard.ask(proven(&shard.account(&id), &primary), others).unwrap();
    shard.linked(&id, &primary, 30);
    (shard, id, primary)
}

#[test]
fn a_session_is_active_ended_or_unknown_and_unknown_is_never_ended() {
    let (shard, id, primary) = lived();
    let version = Some(shard.account(&id).set_version);
    assert_eq!(status(&shard, &id, primary.id), (SessionStatus::Active(Box::new(primary)), version));
    assert_eq!(status(&shard, &id, nobody(1)), (SessionStatus::Unknown, version));
    assert_eq!(status(&shard, &account(9), nobody(1)), (SessionStatus::Unknown, None), "no such account here");
    let ended = changes(&shard, &id, 0).into_iter().flat_map(|change| change.ended);
    let mut count = 0;
    for tombstone in ended {
        let told = status(&shard, &id, tombstone.session.id);
        assert_eq!(told, (SessionStatus::Ended(Box::new(tombstone)), version));
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn a_device_key_finds_its_live_session_or_its_latest_tombstone() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let (other, other_primary) = shard.registered(2);
    let by_key = |shard: &Shard, id: &AccountId| match ask(shard, &Query::SessionByKey(id.clone(), key(10))) {
        Answer::Session { status, .. } => status,
        answer => panic!("{answer:?}"),
    };
    assert_eq!(by_key(&shard, &id), SessionStatus::Unknown);
    let mut last = None;
    for _ in 0..2 {
        let session = shard.linked(&id, &primary, 10);
        assert_eq!(by_key(&shard, &id), SessionStatus::Active(Box::new(session.clone())));
        let unlink = Command::Unlink { account: id.clone(), session: session.id };
        last = Some(support::ended(&shard.ask(proven(&shard.account(&id), &primary), unlink)));
    }
    shard.linked(&other, &other_primary, 10);
    assert_eq!(by_key(&shard, &id), SessionStatus::Ended(Box::new(last.unwrap())), "of this account, the latest");
}

/// A client with nothing but the changes: what it arrives at is the account.
struct Client {
    version: u64,
    digest: kindred_core::id::Digest,
    sessions: Vec<Session>,
}

impl Client {
    fn follow(&mut self, change: &SetChange) {
        assert_eq!(change.version, self.version + 1);
        self.version = change.version;
        self.digest = digest::next(&self.digest, change.version, &change.added, &change.ended);
        assert_eq!(self.digest, change.digest);
        self.sessions.retain(|s| change.ended.iter().all(|t| t.session.id != s.id));
        self.sessions.extend(change.added.iter().cloned());
    }
}

#[test]
fn a_client_that_follows_the_changes_arrives_at_the_account_from_any_version() {
    let (shard, id, _) = lived();
    let account = shard.account(&id);
    let all = changes(&shard, &id, 0);
    for from in 0..=account.set_version {
        let mut client = Client { version: 0, digest: digest::empty(&id), sessions: Vec::new() };
        let at = usize::try_from(from).unwrap();
        all[..at].iter().for_each(|change| client.follow(change));
        changes(&shard, &id, from).iter().for_each(|change| client.follow(change));
        let found = (client.version, client.digest, client.sessions);
        assert_eq!(found, (account.set_version, account.set_digest, account.sessions.clone()), "from {from}");
    }
}

#[test]
fn the_digest_tells_every_difference_between_two_changes() {
    let (shard, id, _) = lived();
    let change = changes(&shard, &id, 0).into_iter().find(|c| !c.added.is_empty() && !c.ended.is_empty()).unwrap();
    let base = digest::next(&digest::empty(&id), change.version, &change.added, &change.ended);
    let with = |spoil: fn(&mut SetChange)| {
        let mut change = change.clone();
        spoil(&mut change);
        digest::next(&digest::empty(&id), change.version, &change.added, &change.ended)
    };
    let others = [
        digest::next(&digest::empty(&account(2)), change.version, &change.added, &change.ended),
        with(|c| c.version += 1),
        with(|c| c.added.clear()),
        with(|c| c.added[0].id = nobody(1)),
        with(|c| c.added[0].seq += 1),
        with(|c| c.added[0].device_key = key(99)),
        with(|c| c.ended.clear()),
        with(|c| c.ended[0].session.id = nobody(1)),
        with(|c| c.ended[0].session.seq += 1),
        with(|c| c.ended[0].reason = EndReason::AdminRevoked),
    ];
    for (n, other) in others.iter().enumerate() {
        assert!(*other != base && !others[..n].contains(other), "{n}");
    }
}

#[test]
fn changes_that_are_no_longer_kept_are_not_half_told() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    shard.unwatched();
    for _ in 0..=CHANGES_KEPT / 2 {
        let session = shard.linked(&id, &primary, 10).id;
        shard.ask(proven(&shard.account(&id), &primary), Command::Unlink { account: id.clone(), session }).unwrap();
    }
    let version = shard.account(&id).set_version;
    let oldest = version - CHANGES_KEPT;
    assert_eq!(changes(&shard, &id, oldest).len(), usize::try_from(CHANGES_KEPT).unwrap());
    assert_eq!(changes(&shard, &id, oldest - 1), [], "a snapshot is due");
    assert_eq!(changes(&shard, &id, version - 1).len(), 1);
}

#[test]
fn a_version_from_the_future_has_no_changes_after_it() {
    let (shard, id, _) = lived();
    let version = shard.account(&id).set_version;
    for from in [version, version + 1, u64::MAX - 1, u64::MAX] {
        assert_eq!(changes(&shard, &id, from), []);
    }
}

#[test]
fn what_is_not_here_is_answered_with_nothing() {
    let shard = Shard::default();
    let ticket = TicketId([1; 16]);
    assert_eq!(ask(&shard, &Query::Account(account(1))), Answer::Account(None));
    assert_eq!(ask(&shard, &Query::Directory(account(1))), Answer::Directory(None));
    assert_eq!(ask(&shard, &Query::Outcome(account(1), ticket)), Answer::Outcome(None));
    assert_eq!(ask(&shard, &Query::Ticket(ticket)), Answer::Ticket(None));
    let changes = Answer::Changes { account: None, changes: Vec::new() };
    assert_eq!(ask(&shard, &Query::Changes(account(1), 0)), changes);
}

fn ticket(shard: &Shard, id: TicketId) -> TicketAnswer {
    match ask(shard, &Query::Ticket(id)) {
        Answer::Ticket(Some(answer)) => *answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn refs_rotate_after_a_minute_and_then_every_twenty_seconds() {
    let id = ticket_id(50, 1);
    for (age_ms, window, left_ms) in [
        (0, 0u16, REF_WINDOW_FIRST_MS),
        (1, 0, REF_WINDOW_FIRST_MS - 1),
        (REF_WINDOW_FIRST_MS - 1, 0, 1),
        (REF_WINDOW_FIRST_MS, 1, REF_WINDOW_MS),
        (REF_WINDOW_FIRST_MS + REF_WINDOW_MS - 1, 1, 1),
        (REF_WINDOW_FIRST_MS + REF_WINDOW_MS, 2, REF_WINDOW_MS),
        (150_000, 5, 10_000),
        (QR_TICKET_TTL_MS, 6, 0),
        (QR_TICKET_TTL_MS + 24 * HOUR_MS, 4326, 0),
    ] {
        let mut shard = Shard::default();
        shard.sleep(12_345);
        shard.run(open(50, 1)).unwrap();
        shard.sleep(age_ms);
        let answer = ticket(&shard, id);
        assert_eq!(answer.reference, TICKET_KEY.reference(&id, window), "after {age_ms} ms");
        assert_eq!(answer.reference_ttl_ms, left_ms, "after {age_ms} ms");
        assert_eq!(answer.ticket_ttl_ms, QR_TICKET_TTL_MS.saturating_sub(age_ms));
        assert_eq!(answer.watch_secret, TICKET_KEY.watch_secret(&id));
    }
}

#[test]
fn a_replica_that_is_behind_or_far_ahead_in_time_still_answers() {
    let mut shard = Shard::default();
    shard.sleep(HOUR_MS);
    shard.run(open(50, 1)).unwrap();
    for now_ms in [0, u64::MAX] {
        let answer = answer(&shard.memory, Some(&TICKET_KEY), now_ms, &Query::Ticket(ticket_id(50, 1))).unwrap();
        assert!(matches!(answer, Answer::Ticket(Some(_))));
    }
}

#[test]
fn a_replica_without_the_regions_key_shows_neither_ref_nor_secret() {
    let mut shard = Shard::default();
    shard.run(open(50, 1)).unwrap();
    let Answer::Ticket(Some(answer)) = answer(&shard.memory, None, 0, &Query::Ticket(ticket_id(50, 1))).unwrap() else {
        panic!("the ticket is here")
    };
    assert_eq!((answer.reference.len(), answer.watch_secret.0), (0, [0; 32]));
}

#[test]
fn every_slot_of_every_region_has_exactly_one_owner() {
    let regions: Vec<String> = ["east", "west", "north"].map(str::to_owned).into();
    for per_region in [1, 2, 3, 7, 100, 1_024] {
        let map = ShardMap::fixed(&regions, per_region);
        let all = map.shards();
        let mut ids: Vec<_> = all.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1 + 3 * usize::try_from(per_region).unwrap(), "no id twice: {per_region}");
        for region in 0..3 {
            let region = RegionIndex(region);
            let owners: Vec<ShardId> = (0..Slot::COUNT).map(|s| map.slot(region, Slot(s)).unwrap()).collect();
            assert!(owners.is_sorted(), "ranges");
            let used = owners.windows(2).filter(|w| w[0] != w[1]).count() + 1;
            assert_eq!(used, usize::try_from(per_region).unwrap(), "every shard has slots");
            assert!(owners.iter().all(|owner| all.contains(&(*owner, Some(region)))));
        }
        assert_eq!(map.slot(REGION, Slot(Slot::COUNT)), None);
        assert_eq!(map.slot(RegionIndex(3), Slot(0)), None);
    }
}

#[test]
fn tickets_and_accounts_are_found_where_their_ids_say() {
    let map = ShardMap::fixed(&["east".to_owned(), "west".to_owned()], 4);
    assert_eq!(map.region("west"), Some(RegionIndex(1)));
    assert_eq!(map.region("south"), None);
    let ticket = TicketId::compose(RegionIndex(1), Slot(1023), &key(1), &support::request(1));
    assert_eq!((ticket.region(), ticket.slot()), (RegionIndex(1), Slot(1023)));
    assert_eq!(map.ticket(&ticket), Some(ShardId(203)));
    // An id from outside may say anything.
    assert_eq!(map.ticket(&TicketId([0xFF; 16])), None);
    let mut beyond = ticket;
    beyond.0[2..4].copy_from_slice(&Slot::COUNT.to_be_bytes());
    assert_eq!(map.ticket(&beyond), None);
    let ann = account(1);
    assert_eq!(map.account(RegionIndex(1), &ann), map.slot(RegionIndex(1), Slot::of(ann.as_bytes())));
    assert_eq!(map.directory(&ann), Some(ShardId(1)));
    assert!((0..200u8).all(|n| Slot::of(&[n]).0 < Slot::COUNT));
}

/// The checks that stop a replica, each on a change that they must not let pass.
#[test]
fn a_broken_change_is_recognised() {
    let (shard, id, primary) = lived();
    let after = shard.account(&id);
    let change = changes(&shard, &id, after.set_version - 1).remove(0);
    let before = Account {
        sessions: vec![primary],
        set_version: after.set_version - 1,
        set_digest: changes(&shard, &id, after.set_version - 2)[0].digest,
        next_session_seq: after.next_session_seq - 1,
        ..after.clone()
    };
    assert_eq!(check_change(&before, &after, &change), Ok(()));
    type Spoil = fn(&mut Account, &mut SetChange);
    let spoils: [(&str, Spoil); 15] = [
        ("I1", |a, _| a.sessions[0].device.platform = "changed".into()),
        ("I1", |_, c| c.added.clear()),
        ("I1", |a, _| drop(a.sessions.pop())),
        ("I1", |_, c| c.added.push(c.added[0].clone())),
        ("I2", |a, _| drop(a.sessions.remove(0))),
        ("I4", |a, c| {
            a.sessions[1].seq = 1;
            c.added[0].seq = 1;
        }),
        ("I4", |a, _| a.next_session_seq -= 1),
        ("I4", |a, _| a.next_session_seq = 0),
        ("I4", |a, _| a.sessions.push(a.sessions[0].clone())),
        ("I5", |a, _| a.set_version += 1),
        ("I5", |_, c| c.version += 1),
        ("I5", |a, _| a.set_digest.0[0] ^= 1),
        ("I5", |_, c| c.digest.0[0] ^= 1),
        ("I8", |a, _| a.companion_limit = 0),
        ("I22", |a, _| a.auth_epoch -= 1),
    ];
    for (n, (law, spoil)) in spoils.into_iter().enumerate() {
        let (mut after, mut change) = (after.clone(), change.clone());
        spoil(&mut after, &mut change);
        let broken = check_change(&before, &after, &change).unwrap_err();
        assert!(broken.contains(law), "{n}: {broken}");
    }
    let mut twice = after.clone();
    twice.sessions[1].device_key = twice.sessions[0].device_key;
    let mut same_key = change;
    same_key.added[0].device_key = twice.sessions[0].device_key;
    same_key.digest = digest::next(&before.set_digest, twice.set_version, &same_key.added, &[]);
    twice.set_digest = same_key.digest;
    assert!(check_change(&before, &twice, &same_key).unwrap_err().contains("I6"));
}

#[test]
fn a_departure_without_or_with_a_wrong_tombstone_is_recognised() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let session = shard.linked(&id, &primary, 10);
    let before = shard.account(&id);
    shard.ask(Proven::Operator("ops".into()), Command::Unlink { account: id.clone(), session: session.id }).unwrap();
    let (after, change) = (shard.account(&id), changes(&shard, &id, 2).remove(0));
    assert_eq!(check_change(&before, &after, &change), Ok(()));
    type Spoil = fn(&mut Account, &mut SetChange);
    let spoils: [(&str, Spoil); 4] = [
        ("I2", |_, c| c.ended.clear()),
        ("I3", |_, c| c.ended[0].session.seq = 9),
        ("I3", |_, c| c.ended.push(c.ended[0].clone())),
        ("I3", |a, c| a.sessions.push(c.ended[0].session.clone())),
    ];
    for (law, spoil) in spoils {
        let (mut after, mut change) = (after.clone(), change.clone());
        spoil(&mut after, &mut change);
        let broken = check_change(&before, &after, &change).unwrap_err();
        assert!(broken.contains(law), "{broken}");
    }
    assert!(after.sessions.iter().all(|s| s.role == Role::Primary));
}
