//! Reconcile through the real client: gateways ask for anybody, devices prove themselves, primaries sign, and nothing that
//! anybody says changes the set.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_client::{Error, Member, View};
use kindred_core::id::{AccountId, Digest, SessionId};
use kindred_core::reconcile::{Believed, Set};
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::reconcile_reply::Result as Told;
use kindred_wire::pb::session::v1::unexpected_session::Standing;
use kindred_wire::reason::Reason;
use kindred_wire::status::{metadata, tombstone};
use support::Cluster;

fn result(reply: pb::ReconcileReply) -> Told {
    reply.result.unwrap()
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> Reason {
    answer.unwrap_err().reason().unwrap()
}

/// What a client holds that has followed the account from its beginning.
async fn followed(cluster: &Cluster, phone: &Member) -> View {
    let client = cluster.client(&["west"]);
    let mut view = View::empty(&phone.account);
    let reply = client.reconcile(&phone.account, &view.by_digest(), "").await.unwrap();
    view.reconciled(&reply).unwrap();
    view
}

#[tokio::test]
async fn a_gateway_brings_its_view_forward_by_digest_or_by_list_from_any_version() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let client = cluster.client(&["west"]);
    let mut views = vec![View::empty(&phone.account), followed(&cluster, &phone).await];
    for region in support::REGIONS {
        cluster.linked(region, &mut phone).await;
        views.push(followed(&cluster, &phone).await);
    }
    let (now, state) = (views.last().unwrap().clone(), cluster.groups.picture());
    for view in views {
        for asked in [view.by_digest(), view.by_list()] {
            let reply = client.reconcile(&phone.account, &asked, "").await.unwrap();
            let in_sync = matches!(reply.result, Some(Told::InSync(_)));
            assert_eq!(in_sync, view.version() == now.version(), "{asked:?}");
            let mut brought = view.clone();
            brought.reconciled(&reply).unwrap();
            assert_eq!(brought, now);
        }
    }
    let listed = client.sessions(&phone.account, "").await.unwrap();
    now.clone().list(&listed).unwrap();
    assert_eq!(cluster.groups.picture(), state, "nothing was written for it");
}

#[tokio::test]
async fn a_view_from_another_history_is_told_what_differs_and_the_set_stays() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let (one, _) = cluster.linked("north", &mut phone).await;
    let (two, _) = cluster.linked("north", &mut phone).await;
    let client = cluster.client(&["north"]);
    client.unlink(&phone, &one.session, cluster.request()).await.unwrap();
    let (now, state) = (followed(&cluster, &phone).await, cluster.groups.picture());

    let strange = SessionId([9; 16]);
    let sessions = vec![(one.session, 2), (strange, 3)];
    let believed = Believed { set_version: now.version(), set: Set::Sessions(sessions) };
    let reply = client.reconcile(&phone.account, &believed, "").await.unwrap();
    let Told::Diverged(diverged) = result(reply.clone()) else { panic!("{reply:?}") };
    let missing: Vec<_> = diverged.missing.iter().map(|s| SessionId::from_slice(&s.session).unwrap()).collect();
    assert_eq!(missing, [phone.session, two.session]);
    let standing = |at: usize| diverged.unexpected[at].standing.clone().unwrap();
    assert!(matches!(standing(0), Standing::Ended(t) if t.reason() == pb::EndReason::UserUnlinkedFromPrimary));
    assert!(matches!(standing(1), Standing::Unknown(_)), "never known is no sign-out");
    // The view is mended only if its holder decides so.
    let mut view = View::held(&phone.account, now.version(), Digest([7; 32]), [(strange, 3)].into());
    view.reconciled(&reply).unwrap();
    assert_eq!(view.digest(), &Digest([7; 32]));
    view.adopt(&diverged.snapshot.unwrap()).unwrap();
    assert_eq!(view, now);

    for version in [0, 1, now.version(), now.version() + 1, u64::MAX] {
        let believed = Believed { set_version: version, set: Set::Digest(Digest([7; 32])) };
        let reply = client.reconcile(&phone.account, &believed, "").await.unwrap();
        let Told::Diverged(diverged) = result(reply) else { panic!("{version}") };
        assert!(diverged.digest.is_some() && diverged.snapshot.is_some(), "{version}");
    }
    assert_eq!(cluster.groups.picture(), state);
}

#[tokio::test]
async fn a_signed_list_that_lacks_a_live_session_is_refused_and_names_it() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let before = followed(&cluster, &phone).await;
    let (one, _) = cluster.linked("north", &mut phone).await;
    let (two, _) = cluster.linked("west", &mut phone).await;
    let (now, state) = (followed(&cluster, &phone).await, cluster.groups.picture());
    let client = cluster.client(&["north"]);

    // The stale list of a phone that has not heard of its new companions.
    let stale = client.reconcile_signed(&phone, &before.by_list(), cluster.request()).await.unwrap_err();
    assert_eq!(stale.reason(), Some(Reason::WouldDropSiblings));
    let told = metadata(stale.status().unwrap());
    assert_eq!(told["sessions"], format!("{},{}", one.session, two.session));
    assert_eq!(told["set_version"], now.version().to_string());
    assert_eq!(stale.status().unwrap().code(), tonic::Code::FailedPrecondition);
    // As nobody's statement it is only behind.
    let reply = client.reconcile(&phone.account, &before.by_list(), "").await.unwrap();
    assert!(matches!(result(reply), Told::Behind(_)));

    // Whole lists are compared, with what is too much in them too.
    let reply = client.reconcile_signed(&phone, &now.by_list(), cluster.request()).await.unwrap();
    assert!(matches!(result(reply), Told::InSync(_)));
    let Set::Sessions(mut more) = now.by_list().set else { panic!() };
    more.push((SessionId([9; 16]), 9));
    let believed = Believed { set_version: now.version(), set: Set::Sessions(more) };
    let reply = client.reconcile_signed(&phone, &believed, cluster.request()).await.unwrap();
    assert!(matches!(result(reply), Told::Diverged(_)));
    assert_eq!(cluster.groups.picture(), state, "a list is compared, never stored");
}

#[tokio::test]
async fn who_proves_themselves_must_be_who_they_say() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let stranger = cluster.register("bob", "east").await;
    let (companion, _) = cluster.linked("north", &mut phone).await;
    let view = followed(&cluster, &phone).await;
    let client = cluster.client(&["north"]);
    let signed =
        async |member: &Member, believed: &Believed| client.reconcile_signed(member, believed, cluster.request()).await;
    // Any live device asks for itself; a list is the primary's to sign.
    assert!(signed(&companion, &view.by_digest()).await.is_ok());
    assert_eq!(reason(signed(&companion, &view.by_list()).await), Reason::CallerNotAllowed);
    // Another key, another account, another session.
    let forged = Member { device: cluster.device(), ..phone.clone() };
    assert_eq!(reason(signed(&forged, &view.by_digest()).await), Reason::ProofInvalid);
    let foreign = Member { account: phone.account.clone(), ..stranger.clone() };
    assert_eq!(reason(signed(&foreign, &view.by_digest()).await), Reason::ProofInvalid);
    let early = Member { auth_epoch: 0, ..phone.clone() };
    assert_eq!(reason(signed(&early, &view.by_digest()).await), Reason::EpochChanged);
    // An ended session learns of its own end, and only it.
    client.unlink(&phone, &companion.session, cluster.request()).await.unwrap();
    let ended = signed(&companion, &view.by_digest()).await.unwrap_err();
    assert_eq!(ended.reason(), Some(Reason::SignedOut));
    assert!(tombstone(ended.status().unwrap()).is_some());
    let forged = Member { device: cluster.device(), ..companion };
    assert_eq!(reason(signed(&forged, &view.by_digest()).await), Reason::ProofInvalid);
}

#[tokio::test]
async fn an_unknown_account_and_a_malformed_view_are_refused_by_name() {
    let cluster = Cluster::start().await;
    let phone = cluster.register("ann", "east").await;
    let client = cluster.client(&["north"]);
    let nobody = AccountId::new(b"nobody").unwrap();
    let view = View::empty(&nobody);
    assert_eq!(reason(client.reconcile(&nobody, &view.by_digest(), "").await), Reason::AccountNotFound);
    let many = (0..257u16).map(|n| (SessionId([n.to_be_bytes()[1]; 16]), n.into())).collect::<Vec<_>>();
    for (sessions, field) in [(many.clone(), "sessions"), ([&many[..2], &many[..1]].concat(), "sessions.session")] {
        let believed = Believed { set_version: 1, set: Set::Sessions(sessions) };
        let refused = client.reconcile(&phone.account, &believed, "").await.unwrap_err();
        assert_eq!(refused.reason(), Some(Reason::InvalidRequest));
        assert_eq!(metadata(refused.status().unwrap())["field"], field);
    }
}
