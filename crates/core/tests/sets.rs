//! Session sets: who may do what to whom, as a table, and the stories behind the rules.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_core::canonical::sha256;
use kindred_core::command::{Aggregate, Command, Decision, Effect, Outcome, Proven, Reply};
use kindred_core::id::{AccountId, RegionIndex, SessionId};
use kindred_core::limits;
use kindred_core::model::{
    Actor, Approval, ApprovalKind, Device, EndReason, Receipt, Rejection, Role, Session, TicketOutcome, TicketState,
};
use kindred_core::state::{Key, Record, View as _};
use support::*;

/// An account with a primary, two companions past their quarantine and two within it.
struct Family {
    shard: Shard,
    id: AccountId,
    primary: Session,
    old: [Session; 2],
    young: [Session; 2],
    stranger: (AccountId, Session),
}

fn family() -> Family {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let stranger = shard.registered(2);
    let old = [10, 11].map(|n| shard.linked(&id, &primary, n));
    shard.grow_up();
    let young = [12, 13].map(|n| shard.linked(&id, &primary, n));
    Family { shard, id, primary, old, young, stranger }
}

impl Family {
    fn session(&self, name: &str) -> Session {
        match name {
            "primary" => self.primary.clone(),
            "old" => self.old[0].clone(),
            "other old" => self.old[1].clone(),
            "young" => self.young[0].clone(),
            "other young" => self.young[1].clone(),
            "stranger" => self.stranger.1.clone(),
            _ => panic!("nobody is called {name}"),
        }
    }

    fn proven(&self, who: &str) -> Proven {
        match who {
            "operator" => Proven::Operator("ops".into()),
            "cluster" => Proven::Cluster,
            "key" => Proven::Key(self.primary.device_key),
            name => proven(&self.shard.account(&self.id), &self.session(name)),
        }
    }

    fn unlink(&mut self, who: &str, target: &str) -> Reply {
        let (by, session) = (self.proven(who), self.session(target).id);
        self.shard.ask(by, Command::Unlink { account: self.id.clone(), session })
    }

    fn others_command(&self, keep: &Session) -> Command {
        let set_version = self.shard.account(&self.id).set_version;
        Command::UnlinkOthers { account: self.id.clone(), keep: keep.id, set_version }
    }

    fn live(&self) -> Vec<SessionId> {
        self.shard.account(&self.id).sessions.iter().map(|s| s.id).collect()
    }
}

#[test]
fn who_may_end_whom_is_what_the_table_says() {
    let allowed = |reason: EndReason| format!("{reason:?}");
    let (by_primary, by_sibling) =
        (allowed(EndReason::UserUnlinkedFromPrimary), allowed(EndReason::UserUnlinkedFromSibling));
    let (logout, admin) = (allowed(EndReason::SelfLogout), allowed(EndReason::AdminRevoked));
    let (no, young, invalid) =
        ("CallerNotAllowed".to_owned(), "QuarantinedActor".to_owned(), "ProofInvalid".to_owned());
    let unknown = "SessionUnknown".to_owned();
    let targets = ["primary", "old", "other old", "young", "other young", "stranger"];
    let table = [
        ("primary", [&no, &by_primary, &by_primary, &by_primary, &by_primary, &unknown]),
        ("old", [&no, &logout, &by_sibling, &by_sibling, &by_sibling, &unknown]),
        ("young", [&no, &young, &young, &logout, &young, &unknown]),
        ("operator", [&admin, &admin, &admin, &admin, &admin, &unknown]),
        ("stranger", [&invalid; 6]),
        ("cluster", [&invalid; 6]),
        ("key", [&invalid; 6]),
    ];
    for (who, row) in table {
        for (target, expected) in targets.iter().zip(row) {
            let mut family = family();
            let before = family.live();
            let reply = family.unlink(who, target);
            let said = match &reply {
                Ok(_) => format!("{:?}", reason(&reply)),
                Err(rejection) => rejection_name(rejection),
            };
            assert_eq!(&said, expected, "{who} ends {target}");
            let gone: Vec<_> = before.into_iter().filter(|id| !family.live().contains(id)).collect();
            let named = family.session(target).id;
            assert_eq!(gone, if reply.is_ok() { vec![named] } else { vec![] }, "{who} ends {target}");
        }
    }
}

#[test]
fn who_may_replace_whom_is_what_the_table_says() {
    let targets = ["primary", "old", "other old", "young", "other young", "stranger"];
    let (yes, no, young, unknown) = ("linked", "CallerNotAllowed", "QuarantinedActor", "SessionUnknown");
    let table = [
        ("primary", [no, yes, yes, yes, yes, unknown]),
        ("old", [no, yes, yes, yes, yes, unknown]),
        // Itself is what a young session may end, so itself it may replace.
        ("young", [no, young, young, yes, young, unknown]),
        ("stranger", ["ApprovalInvalid"; 6]),
    ];
    for (who, row) in table {
        for (target, expected) in targets.iter().zip(row) {
            let mut family = family();
            let (id, approver, victim) = (family.id.clone(), family.session(who), family.session(target).id);
            let before = family.live();
            let reply = family.shard.link(&id, &approver, 50, ApprovalKind::LinkReplacing(victim));
            let said = match &reply {
                Ok(Outcome::Decided(TicketOutcome::Linked(_))) => "linked".to_owned(),
                Ok(Outcome::Decided(TicketOutcome::Refused(reason))) => rejection_name(reason),
                other => panic!("{other:?}"),
            };
            assert_eq!(said, expected, "{who} replaces {target}");
            if expected != yes {
                assert_eq!(family.live(), before);
                continue;
            }
            let tombstone = family.shard.tombstone(&id, &victim).unwrap();
            assert_eq!(tombstone.reason, EndReason::ReplacedByLink);
            assert_eq!(tombstone.actor, Actor::Session(approver.id));
            let receipt = receipt(&reply);
            assert_eq!(receipt.version_after, receipt.version_before + 1, "one change, not two");
            assert_eq!((receipt.sessions_before, receipt.sessions_after.clone()), (before.clone(), family.live()));
            assert_eq!(family.live().len(), before.len());
        }
    }
}

#[test]
fn who_may_sign_out_all_others_is_what_the_table_says() {
    for (who, expected) in [
        ("primary", "ended 4"),
        ("old", "ended 3"),
        ("young", "QuarantinedActor"),
        ("operator", "ended 4"),
        ("stranger", "ProofInvalid"),
        ("cluster", "ProofInvalid"),
    ] {
        let mut family = family();
        let keep = if matches!(who, "old" | "young") { family.session(who) } else { family.primary.clone() };
        let command = family.others_command(&keep);
        let by = family.proven(who);
        let before = family.shard.account(&family.id);
        let said = match family.shard.ask(by, command) {
            Ok(Outcome::EndedOthers { tombstones, auth_epoch, .. }) => {
                assert_eq!(auth_epoch, before.auth_epoch + 1);
                assert!(tombstones.iter().all(|t| t.reason == EndReason::LogoutOthers));
                format!("ended {}", tombstones.len())
            }
            Ok(other) => panic!("{other:?}"),
            Err(rejection) => rejection_name(&rejection),
        };
        assert_eq!(said, expected, "{who}");
        assert!(family.live().contains(&family.primary.id), "a primary is ended by its name or not at all");
    }
}

#[test]
fn only_the_primary_and_operators_change_the_limit() {
    for (who, expected) in [
        ("primary", "done"),
        ("operator", "done"),
        ("old", "CallerNotAllowed"),
        ("young", "CallerNotAllowed"),
        ("stranger", "ProofInvalid"),
        ("key", "ProofInvalid"),
    ] {
        let mut family = family();
        let by = family.proven(who);
        let reply = family.shard.ask(by, Command::SetLimit { account: family.id.clone(), limit: 9 });
        assert_eq!(answer(&reply), expected, "{who}");
    }
    for (limit, fits) in [(0, false), (1, true), (64, true), (65, false)] {
        let mut family = family();
        let by = family.proven("primary");
        let reply = family.shard.ask(by, Command::SetLimit { account: family.id.clone(), limit });
        assert_eq!(reply.is_ok(), fits, "{limit}");
    }
}

#[test]
fn a_limit_below_what_is_linked_ends_nobody_and_lets_nobody_in() {
    let mut family = family();
    let (before, by) = (family.live(), family.proven("primary"));
    family.shard.ask(by, Command::SetLimit { account: family.id.clone(), limit: 2 }).unwrap();
    assert_eq!(family.live(), before);
    let full = |now| refused(Rejection::CompanionLimitReached { now, max: 2 });
    let (id, primary, victim) = (family.id.clone(), family.primary.clone(), family.old[0].id);
    assert_eq!(family.shard.link(&id, &primary, 50, ApprovalKind::Link), full(4));
    assert_eq!(family.shard.link(&id, &primary, 51, ApprovalKind::LinkReplacing(victim)), full(3));
    assert_eq!(family.live(), before);
}

#[test]
fn at_the_limit_a_link_is_refused_and_nobody_leaves() {
    let mut family = family();
    let (id, primary, before) = (family.id.clone(), family.primary.clone(), family.shard.account(&family.id));
    let reply = family.shard.link(&id, &primary, 50, ApprovalKind::Link);
    assert_eq!(reply, refused(Rejection::CompanionLimitReached { now: 4, max: 4 }));
    assert_eq!(family.shard.account(&id), before);
}

#[test]
fn two_links_in_one_entry_share_what_room_is_left() {
    let mut family = family();
    family.unlink("primary", "old").unwrap();
    let account = family.shard.account(&family.id);
    let link = |n: u8| {
        let ticket = ticket_id(n, u64::from(n));
        envelope(
            request(u64::from(n)),
            Proven::Cluster,
            link(ticket, n, approval(&account, &family.primary, &ticket, n)),
        )
    };
    let replies = family.shard.entry(0, vec![link(50), link(51), link(50)]);
    assert_eq!(replies[1].0, refused(Rejection::CompanionLimitReached { now: 4, max: 4 }));
    assert_eq!(replies[0].0, replies[2].0, "the first one again is the same session, not another refusal");
    assert_eq!(family.shard.account(&family.id).sessions.len(), 5);
}

#[test]
fn two_links_in_one_entry_each_keep_the_other() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let account = shard.account(&id);
    let link = |n: u8| {
        let ticket = ticket_id(n, u64::from(n));
        envelope(request(u64::from(n)), Proven::Cluster, link(ticket, n, approval(&account, &primary, &ticket, n)))
    };
    let replies = shard.entry(0, vec![link(50), link(51)]);
    let (first, second) = (receipt(&replies[0].0), receipt(&replies[1].0));
    assert_eq!(second.sessions_after, [primary.id, first.session, second.session]);
    assert_eq!(shard.account(&id).sessions.iter().map(|s| s.id).collect::<Vec<_>>(), second.sessions_after);
}

#[test]
fn a_repeated_link_gets_the_same_session_even_after_that_has_ended() {
    let mut family = family();
    family.unlink("primary", "old").unwrap();
    let (account, ticket) = (family.shard.account(&family.id), ticket_id(50, 1));
    let command = link(ticket, 50, approval(&account, &family.primary, &ticket, 50));
    let first = family.shard.by_cluster(command.clone());
    assert_eq!(family.shard.by_cluster(command.clone()), first);
    let session = receipt(&first).session;
    let by = family.proven("primary");
    family.shard.ask(by, Command::Unlink { account: family.id.clone(), session }).unwrap();
    assert_eq!(family.shard.by_cluster(command), first, "decided once; it brings nobody back");
    assert!(!family.live().contains(&session));
}

#[test]
fn a_refused_ticket_stays_refused_when_there_is_room_again() {
    let mut family = family();
    let (account, ticket) = (family.shard.account(&family.id), ticket_id(50, 1));
    let command = link(ticket, 50, approval(&account, &family.primary, &ticket, 50));
    let first = family.shard.by_cluster(command.clone());
    family.unlink("primary", "old").unwrap();
    assert_eq!(family.shard.by_cluster(command), first);
    let decide = |decision| Command::DecideTicket { account: account.id.clone(), ticket, decision };
    assert_eq!(family.shard.by_cluster(decide(Decision::Cancelled)), first);
    assert_eq!(family.shard.by_cluster(decide(Decision::Expired)), first);
}

#[test]
fn a_link_needs_an_approval_that_covers_it_by_a_live_session_under_the_present_epoch() {
    type Spoil = fn(&mut Approval, &Family);
    let spoil: [(&str, Spoil, Rejection); 6] = [
        ("ticket", |a, _| a.ticket = ticket_id(50, 2), Rejection::ApprovalInvalid),
        ("key", |a, _| a.device_key_hash = sha256(&[key(51).as_bytes()]), Rejection::ApprovalInvalid),
        ("nobody", |a, _| a.approver = nobody(1), Rejection::ApprovalInvalid),
        ("a stranger", |a, f| a.approver = f.stranger.1.id, Rejection::ApprovalInvalid),
        ("an older epoch", |a, _| a.auth_epoch -= 1, Rejection::EpochChanged { auth_epoch: 1 }),
        ("a later epoch", |a, _| a.auth_epoch += 1, Rejection::EpochChanged { auth_epoch: 1 }),
    ];
    for (what, spoil, expected) in spoil {
        let mut family = family();
        family.unlink("primary", "old").unwrap();
        let (account, ticket) = (family.shard.account(&family.id), ticket_id(50, 1));
        let mut approval = approval(&account, &family.primary, &ticket, 50);
        spoil(&mut approval, &family);
        assert_eq!(family.shard.by_cluster(link(ticket, 50, approval)), refused(expected), "{what}");
        assert_eq!(family.shard.account(&family.id), account, "{what}");
    }
}

#[test]
fn an_approver_that_was_ended_in_between_links_nobody() {
    let mut family = family();
    let (account, ticket, old) = (family.shard.account(&family.id), ticket_id(50, 1), family.old[0].clone());
    let command = link(ticket, 50, approval(&account, &old, &ticket, 50));
    family.unlink("primary", "old").unwrap();
    assert_eq!(family.shard.by_cluster(command), refused(Rejection::ApprovalInvalid));
}

#[test]
fn a_link_approved_before_all_others_were_signed_out_never_lands_after_it() {
    let mut family = family();
    let (account, ticket) = (family.shard.account(&family.id), ticket_id(50, 1));
    let command = link(ticket, 50, approval(&account, &family.primary, &ticket, 50));
    let (by, others) = (family.proven("primary"), family.others_command(&family.primary));
    // In the same entry, even.
    let entry = vec![envelope(request(1), by, others), envelope(request(2), Proven::Cluster, command)];
    let replies = family.shard.entry(0, entry);
    assert_eq!(replies[1].0, refused(Rejection::EpochChanged { auth_epoch: 2 }));
    assert_eq!(family.live(), [family.primary.id]);
}

#[test]
fn signing_out_all_others_closes_doors_even_when_there_are_no_others() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let before = shard.account(&id);
    let others = Command::UnlinkOthers { account: id.clone(), keep: primary.id, set_version: before.set_version };
    shard.ask(proven(&before, &primary), others).unwrap();
    let after = shard.account(&id);
    assert_eq!((after.auth_epoch, after.set_version), (before.auth_epoch + 1, before.set_version));
}

#[test]
fn signing_out_all_others_ends_exactly_those_of_the_version_that_it_names() {
    let mut family = family();
    let (by, others) = (family.proven("primary"), family.others_command(&family.primary));
    family.unlink("primary", "old").unwrap();
    let current = family.shard.account(&family.id).set_version;
    let before = family.live();
    assert_eq!(family.shard.ask(by, others), Err(Rejection::SetVersionConflict { current }));
    assert_eq!(family.live(), before);
    // Keeping somebody else would end the caller by a name that it did not say.
    let (by, others) = (family.proven("other old"), family.others_command(&family.primary));
    assert_eq!(family.shard.ask(by, others), Err(Rejection::CallerNotAllowed));
    let (by, others) = (family.proven("operator"), family.others_command(&family.old[0]));
    assert_eq!(family.shard.ask(by, others), Err(Rejection::SessionUnknown), "it has ended");
}

#[test]
fn a_proof_under_an_old_epoch_moves_nothing() {
    let mut family = family();
    let (by, others) = (family.proven("primary"), family.others_command(&family.primary));
    let stale = family.proven("primary");
    family.shard.ask(by, others).unwrap();
    let expected = Err(Rejection::EpochChanged { auth_epoch: 2 });
    let unlink = Command::Unlink { account: family.id.clone(), session: family.primary.id };
    assert_eq!(family.shard.ask(stale.clone(), unlink), expected);
    assert_eq!(family.shard.ask(stale, Command::SetLimit { account: family.id.clone(), limit: 9 }), expected);
}

#[test]
fn an_ended_session_is_told_of_its_own_end_and_a_wrong_key_of_nothing() {
    let mut family = family();
    let ended = ended(&family.unlink("primary", "old"));
    let told = family.unlink("old", "other old");
    assert_eq!(told, Err(Rejection::SessionEnded(Box::new(ended))));
    let Proven::Session { session, auth_epoch, .. } = family.proven("old") else { panic!() };
    let forged = Proven::Session { session, key: key(99), auth_epoch };
    let unlink = Command::Unlink { account: family.id.clone(), session: family.old[1].id };
    assert_eq!(family.shard.ask(forged, unlink), Err(Rejection::ProofInvalid));
}

#[test]
fn ending_what_has_ended_shows_the_first_tombstone_and_changes_nothing() {
    let mut family = family();
    let first = ended(&family.unlink("primary", "old"));
    let before = family.shard.account(&family.id);
    assert_eq!(ended(&family.unlink("other old", "old")), first);
    assert_eq!(family.shard.account(&family.id), before);
}

#[test]
fn a_device_that_comes_back_gets_a_new_session_and_an_old_unlink_does_not_reach_it() {
    let mut family = family();
    let (id, primary, first) = (family.id.clone(), family.primary.clone(), family.old[0].clone());
    let unlink =
        envelope(request(1), family.proven("primary"), Command::Unlink { account: id.clone(), session: first.id });
    family.shard.run(unlink.clone()).unwrap();
    let again = family.shard.linked(&id, &primary, 10);
    assert_eq!(again.device_key, first.device_key);
    assert!(again.id != first.id && again.seq > family.young[1].seq);
    family.shard.run(unlink).unwrap();
    assert!(family.live().contains(&again.id));
}

#[test]
fn a_device_has_at_most_one_session_in_an_account() {
    let mut family = family();
    family.unlink("primary", "old").unwrap();
    let (id, primary, other) = (family.id.clone(), family.primary.clone(), family.old[1].clone());
    for (n, session) in [(11, other.id), (1, primary.id)] {
        let reply = family.shard.link(&id, &primary, n, ApprovalKind::Link);
        assert_eq!(reply, refused(Rejection::DeviceKeyAlreadyLinked { session }));
    }
    // Its own successor it may be.
    let reply = family.shard.link(&id, &primary, 11, ApprovalKind::LinkReplacing(other.id));
    assert_eq!(receipt(&reply).sessions_after.len(), 4);
}

#[test]
fn a_link_writes_down_how_it_came_about_and_leaves_siblings_byte_for_byte() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    shard.sleep(1_000);
    let first = shard.linked(&id, &primary, 10);
    assert_eq!((first.role, first.seq, first.linked_by), (Role::Companion, 2, Some(primary.id)));
    assert!(first.ticket.is_some());
    assert_eq!((first.linked_at_ms, first.quarantine_until_ms), (1_000, 1_000 + limits::QUARANTINE_MS));
    assert_eq!((first.policy_version, first.key_generation, first.record_version), (3, 1, 1));
    let second = shard.linked(&id, &primary, 11);
    assert_eq!(shard.account(&id).sessions, [primary, first, second]);
}

/// A recovery that lost a tail gives the numbers of that tail again; only the entry's entropy keeps the ids apart (I4, I24).
#[test]
fn a_session_id_is_never_the_same_twice_even_when_its_number_is() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let mut recovered = shard.clone();
    recovered.index += 1;
    let (lost, found) = (shard.linked(&id, &primary, 10), recovered.linked(&id, &primary, 10));
    assert_eq!(lost.seq, found.seq);
    assert_ne!(lost.id, found.id);
}

#[test]
fn quarantine_ends_on_the_millisecond() {
    for (early_ms, expected) in [(1, "QuarantinedActor"), (0, "UserUnlinkedFromSibling")] {
        let mut family = family();
        family.shard.sleep(limits::QUARANTINE_MS - early_ms);
        let reply = family.unlink("young", "old");
        let said = reply.map_or_else(|r| rejection_name(&r), |o| format!("{:?}", reason(&Ok(o))));
        assert_eq!(said, expected);
    }
}

#[test]
fn the_same_request_id_is_answered_once_and_with_other_arguments_never() {
    let mut family = family();
    let by = family.proven("primary");
    let unlink = |session| envelope(request(1), by.clone(), Command::Unlink { account: family.id.clone(), session });
    let (first, other) = (unlink(family.old[0].id), unlink(family.old[1].id));
    let limit = envelope(request(1), by.clone(), Command::SetLimit { account: family.id.clone(), limit: 9 });
    let (reply, index) = family.shard.entry(0, vec![first.clone()]).remove(0);
    let replies = family.shard.entry(0, vec![first, other, limit]);
    assert_eq!(replies[0], (reply, index));
    assert_eq!(replies[1], (Err(Rejection::RequestIdReused), index));
    assert_eq!(replies[2], (Err(Rejection::RequestIdReused), index));
    assert_eq!(family.live().len(), 4);
}

#[test]
fn a_rejection_is_a_result_too_and_is_found_before_any_epoch() {
    let mut family = family();
    let account = family.id.clone();
    let too_young = envelope(
        request(1),
        family.proven("young"),
        Command::Unlink { account: account.clone(), session: family.old[0].id },
    );
    let refused = family.shard.run(too_young.clone());
    assert!(matches!(refused, Err(Rejection::QuarantinedActor { .. })));
    // Grown up, but the answer to that request stands until it is forgotten.
    family.shard.sleep(limits::RESULT_TTL_MS - 1);
    family.shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(family.shard.run(too_young), refused);

    let done = envelope(request(2), family.proven("primary"), Command::Unlink { account, session: family.old[0].id });
    let answer = family.shard.run(done.clone());
    let (by, others) = (family.proven("primary"), family.others_command(&family.primary));
    family.shard.ask(by, others).unwrap();
    assert_eq!(family.shard.run(done), answer, "its epoch is over, its answer is not");
}

#[test]
fn a_duplicate_within_one_entry_runs_once() {
    let mut family = family();
    let by = family.proven("primary");
    let others = envelope(request(1), by, family.others_command(&family.primary));
    let replies = family.shard.entry(0, vec![others.clone(), others]);
    assert_eq!(replies[0], replies[1]);
    assert_eq!(family.shard.account(&family.id).auth_epoch, 2);
}

#[test]
fn kept_answers_go_after_their_time_and_not_before() {
    let mut family = family();
    let kept = |key: &Key| matches!(key, Key::AccountReply(..) | Key::TicketReply(..));
    family.unlink("primary", "old").unwrap();
    family.shard.sleep(limits::RESULT_TTL_MS - 1);
    family.shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(family.shard.count(kept), 1, "those of the day before are gone, this one is not");
    family.shard.sleep(1);
    family.shard.by_cluster(Command::Tick).unwrap();
    assert_eq!(family.shard.count(kept), 0);
}

#[test]
fn nothing_is_left_behind_but_what_is_kept_for_ever() {
    let mut family = family();
    family.unlink("primary", "old").unwrap();
    let (by, others) = (family.proven("primary"), family.others_command(&family.primary));
    family.shard.ask(by, others).unwrap();
    family.shard.sleep(limits::OUTCOME_TTL_MS);
    family.shard.by_cluster(Command::Tick).unwrap();
    let items: Vec<_> = family.shard.memory.outbox(0, 1_000).unwrap().into_iter().map(|item| item.id).collect();
    family.shard.by_cluster(Command::AckEffects { effects: items }).unwrap();
    let kept =
        |key: &Key| matches!(key, Key::Shard | Key::Directory(_) | Key::Account(_) | Key::Stub(..) | Key::Change(..));
    assert_eq!(family.shard.count(|key| !kept(key)), 0, "{:?}", family.shard.memory.records.keys());
}

#[test]
fn only_the_latest_changes_are_kept() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    shard.unwatched();
    for _ in 0..limits::CHANGES_KEPT {
        let session = shard.linked(&id, &primary, 10);
        let by = proven(&shard.account(&id), &session);
        shard.ask(by, Command::Unlink { account: id.clone(), session: session.id }).unwrap();
    }
    let version = shard.account(&id).set_version;
    let versions = shard.memory.records.keys().filter_map(|key| match key {
        Key::Change(_, version) => Some(*version),
        _ => None,
    });
    assert_eq!(versions.collect::<Vec<_>>(), (version - limits::CHANGES_KEPT + 1..=version).collect::<Vec<_>>());
}

#[test]
fn an_account_is_registered_once_and_the_retry_gets_the_first_answer() {
    let mut shard = Shard::default();
    let command = envelope(request(1), Proven::Key(key(1)), register(&account(1), key(1)));
    let first = shard.run(command.clone());
    assert_eq!(shard.run(command), first);
    let other = envelope(request(2), Proven::Key(key(2)), register(&account(1), key(2)));
    assert_eq!(shard.run(other), Err(Rejection::AccountExists));
    let effects: Vec<_> = shard.memory.outbox(0, 9).unwrap().into_iter().map(|item| item.effect).collect();
    assert_eq!(effects, [Effect::ConfirmClaim { account: account(1), claim: claim(1), home_epoch: 1 }]);
}

#[test]
fn an_account_is_registered_only_at_its_home_by_its_own_key_and_within_bounds() {
    let mut shard = Shard::default();
    let id = account(1);
    let base =
        |home, device| Command::Register { account: id.clone(), claim: claim(1), home, device_key: key(1), device };
    let elsewhere = base(RegionIndex(7), Device::default());
    assert_eq!(shard.ask(Proven::Key(key(1)), elsewhere), Err(Rejection::InvalidRequest("home")));
    assert_eq!(shard.ask(Proven::Key(key(2)), base(REGION, Device::default())), Err(Rejection::ProofInvalid));
    let long = |n: usize| "x".repeat(n + 1);
    for (field, device) in [
        ("platform", Device { platform: long(limits::LABEL_BYTES_MAX), ..Device::default() }),
        ("app_version", Device { app_version: long(limits::LABEL_BYTES_MAX), ..Device::default() }),
        ("display_name", Device { display_name: vec![0; limits::DISPLAY_NAME_BYTES_MAX + 1], ..Device::default() }),
    ] {
        let reply = shard.ask(Proven::Key(key(1)), base(REGION, device));
        assert_eq!(reply, Err(Rejection::InvalidRequest(field)));
    }
    assert_eq!(shard.count(|key| matches!(key, Key::Account(_))), 0);
}

#[test]
fn the_first_claim_wins_and_only_it_is_confirmed() {
    let mut shard = Shard::default();
    let claiming = |n, home| Command::Claim { account: account(1), claim: claim(n), home: RegionIndex(home) };
    let confirm = |n| Command::ConfirmClaim { account: account(1), claim: claim(n), home_epoch: 1 };
    assert_eq!(shard.by_cluster(confirm(1)), Err(Rejection::AccountNotFound));
    let first = shard.by_cluster(claiming(1, 0));
    assert_eq!(shard.by_cluster(claiming(1, 5)), first, "the same claim finds the home that stands");
    assert_eq!(shard.by_cluster(claiming(2, 0)), Err(Rejection::AccountExists));
    assert_eq!(shard.by_cluster(confirm(2)), Err(Rejection::AccountExists));
    assert_eq!(shard.by_cluster(confirm(1)), Ok(Outcome::Done));
    let confirmed = shard.memory.get(&Key::Directory(account(1))).unwrap();
    assert_eq!(shard.by_cluster(confirm(1)), Ok(Outcome::Done));
    assert_eq!(shard.memory.get(&Key::Directory(account(1))).unwrap(), confirmed);
}

#[test]
fn what_is_not_here_is_refused_without_a_trace() {
    let mut family = family();
    let by = family.proven("primary");
    let nowhere = account(9);
    for command in [
        Command::Unlink { account: nowhere.clone(), session: nobody(1) },
        Command::UnlinkOthers { account: nowhere.clone(), keep: nobody(1), set_version: 0 },
        Command::SetLimit { account: nowhere.clone(), limit: 1 },
    ] {
        assert_eq!(family.shard.ask(by.clone(), command), Err(Rejection::AccountNotFound));
    }
    let ticket = ticket_id(50, 1);
    let approval =
        Approval { account: nowhere, ..approval(&family.shard.account(&family.id), &family.primary, &ticket, 50) };
    let reply = family.shard.by_cluster(link(ticket, 50, approval));
    assert_eq!(reply, refused(Rejection::AccountNotFound));
}

#[test]
fn shard_time_follows_elapsed_time_with_a_bound_on_every_step() {
    let mut shard = Shard::default();
    for (elapsed_ms, expected_ms) in [(0, 0), (700, 700), (u64::MAX, 700 + limits::SHARD_TIME_STEP_MS_MAX)] {
        shard.entry(elapsed_ms, Vec::new());
        assert_eq!(shard.now(), expected_ms);
    }
}

#[test]
fn watchers_are_told_of_what_changed_and_the_leader_of_its_effects() {
    let mut family = family();
    let touched = |shard: &Shard, command| {
        let entry = kindred_core::command::Entry {
            elapsed_ms: 0,
            wall_ms: 0,
            entropy: [1; 32],
            commands: vec![envelope(request(1), Proven::Cluster, command)],
        };
        let applied = kindred_core::apply::apply(&shard.memory, &entry, shard.index + 1, REGION).unwrap();
        (applied.touched, applied.effects)
    };
    family.unlink("primary", "old").unwrap();
    let ticket = ticket_id(50, 1);
    let command = link(ticket, 50, approval(&family.shard.account(&family.id), &family.primary, &ticket, 50));
    assert_eq!(touched(&family.shard, command), (vec![Aggregate::Account(family.id.clone())], true));
    assert_eq!(touched(&family.shard, Command::Tick), (vec![], false));
    family.shard.run(open(50, 1)).unwrap();
    family.shard.sleep(limits::QR_TICKET_TTL_MS);
    let expire = Command::Expire { tickets: vec![ticket] };
    assert_eq!(touched(&family.shard, expire), (vec![Aggregate::Ticket(ticket)], false));
}

#[test]
fn effects_are_numbered_once_and_stay_until_they_are_acknowledged() {
    let mut family = family();
    let ids =
        |shard: &Shard| -> Vec<u64> { shard.memory.outbox(0, 100).unwrap().into_iter().map(|item| item.id).collect() };
    let before = ids(&family.shard);
    assert_eq!(before, (0..6).collect::<Vec<_>>(), "two registrations and four links");
    family.shard.by_cluster(Command::AckEffects { effects: before }).unwrap();
    assert_eq!(ids(&family.shard), Vec::<u64>::new());
    family.unlink("primary", "old").unwrap();
    let (id, primary) = (family.id.clone(), family.primary.clone());
    family.shard.linked(&id, &primary, 50);
    assert_eq!(ids(&family.shard), [6], "no number comes twice");
    let item = family.shard.memory.outbox(0, 1).unwrap().remove(0);
    assert!(matches!(item.effect, Effect::Settle { outcome: TicketOutcome::Linked(Receipt { seq: 6, .. }), .. }));
}

/// Shared with nobody: a whole pairing from Open to LINKED over both shards' records.
#[test]
fn a_pairing_goes_from_open_to_linked_and_its_receipt_is_the_accounts() {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let (ticket, account) = (ticket_id(50, 1), shard.account(&id));
    shard.run(open(50, 1)).unwrap();
    shard.ask(proven(&account, &primary), Command::Scan { ticket, scan: scan(&account, &primary) }).unwrap();
    shard.ask(proven(&account, &primary), approve(ticket, approval(&account, &primary, &ticket, 50))).unwrap();
    let link = kindred_core::apply::link_of(&shard.ticket(&ticket)).unwrap();
    let receipt = receipt(&shard.run(link));
    let item = shard.memory.outbox(0, 9).unwrap().pop().unwrap();
    let Effect::Settle { ticket: settled, outcome } = item.effect else { panic!() };
    shard.by_cluster(Command::Settle { ticket: settled, outcome }).unwrap();
    let TicketState::Linked { account: linked, receipt: told, envelope } = shard.ticket(&ticket).state else {
        panic!()
    };
    assert_eq!((linked, told.clone(), envelope.as_slice()), (id.clone(), receipt, ENVELOPE));
    let account = shard.account(&id);
    assert_eq!((told.version_after, told.digest_after), (account.set_version, account.set_digest));
    assert_eq!(kindred_core::apply::link_of(&shard.ticket(&ticket)), None);
    let change = shard.memory.get(&Key::Change(id, 2)).unwrap();
    assert!(matches!(change, Some(Record::Change(change)) if change.log_index == told.log_index));
}
