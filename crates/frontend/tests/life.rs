//! The life of an account and the server's nonces, through the services and the real client.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_client::{Client, Error, Member, Operator};
use kindred_core::arguments;
use kindred_core::id::{RequestId, SessionId};
use kindred_core::limits::{NONCE_TTL_MS, RESULT_TTL_MS};
use kindred_core::model::{Device as About, Requester};
use kindred_wire::convert::raw;
use kindred_wire::nonce;
use kindred_wire::pb::account::v1::account_client::AccountClient;
use kindred_wire::pb::account::v1::{ReplacePrimaryRequest, SetLimitRequest};
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event as TicketEvent;
use kindred_wire::pb::session::v1::session_client::SessionClient;
use kindred_wire::pb::session::v1::tombstone::Actor;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_wire::pb::session::v1::watch_account_reply::Event;
use kindred_wire::pb::session::v1::why_signed_out_reply::Answer as Why;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;
use kindred_wire::pb::session::v1::{EndReason, Level, UnlinkRequest, ValidateRequest};
use kindred_wire::reason::Reason;
use kindred_wire::status::{metadata, tombstone};
use support::{Cluster, OPS};
use tonic::Status;

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> Reason {
    answer.unwrap_err().reason().unwrap()
}

fn reason(answer: Result<impl std::fmt::Debug, Status>) -> Reason {
    Reason::of(&answer.unwrap_err()).unwrap()
}

async fn verdict(client: &Client, member: &Member) -> Verdict {
    let request = ValidateRequest {
        account: raw(member.account.as_bytes()),
        session: raw(member.session.as_bytes()),
        level: Level::Linearizable.into(),
        ..ValidateRequest::default()
    };
    client.validate(request).await.unwrap().verdict.unwrap()
}

fn limit(member: &Member, limit: u32, request: RequestId) -> SetLimitRequest {
    let hash = arguments::set_limit(&member.account, limit);
    let proof = Some(member.sign(arguments::METHOD_SET_LIMIT, request, &hash));
    SetLimitRequest { proof, limit, ..SetLimitRequest::default() }
}

/// A member with the same key that holds no nonce.
fn forgetful(member: &Member, seed: [u8; 32]) -> Member {
    let device = kindred_client::Device::new(&seed, support::CLUSTER);
    assert_eq!(device.key(), member.device.key());
    Member { device, ..member.clone() }
}

async fn registered(cluster: &Cluster, name: &str, seed: [u8; 32]) -> Member {
    let account = kindred_core::id::AccountId::new(name.as_bytes()).unwrap();
    let device = kindred_client::Device::new(&seed, support::CLUSTER);
    let client = cluster.client(&["north"]);
    client.register(&device, &account, &About::default(), "west", cluster.request()).await.unwrap().0
}

#[tokio::test]
async fn a_proof_without_a_nonce_is_answered_with_one_and_sent_again_under_the_same_request_id() {
    let cluster = Cluster::start().await;
    let phone = registered(&cluster, "ann", [7; 32]).await;
    let bare = forgetful(&phone, [7; 32]);
    let mut raw_client = AccountClient::new(cluster.channel("east"));
    let request = cluster.request();
    let status = raw_client.set_limit(limit(&bare, 7, request)).await.unwrap_err();
    assert_eq!((Reason::of(&status), status.code()), (Some(Reason::NonceStale), tonic::Code::FailedPrecondition));
    let fresh = nonce::of_status(&status).unwrap();
    assert_eq!(fresh.len(), 24);

    // By hand, as a stranger would: the nonce goes into what is signed.
    let client = cluster.client(&["east"]);
    client.set_limit(&bare, 7, request).await.unwrap();
    // The client has done it by itself, and holds the next one: no second round trip now.
    let reply = raw_client.set_limit(limit(&bare, 8, cluster.request())).await.unwrap();
    let next = nonce::of_reply(reply.metadata()).unwrap();
    assert_eq!(next.len(), 24);
    assert_eq!(client.account(&phone.account, "").await.unwrap().companion_limit, 8);
}

#[tokio::test]
async fn a_recorded_request_repeats_its_answer_and_then_is_refused_for_good() {
    let cluster = Cluster::start().await;
    let phone = registered(&cluster, "ann", [7; 32]).await;
    let client = cluster.client(&["east"]);
    let mut raw_client = AccountClient::new(cluster.channel("east"));
    let recorded = limit(&phone, 7, cluster.request());
    let first = raw_client.set_limit(recorded.clone()).await.unwrap().into_inner();
    client.set_limit(&phone, 3, cluster.request()).await.unwrap();
    cluster.advance(NONCE_TTL_MS + 1);
    assert_eq!(raw_client.set_limit(recorded.clone()).await.unwrap().into_inner(), first, "the answer of then");
    cluster.advance(RESULT_TTL_MS);
    assert_eq!(reason(raw_client.set_limit(recorded).await), Reason::NonceStale);
    assert_eq!(client.account(&phone.account, "").await.unwrap().companion_limit, 3, "and it never ran again");
}

#[tokio::test]
async fn a_recorded_watch_does_not_open_the_envelope_and_a_live_one_resumes_by_signing_anew() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (device, what) = cluster.scanned("north", &mut phone).await;
    let client = cluster.client(&["north"]);
    client.approve(&phone, &what, cluster.request()).await.unwrap();
    let request = cluster.request();
    let access =
        kindred_wire::pb::pairing::v1::watch_ticket_request::Access::Proof(device.sign_watch(request, &what.ticket));
    let linked = client.watch_ticket(&what.ticket, access.clone()).next().await.unwrap().unwrap();
    assert!(matches!(linked.event, Some(TicketEvent::Linked(linked)) if !linked.envelope.is_empty()));
    cluster.advance(NONCE_TTL_MS + 60_000);
    assert_eq!(refused(client.watch_ticket(&what.ticket, access).next().await), Reason::NonceStale);
    let again = client.watch_ticket_as(&device, &what.ticket, request).next().await.unwrap().unwrap();
    assert!(matches!(again.event, Some(TicketEvent::Linked(linked)) if !linked.envelope.is_empty()));
}

#[tokio::test]
async fn a_recorded_registration_claims_nothing() {
    let cluster = Cluster::start().await;
    let (device, request) = (cluster.device(), cluster.request());
    let account = kindred_core::id::AccountId::new(b"ann").unwrap();
    let shard = cluster.groups.account_shard("north", &account);
    let unavailable = kindred_wire::shards::ShardError::Unavailable { retry_after_ms: 1 };
    cluster.groups.fail_queries(shard, Some(unavailable));
    let once = kindred_client::Patience { attempts: 1, ..Default::default() };
    let client = cluster.client(&["north"]).with_patience(once);
    let about = About::default();
    let failed = client.register(&device, &account, &about, "", request).await.map(|r| r.1);
    assert_eq!(refused(failed), Reason::ShardUnavailable, "nothing happened: the id is still free");
    cluster.groups.fail_queries(shard, None);
    let other = client.register(&cluster.device(), &account, &about, "", cluster.request()).await;
    assert!(other.is_ok());
}

#[tokio::test]
async fn a_wrong_idea_of_the_home_costs_only_another_nonce() {
    let cluster = Cluster::start().await;
    let phone = registered(&cluster, "ann", [7; 32]).await;
    for home in ["north", "east", "nowhere", ""] {
        let lost = Member { home_region: home.into(), ..forgetful(&phone, [7; 32]) };
        cluster.client(&["east"]).set_limit(&lost, 6, cluster.request()).await.unwrap();
    }
}

struct Ops {
    client: Client,
}

impl Ops {
    fn on<'a>(&'a self, cluster: &Cluster, member: &'a Member) -> Operator<'a> {
        Operator { client: &self.client, account: &member.account, request: cluster.request() }
    }
}

#[tokio::test]
async fn a_locked_account_is_suspended_and_everybody_is_told_and_nobody_is_signed_out() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (laptop, _) = cluster.linked("north", &mut phone).await;
    let (tablet, _) = cluster.linked("east", &mut phone).await;
    let (client, ops) = (cluster.client(&["north"]), Ops { client: cluster.client(&[OPS]) });
    let before = client.sessions(&phone.account, "").await.unwrap();
    let mut watch = client.watch_account(&phone.account, before.set_version, "");
    assert_eq!(refused(Ops { client: client.clone() }.on(&cluster, &phone).lock().await), Reason::CallerNotAllowed);

    let locked = ops.on(&cluster, &phone).lock().await.unwrap();
    cluster.advance(9_000);
    for member in [&phone, &laptop] {
        let Verdict::Suspended(suspended) = verdict(&client, member).await else { panic!("not suspended") };
        assert!((9_000..10_000).contains(&suspended.since_ms), "{suspended:?}");
        assert_eq!(suspended.session.unwrap().session, raw(member.session.as_bytes()));
    }
    let Event::Records(records) = watch.next().await.unwrap() else { panic!("siblings are not told") };
    assert!(records.locked);
    assert_eq!((records.set_version, records.auth_epoch), (before.set_version, locked.auth_epoch));
    assert_eq!(records.sessions, before.sessions, "nothing has ended and no record has changed");
    let account = client.account(&phone.account, "").await.unwrap();
    assert!(account.locked && account.locked_for_ms >= 9_000);

    for member in [&mut phone, &mut laptop.clone(), &mut tablet.clone()] {
        member.auth_epoch = locked.auth_epoch;
    }
    let opened = client.open(&cluster.device(), &Requester::default(), cluster.request()).await.unwrap();
    let scan = client.scan(&mut phone, &opened.reference, cluster.request()).await;
    assert_eq!(refused(scan), Reason::AccountLocked);
    assert_eq!(refused(client.unlink(&phone, &laptop.session, cluster.request()).await), Reason::AccountLocked);
    assert_eq!(refused(client.set_limit(&phone, 9, cluster.request()).await), Reason::AccountLocked);
    let itself = Member { auth_epoch: locked.auth_epoch, ..laptop.clone() };
    let ended = client.unlink(&itself, &laptop.session, cluster.request()).await.unwrap();
    assert_eq!(ended.tombstone.unwrap().reason(), EndReason::SelfLogout);
    let revoked = ops.on(&cluster, &phone).unlink(&tablet.session, true).await.unwrap().tombstone.unwrap();
    assert_eq!(revoked.reason(), EndReason::CredentialCompromised);
    assert_eq!(revoked.actor, Some(Actor::ActorOperator("root".into())));

    let unlocked = ops.on(&cluster, &phone).unlock().await.unwrap();
    assert_eq!(unlocked.auth_epoch, locked.auth_epoch + 1);
    assert!(matches!(verdict(&client, &phone).await, Verdict::Valid(_)));
    cluster.linked("north", &mut phone).await;
}

#[tokio::test]
async fn an_operators_word_is_asked_for_where_no_device_gives_its_own() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (laptop, _) = cluster.linked("north", &mut phone).await;
    let ops = Ops { client: cluster.client(&[OPS]) };
    let unproved = UnlinkRequest {
        account: raw(phone.account.as_bytes()),
        request_id: raw(cluster.request().as_bytes()),
        session: raw(laptop.session.as_bytes()),
        ..UnlinkRequest::default()
    };
    let mut gateway = SessionClient::new(cluster.channel("north"));
    assert_eq!(reason(gateway.unlink(unproved.clone()).await), Reason::CallerNotAllowed);
    let mut operator = SessionClient::new(cluster.channel(OPS));
    for (spoil, field) in [
        (UnlinkRequest { account: raw(b""), ..unproved.clone() }, "account"),
        (UnlinkRequest { request_id: raw(b"short"), ..unproved.clone() }, "request_id"),
        (UnlinkRequest { session: raw(b""), ..unproved.clone() }, "session"),
    ] {
        let status = operator.unlink(spoil).await.unwrap_err();
        assert_eq!((Reason::of(&status), metadata(&status)["field"].as_str()), (Some(Reason::InvalidRequest), field));
    }
    // With a proof it is the device's act, whoever carries it.
    let hash = arguments::unlink(&phone.account, &laptop.session);
    let carried = UnlinkRequest {
        proof: Some(phone.sign(arguments::METHOD_UNLINK, cluster.request(), &hash)),
        compromised: true,
        ..unproved.clone()
    };
    assert_eq!(reason(operator.unlink(carried.clone()).await), Reason::InvalidRequest);
    let carried = UnlinkRequest { compromised: false, account: raw(b"somebody else"), ..carried };
    let ended = operator.unlink(carried).await.unwrap().into_inner().tombstone.unwrap();
    assert_eq!(ended.reason(), EndReason::UserUnlinkedFromPrimary);

    // Repeated, it is the same answer; a second act finds it done.
    let (tablet, _) = cluster.linked("east", &mut phone).await;
    let act = Operator { client: &ops.client, account: &phone.account, request: cluster.request() };
    let first = act.unlink(&tablet.session, false).await.unwrap();
    assert_eq!(first.tombstone.as_ref().unwrap().reason(), EndReason::AdminRevoked);
    assert_eq!(act.unlink(&tablet.session, false).await.unwrap(), first);
    assert!(ops.on(&cluster, &phone).unlink(&tablet.session, false).await.unwrap().already_ended);
    assert!(ops.on(&cluster, &phone).set_limit(9).await.unwrap().log_index > 0);
    let others = ops.on(&cluster, &phone).unlink_others(&phone.session).await.unwrap();
    assert!(others.tombstones.is_empty());
}

#[tokio::test]
async fn a_new_phone_takes_over_and_the_companions_stay_or_go_as_the_owner_said() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (laptop, _) = cluster.linked("north", &mut phone).await;
    let client = cluster.client(&["north", "east"]);
    let (new, about, request) = (cluster.device(), About::default(), cluster.request());
    let (successor, reply) = client.replace_primary(&phone, &new, &about, true, request).await.unwrap();
    assert_eq!(reply.tombstones.len(), 1);
    assert_eq!(reply.tombstones[0].reason(), EndReason::PrimaryReplaced);
    assert!(matches!(verdict(&client, &laptop).await, Verdict::Valid(_)));
    assert!(matches!(verdict(&client, &successor).await, Verdict::Valid(_)));
    // A lost answer is told again.
    let again = client.replace_primary(&phone, &new, &about, true, request).await.unwrap().1;
    assert_eq!(again, reply);
    // The old phone learns it from whatever it does next.
    let error = client.unlink(&phone, &laptop.session, cluster.request()).await.unwrap_err();
    assert_eq!(tombstone(error.status().unwrap()).unwrap().reason(), EndReason::PrimaryReplaced);

    // A phone that was lost: an operator does it, and this time nobody stays.
    let ops = Ops { client: cluster.client(&[OPS]) };
    let act = ops.on(&cluster, &phone);
    let (third, reply) = act.replace_primary(&cluster.device(), &about, false).await.unwrap();
    let reasons: Vec<_> = reply.tombstones.iter().map(|t| t.reason()).collect();
    assert_eq!(reasons, [EndReason::PrimaryReplaced; 2]);
    assert!(reply.tombstones.iter().all(|t| t.actor == Some(Actor::ActorOperator("root".into()))));
    let listed = client.sessions(&phone.account, "").await.unwrap();
    assert_eq!(listed.sessions.len(), 1);
    assert_eq!(listed.sessions[0].session, raw(third.session.as_bytes()));
}

#[tokio::test]
async fn whether_companions_stay_must_be_said_and_the_new_key_must_prove_itself() {
    let cluster = Cluster::start().await;
    let phone = registered(&cluster, "ann", [7; 32]).await;
    let (new, about, request) = (cluster.device(), About::default(), cluster.request());
    let method = arguments::METHOD_REPLACE_PRIMARY;
    let hash = arguments::replace_primary(&phone.account, &new.key(), &about, true);
    let good = ReplacePrimaryRequest {
        proof: Some(phone.sign(method, request, &hash)),
        possession: Some(new.sign_possession(method, request, &phone.account, &hash)),
        device_key: raw(new.key().as_bytes()),
        device: None,
        keep_companions: Some(true),
        ..ReplacePrimaryRequest::default()
    };
    let mut raw_client = AccountClient::new(cluster.channel("east"));
    let mut refusal = async |request: ReplacePrimaryRequest| {
        let status = raw_client.replace_primary(request).await.unwrap_err();
        (Reason::of(&status).unwrap(), metadata(&status).get("field").cloned().unwrap_or_default())
    };
    let unsaid = ReplacePrimaryRequest { keep_companions: None, ..good.clone() };
    assert_eq!(refusal(unsaid).await, (Reason::InvalidRequest, "keep_companions".into()));
    let unproved = ReplacePrimaryRequest { possession: None, ..good.clone() };
    assert_eq!(refusal(unproved).await, (Reason::InvalidRequest, "possession".into()));
    let stranger = cluster.device();
    let forged = stranger.sign_possession(method, request, &phone.account, &hash);
    let forged = ReplacePrimaryRequest { possession: Some(forged), ..good.clone() };
    assert_eq!(refusal(forged).await.0, Reason::ProofInvalid);
    let other = new.sign_possession(method, cluster.request(), &phone.account, &hash);
    let other = ReplacePrimaryRequest { possession: Some(other), ..good.clone() };
    assert_eq!(refusal(other).await.0, Reason::ProofInvalid);
    // What was signed was "keep": it cannot be turned into "end".
    let turned = ReplacePrimaryRequest { keep_companions: Some(false), ..good.clone() };
    assert_eq!(refusal(turned).await.0, Reason::ProofInvalid);
    // All is well but the new phone's nonce, of which it has none yet.
    assert_eq!(refusal(good).await.0, Reason::NonceStale);
    assert_eq!(cluster.client(&["north"]).sessions(&phone.account, "").await.unwrap().sessions.len(), 1);
}

#[tokio::test]
async fn pins_and_new_keys_show_on_every_siblings_watch() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (laptop, _) = cluster.linked("north", &mut phone).await;
    let client = cluster.client(&["north", "east"]);
    let version = client.sessions(&phone.account, "").await.unwrap().set_version;
    let mut watch = client.watch_account(&phone.account, version, "");
    let records = async |watch: &mut kindred_client::watch::AccountWatch| match watch.next().await.unwrap() {
        Event::Records(records) => records,
        other => panic!("{other:?}"),
    };

    let pinned = client.pin(&phone, &laptop.session, true, cluster.request()).await.unwrap().session.unwrap();
    assert!(pinned.pinned && pinned.record_version == 2);
    assert_eq!(records(&mut watch).await.sessions[1], pinned);

    let (new, request) = (cluster.device(), cluster.request());
    let (rotated, reply) = client.rotate_key(&laptop, &new, request).await.unwrap();
    let told = records(&mut watch).await;
    assert_eq!(told.sessions[1], reply.session.clone().unwrap());
    assert_eq!((told.sessions[1].key_generation, told.set_version), (2, version));
    assert_eq!(client.rotate_key(&laptop, &new, request).await.unwrap().1, reply, "a lost answer is told again");
    // Whoever was away is told when it comes back; whoever knows is not.
    let mut late = client.watch_account(&phone.account, version, "");
    assert_eq!(records(&mut late).await.record_version, told.record_version);

    assert!(matches!(verdict(&client, &rotated).await, Verdict::Valid(_)));
    assert_eq!(refused(client.unlink(&laptop, &laptop.session, cluster.request()).await), Reason::ProofInvalid);
    assert_eq!(
        refused(client.pin(&rotated, &laptop.session, false, cluster.request()).await),
        Reason::CallerNotAllowed
    );
    let ended = client.unlink(&rotated, &laptop.session, cluster.request()).await.unwrap();
    assert_eq!(ended.tombstone.unwrap().reason(), EndReason::SelfLogout);
}

#[tokio::test]
async fn a_deleted_account_is_signed_out_for_ever_and_its_id_is_not_free() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "west").await;
    let (laptop, _) = cluster.linked("north", &mut phone).await;
    let (gone, _) = cluster.linked("east", &mut phone).await;
    let client = cluster.client(&["north", "east"]);
    client.unlink(&phone, &gone.session, cluster.request()).await.unwrap();
    let version = client.sessions(&phone.account, "").await.unwrap().set_version;
    let mut watch = client.watch_account(&phone.account, version, "");
    assert_eq!(refused(client.delete_account(&laptop, cluster.request()).await), Reason::CallerNotAllowed);

    let request = cluster.request();
    let deleted = client.delete_account(&phone, request).await.unwrap();
    assert_eq!((deleted.stubs.len(), deleted.set_version), (2, version + 1));
    assert_eq!(client.delete_account(&phone, request).await.unwrap(), deleted, "a lost answer is told again");
    let event = watch.next().await.unwrap();
    assert!(matches!(event, Event::Deleted(d) if d.set_version == version + 1 && d.log_index == deleted.log_index));
    let resumed = client.watch_account(&phone.account, version, "").next().await.unwrap();
    assert!(matches!(resumed, Event::Deleted(_)));

    cluster.advance(RESULT_TTL_MS + 10_000);
    for (member, expected) in [
        (&phone, EndReason::AccountDeleted),
        (&laptop, EndReason::AccountDeleted),
        (&gone, EndReason::UserUnlinkedFromPrimary),
    ] {
        let Verdict::SignedOut(out) = verdict(&client, member).await else { panic!("not signed out") };
        let stub = out.tombstone.unwrap();
        assert!(stub.stub && stub.actor.is_none());
        assert_eq!(stub.reason(), expected);
        let session = stub.session.clone().unwrap();
        assert_eq!(session.session, raw(member.session.as_bytes()));
        assert!(session.device_key.is_empty() && session.device.is_none(), "nothing of anybody is left");
        for hint in ["", "west", "north"] {
            let which = Which::Session(raw(member.session.as_bytes()));
            assert_eq!(client.why(&phone.account, which, hint).await.unwrap().answer, Some(Why::Ended(stub.clone())));
        }
    }
    let never = Member { session: SessionId([9; 16]), ..phone.clone() };
    assert!(matches!(verdict(&client, &never).await, Verdict::Undetermined(_)), "unknown is never signed out");
    assert_eq!(refused(client.account(&phone.account, "").await), Reason::AccountNotFound);
    let about = About::default();
    for home in ["west", "north"] {
        let device = cluster.device();
        let again = client.register(&device, &phone.account, &about, home, cluster.request()).await;
        assert_eq!(refused(again.map(|r| r.1)), Reason::AccountExists);
    }
}
