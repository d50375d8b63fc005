//! No status leaves without details, whoever made it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use kindred_core::id::RegionIndex;
use kindred_wire::reason::Reason;
use support::{Cluster, Groups, MemoryShards, Seen};
use tonic::{Code, Status};
use tower::ServiceExt as _;

async fn status_of(path: &str, body: &str) -> Status {
    let cluster = Cluster::start().await;
    let shards = Arc::new(MemoryShards::at(Groups::new(), RegionIndex(0)));
    let routes = kindred_frontend::services(shards, Arc::new(Seen::default()), cluster.env.clone());
    let request = http::Request::post(path).header("content-type", "application/grpc").body(body.to_owned()).unwrap();
    let response = routes.oneshot(request).await.unwrap();
    Status::from_header_map(response.headers()).expect("trailers-only")
}

#[tokio::test]
async fn what_tonic_answers_has_details_too() {
    let validate = "/kindred.session.v1.Session/Validate";
    for (path, body, code) in [
        ("/kindred.session.v1.Session/NoSuchMethod", "", Code::Unimplemented),
        ("/no.such.Service/Method", "", Code::Unimplemented),
        // Not protobuf; cut off; a megabyte announced; a compression that nobody offered; nothing at all.
        (validate, "\0\0\0\0\x03\x0f\x0f\x0f", Code::InvalidArgument),
        (validate, "\0\0\0\0\x7fabc", Code::InvalidArgument),
        (validate, "\0\0\x10\0\0", Code::InvalidArgument),
        (validate, "\x01\0\0\0\x03abc", Code::InvalidArgument),
        (validate, "", Code::InvalidArgument),
        // Well-formed, and refused by us.
        (validate, "\0\0\0\0\0", Code::InvalidArgument),
    ] {
        let status = status_of(path, body).await;
        assert_eq!((status.code(), Reason::of(&status)), (code, Some(Reason::InvalidRequest)), "{path} {body:?}");
    }
}
