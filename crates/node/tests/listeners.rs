//! What the listeners of a node take from whoever connects: real sockets, small limits.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use kindred_node::Limits;
use kindred_wire::caller::{Caller, Role};
use kindred_wire::net::{Net as _, Stream, Tcp, channel};
use kindred_wire::pb::account::v1::account_client::AccountClient;
use kindred_wire::pb::account::v1::{GetAccountRequest, GetClusterRequest};
use kindred_wire::reason::Reason;
use support::{Alone, Handshake, SOON, answers, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const SHORT: Duration = Duration::from_millis(200);

/// Reads until the other end closes.
async fn closed(stream: &mut Stream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the connection is kept");
}

#[tokio::test]
async fn whoever_says_nothing_is_not_kept_and_holds_up_nobody() {
    let alone = Alone::start(Limits { handshake_within: SHORT, ..Limits::default() }).await;
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut silent = Tcp.dial(alone.gateway.clone()).await.unwrap();
        silent.write_all(said).await.unwrap();
        answers(&alone.client()).await.unwrap();
        closed(&mut silent).await;
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut() {
    let limits = Limits { handshake_within: SHORT, ..Limits::default() };
    let alone = Alone::start_with(limits, Handshake::Stalls, None).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(Tcp.dial(alone.gateway.clone()).await.unwrap());
    }
    for stream in &mut streams {
        closed(stream).await;
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_there_is_room_again_when_another_goes() {
    let alone = Alone::start(Limits { connections_max: 2, ..Limits::default() }).await;
    let (first, second) = (alone.client(), alone.client());
    answers(&first).await.unwrap();
    answers(&second).await.unwrap();
    let mut third = Tcp.dial(alone.gateway.clone()).await.unwrap();
    closed(&mut third).await;
    answers(&second).await.unwrap();
    drop(first);
    eventually("room for another", async || answers(&alone.client()).await.is_ok()).await;
}

#[tokio::test]
async fn a_handshake_under_way_takes_a_place() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let alone = Alone::start_with(limits, Handshake::Stalls, None).await;
    let _under_way = Tcp.dial(alone.gateway.clone()).await.unwrap();
    let mut another = Tcp.dial(alone.gateway.clone()).await.unwrap();
    closed(&mut another).await;
}

#[tokio::test]
async fn an_old_connection_goes_away_and_its_client_does_not_notice() {
    let limits = Limits { connection_age: SHORT, connection_grace: SOON, ..Limits::default() };
    let alone = Alone::start(limits).await;
    let client = alone.client();
    let before = alone.accepted.load(Ordering::SeqCst);
    // What is under way on the first connection goes on.
    let mut watch = HealthClient::new(client.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    eventually("three connections", async || {
        answers(&client).await.unwrap();
        alone.accepted.load(Ordering::SeqCst) >= before + 3
    })
    .await;
    let next = futures::poll!(std::pin::pin!(watch.message()));
    assert!(next.is_pending(), "the watch was cut within its grace: {next:?}");
}

#[tokio::test]
async fn a_stream_that_outlives_the_grace_is_cut() {
    let limits = Limits { connection_age: SHORT, connection_grace: SHORT, ..Limits::default() };
    let alone = Alone::start(limits).await;
    let mut watch = HealthClient::new(alone.client()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let end = tokio::time::timeout(SOON, watch.message()).await.expect("the stream is kept");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_with_a_reason() {
    let alone = Alone::start(Limits::default()).await;
    let mut client = AccountClient::new(alone.client());
    let request = |bytes: usize| GetAccountRequest { account: vec![b'a'; bytes].into(), ..Default::default() };
    let status = client.get_account(request(128 * 1024)).await.unwrap_err();
    assert_eq!((status.code(), Reason::of(&status)), (Code::InvalidArgument, Some(Reason::InvalidRequest)));
    // The connection is as good as before.
    let status = client.get_cluster(GetClusterRequest::default()).await.unwrap_err();
    assert_eq!(Reason::of(&status), Some(Reason::ShardUnavailable));
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let alone = Alone::start(Limits { header_bytes_max: 4_096, ..Limits::default() }).await;
    let client = alone.client();
    let call = async |bytes: usize| {
        let mut request = Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert("x-large", "a".repeat(bytes).parse().unwrap());
        HealthClient::new(client.clone()).check(request).await
    };
    assert!(call(1_000).await.is_ok());
    assert!(call(8_000).await.is_err());
    assert!(call(1_000).await.is_ok());
}

#[tokio::test]
async fn a_stream_too_many_waits_for_another_to_end() {
    let alone = Alone::start(Limits { streams_per_connection_max: 2, ..Limits::default() }).await;
    let client = alone.client();
    // The client learns the limit from the first answer.
    answers(&client).await.unwrap();
    let watch = async || {
        let mut watch =
            HealthClient::new(client.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        watch.message().await.unwrap().unwrap();
        watch
    };
    let (first, _second) = (watch().await, watch().await);
    let mut third = Box::pin(answers(&client));
    // Another connection's calls come and go, and this one still waits.
    for _ in 0..20 {
        assert!(futures::poll!(third.as_mut()).is_pending());
        answers(&alone.client()).await.unwrap();
    }
    drop(first);
    third.await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_nobody_is_let_in_unless_plaintext_was_asked_for() {
    let alone = Alone::start_with(Limits::default(), Handshake::None, None).await;
    let mut stream = Tcp.dial(alone.gateway.clone()).await.unwrap();
    closed(&mut stream).await;
    assert!(answers(&alone.client()).await.is_err());
}

#[tokio::test]
async fn a_role_reaches_what_is_its_own_on_every_listener() {
    for (role, gateway_reason, peer_is_allowed) in [
        (Role::Gateway, Some(Reason::ShardUnavailable), false),
        (Role::Operator, Some(Reason::ShardUnavailable), false),
        (Role::Node, Some(Reason::CallerNotAllowed), true),
    ] {
        let caller = Caller { role, name: "b".into() };
        let alone = Alone::start_with(Limits::default(), Handshake::Proves(caller), None).await;
        answers(&alone.client()).await.unwrap();
        let status = AccountClient::new(alone.client()).get_cluster(GetClusterRequest::default()).await.unwrap_err();
        assert_eq!(Reason::of(&status), gateway_reason, "{role:?}");
        let met = hello(&alone, "b").await;
        assert_eq!(met.is_ok(), peer_is_allowed, "{role:?}: {met:?}");
        if let Err(status) = met {
            assert_eq!(Reason::of(&status), Some(Reason::CallerNotAllowed), "{role:?}");
        }
    }
}

#[tokio::test]
async fn a_node_that_claims_another_name_than_its_certificates_is_told_nothing() {
    let caller = |name: &str| Caller { role: Role::Node, name: name.into() };
    let honest = Alone::start_with(Limits::default(), Handshake::Proves(caller("b")), None).await;
    let answer = hello(&honest, "b").await.unwrap();
    assert_eq!((answer.failure, answer.payload.is_empty()), (0, false), "{answer:?}");
    let liar = Alone::start_with(Limits::default(), Handshake::Proves(caller("c")), None).await;
    let answer = hello(&liar, "b").await.unwrap();
    assert_eq!((answer.failure, answer.payload.is_empty()), (REFUSED, true), "{answer:?}");
}

/// FAILURE_REFUSED of peer.proto.
const REFUSED: i32 = 7;

#[derive(Clone, PartialEq, prost::Message)]
struct Frames {
    #[prost(message, repeated, tag = "1")]
    frames: Vec<Frame>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(int32, tag = "4")]
    kind: i32,
    #[prost(bytes = "vec", tag = "5")]
    payload: Vec<u8>,
    #[prost(int32, tag = "6")]
    failure: i32,
}

/// Introduces itself to the node port as an empty node of this name.
async fn hello(alone: &Alone, name: &str) -> Result<Frame, tonic::Status> {
    // No cluster, a node id, the name.
    let mut payload = vec![0];
    payload.extend_from_slice(&7_u64.to_be_bytes());
    payload.push(u8::try_from(name.len()).unwrap());
    payload.extend_from_slice(name.as_bytes());
    let first = Frames { frames: vec![Frame { kind: 1, payload, failure: 0 }] };
    let mut grpc = tonic::client::Grpc::new(channel(std::sync::Arc::new(Tcp), &alone.peer).unwrap());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Frames, Frames>::default();
    let path = http::uri::PathAndQuery::from_static("/kindred.raft.v1.Peer/Exchange");
    let requests = Request::new(futures::stream::iter([first]));
    let exchange = async {
        let mut answers = grpc.streaming(requests, path, codec).await?.into_inner();
        Ok(answers.message().await?.expect("an answer").frames.remove(0))
    };
    tokio::time::timeout(SOON, exchange).await.expect("no answer")
}
