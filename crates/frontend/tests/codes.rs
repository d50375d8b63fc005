//! Pairing by a typed code, as its callers see it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use kindred_client::{Approve, Client, Device, Error, Member, Patience};
use kindred_core::code::{Code, MatchNumber};
use kindred_core::id::{AccountId, DeviceKey, ShardId, TicketId};
use kindred_core::model::{Device as About, Requester};
use kindred_wire::convert::raw;
use kindred_wire::pb::pairing::v1 as pb;
use kindred_wire::pb::pairing::v1::cancel_ticket_reply::Outcome as Cancelled;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event;
use kindred_wire::pb::pairing::v1::watch_ticket_request::Access;
use kindred_wire::pb::session::v1::watch_account_reply::Event as AccountEvent;
use kindred_wire::reason::Reason;
use kindred_wire::shards::ShardError;
use support::{Cluster, Strike};

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> (Reason, Option<u64>) {
    let error = answer.unwrap_err();
    (error.reason().unwrap(), error.number("left"))
}

fn mismatch(left: u64) -> (Reason, Option<u64>) {
    (Reason::CodeMismatch, Some(left))
}

fn requester() -> Requester {
    let device = About { platform: "web".into(), app_version: "1.2".into(), display_name: b"desk".to_vec() };
    Requester { device, location: "Lyon".into() }
}

/// A companion with its open CODE ticket.
struct Companion {
    device: Device,
    opened: pb::OpenTicketReply,
    ticket: TicketId,
}

impl Companion {
    fn code(&self) -> Code {
        Code::parse(&self.opened.code).unwrap()
    }

    fn number(&self) -> MatchNumber {
        MatchNumber::of(&self.device.key(), &self.ticket)
    }

    /// Eight letters that are not the code's.
    fn wrong(&self, n: usize) -> Code {
        let mut letters = *self.code().letters();
        let others: Vec<u8> = kindred_core::code::ALPHABET.iter().copied().filter(|l| *l != letters[7]).collect();
        letters[7] = others[n];
        Code::from_letters(&letters).unwrap()
    }

    fn approve(&self) -> Approve {
        Approve { ticket: self.ticket, device_key: self.device.key(), replaces: None, envelope: vec![7; 3] }
    }
}

async fn open(cluster: &Cluster, region: &str, account: &AccountId) -> Companion {
    let device = cluster.device();
    let opened = cluster.client(&[region]).open_code(&device, &requester(), account, cluster.request()).await.unwrap();
    let ticket = TicketId::from_slice(&opened.ticket).unwrap();
    Companion { device, opened, ticket }
}

async fn tries(cluster: &Cluster, phone: &mut Member, code: &Code) -> Result<pb::ScanTicketReply, Error> {
    cluster.client(&["west"]).scan_code(phone, code, cluster.request()).await
}

#[tokio::test]
async fn a_code_links_a_companion_in_every_region_and_only_with_its_number() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    for region in support::REGIONS {
        let companion = open(&cluster, region, &phone.account).await;
        assert_eq!((companion.opened.qr_payload.as_str(), companion.opened.reference.len()), ("", 0));
        assert_eq!((companion.opened.ticket_ttl_ms, companion.opened.reference_ttl_ms), (180_000, 180_000));
        let client = cluster.client(&["north"]);
        let access = Access::Proof(companion.device.sign_watch(cluster.request(), &companion.ticket));
        let mut watch = client.watch_ticket(&companion.ticket, access);
        let first = watch.next().await.unwrap().unwrap().event;
        assert!(matches!(first, Some(Event::Offered(offered)) if offered.code == companion.opened.code));

        let scanned = tries(&cluster, &mut phone, &companion.code()).await.unwrap();
        assert_eq!(DeviceKey::from_slice(&scanned.device_key), Some(companion.device.key()));
        assert_eq!((scanned.number_match, scanned.requester.unwrap().location.as_str()), (true, "Lyon"));
        assert!(matches!(watch.next().await.unwrap().unwrap().event, Some(Event::Scanned(_))));

        let what = companion.approve();
        assert_eq!(refused(client.approve(&phone, &what, cluster.request()).await).0, Reason::StepUpRequired);
        let other = MatchNumber::new((companion.number().number() + 1) % 10_000).unwrap();
        let wrong = client.approve_with_number(&phone, &what, other, cluster.request()).await;
        assert_eq!(refused(wrong).0, Reason::StepUpRequired);
        let receipt = client.approve_with_number(&phone, &what, companion.number(), cluster.request()).await.unwrap();
        let linked = loop {
            if let Some(Event::Linked(linked)) = watch.next().await.unwrap().unwrap().event {
                break linked;
            }
        };
        assert_eq!((linked.session.as_ref(), linked.envelope.as_ref()), (receipt.session.as_bytes(), &[7; 3][..]));
    }
    assert_eq!(cluster.client(&["west"]).sessions(&phone.account, "").await.unwrap().sessions.len(), 4);
}

#[tokio::test]
async fn a_number_that_the_proof_does_not_cover_is_refused() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let companion = open(&cluster, "north", &phone.account).await;
    tries(&cluster, &mut phone, &companion.code()).await.unwrap();
    let client = cluster.client(&["north"]);
    let slipped_in = pb::ApproveTicketRequest {
        number: companion.number().to_string(),
        ..client.approval(&phone, &companion.approve(), cluster.request())
    };
    assert_eq!(refused(client.send_approval(slipped_in).await).0, Reason::ProofInvalid);
}

#[tokio::test]
async fn five_wrong_codes_lock_the_ticket_and_both_sides_are_told() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let companion = open(&cluster, "north", &phone.account).await;
    let client = cluster.client(&["north"]);
    let mut watch = client.watch_ticket(&companion.ticket, Access::WatchSecret(companion.opened.watch_secret.clone()));
    watch.next().await.unwrap();
    // A try whose answer was lost is sent again, through another node, and is one try.
    let (lost, wrong) = (cluster.request(), companion.wrong(0));
    for region in support::REGIONS {
        let again = cluster.client(&[region]).scan_code(&mut phone, &wrong, lost).await;
        assert_eq!(refused(again), mismatch(4));
    }
    assert_eq!(
        refused(cluster.client(&["east"]).scan_code(&mut phone, &companion.code(), lost).await).0,
        Reason::RequestIdReused
    );
    for left in [3, 2, 1, 0] {
        assert_eq!(refused(tries(&cluster, &mut phone, &companion.wrong(1)).await), mismatch(left));
    }
    // Whoever types it once more is told why it is of no use.
    assert_eq!(refused(tries(&cluster, &mut phone, &companion.code()).await).0, Reason::TicketLocked);
    let Some(Event::Refused(refusal)) = watch.next().await.unwrap().unwrap().event else { panic!("not told") };
    assert_eq!(refusal.reason().as_str_name(), "TICKET_LOCKED");
    let cancelled = client.cancel(&companion.device, &companion.ticket, cluster.request()).await.unwrap();
    assert!(matches!(cancelled.outcome, Some(Cancelled::Refused(r)) if r.reason().as_str_name() == "TICKET_LOCKED"));

    let next = open(&cluster, "north", &phone.account).await;
    tries(&cluster, &mut phone, &next.code()).await.unwrap();
}

#[tokio::test]
async fn whoever_types_a_code_late_is_told_why_it_is_refused() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let gone = open(&cluster, "north", &phone.account).await;
    cluster.client(&["west"]).cancel(&gone.device, &gone.ticket, cluster.request()).await.unwrap();
    assert_eq!(refused(tries(&cluster, &mut phone, &gone.code()).await).0, Reason::TicketCancelled);
    let slow = open(&cluster, "north", &phone.account).await;
    cluster.advance(180_000);
    assert_eq!(refused(tries(&cluster, &mut phone, &slow.code()).await).0, Reason::TicketExpired);
}

#[tokio::test]
async fn a_code_is_typed_only_by_a_live_session_of_its_account_and_nobody_else_learns_of_it() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let mut bob = cluster.register("bob", "east").await;
    let companion = open(&cluster, "north", &phone.account).await;
    // Bob has no code waiting, and that is all he hears.
    assert_eq!(refused(tries(&cluster, &mut bob, &companion.code()).await).0, Reason::TicketNotFound);
    // A stranger hears the same of an account with a code, without one, and of one that nobody has.
    let mut answers = Vec::new();
    for (account, session) in
        [(&phone.account, phone.session), (&bob.account, bob.session), (&AccountId::new(b"x").unwrap(), bob.session)]
    {
        let mut stranger = Member { device: cluster.device(), account: account.clone(), session, ..phone.clone() };
        for code in [companion.code(), companion.wrong(0)] {
            answers.push(refused(tries(&cluster, &mut stranger, &code).await));
        }
        let by_ref = cluster.client(&["west"]).scan(&mut stranger, &[0; 34], cluster.request()).await;
        assert!([Reason::ProofInvalid, Reason::TicketNotFound].contains(&refused(by_ref).0));
    }
    assert!(answers.iter().all(|answer| *answer == (Reason::ProofInvalid, None)), "{answers:?}");
    assert_eq!(refused(tries(&cluster, &mut phone, &companion.wrong(0)).await), mismatch(4), "strangers cost no tries");
}

#[tokio::test]
async fn an_account_that_nobody_has_gets_the_same_answer_and_a_code() {
    let cluster = Cluster::start().await;
    let phone = cluster.register("ann", "east").await;
    let known = open(&cluster, "north", &phone.account).await;
    let unknown = open(&cluster, "north", &AccountId::new(b"nobody").unwrap()).await;
    let shape = |opened: &pb::OpenTicketReply| {
        let code = Code::parse(&opened.code).map(|code| code.shown() == opened.code);
        let sizes = (opened.ticket.len(), opened.watch_secret.len(), opened.reference.len());
        (code, sizes, opened.qr_payload.clone(), opened.reference_ttl_ms / 1_000, opened.ticket_ttl_ms / 1_000)
    };
    assert_eq!(shape(&known.opened), shape(&unknown.opened));
    // What their companions see, to the end.
    cluster.advance(180_000);
    let mut ends = Vec::new();
    for companion in [&known, &unknown] {
        let secret = Access::WatchSecret(companion.opened.watch_secret.clone());
        let mut watch = cluster.client(&["west"]).watch_ticket(&companion.ticket, secret);
        ends.push(watch.next().await.unwrap().unwrap());
    }
    assert_eq!(ends[0], ends[1]);
    assert!(matches!(&ends[0].event, Some(Event::Refused(r)) if r.reason().as_str_name() == "TICKET_EXPIRED"));
}

#[tokio::test]
async fn opening_asks_neither_the_directory_nor_any_home_so_its_time_tells_nothing() {
    let cluster = Cluster::start().await;
    let phone = cluster.register("ann", "east").await;
    cluster.groups.set_settles(false);
    let silent = ShardError::Unavailable { retry_after_ms: 10 };
    let here = |shard: &ShardId| (100..200).contains(&shard.0);
    for shard in cluster.groups.all().into_iter().filter(|shard| !here(shard)) {
        cluster.groups.fail_queries(shard, Some(silent));
        cluster.groups.fail_submits(shard, &[(Strike::Before, silent); 3]);
    }
    let patience = Patience { attempts: 1, ..Patience::default() };
    let client = cluster.client(&["north"]).with_patience(patience);
    for account in [phone.account, AccountId::new(b"nobody").unwrap()] {
        client.open_code(&cluster.device(), &requester(), &account, cluster.request()).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_answer_to_an_open_is_asked_for_again_and_shows_the_same_code() {
    let cluster = Cluster::start().await;
    let phone = cluster.register("ann", "east").await;
    let (device, request) = (cluster.device(), cluster.request());
    let client = cluster.client(&["north"]);
    let first = client.open_code(&device, &requester(), &phone.account, request).await.unwrap();
    let again = client.open_code(&device, &requester(), &phone.account, request).await.unwrap();
    assert_eq!((&first.code, &first.ticket), (&again.code, &again.ticket));
    let other = client.open_code(&device, &requester(), &AccountId::new(b"bob").unwrap(), request).await;
    assert_eq!(refused(other).0, Reason::RequestIdReused);
}

async fn next(watch: &mut kindred_client::watch::AccountWatch) -> AccountEvent {
    loop {
        match watch.next().await.unwrap() {
            AccountEvent::Heartbeat(_) => {}
            event => return event,
        }
    }
}

#[tokio::test]
async fn the_accounts_watch_announces_a_request_and_tells_when_it_is_over() {
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let client = cluster.client(&["west"]);
    let mut watch = client.watch_account(&phone.account, 1, "");
    let first = open(&cluster, "north", &phone.account).await;
    let AccountEvent::LinkRequested(asked) = next(&mut watch).await else { panic!("not announced") };
    let device = asked.device.unwrap();
    assert_eq!((asked.ticket.as_ref(), asked.location.as_str()), (first.ticket.as_bytes(), "Lyon"));
    assert_eq!(
        (device.platform.as_str(), device.app_version.as_str(), device.display_name.as_ref()),
        ("web", "1.2", &b"desk"[..])
    );
    assert!(asked.age_ms < 1_000 && (179_000..=180_000).contains(&asked.ttl_ms), "{} {}", asked.age_ms, asked.ttl_ms);

    // A newer one takes its place.
    let second = open(&cluster, "north", &phone.account).await;
    let AccountEvent::LinkRequestOver(over) = next(&mut watch).await else { panic!("not over") };
    assert_eq!(over.ticket.as_ref(), first.ticket.as_bytes());
    assert!(
        matches!(next(&mut watch).await, AccountEvent::LinkRequested(r) if r.ticket == raw(second.ticket.as_bytes()))
    );
    // A watch that begins now hears of it as well.
    let mut late = client.watch_account(&phone.account, 1, "");
    assert!(
        matches!(next(&mut late).await, AccountEvent::LinkRequested(r) if r.ticket == raw(second.ticket.as_bytes()))
    );

    assert_eq!(refused(tries(&cluster, &mut phone, &first.code()).await), mismatch(4), "the older one is not found");
    tries(&cluster, &mut phone, &second.code()).await.unwrap();
    let number = second.number();
    client.approve_with_number(&phone, &second.approve(), number, cluster.request()).await.unwrap();
    let mut told = [next(&mut watch).await, next(&mut watch).await];
    told.sort_by_key(|event| matches!(event, AccountEvent::LinkRequestOver(_)));
    assert!(matches!(&told[0], AccountEvent::Change(change) if change.version == 2), "{told:?}");
    assert!(matches!(&told[1], AccountEvent::LinkRequestOver(over) if over.ticket == raw(second.ticket.as_bytes())));
}

#[tokio::test]
async fn a_qr_code_scanned_by_a_second_account_stays_with_the_first_and_the_companion_is_told() {
    let cluster = Cluster::start().await;
    let (mut ann, mut bob) = (cluster.register("ann", "east").await, cluster.register("bob", "west").await);
    let (client, device) = (cluster.client(&["north"]), cluster.device());
    let opened = client.open(&device, &requester(), cluster.request()).await.unwrap();
    let ticket = TicketId::from_slice(&opened.ticket).unwrap();
    let mut watch = client.watch_ticket(&ticket, Access::WatchSecret(opened.watch_secret));
    watch.next().await.unwrap();
    client.scan(&mut ann, &opened.reference, cluster.request()).await.unwrap();
    assert!(matches!(watch.next().await.unwrap().unwrap().event, Some(Event::Scanned(_))));
    let second = client.scan(&mut bob, &opened.reference, cluster.request()).await;
    assert_eq!(refused(second).0, Reason::TicketAlreadyUsed);
    assert!(matches!(watch.next().await.unwrap().unwrap().event, Some(Event::Contested(_))));
    let what = Approve { ticket, device_key: device.key(), replaces: None, envelope: Vec::new() };
    client.approve(&ann, &what, cluster.request()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_a_scan_or_an_open_is_named() {
    let cluster = Cluster::start().await;
    let phone = cluster.register("ann", "east").await;
    let mut pairing = pairing(&cluster).await;
    let proof = || Some(phone.sign_scan(cluster.request(), &[0; 34]));
    let scan = |reference: &[u8], code: &str| pb::ScanTicketRequest {
        proof: proof(),
        reference: raw(reference),
        home_region: String::new(),
        code: code.to_owned(),
    };
    let long = "B".repeat(100_000);
    for (request, field) in [
        (scan(&[], ""), "reference"),
        (scan(&[0; 33], ""), "reference"),
        (scan(&[0; 34], "BCDF-GHJK"), "code"),
        (scan(&[], "BCDF-GHJ"), "code"),
        (scan(&[], "ABCD-EFGH"), "code"),
        (scan(&[], &long), "code"),
    ] {
        let status = pairing.scan_ticket(request).await.unwrap_err();
        assert_eq!(kindred_wire::status::metadata(&status)["field"], field);
    }
    let device = cluster.device();
    let open = |method: i32, account: &[u8]| pb::OpenTicketRequest {
        proof: Some(device.sign_open(cluster.request(), &Requester::default())),
        device_key: raw(device.key().as_bytes()),
        requester: None,
        method,
        account: raw(account),
    };
    for (request, field) in [
        (open(2, b""), "account"),
        (open(2, &[1; 65]), "account"),
        (open(0, b"ann"), "account"),
        (open(77, b""), "method"),
    ] {
        let status = pairing.open_ticket(request).await.unwrap_err();
        assert_eq!(kindred_wire::status::metadata(&status)["field"], field);
    }
    // An account that the proof does not cover.
    let status = pairing.open_ticket(open(2, b"ann")).await.unwrap_err();
    assert_eq!(Reason::of(&status), Some(Reason::ProofInvalid));
}

async fn pairing(cluster: &Cluster) -> pb::pairing_client::PairingClient<tonic::transport::Channel> {
    let channel = kindred_wire::net::channel(Arc::clone(&cluster.net), "north").unwrap();
    pb::pairing_client::PairingClient::new(channel)
}

#[tokio::test]
async fn every_new_call_of_the_client_can_be_spawned() {
    fn spawnable<T: Send>(value: T) -> T {
        value
    }
    let cluster = Cluster::start().await;
    let mut phone = cluster.register("ann", "east").await;
    let companion = open(&cluster, "north", &phone.account.clone()).await;
    let client: Client = cluster.client(&["north"]);
    spawnable(client.scan_code(&mut phone, &companion.code(), cluster.request())).await.unwrap();
    let (what, number) = (companion.approve(), companion.number());
    spawnable(client.approve_with_number(&phone, &what, number, cluster.request())).await.unwrap();
}
