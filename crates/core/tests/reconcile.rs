//! Views that are right, old, wrong, from the future or from another world, compared with the set.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_core::command::{Answer, Command, Proven, Query};
use kindred_core::digest;
use kindred_core::id::{AccountId, Digest, SessionId};
use kindred_core::limits::CHANGES_KEPT;
use kindred_core::model::{Account, ApprovalKind, Session};
use kindred_core::query::answer;
use kindred_core::reconcile::{Believed, Differences, Set, Standing, Verdict, omitted};
use proptest::prelude::*;
use support::*;

/// The set as it was at every version.
struct Past {
    shard: Shard,
    id: AccountId,
    primary: Session,
    /// By version; before the first change there was nothing.
    sets: Vec<(Digest, Vec<(SessionId, u64)>)>,
}

fn past() -> Past {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let sets = vec![(digest::empty(&id), vec![])];
    let mut past = Past { shard, id, primary, sets };
    past.note();
    past
}

impl Past {
    fn account(&self) -> Account {
        self.shard.account(&self.id)
    }

    fn note(&mut self) {
        let account = self.account();
        assert_eq!(account.set_version, self.sets.len() as u64);
        self.sets.push((account.set_digest, account.sessions.iter().map(|s| (s.id, s.seq)).collect()));
    }

    fn link(&mut self, n: u8) -> SessionId {
        let primary = self.primary.clone();
        let session = self.shard.linked(&self.id, &primary, n).id;
        self.note();
        session
    }

    fn replace(&mut self, victim: SessionId, n: u8) {
        receipt(&self.shard.link(&self.id, &self.primary.clone(), n, ApprovalKind::LinkReplacing(victim)));
        self.note();
    }

    fn unlink(&mut self, session: SessionId) {
        let command = Command::Unlink { account: self.id.clone(), session };
        self.shard.ask(Proven::Operator("ops".into()), command).unwrap();
        self.note();
    }

    fn by_digest(&self, version: u64) -> Believed {
        let set = Set::Digest(self.sets[usize::try_from(version).unwrap()].0);
        Believed { set_version: version, set }
    }

    fn by_list(&self, version: u64) -> Believed {
        let set = Set::Sessions(self.sets[usize::try_from(version).unwrap()].1.clone());
        Believed { set_version: version, set }
    }

    /// The verdict; the state is the same before and after.
    fn verdict(&self, believed: &Believed) -> Verdict {
        let before = self.shard.memory.clone();
        let query = Query::Reconcile(self.id.clone(), believed.clone());
        let Answer::Reconcile(Some(compared)) = answer(&self.shard.memory, None, 0, &query).unwrap() else {
            panic!("no answer");
        };
        assert_eq!(self.shard.memory, before);
        assert_eq!(compared.account, self.account());
        compared.verdict
    }

    fn differences(&self, believed: &Believed) -> Differences {
        match self.verdict(believed) {
            Verdict::Diverged(differences) => differences,
            other => panic!("{other:?}"),
        }
    }
}

/// Linked, replaced, ended.
fn eventful() -> (Past, SessionId) {
    let mut past = past();
    let first = past.link(10);
    let second = past.link(11);
    past.replace(first, 12);
    past.unlink(second);
    past.link(13);
    (past, second)
}

#[test]
fn every_view_that_was_once_right_is_in_sync_or_behind_by_exactly_what_came_since() {
    let (past, _) = eventful();
    let now = past.account().set_version;
    for version in 0..=now {
        for believed in [past.by_digest(version), past.by_list(version)] {
            match past.verdict(&believed) {
                Verdict::InSync => assert_eq!(version, now),
                Verdict::Behind { changes, ended, stubs } => {
                    assert!(stubs.is_empty(), "nothing is that old");
                    let versions: Vec<_> = changes.iter().map(|c| c.version).collect();
                    assert_eq!(versions, (version + 1..=now).collect::<Vec<_>>());
                    // Of a list, each session that has left is proved to have ended.
                    if let Set::Sessions(held) = &believed.set {
                        let live = &past.sets.last().unwrap().1;
                        let left = held.iter().filter(|s| !live.contains(s)).count();
                        assert_eq!(ended.len(), left);
                    }
                }
                Verdict::Diverged(differences) => panic!("{version}: {differences:?}"),
            }
        }
    }
}

#[test]
fn a_digest_that_never_was_is_met_with_the_first_that_differs() {
    let (past, _) = eventful();
    let now = past.account().set_version;
    for version in 0..now {
        let wrong = Believed { set_version: version, set: Set::Digest(Digest([9; 32])) };
        let at = usize::try_from(version + 1).unwrap();
        let expected = Differences { digest: Some((version + 1, past.sets[at].0)), ..Differences::default() };
        assert_eq!(past.differences(&wrong), expected);
    }
    for version in [now, now + 1, u64::MAX] {
        let wrong = Believed { set_version: version, set: Set::Digest(Digest([9; 32])) };
        assert_eq!(past.differences(&wrong).digest, Some((now, past.account().set_digest)));
    }
    // The right digest of a version that is not there yet.
    let ahead = Believed { set_version: now + 1, set: Set::Digest(past.account().set_digest) };
    assert!(past.differences(&ahead).digest.is_some());
}

#[test]
fn a_list_that_differs_is_told_what_differs_and_unknown_is_never_ended() {
    let (past, ended) = eventful();
    let now = past.account().set_version;
    let live = past.sets.last().unwrap().1.clone();
    let seq = past.shard.tombstone(&past.id, &ended).unwrap().session.seq;
    let mut held = live[1..].to_vec();
    held.extend([(ended, seq), (nobody(9), 77), (live[0].0, 55)]);
    let differences = past.differences(&Believed { set_version: now, set: Set::Sessions(held) });
    let told: Vec<_> = differences.unexpected.iter().map(|u| (u.session, u.standing.clone())).collect();
    let tombstone = Box::new(past.shard.tombstone(&past.id, &ended).unwrap());
    assert_eq!(told.len(), 3);
    assert!(told.contains(&(ended, Standing::Ended(tombstone))));
    assert!(told.contains(&(nobody(9), Standing::Unknown)));
    assert!(told.contains(&(live[0].0, Standing::OtherSeq(live[0].1))));
    assert_eq!(differences.missing, []);
    // A tombstone speaks for the number that it has, and for no other.
    let wrong_seq = Believed { set_version: now - 1, set: Set::Sessions(vec![(ended, seq + 1)]) };
    assert_eq!(past.differences(&wrong_seq).unexpected[0].standing, Standing::Unknown);
}

#[test]
fn a_list_with_a_session_too_few_has_diverged_at_its_own_version_and_names_it() {
    let (past, _) = eventful();
    let now = past.account().set_version;
    for (session, _) in past.sets.last().unwrap().1.clone() {
        let less: Vec<_> = past.sets.last().unwrap().1.iter().copied().filter(|(id, _)| *id != session).collect();
        let differences = past.differences(&Believed { set_version: now, set: Set::Sessions(less.clone()) });
        assert_eq!((differences.missing, differences.unexpected), (vec![session], vec![]));
        let account = past.account();
        assert_eq!(omitted(&account, &less).iter().map(|s| s.id).collect::<Vec<_>>(), [session]);
    }
    // An old list that lacked one even then.
    let mut early = past.sets[3].1.clone();
    early.pop();
    assert!(matches!(past.verdict(&Believed { set_version: 3, set: Set::Sessions(early) }), Verdict::Diverged(_)));
}

#[test]
fn a_session_under_another_number_counts_as_omitted() {
    let past = past();
    let account = past.account();
    let wrong = [(account.sessions[0].id, account.sessions[0].seq + 1)];
    assert_eq!(omitted(&account, &wrong).len(), 1);
}

#[test]
fn a_view_older_than_what_is_kept_gets_the_set_as_a_whole_and_tombstones_for_what_has_ended() {
    let mut past = past();
    past.shard.unwatched();
    let old = past.link(10);
    for _ in 0..CHANGES_KEPT / 2 {
        let next = past.link(11);
        past.unlink(next);
    }
    past.unlink(old);
    let now = past.account().set_version;
    let edge = now - CHANGES_KEPT;
    for version in [edge - 1, 2] {
        let verdict = past.verdict(&past.by_digest(version));
        assert_eq!(verdict, Verdict::Behind { changes: vec![], ended: vec![], stubs: vec![] });
        let Verdict::Behind { changes, ended, .. } = past.verdict(&past.by_list(version)) else { panic!() };
        let ids: Vec<_> = ended.iter().map(|t| t.session.id).collect();
        assert!(changes.is_empty() && ids.contains(&old));
    }
    let Verdict::Behind { changes, .. } = past.verdict(&past.by_digest(edge)) else { panic!() };
    assert_eq!(changes.len() as u64, CHANGES_KEPT);
    // The oldest that can be checked still is.
    let wrong = Believed { set_version: edge, set: Set::Digest(Digest([9; 32])) };
    assert!(past.differences(&wrong).digest.is_some());
    // What nobody ever had is never passed over for being old.
    let strange = Believed { set_version: 2, set: Set::Sessions(vec![(nobody(1), 2)]) };
    assert_eq!(past.differences(&strange).unexpected[0].standing, Standing::Unknown);
}

#[test]
fn an_account_that_is_not_here_has_no_view() {
    let query = Query::Reconcile(account(9), Believed { set_version: 0, set: Set::Sessions(vec![]) });
    assert_eq!(answer(&Shard::default().memory, None, 0, &query).unwrap(), Answer::Reconcile(None));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x7265_636f),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// IN_SYNC and BEHIND exactly where the view was the set of its version; so nobody is told to be right who is not.
    #[test]
    fn in_sync_or_behind_means_that_the_view_was_the_set(
        deeds in proptest::collection::vec((any::<u8>(), 0..3u8), 0..12),
        version in 0..14u64,
        taken in 0..14usize,
        dropped in proptest::option::of(any::<u8>()),
        renumbered in proptest::option::weighted(0.3, any::<u8>()),
    ) {
        let mut past = past();
        for (n, (pick, deed)) in (20..).zip(deeds) {
            let companions = past.sets.last().unwrap().1[1..].to_vec();
            match companions.get(usize::from(pick) % companions.len().max(1)) {
                Some((victim, _)) if deed == 1 => past.replace(*victim, n),
                Some((session, _)) if deed == 2 || companions.len() == 4 => past.unlink(*session),
                _ => _ = past.link(n),
            }
        }
        let mut held = past.sets[taken.min(past.sets.len() - 1)].1.clone();
        if let Some(at) = dropped.filter(|_| !held.is_empty()) {
            held.remove(usize::from(at) % held.len());
        }
        if let Some(at) = renumbered.filter(|_| !held.is_empty()) {
            let at = usize::from(at) % held.len();
            held[at].1 += 1;
        }
        let was = past.sets.get(usize::try_from(version).unwrap()).map(|(_, set)| set.clone());
        let verdict = past.verdict(&Believed { set_version: version, set: Set::Sessions(held.clone()) });
        prop_assert_eq!(!matches!(verdict, Verdict::Diverged(_)), was == Some(held));
    }
}

#[test]
fn a_session_that_ended_long_ago_is_told_as_ended_and_not_as_unknown() {
    let (mut past, ended) = eventful();
    past.shard.sleep(kindred_core::limits::TOMBSTONE_TTL_MS);
    for _ in 0..4 {
        past.shard.by_cluster(Command::Tick).unwrap();
    }
    let seq = past.shard.stub(&past.id, &ended).unwrap().seq;
    let held = Believed { set_version: past.account().set_version, set: Set::Sessions(vec![(ended, seq)]) };
    let standing = &past.differences(&held).unexpected[0].standing;
    assert!(matches!(standing, Standing::EndedBefore(stub) if stub.session == ended), "{standing:?}");
    let Verdict::Behind { stubs, .. } = past.verdict(&past.by_list(3)) else { panic!() };
    assert!(!stubs.is_empty());
}
