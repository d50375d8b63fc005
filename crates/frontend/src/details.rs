//! No status leaves without details. Our own carry them; what tonic itself answers (an unknown method, a body that does
//! not decode, a message that is too large) gets them here, because a tower layer sees answers and an interceptor does not.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use kindred_wire::reason::Reason;
use kindred_wire::status::explained;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::metrics;

const GRPC_STATUS: &str = "grpc-status";
const GRPC_DETAILS: &str = "grpc-status-details-bin";

/// Puts the layer around all of `routes`.
pub fn mandatory(routes: Routes) -> Routes {
    Routes::from(routes.into_axum_router().layer(Mandatory))
}

/// The layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mandatory;

impl<S> Layer<S> for Mandatory {
    type Service = Explaining<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Explaining(inner)
    }
}

/// What [`Mandatory`] makes of a service.
#[derive(Clone, Debug)]
pub struct Explaining<S>(S);

impl<S, Req, Res> Service<Request<Req>> for Explaining<S>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    S::Future: Send + 'static,
    Res: Body<Data = Bytes> + Unpin,
{
    type Response = Response<Explained<Res>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            explain(response.headers_mut());
            Ok(response.map(Explained))
        })
    }
}

/// A body whose trailers carry details.
#[derive(Debug)]
pub struct Explained<B>(B);

impl<B: Body<Data = Bytes> + Unpin> Body for Explained<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_ok(|frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                explain(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Adds details to a status that has none, and counts every refusal.
fn explain(headers: &mut HeaderMap) {
    let failed = headers.get(GRPC_STATUS).is_some_and(|code| code.as_bytes() != b"0");
    if !failed {
        return;
    }
    let Some(mut status) = Status::from_header_map(headers) else { return };
    if !headers.contains_key(GRPC_DETAILS) {
        let (code, reason) = classify(status.code());
        status = explained(&status, code, reason);
        // It cannot fail: the message was a header already, and details are base64.
        let _ = status.add_header(headers);
    }
    let reason = Reason::of(&status).map_or("none", Reason::name);
    ::metrics::counter!(metrics::REFUSALS, "reason" => reason).increment(1);
}

/// What a status without details must have meant, and the code that it goes out under.
fn classify(code: Code) -> (Code, Reason) {
    match code {
        // Probing for a method is not an error of form; tools rely on this very code.
        Code::Unimplemented => (code, Reason::InvalidRequest),
        // tonic says INTERNAL of a body that does not decode and OUT_OF_RANGE of one that is too large.
        Code::Internal | Code::OutOfRange | Code::InvalidArgument => (Code::InvalidArgument, Reason::InvalidRequest),
        Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
            (code, Reason::InvalidRequest)
        }
        Code::ResourceExhausted | Code::Unavailable => (Code::Unavailable, Reason::Overloaded),
        Code::PermissionDenied | Code::Unauthenticated => (Code::PermissionDenied, Reason::CallerNotAllowed),
        Code::Cancelled | Code::DeadlineExceeded | Code::Unknown | Code::DataLoss | Code::Ok => {
            (Code::Unavailable, Reason::OutcomeUnknown)
        }
    }
}
