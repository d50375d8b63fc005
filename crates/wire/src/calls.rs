//! What carries the calls to one address: HTTP/2 over the bytes of a [`Net`], or the Net itself.
//!
//! A network that carries whole calls has no connections, no handshakes and no HTTP/2. Simulations have one, for speed and
//! for faults that strike whole messages; what is called and what answers is the same.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::TryFutureExt as _;
use futures::future::{Either, MapErr};
use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::net::{Net, channel, channel_to_node};

/// Why a call came to no answer. Where it is a [`tonic::Status`], that is what the caller sees.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Calls to one address of a network that carries whole calls.
pub type CallService = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;
/// What a listener serves: every call has an answer.
pub type ServedCalls = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

type Http2Call = <Channel as Service<Request<Body>>>::Future;
type DirectCall = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// Calls to one address; a clone shares what carries them. tonic's clients take it like a channel.
#[derive(Clone)]
pub enum Calls {
    /// HTTP/2 over bytes.
    Http2(Channel),
    /// Whole calls.
    Direct(CallService),
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Either<MapErr<Http2Call, fn(tonic::transport::Error) -> BoxError>, DirectCall>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Http2(channel) => channel.poll_ready(cx).map_err(Into::into),
            Self::Direct(calls) => calls.poll_ready(cx),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Http2(channel) => {
                Either::Left(channel.call(request).map_err(BoxError::from as fn(tonic::transport::Error) -> BoxError))
            }
            Self::Direct(calls) => Either::Right(calls.call(request)),
        }
    }
}

/// Calls to `address` through `net`. Over bytes: see [`channel`].
pub fn calls(net: Arc<dyn Net>, address: &str) -> Result<Calls, tonic::transport::Error> {
    match net.calls(address) {
        Some(calls) => Ok(Calls::Direct(calls)),
        None => channel(net, address).map(Calls::Http2),
    }
}

/// The same to the node of that name. Over bytes: see [`channel_to_node`].
pub fn calls_to_node(net: Arc<dyn Net>, address: &str, name: &str) -> Result<Calls, tonic::transport::Error> {
    match net.calls(address) {
        Some(calls) => Ok(Calls::Direct(calls)),
        None => channel_to_node(net, address, name).map(Calls::Http2),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tower::ServiceExt as _;

    use super::*;
    use crate::net::{Listener, Stream};
    use crate::shards::BoxFuture;

    /// Carries whole calls to `here`, and nothing to anywhere else.
    struct Whole;

    impl Net for Whole {
        fn dial(&self, _: String) -> BoxFuture<'static, io::Result<Stream>> {
            Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
        }

        fn calls(&self, address: &str) -> Option<CallService> {
            let answer = |request: Request<Body>| async move {
                let path = request.uri().path().to_owned();
                Ok::<_, BoxError>(Response::builder().header("path", path).body(Body::empty())?)
            };
            (address == "here:1").then(|| CallService::new(tower::service_fn(answer)))
        }

        fn listen(&self, _: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
            Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
        }
    }

    fn asked(address: &str) -> Result<String, BoxError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(async {
            let calls = calls(Arc::new(Whole), address)?;
            let request = Request::builder().uri("/a.B/C").body(Body::empty())?;
            let answer = calls.oneshot(request).await?;
            Ok(answer.headers().get("path").ok_or("no header")?.to_str()?.to_owned())
        })
    }

    #[test]
    fn a_network_that_carries_calls_is_called_and_any_other_is_dialled() {
        assert_eq!(asked("here:1").unwrap(), "/a.B/C");
        assert!(asked("elsewhere:1").unwrap_err().is::<tonic::transport::Error>(), "a channel that cannot connect");
    }
}
