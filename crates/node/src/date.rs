//! The `date` header from the node's own clock: hyper would take the machine's, and simulated runs would differ.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use kindred_core::env::Env;

/// Sets `date` on every response.
#[derive(Clone)]
pub struct DateLayer(Env);

impl DateLayer {
    /// From this clock.
    pub fn new(env: Env) -> Self {
        Self(env)
    }
}

impl<S> tower::Layer<S> for DateLayer {
    type Service = Dated<S>;

    fn layer(&self, inner: S) -> Dated<S> {
        Dated { inner, env: self.0.clone() }
    }
}

/// See [`DateLayer`].
#[derive(Clone)]
pub struct Dated<S> {
    inner: S,
    env: Env,
}

impl<S, Q, B> tower::Service<Q> for Dated<S>
where
    S: tower::Service<Q, Response = http::Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let reply = self.inner.call(request);
        let env = self.env.clone();
        Box::pin(async move {
            let mut reply = reply.await?;
            let now = UNIX_EPOCH + Duration::from_millis(env.clock.wall_ms());
            if let Ok(date) = http::HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
                reply.headers_mut().insert(http::header::DATE, date);
            }
            Ok(reply)
        })
    }
}
