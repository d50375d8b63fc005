//! No call is worked on for longer than its caller waits, nor longer than the configuration allows. A stream counts only
//! until it begins.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use kindred_wire::reason::Reason;
use kindred_wire::status::Failure;
use tonic::Status;
use tonic::service::Routes;
use tower::{Layer, Service};

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// Digits of `grpc-timeout`, by the protocol.
const DIGITS_MAX: usize = 8;

/// Puts the layer around all of `routes`.
pub(crate) fn bounded(routes: Routes, within: Duration) -> Routes {
    Routes::from(routes.into_axum_router().layer(Deadline(within)))
}

#[derive(Clone, Copy, Debug)]
struct Deadline(Duration);

impl<S> Layer<S> for Deadline {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Bounded { inner, within: self.0 }
    }
}

#[derive(Clone, Debug)]
struct Bounded<S> {
    inner: S,
    within: Duration,
}

impl<S, Req, Res> Service<Request<Req>> for Bounded<S>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    S::Future: Send + 'static,
    Res: Default,
{
    type Response = Response<Res>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let within = asked(request.headers()).map_or(self.within, |asked| asked.min(self.within));
        let answer = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(within, answer).await {
                Ok(answered) => answered,
                // It may have been proposed: the same request id tells.
                Err(_) => Ok(Status::from(Failure::new(Reason::OutcomeUnknown)).into_http()),
            }
        })
    }
}

/// What the caller says that it waits, if it says so properly.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_has_an_unknown_outcome() {
        let endless = tower::service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, ()>>());
        for (header, within_ms) in [(None, 30_000), (Some("250m"), 250), (Some("1H"), 30_000), (Some("soon"), 30_000)] {
            let mut request = Request::new(());
            if let Some(header) = header {
                request.headers_mut().insert(GRPC_TIMEOUT, http::HeaderValue::from_static(header));
            }
            let started = tokio::time::Instant::now();
            let answer = Deadline(Duration::from_secs(30)).layer(endless).call(request).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(Reason::of(&status), Some(Reason::OutcomeUnknown));
            // Virtual time: it moves by exactly what is waited for.
            assert_eq!(started.elapsed().as_millis(), within_ms, "{header:?}");
        }
    }

    #[test]
    fn a_timeout_is_read_as_the_protocol_says() {
        let read = |text: &str| {
            let value = http::HeaderValue::from_str(text).unwrap();
            asked(&[(http::HeaderName::from_static(GRPC_TIMEOUT), value)].into_iter().collect())
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for wrong in ["", "S", "5", "5s", "-1S", "+5S", "123456789S", "5 S", "5é"] {
            assert_eq!(http::HeaderValue::from_str(wrong).ok().and_then(|_| read(wrong)), None, "{wrong}");
        }
    }
}
