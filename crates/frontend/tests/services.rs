//! The services over `apply` in memory, called by the real client.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_client::{Error, Patience};
use kindred_core::model::{Device, Requester};
use kindred_wire::convert::raw;
use kindred_wire::pb::error::v1::Reason as PbReason;
use kindred_wire::pb::pairing::v1::cancel_ticket_reply::Outcome as Cancelled;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event;
use kindred_wire::pb::pairing::v1::watch_ticket_request::Access;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_wire::pb::session::v1::watch_account_reply::Event as AccountEvent;
use kindred_wire::pb::session::v1::why_signed_out_reply::Answer as Why;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;
use kindred_wire::pb::session::v1::{EndReason, Level, ValidateRequest};
use kindred_wire::reason::Reason;
use kindred_wire::shards::ShardError;
use kindred_wire::status::{metadata, tombstone};
use support::{Cluster, Strike};

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> Reason {
    answer.unwrap_err().reason().unwrap()
}

fn ask(member: &kindred_client::Member, level: Level) -> ValidateRequest {
    ValidateRequest {
        account: raw(member.account.as_bytes()),
        session: raw(member.session.as_bytes()),
        level: level.into(),
        ..ValidateRequest::default()
    }
}

fn send<T: Send>(value: T) -> T {
    value
}

#[tokio::test]
async fn three_companions_are_linked_from_three_regions_and_all_stay() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    assert_eq!(phone.home_region, "east");
    let mut members = vec![phone.clone()];
    for region in support::REGIONS {
        let (companion, receipt) = cluster.linked(region, &mut phone).await;
        assert_eq!(receipt.version_after, receipt.version_before + 1);
        assert_eq!(receipt.sessions_before, members.iter().map(|m| m.session).collect::<Vec<_>>());
        members.push(companion);
        assert_eq!(receipt.sessions_after, members.iter().map(|m| m.session).collect::<Vec<_>>());
    }
    let client = cluster.client(&["north"]);
    for member in &members {
        for level in [Level::Local, Level::Linearizable] {
            let reply = client.validate(ask(member, level)).await.unwrap();
            assert!(matches!(reply.verdict, Some(Verdict::Valid(_))), "{reply:?}");
            assert_eq!(reply.set_version, 4);
        }
    }
    let listed = client.sessions(&phone.account, "").await.unwrap();
    assert_eq!((listed.sessions.len(), listed.home_region.as_str()), (4, "east"));
    let account = client.account(&phone.account, "no such region").await.unwrap();
    assert_eq!((account.sessions, account.companions, account.companion_limit), (4, 3, 4));
    assert_eq!(account.set_digest, listed.set_digest);
}

#[tokio::test]
async fn a_watch_tells_every_step_and_only_the_device_key_opens_the_envelope() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "").await;
    let (client, device) = (cluster.client(&["east"]), cluster.device());
    let opened = client.open(&device, &Requester::default(), cluster.request()).await.unwrap();
    let qr = kindred_client::Qr::parse(&opened.qr_payload).unwrap();
    let ticket = qr.ticket().unwrap();
    let by_key = || Access::Proof(device.sign_watch(cluster.request(), &ticket));
    let mut signed = client.watch_ticket(&ticket, by_key());
    let mut secret = client.watch_ticket(&ticket, Access::WatchSecret(opened.watch_secret.clone()));

    let first = signed.next().await.unwrap().unwrap();
    assert!(matches!(first.event, Some(Event::Offered(offered)) if offered.qr_payload == opened.qr_payload));
    secret.next().await.unwrap().unwrap();
    cluster.advance(60_000);
    let second = signed.next().await.unwrap().unwrap();
    let Some(Event::Offered(offered)) = second.event else { panic!("{second:?}") };
    assert_ne!(offered.reference, opened.reference);
    assert_eq!(second.ticket_ttl_ms, 100_000);
    // The one before still counts: somebody scanned on the edge.
    client.scan(&mut phone, &qr.reference, cluster.request()).await.unwrap();
    assert!(matches!(signed.next().await.unwrap().unwrap().event, Some(Event::Scanned(_))));

    // Held where the account has decided and the ticket does not know it.
    cluster.groups.set_settles(false);
    let what = kindred_client::Approve { ticket, device_key: qr.device_key, replaces: None, envelope: vec![5; 9] };
    let receipt = client.approve(&phone, &what, cluster.request()).await.unwrap();
    assert!(matches!(signed.next().await.unwrap().unwrap().event, Some(Event::Approved(_))));
    cluster.groups.set_settles(true);
    for (watch, envelope) in [(&mut signed, vec![5; 9]), (&mut secret, vec![])] {
        let linked = loop {
            if let Some(Event::Linked(linked)) = watch.next().await.unwrap().unwrap().event {
                break linked;
            }
        };
        assert_eq!((linked.session.as_ref(), linked.envelope.to_vec()), (receipt.session.as_bytes(), envelope));
        assert_eq!(watch.next().await.unwrap(), None);
    }
    assert_eq!(
        *cluster.seen.0.lock().unwrap(),
        ["ticket.approved", "link.committed", "ticket.settled", "ticket.settled"]
    );

    for (access, reason) in [
        (Access::WatchSecret(raw(&[0; 32])), Reason::ProofInvalid),
        (Access::Proof(cluster.device().sign_watch(cluster.request(), &ticket)), Reason::ProofInvalid),
        (Access::Proof(device.sign_cancel(cluster.request(), &ticket)), Reason::ProofInvalid),
    ] {
        assert_eq!(refused(client.watch_ticket(&ticket, access).next().await), reason);
    }
}

#[tokio::test]
async fn an_approval_sent_again_through_another_node_gets_the_same_receipt() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (_, what) = cluster.scanned("north", &mut phone).await;
    let message = cluster.client(&["north"]).approval(&phone, &what, cluster.request());
    let mut receipts = Vec::new();
    for region in support::REGIONS {
        receipts.push(cluster.client(&[region]).send_approval(message.clone()).await.unwrap());
    }
    assert!(receipts.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(cluster.client(&["north"]).sessions(&phone.account, "west").await.unwrap().sessions.len(), 2);
    // The same id for something else is refused.
    let other = kindred_client::Approve { envelope: vec![1], ..what };
    let mut reused = cluster.client(&["north"]).approval(&phone, &other, cluster.request());
    reused.proof = Some(phone.sign_approve(
        kindred_core::id::RequestId::from_slice(&message.proof.unwrap().request_id).unwrap(),
        &kindred_wire::convert::approval_in(reused.approval.clone()).unwrap(),
    ));
    assert_eq!(refused(cluster.client(&["east"]).send_approval(reused).await), Reason::RequestIdReused);
}

#[tokio::test]
async fn a_link_whose_answer_is_lost_is_still_one_link() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (_, what) = cluster.scanned("north", &mut phone).await;
    let shard = cluster.groups.account_shard("west", &phone.account);
    let busy = ShardError::Overloaded { retry_after_ms: 20 };
    cluster.groups.fail_submits(
        shard,
        &[
            (Strike::Before, busy),
            (Strike::After, ShardError::OutcomeUnknown),
            (Strike::Before, ShardError::OutcomeUnknown),
        ],
    );
    let receipt = cluster.client(&["east"]).approve(&phone, &what, cluster.request()).await.unwrap();
    let listed = cluster.client(&["east"]).sessions(&phone.account, "").await.unwrap();
    assert_eq!((listed.sessions.len(), listed.set_version), (2, receipt.version_after));
}

#[tokio::test]
async fn a_link_that_nobody_answers_for_is_unknown_and_told_by_the_same_request_id() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (_, what) = cluster.scanned("north", &mut phone).await;
    let shard = cluster.groups.account_shard("west", &phone.account);
    cluster.groups.fail_submits(shard, &[(Strike::Before, ShardError::DiskFull); 10]);
    let client = cluster.client(&["east"]).with_patience(Patience { attempts: 1, ..Patience::default() });
    let message = client.approval(&phone, &what, cluster.request());
    assert_eq!(refused(client.send_approval(message.clone()).await), Reason::OutcomeUnknown);
    assert_eq!(client.send_approval(message).await.unwrap().sessions_after.len(), 2);
}

#[tokio::test]
async fn a_client_goes_on_through_another_node_when_one_dies() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let client = cluster.client(&["north", "east"]);
    let mut watch = client.watch_account(&phone.account, 0, "");
    assert!(matches!(watch.next().await.unwrap(), AccountEvent::Change(change) if change.version == 1));
    cluster.stop("north");
    let (_, receipt) = {
        let (device, what) = cluster.scanned("east", &mut phone).await;
        (device, send(client.approve(&phone, &what, cluster.request())).await.unwrap())
    };
    let AccountEvent::Change(change) = watch.next().await.unwrap() else { panic!("a gap") };
    assert_eq!((change.version, change.added[0].session.as_ref()), (2, receipt.session.as_bytes()));
}

#[tokio::test]
async fn no_room_is_shown_at_scan_and_refused_at_approve_and_nobody_is_evicted() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let client = cluster.client(&["north"]);
    client.set_limit(&phone, 1, cluster.request()).await.unwrap();
    let (first, _) = cluster.linked("north", &mut phone).await;
    let (device, what) = cluster.scanned("east", &mut phone).await;
    let error = client.approve(&phone, &what, cluster.request()).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CompanionLimitReached));
    assert_eq!((error.number("now"), error.number("max")), (Some(1), Some(1)));
    let mut watch =
        client.watch_ticket(&what.ticket, Access::Proof(device.sign_watch(cluster.request(), &what.ticket)));
    let event = watch.next().await.unwrap().unwrap().event;
    let Some(Event::Refused(refusal)) = event else { panic!("{event:?}") };
    assert_eq!((refusal.reason(), refusal.metadata["max"].as_str()), (PbReason::CompanionLimitReached, "1"));
    let reply = client.validate(ask(&first, Level::Linearizable)).await.unwrap();
    assert!(matches!(reply.verdict, Some(Verdict::Valid(_))));
    assert_eq!(refused(client.set_limit(&phone, 65, cluster.request()).await), Reason::InvalidRequest);
    assert_eq!(refused(client.set_limit(&first, 2, cluster.request()).await), Reason::CallerNotAllowed);
}

#[tokio::test]
async fn denied_cancelled_and_expired_tickets_say_so_to_both_sides() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let client = cluster.client(&["north"]);

    let (device, what) = cluster.scanned("east", &mut phone).await;
    let mut bob = cluster.register("bob", "east").await;
    client.deny(&phone, &what.ticket, cluster.request()).await.unwrap();
    assert_eq!(refused(client.approve(&phone, &what, cluster.request()).await), Reason::TicketDenied);
    let Some(Cancelled::Refused(refusal)) =
        client.cancel(&device, &what.ticket, cluster.request()).await.unwrap().outcome
    else {
        panic!("denied before")
    };
    assert_eq!(refusal.reason(), PbReason::TicketDenied);

    let (device, what) = cluster.scanned("east", &mut phone).await;
    let outcome = client.cancel(&device, &what.ticket, cluster.request()).await.unwrap().outcome;
    assert!(matches!(outcome, Some(Cancelled::Cancelled(_))));
    assert_eq!(refused(client.approve(&phone, &what, cluster.request()).await), Reason::TicketCancelled);

    let device = cluster.device();
    let opened = client.open(&device, &Requester::default(), cluster.request()).await.unwrap();
    client.scan(&mut phone, &opened.reference, cluster.request()).await.unwrap();
    assert_eq!(refused(client.scan(&mut bob, &opened.reference, cluster.request()).await), Reason::TicketAlreadyUsed);
    cluster.advance(160_000);
    assert_eq!(refused(client.scan(&mut phone, &opened.reference, cluster.request()).await), Reason::TicketExpired);
    assert_eq!(refused(client.scan(&mut phone, &[0; 34], cluster.request()).await), Reason::TicketNotFound);
    assert_eq!(refused(client.scan(&mut phone, &[0; 9], cluster.request()).await), Reason::InvalidRequest);
}

#[tokio::test]
async fn an_approved_ticket_is_cancelled_or_linked_but_never_both() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let client = cluster.client(&["north"]).with_patience(Patience { attempts: 1, ..Patience::default() });
    let shard = cluster.groups.account_shard("west", &phone.account);

    // The frontend never gets through to the account; the companion gives up meanwhile.
    let (device, what) = cluster.scanned("east", &mut phone).await;
    cluster.groups.fail_submits(shard, &[(Strike::Before, ShardError::Unavailable { retry_after_ms: 1_000 })]);
    let message = client.approval(&phone, &what, cluster.request());
    let (approved, cancelled) = tokio::join!(client.send_approval(message.clone()), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        client.cancel(&device, &what.ticket, cluster.request()).await
    });
    assert!(matches!(cancelled.unwrap().outcome, Some(Cancelled::Cancelled(_))));
    assert_eq!(refused(approved), Reason::TicketCancelled);
    assert_eq!(client.sessions(&phone.account, "").await.unwrap().sessions.len(), 1);

    let (device, what) = cluster.scanned("east", &mut phone).await;
    cluster.groups.set_settles(false);
    let receipt = client.approve(&phone, &what, cluster.request()).await.unwrap();
    let outcome = client.cancel(&device, &what.ticket, cluster.request()).await.unwrap().outcome;
    let Some(Cancelled::Linked(linked)) = outcome else { panic!("linked before: {outcome:?}") };
    assert_eq!(linked.session.as_ref(), receipt.session.as_bytes());
}

#[tokio::test]
async fn only_a_tombstone_signs_out_and_only_its_own_session() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (one, _) = cluster.linked("north", &mut phone).await;
    let (two, _) = cluster.linked("east", &mut phone).await;
    let client = cluster.client(&["north"]);
    // Young sessions end only themselves.
    assert_eq!(refused(client.unlink(&two, &one.session, cluster.request()).await), Reason::QuarantinedActor);
    let request = cluster.request();
    let ended = client.unlink(&phone, &one.session, request).await.unwrap();
    let again = client.unlink(&phone, &one.session, request).await.unwrap();
    assert_eq!((ended.already_ended, &ended), (false, &again));
    assert!(client.unlink(&phone, &one.session, cluster.request()).await.unwrap().already_ended);
    let tomb = ended.tombstone.unwrap();
    assert_eq!(tomb.reason(), EndReason::UserUnlinkedFromPrimary);

    let reply = client.validate(ask(&one, Level::Linearizable)).await.unwrap();
    assert!(matches!(reply.verdict, Some(Verdict::SignedOut(out)) if out.tombstone.as_ref() == Some(&tomb)));
    for which in [Which::Session(raw(one.session.as_bytes())), Which::DeviceKey(raw(one.device.key().as_bytes()))] {
        let why = client.why(&phone.account, which, "").await.unwrap().answer;
        assert_eq!(why, Some(Why::Ended(tomb.clone())));
    }
    // The ended one acts: UNAUTHENTICATED with its tombstone, at the account and at a scan alike.
    let error = client.unlink(&one, &two.session, cluster.request()).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.status().unwrap().code()),
        (Some(Reason::SignedOut), tonic::Code::Unauthenticated)
    );
    assert_eq!(tombstone(error.status().unwrap()), Some(tomb));
    let opened = client.open(&cluster.device(), &Requester::default(), cluster.request()).await.unwrap();
    let mut gone = one.clone();
    assert_eq!(refused(client.scan(&mut gone, &opened.reference, cluster.request()).await), Reason::SignedOut);
    // Somebody else in its name learns nothing.
    gone.device = cluster.device();
    assert_eq!(refused(client.scan(&mut gone, &opened.reference, cluster.request()).await), Reason::ProofInvalid);
    assert_eq!(refused(client.unlink(&gone, &two.session, cluster.request()).await), Reason::ProofInvalid);
}

#[tokio::test]
async fn unlink_others_voids_what_was_approved_before() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (one, _) = cluster.linked("north", &mut phone).await;
    let (_, stale) = cluster.scanned("east", &mut phone).await;
    let client = cluster.client(&["north"]);
    let (mut keeper, request) = (phone.clone(), cluster.request());
    let reply = client.unlink_others(&mut keeper, request).await.unwrap();
    assert_eq!(reply.tombstones.len(), 1);
    assert_eq!(reply.tombstones[0].session.as_ref().unwrap().session, raw(one.session.as_bytes()));
    // A lost answer is told again, although the set has changed since.
    assert_eq!(client.unlink_others(&mut phone.clone(), request).await.unwrap(), reply);
    let error = client.approve(&phone, &stale, cluster.request()).await.unwrap_err();
    assert_eq!((error.reason(), error.number("auth_epoch")), (Some(Reason::EpochChanged), Some(reply.auth_epoch)));
    // The client takes the new epoch at the next scan by itself.
    assert_eq!(phone.auth_epoch, reply.auth_epoch - 1);
    cluster.linked("north", &mut phone).await;
    assert_eq!(phone.auth_epoch, reply.auth_epoch);
}

#[tokio::test]
async fn a_shard_that_does_not_answer_makes_a_verdict_undetermined() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let client = cluster.client(&["north"]);
    let undetermined = async |request: ValidateRequest, reason: PbReason| {
        let reply = client.validate(request).await.unwrap();
        let Some(Verdict::Undetermined(verdict)) = &reply.verdict else { panic!("{reply:?}") };
        assert_eq!(verdict.reason(), reason);
        assert!(verdict.retry_after_ms > 0);
    };
    let shard = cluster.groups.account_shard("west", &phone.account);
    for (error, reason) in [
        (ShardError::Unavailable { retry_after_ms: 9 }, PbReason::ShardUnavailable),
        (ShardError::Overloaded { retry_after_ms: 9 }, PbReason::Overloaded),
        (ShardError::OutcomeUnknown, PbReason::OutcomeUnknown),
        (ShardError::DiskFull, PbReason::DiskFull),
    ] {
        cluster.groups.fail_queries(shard, Some(error));
        undetermined(ask(&phone, Level::Local), reason).await;
    }
    cluster.groups.fail_queries(shard, None);
    undetermined(ValidateRequest { min_set_version: 9, ..ask(&phone, Level::Local) }, PbReason::ShardUnavailable).await;
    phone.session.0[0] ^= 1;
    undetermined(ask(&phone, Level::Linearizable), PbReason::SessionUnknown).await;
    let nobody = ValidateRequest { account: raw(b"nobody"), ..ask(&phone, Level::Linearizable) };
    undetermined(nobody, PbReason::AccountNotFound).await;
    let short = ValidateRequest { session: raw(b"short"), ..ask(&phone, Level::Local) };
    assert_eq!(refused(client.validate(short).await), Reason::InvalidRequest);
}

#[tokio::test]
async fn an_account_is_registered_once_and_its_registration_may_be_repeated() {
    let cluster = Cluster::start().await;
    let (device, request) = (cluster.device(), cluster.request());
    let (account, about) = (kindred_core::id::AccountId::new(b"ann").unwrap(), Device::default());
    // The first attempt claims and dies before the account exists.
    let shard = cluster.groups.account_shard("north", &account);
    cluster.groups.fail_submits(shard, &[(Strike::Before, ShardError::OutcomeUnknown)]);
    let once = Patience { attempts: 1, ..Patience::default() };
    let north = cluster.client(&["north"]).with_patience(once);
    assert_eq!(
        refused(north.register(&device, &account, &about, "", request).await.map(|r| r.1)),
        Reason::OutcomeUnknown
    );
    // Through another region it is the same claim, and the home stays where it was claimed.
    let (member, reply) = cluster.client(&["west"]).register(&device, &account, &about, "", request).await.unwrap();
    assert_eq!((member.home_region.as_str(), reply.set_version), ("north", 1));
    let again = north.register(&device, &account, &about, "", request).await.unwrap().1;
    assert_eq!(again, reply);
    let other = north.register(&cluster.device(), &account, &about, "", cluster.request()).await;
    assert_eq!(refused(other.map(|r| r.1)), Reason::AccountExists);
    let error = north.account(&kindred_core::id::AccountId::new(b"bob").unwrap(), "east").await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::AccountNotFound));
    let error = north.register(&device, &account, &about, "nowhere", request).await.map(|r| r.1).unwrap_err();
    assert_eq!(metadata(error.status().unwrap())["field"], "home_region");
}

#[tokio::test]
async fn an_account_watch_has_no_gaps_and_no_silence() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let client = cluster.client(&["north"]);
    let mut watch = client.watch_account(&phone.account, 0, "");
    let (one, _) = cluster.linked("north", &mut phone).await;
    client.unlink(&phone, &one.session, cluster.request()).await.unwrap();
    for version in 1..=3 {
        let AccountEvent::Change(change) = watch.next().await.unwrap() else { panic!("a gap before {version}") };
        assert_eq!((change.version, change.added.len() + change.ended.len()), (version, 1));
    }
    let listed = client.sessions(&phone.account, "").await.unwrap();
    cluster.advance(30_000);
    let AccountEvent::Heartbeat(heartbeat) = watch.next().await.unwrap() else { panic!("no heartbeat") };
    assert_eq!((heartbeat.set_version, heartbeat.set_digest), (3, listed.set_digest));
    let error = client.watch_account(&phone.account, 99, "").next().await.unwrap_err();
    assert_eq!((error.reason(), error.number("current")), (Some(Reason::SetVersionConflict), Some(3)));
}
