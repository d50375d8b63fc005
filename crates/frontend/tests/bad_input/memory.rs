//! What a message that is too large costs the server before it is refused.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use kindred_wire::caller::Caller;
use kindred_wire::reason::Reason;
use tonic::Status;
use tower::ServiceExt as _;

use crate::table::TABLE;
use crate::world::{World, roles};

/// Nothing of the message is held but the frame that it began in, so this is for the call itself.
const BYTES_MAX: u64 = 64 * 1_024;

/// A body in the frames that HTTP/2 cuts it into.
struct Framed(Bytes);

impl Body for Framed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let end = self.0.len().min(16 * 1_024);
        let next = self.0.split_to(end);
        Poll::Ready((!next.is_empty()).then_some(Ok(Frame::data(next))))
    }
}

async fn trailers(mut body: tonic::body::Body) -> Option<http::HeaderMap> {
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(trailers) = frame.unwrap().into_trailers() {
            return Some(trailers);
        }
    }
    None
}

#[test]
fn a_message_that_is_too_large_is_refused_by_its_announced_length() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    // A length of 5 MiB with as many bytes, and one of 2 GiB with ten.
    let whole = [&[0, 0, 0x50, 0, 0][..], &[b'a'; 0x50_0000]].concat();
    for body in [whole, b"\0\x7F\x7F\x7F\x7Ften bytes.".to_vec()].map(Bytes::from) {
        for row in TABLE {
            let request = http::Request::post(format!("/{}", row.method)).header("content-type", "application/grpc");
            let mut request = request.body(Framed(body.clone())).unwrap();
            request.extensions_mut().insert(Caller::unproven(roles(row.method)[0]));
            let routes = world.routes.clone();
            let mut status = None;
            let taken = allocation_counter::measure(|| {
                status = runtime.block_on(async {
                    let response = routes.oneshot(request).await.unwrap();
                    match Status::from_header_map(response.headers()) {
                        // A stream of requests is answered before the first of them is read; then the status comes last.
                        None => Status::from_header_map(&trailers(response.into_body()).await?),
                        status => status,
                    }
                });
            });
            assert_eq!(status.as_ref().and_then(Reason::of), Some(Reason::InvalidRequest), "{}", row.method);
            assert!(taken.bytes_max < BYTES_MAX, "{}: {} bytes were held", row.method, taken.bytes_max);
        }
    }
}
