//! One listener: how many connections, for how long, and what each of them may cost before it has said anything.
//!
//! tonic's own server knows no jitter of ages and no bound on connections or handshakes, so the loop over connections is
//! here; what is served is tonic's.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kindred_core::env::Env;
use kindred_frontend::seldom::Seldom;
use kindred_wire::caller::{Caller, Role};
use kindred_wire::calls::ServedCalls;
use kindred_wire::net::{Listener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::{Layer as _, ServiceExt as _};

use crate::date::{DateLayer, Dated};
use crate::limits::Limits;
use crate::metrics::{CONNECTIONS, CONNECTIONS_AGED, CONNECTIONS_REFUSED};

/// Length of the bytes that open an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
/// After an accept that failed, of want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener and what it serves.
pub(crate) struct Served {
    /// For metrics: `gateway` or `node`.
    pub(crate) name: &'static str,
    pub(crate) routes: Dated<Routes>,
    pub(crate) limits: Limits,
    pub(crate) connections_max: usize,
    pub(crate) connection_age: Duration,
    /// Who a connection is from that proves nothing; none refuses it.
    pub(crate) unproven: Option<Role>,
    pub(crate) env: Env,
    pub(crate) told: Seldom,
}

/// Serves until `stop`, then lets every connection finish what it has. Aborting it cuts them.
pub(crate) fn spawn(served: Served, listener: Box<dyn Listener>, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(Arc::new(served).run(listener, stop))
}

impl Served {
    /// `routes` behind the method table, with the bounds of the gateway listener.
    pub(crate) fn new(name: &'static str, routes: Routes, unproven: Option<Role>, limits: Limits, env: &Env) -> Self {
        let guarded = kindred_frontend::access::guarded(routes, env.clone()).prepare();
        Self {
            name,
            routes: DateLayer::new(env.clone()).layer(guarded),
            limits,
            connections_max: limits.connections_max,
            connection_age: limits.connection_age,
            unproven,
            env: env.clone(),
            told: Seldom::new(env.clone()),
        }
    }

    async fn run(self: Arc<Self>, mut listener: Box<dyn Listener>, stop: CancellationToken) {
        if self.unproven.is_some_and(|role| listener.serve_calls(self.calls(role))) {
            // There are no connections; dropping the listener ends what is under way.
            return stop.cancelled().await;
        }
        let room = Arc::new(Semaphore::new(self.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            let Ok(stream) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                self.refuse("full");
                continue;
            };
            let secured = listener.secure(stream);
            let (served, stop) = (self.clone(), stop.clone());
            connections.spawn(async move {
                if let Some((stream, caller)) = served.admit(secured).await {
                    let _open = Open::new(served.name);
                    served.serve(stream, caller, stop).await;
                }
                drop(permit);
            });
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// What is served, for a network that carries whole calls.
    fn calls(&self, role: Role) -> ServedCalls {
        let caller = Caller::unproven(role);
        ServedCalls::new(self.routes.clone().map_request(move |mut request: http::Request<tonic::body::Body>| {
            request.extensions_mut().insert(caller.clone());
            request
        }))
    }

    fn refuse(&self, why: &'static str) {
        metrics::counter!(CONNECTIONS_REFUSED, "listener" => self.name, "why" => why).increment(1);
    }

    /// The handshake, within its time.
    async fn admit(&self, secured: impl Future<Output = io::Result<Stream>>) -> Option<(Stream, Caller)> {
        let stream = match timeout(self.limits.handshake_within, secured).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                if self.told.may() {
                    tracing::info!(listener = self.name, %error, "a connection was refused");
                }
                self.refuse("handshake");
                return None;
            }
            Err(_) => {
                self.refuse("late");
                return None;
            }
        };
        let Some(caller) = stream.caller().cloned().or_else(|| self.unproven.map(Caller::unproven)) else {
            self.refuse("handshake");
            return None;
        };
        Some((stream, caller))
    }

    async fn serve(&self, stream: Stream, caller: Caller, stop: CancellationToken) {
        let limits = &self.limits;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_per_connection_max)
            .max_header_list_size(limits.header_bytes_max)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_within);
        let routes = self.routes.clone();
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let mut request = request.map(tonic::body::Body::new);
            request.extensions_mut().insert(caller.clone());
            routes.clone().oneshot(request)
        });
        let stream = Prompt::new(stream, limits.handshake_within);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut is_leaving = false;
        let mut alarm = pin!(sleep(jittered(self.connection_age, &self.env)));
        loop {
            tokio::select! {
                biased;
                served = connection.as_mut() => {
                    if let Err(error) = served {
                        tracing::debug!(listener = self.name, %error, "a connection broke");
                    }
                    return;
                }
                () = stop.cancelled(), if !is_leaving => {}
                () = alarm.as_mut() => {
                    if is_leaving {
                        return;
                    }
                    metrics::counter!(CONNECTIONS_AGED, "listener" => self.name).increment(1);
                }
            }
            // GOAWAY: no new calls, those under way go on.
            connection.as_mut().graceful_shutdown();
            is_leaving = true;
            alarm.as_mut().reset(Instant::now() + limits.connection_grace);
        }
    }
}

/// Give or take a tenth, so that connections that were made together do not all end together.
fn jittered(age: Duration, env: &Env) -> Duration {
    let drawn = u32::from(u16::from_be_bytes(env.random()));
    age.mul_f64(0.9 + 0.2 * f64::from(drawn) / f64::from(u16::MAX))
}

/// Counts a connection for as long as it is there.
struct Open(&'static str);

impl Open {
    fn new(listener: &'static str) -> Self {
        metrics::gauge!(CONNECTIONS, "listener" => listener).increment(1.0);
        Self(listener)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(CONNECTIONS, "listener" => self.0).decrement(1.0);
    }
}

/// A stream that must open its HTTP/2 connection in time: TLS or not, whoever says nothing is not kept.
struct Prompt {
    stream: Stream,
    deadline: Option<Pin<Box<Sleep>>>,
    read_bytes: usize,
}

impl Prompt {
    fn new(stream: Stream, within: Duration) -> Self {
        Self { stream, deadline: Some(Box::pin(sleep_until(Instant::now() + within))), read_bytes: 0 }
    }
}

impl AsyncRead for Prompt {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(deadline) = &mut self.deadline {
            let late = deadline.as_mut().poll(cx).is_ready();
            self.read_bytes += buf.filled().len() - before;
            if self.read_bytes >= PREFACE_BYTES {
                self.deadline = None;
            } else if late {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time")));
            }
        }
        polled
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
