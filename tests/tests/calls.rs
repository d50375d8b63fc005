//! What the public rpcs of a node say: that it serves, what it offers, and why it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use futures::StreamExt as _;
use http::uri::PathAndQuery;
use kindred_client::{Approve, Client, Device, Member};
use kindred_core::arguments;
use kindred_core::id::{AccountId, RequestId, SessionId, TicketId};
use kindred_core::limits::ENVELOPE_BYTES_MAX;
use kindred_core::model::Requester;
use kindred_tests::people::{Shown, about};
use kindred_tests::{Cluster, Options, People, REGIONS, SOON, eventually, story};
use kindred_wire::convert::{self, raw};
use kindred_wire::net::channel;
use kindred_wire::pb::account::v1::account_client::AccountClient;
use kindred_wire::pb::pairing::v1::pairing_client::PairingClient;
use kindred_wire::pb::session::v1::session_client::SessionClient;
use kindred_wire::pb::{account::v1 as account, pairing::v1 as pairing, session::v1 as session};
use kindred_wire::reason::Reason;
use kindred_wire::status::metadata;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

#[tokio::test]
async fn health_and_reflection_are_served() {
    story(async {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        for node in &cluster.nodes {
            let channel = channel(cluster.net.clone(), &node.gateway).unwrap();
            let request = HealthCheckRequest { service: String::new() };
            let health: HealthCheckResponse =
                HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
            assert_eq!(health.status(), ServingStatus::Serving);

            let services = reflect(&channel, MessageRequest::ListServices(String::new())).await;
            let MessageResponse::ListServicesResponse(listed) = services else { panic!("{services:?}") };
            let names: Vec<_> = listed.service.iter().map(|service| service.name.as_str()).collect();
            for expected in ["kindred.account.v1.Account", "kindred.pairing.v1.Pairing", "kindred.session.v1.Session"] {
                assert!(names.contains(&expected), "{expected} in {names:?}");
            }
            assert!(names.iter().all(|name| !name.starts_with("kindred.testing.")), "{names:?}");

            // A tool can build a call from what it is told.
            let symbol = MessageRequest::FileContainingSymbol("kindred.session.v1.Session.Validate".to_owned());
            let found = reflect(&channel, symbol).await;
            assert!(
                matches!(&found, MessageResponse::FileDescriptorResponse(r) if !r.file_descriptor_proto.is_empty()),
                "{found:?}"
            );
        }
    })
    .await;
}

async fn reflect(channel: &Channel, message: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer: ServerReflectionResponse = answers.next().await.unwrap().unwrap();
    answer.message_response.unwrap()
}

#[tokio::test]
async fn every_refusal_carries_error_info() {
    story(async {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        let world = World::new(&cluster).await;
        let before = world.client.sessions(&world.phone.account, "").await.unwrap();

        let mut problems = Vec::new();
        for row in [out_of_bounds(&world), by_others(&world), unknown(&world).await].into_iter().flatten() {
            let Row { what, call, code, reason, field } = row;
            let status = call.refusal(what, &world).await;
            let seen = status.as_ref().map(|status| (status.code(), Reason::of(status)));
            let named = status.as_ref().and_then(|status| metadata(status).get("field").cloned());
            if seen != Some((code, Some(reason))) || (!field.is_empty() && named.as_deref() != Some(field)) {
                problems.push(format!("{what}: {seen:?} (field {named:?}), not {code:?} {reason:?} (field `{field}`)"));
            }
        }
        assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));

        assert_eq!(
            world.client.sessions(&world.phone.account, "").await.unwrap(),
            before,
            "a refusal changed something"
        );
        for node in &mut cluster.nodes {
            assert_eq!(node.check_health().await, Ok(()), "{}", node.name);
        }
        // The ticket that so many of them aimed at is none the worse.
        let receipt = world.client.approve(&world.phone, &world.shown.approve().unwrap(), world.people.request()).await;
        assert_eq!(receipt.unwrap().version_before, before.set_version);
    })
    .await;
}

/// A call that must be refused, and how.
struct Row {
    what: &'static str,
    call: Call,
    code: Code,
    reason: Reason,
    /// Named in the details of INVALID_REQUEST.
    field: &'static str,
}

fn row(what: &'static str, call: impl Into<Call>, reason: Reason) -> Row {
    Row { what, call: call.into(), code: reason.code(), reason, field: "" }
}

fn invalid(what: &'static str, call: impl Into<Call>, field: &'static str) -> Row {
    Row { field, ..row(what, call, Reason::InvalidRequest) }
}

macro_rules! calls {
    ($($variant:ident($request:ty) = $client:ident.$method:ident;)*) => {
        /// A request, with the method that takes it.
        enum Call {
            $($variant($request),)*
            /// Any message to any path.
            Path(&'static str, session::SessionRecord),
        }

        $(impl From<$request> for Call {
            fn from(request: $request) -> Self {
                Self::$variant(request)
            }
        })*

        impl Call {
            async fn send(&self, world: &World) -> Result<(), Status> {
                match self {
                    $(Self::$variant(request) => world.$client().$method(request.clone()).await.map(drop),)*
                    Self::Path(path, message) => world.send(path, message.clone()).await,
                }
            }
        }
    };
}

calls! {
    GetAccount(account::GetAccountRequest) = accounts.get_account;
    Register(account::RegisterRequest) = accounts.register;
    SetLimit(account::SetLimitRequest) = accounts.set_limit;
    ReplacePrimary(account::ReplacePrimaryRequest) = accounts.replace_primary;
    Lock(account::LockRequest) = accounts.lock;
    Unlock(account::UnlockRequest) = accounts.unlock;
    Delete(account::DeleteRequest) = accounts.delete;
    Open(pairing::OpenTicketRequest) = pairing.open_ticket;
    WatchTicket(pairing::WatchTicketRequest) = pairing.watch_ticket;
    Scan(pairing::ScanTicketRequest) = pairing.scan_ticket;
    Approve(pairing::ApproveTicketRequest) = pairing.approve_ticket;
    Cancel(pairing::CancelTicketRequest) = pairing.cancel_ticket;
    Validate(session::ValidateRequest) = sessions.validate;
    List(session::ListSessionsRequest) = sessions.list_sessions;
    Why(session::WhySignedOutRequest) = sessions.why_signed_out;
    Unlink(session::UnlinkRequest) = sessions.unlink;
    UnlinkOthers(session::UnlinkOthersRequest) = sessions.unlink_others;
    Pin(session::PinRequest) = sessions.pin;
    Rotate(session::RotateDeviceKeyRequest) = sessions.rotate_device_key;
    WatchAccount(session::WatchAccountRequest) = sessions.watch_account;
}

impl Call {
    /// Calls until somebody says something of the call: a shard without a leader says nothing. None if it was done.
    async fn refusal(&self, what: &str, world: &World) -> Option<Status> {
        let answer = eventually(what, SOON, async || match self.send(world).await.err() {
            Some(status) if status.code() == Code::Unavailable => Err(status.to_string()),
            status => Ok(status),
        });
        answer.await.unwrap()
    }
}

/// An account with a companion, and a ticket that its phone has scanned.
struct World {
    people: People,
    client: Client,
    channel: Channel,
    phone: Member,
    companion: Member,
    sibling: Member,
    unlinked: Member,
    shown: Shown,
    /// A request that was done: the limit became 5.
    done: RequestId,
}

impl World {
    async fn new(cluster: &Cluster) -> Self {
        let client = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&client).await.unwrap();
        let mut phone = people.register(&client, "ann", REGIONS[0]).await.unwrap();
        let companion = people.link(&mut phone, &client, &client).await.unwrap().member;
        let sibling = people.link(&mut phone, &client, &client).await.unwrap().member;
        let unlinked = people.link(&mut phone, &client, &client).await.unwrap().member;
        client.unlink(&phone, &unlinked.session, people.request()).await.unwrap();
        let done = people.request();
        client.set_limit(&phone, 5, done).await.unwrap();
        // Refused, and it leaves them a nonce to sign the calls by hand with.
        for member in [&companion, &unlinked] {
            client.unlink(member, &phone.session, people.request()).await.unwrap_err();
        }
        let shown = people.open(&client).await.unwrap();
        client.scan(&mut phone, &shown.qr.reference, people.request()).await.unwrap();
        let channel = channel(cluster.net.clone(), &cluster.nodes[0].gateway).unwrap();
        Self { people, client, channel, phone, companion, sibling, unlinked, shown, done }
    }

    fn accounts(&self) -> AccountClient<Channel> {
        AccountClient::new(self.channel.clone())
    }

    fn pairing(&self) -> PairingClient<Channel> {
        PairingClient::new(self.channel.clone())
    }

    fn sessions(&self) -> SessionClient<Channel> {
        SessionClient::new(self.channel.clone())
    }

    fn account(&self) -> prost::bytes::Bytes {
        raw(self.phone.account.as_bytes())
    }

    /// The signed approval of a ticket.
    fn approval(&self, shown: &Shown) -> pairing::ApproveTicketRequest {
        self.client.approval(&self.phone, &shown.approve().unwrap(), self.people.request())
    }

    /// A scan of this ref.
    fn scan(&self, reference: &[u8]) -> pairing::ScanTicketRequest {
        let proof = Some(self.phone.sign_scan(self.people.request(), reference));
        pairing::ScanTicketRequest { proof, reference: raw(reference), ..pairing::ScanTicketRequest::default() }
    }

    /// An Open under a key that is not the signer's.
    fn opening(&self, signer: &Device) -> pairing::OpenTicketRequest {
        let requester = Requester::default();
        pairing::OpenTicketRequest {
            proof: Some(signer.sign_open(self.people.request(), &requester)),
            device_key: raw(self.people.device().key().as_bytes()),
            requester: Some(convert::requester(&requester)),
            ..pairing::OpenTicketRequest::default()
        }
    }

    /// A registration by a new phone.
    fn registration(&self, id: &AccountId, region: &str) -> account::RegisterRequest {
        let (device, about) = (self.people.device(), about("phone"));
        account::RegisterRequest {
            proof: Some(device.sign_register(self.people.request(), id, &about)),
            account: raw(id.as_bytes()),
            device_key: raw(device.key().as_bytes()),
            device: Some(convert::device(&about)),
            home_region: region.to_owned(),
        }
    }

    /// An unlink of `target` as `member` would sign it.
    fn unlink(&self, member: &Member, target: &SessionId) -> session::UnlinkRequest {
        let hash = arguments::unlink(&member.account, target);
        let proof = Some(member.sign(arguments::METHOD_UNLINK, self.people.request(), &hash));
        session::UnlinkRequest { proof, session: raw(target.as_bytes()), ..session::UnlinkRequest::default() }
    }

    /// A new phone that leaves something unsaid.
    fn replacement(&self, keep_companions: Option<bool>) -> account::ReplacePrimaryRequest {
        let (device, about) = (self.people.device(), about("phone"));
        let hash = arguments::replace_primary(&self.phone.account, &device.key(), &about, true);
        account::ReplacePrimaryRequest {
            proof: Some(self.phone.sign(arguments::METHOD_REPLACE_PRIMARY, self.people.request(), &hash)),
            device_key: raw(device.key().as_bytes()),
            device: Some(convert::device(&about)),
            keep_companions,
            ..account::ReplacePrimaryRequest::default()
        }
    }

    /// A deletion of the account as `member` would sign it.
    fn deletion(&self, member: &Member) -> account::DeleteRequest {
        let hash = arguments::delete(&member.account);
        let proof = Some(member.sign(arguments::METHOD_DELETE, self.people.request(), &hash));
        account::DeleteRequest { proof, ..account::DeleteRequest::default() }
    }

    /// A change of the companion limit.
    fn limit(&self, limit: u32, request: RequestId) -> account::SetLimitRequest {
        let hash = arguments::set_limit(&self.phone.account, limit);
        let proof = Some(self.phone.sign(arguments::METHOD_SET_LIMIT, request, &hash));
        account::SetLimitRequest { proof, limit, ..account::SetLimitRequest::default() }
    }

    /// A call by its path with whatever message.
    async fn send(&self, path: &'static str, message: session::SessionRecord) -> Result<(), Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let codec = tonic_prost::ProstCodec::<session::SessionRecord, session::ValidateReply>::default();
        grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec).await.map(drop)
    }
}

/// Empty, too short, too long, not what it should be.
fn out_of_bounds(world: &World) -> Vec<Row> {
    let validate = |account: &[u8], session: &[u8]| session::ValidateRequest {
        account: raw(account),
        session: raw(session),
        ..session::ValidateRequest::default()
    };
    let nameless = session::WhySignedOutRequest { account: world.account(), ..Default::default() };
    let envelope = |length: usize| pairing::ApproveTicketRequest {
        envelope: vec![7; length].into(),
        ..world.approval(&world.shown)
    };
    let limit = |limit: u32| world.limit(limit, world.people.request());
    // Field 3 of Validate is a number, and of this it is bytes.
    let shapeless = session::SessionRecord { device_key: raw(&[1; 32]), ..session::SessionRecord::default() };
    let stolen = Call::Path("/kindred.session.v1.Session/Steal", session::SessionRecord::default());
    vec![
        invalid("an empty Validate", validate(b"", b""), "account"),
        invalid("a session of 15 bytes", validate(b"ann", &[1; 15]), "session"),
        invalid("an account of 65 bytes", validate(&[b'a'; 65], &[1; 16]), "account"),
        invalid("an empty list", session::ListSessionsRequest::default(), "account"),
        invalid("a why without a name", nameless, "which"),
        invalid("an empty RotateDeviceKey", session::RotateDeviceKeyRequest::default(), "proof"),
        invalid("a phone that does not say who stays", world.replacement(None), "keep_companions"),
        invalid("a phone that does not prove its key", world.replacement(Some(true)), "possession"),
        invalid("an empty Register", account::RegisterRequest::default(), "proof"),
        invalid("an empty Open", pairing::OpenTicketRequest::default(), "proof"),
        invalid("a watch of nothing", pairing::WatchTicketRequest::default(), "ticket"),
        invalid("a ref of 33 bytes", world.scan(&[9; 33]), "reference"),
        invalid("no companions at all", limit(0), "limit"),
        invalid("too many companions", limit(65), "limit"),
        invalid("an envelope over 64 KiB", envelope(ENVELOPE_BYTES_MAX + 1), "envelope"),
        invalid("a message over 128 KiB", envelope(4 * ENVELOPE_BYTES_MAX), ""),
        invalid("a body of another shape", Call::Path("/kindred.session.v1.Session/Validate", shapeless), ""),
        Row { code: Code::Unimplemented, ..invalid("a method that there is not", stolen, "") },
    ]
}

/// Signed by somebody else, for something else, or by somebody who may not.
fn by_others(world: &World) -> Vec<Row> {
    let stranger = Member { device: world.people.device(), ..world.phone.clone() };
    let mut swapped = world.unlink(&world.phone, &world.companion.session);
    swapped.session = raw(world.phone.session.as_bytes());
    let other_key = Approve { device_key: stranger.device.key(), ..world.shown.approve().unwrap() };
    let other_key = world.client.approval(&world.phone, &other_key, world.people.request());
    let mut other_envelope = world.approval(&world.shown);
    other_envelope.envelope = raw(b"another envelope");
    let mut forged = world.approval(&world.shown);
    forged.approval.as_mut().unwrap().signature = raw(&[5; 64]);
    let ticket = world.shown.qr.ticket().unwrap();
    let cancelled = pairing::CancelTicketRequest {
        proof: Some(stranger.device.sign_cancel(world.people.request(), &ticket)),
        ticket: raw(ticket.as_bytes()),
    };
    let watched = pairing::WatchTicketRequest {
        ticket: raw(ticket.as_bytes()),
        access: Some(pairing::watch_ticket_request::Access::WatchSecret(raw(&[3; 32]))),
    };
    let claimed = world.registration(&world.phone.account, REGIONS[1]);
    vec![
        row("an unlink without a proof", session::UnlinkRequest::default(), Reason::CallerNotAllowed),
        row("a logout of others without a proof", session::UnlinkOthersRequest::default(), Reason::CallerNotAllowed),
        row("a pin without a proof", session::PinRequest::default(), Reason::CallerNotAllowed),
        row("a replacement without a proof", account::ReplacePrimaryRequest::default(), Reason::CallerNotAllowed),
        row("a deletion without a proof", account::DeleteRequest::default(), Reason::CallerNotAllowed),
        row("a lock by anybody", account::LockRequest::default(), Reason::CallerNotAllowed),
        row("an unlock by anybody", account::UnlockRequest::default(), Reason::CallerNotAllowed),
        row("a deletion by a companion", world.deletion(&world.companion), Reason::CallerNotAllowed),
        row("an unlink by a stranger", world.unlink(&stranger, &world.companion.session), Reason::ProofInvalid),
        row("an unlink of another session", swapped, Reason::ProofInvalid),
        row("an approval of another key", other_key, Reason::ApprovalInvalid),
        row("an approval with another envelope", other_envelope, Reason::ApprovalInvalid),
        row("a forged approval", forged, Reason::ProofInvalid),
        row("a ticket under another's key", world.opening(&stranger.device), Reason::ProofInvalid),
        row("a cancel by a stranger", cancelled, Reason::ProofInvalid),
        row("a watch with a wrong secret", watched, Reason::ProofInvalid),
        row("an account that is taken", claimed, Reason::AccountExists),
        row("a session that ended", world.unlink(&world.unlinked, &world.sibling.session), Reason::SignedOut),
        row("a young session", world.unlink(&world.companion, &world.sibling.session), Reason::QuarantinedActor),
        row("an unlink of the primary", world.unlink(&world.companion, &world.phone.session), Reason::CallerNotAllowed),
        row("another act under an old request id", world.limit(6, world.done), Reason::RequestIdReused),
    ]
}

/// Accounts, sessions, tickets, regions and versions that are not there.
async fn unknown(world: &World) -> Vec<Row> {
    let nobody = account::GetAccountRequest { account: raw(b"nobody"), home_region: String::new() };
    let list = session::ListSessionsRequest { account: raw(b"nobody"), home_region: REGIONS[1].to_owned() };
    let never = SessionId([8; 16]);
    let why = session::WhySignedOutRequest {
        account: world.account(),
        which: Some(session::why_signed_out_request::Which::Session(raw(never.as_bytes()))),
        home_region: String::new(),
    };
    let approval = |ticket: TicketId| {
        let what = Approve { ticket, ..world.shown.approve().unwrap() };
        world.client.approval(&world.phone, &what, world.people.request())
    };
    let mut unshown = world.shown.qr.reference.clone();
    *unshown.last_mut().unwrap() ^= 1;
    let unscanned = world.people.open(&world.client).await.unwrap();
    let elsewhere = world.registration(&AccountId::new(b"ben").unwrap(), "atlantis");
    let future = session::WatchAccountRequest { account: world.account(), from_set_version: 99, ..Default::default() };
    vec![
        row("an account that is not", nobody, Reason::AccountNotFound),
        row("a list of nobody's sessions", list, Reason::AccountNotFound),
        row("why of a session that never was", why, Reason::SessionUnknown),
        row("an unlink of one that never was", world.unlink(&world.phone, &never), Reason::SessionUnknown),
        row("an approval of no ticket", approval(TicketId([0; 16])), Reason::TicketNotFound),
        row("a ticket of no region", approval(TicketId([0xff; 16])), Reason::TicketNotFound),
        row("a ref that was never shown", world.scan(&unshown), Reason::TicketNotFound),
        row("an approval before the scan", world.approval(&unscanned), Reason::TicketNotReady),
        invalid("a home in no region", elsewhere, "home_region"),
        row("a watch from the future", future, Reason::SetVersionConflict),
    ]
}
