//! The operations port: plain HTTP/1.1 for whoever watches the process. It tells nothing of accounts and changes nothing.
//!
//! ```text
//!   /livez     200 while the runtime and the disk answer; never a matter of quorum: a restart would not bring one
//!   /readyz    200 while this node serves        /startupz  200 once it belongs to a cluster and runs its replicas
//!   /metrics   Prometheus text                   anything but 200 comes with the reasons, as JSON
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kindred_core::env::Env;
use kindred_replica::Replicas;
use kindred_store::log_writer::LogWriter;
use kindred_wire::net::{Listener, Net, Stream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// A request's head has to come within this time, and an idle connection is kept that long.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// A connection lives that long at most.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at the runtime and the disk.
const BEAT: Duration = Duration::from_millis(500);
/// A runtime that was not seen to run for so long is not alive.
const LOOP_SILENCE_MAX_MS: u64 = 10_000;
/// A log writer that has not got through for so long is not alive: fdatasync hangs.
const DISK_SILENCE_MAX_MS: u64 = 20_000;

/// Renders the metrics as Prometheus text.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// The operations port.
pub struct Options {
    /// Plain sockets.
    pub net: Arc<dyn Net>,
    /// Where it listens, `host:port`.
    pub listen: String,
    /// What /metrics answers.
    pub render: Render,
}

/// When runtime and disk were last seen to work, by the node's monotonic clock, ms.
struct Pulse {
    loop_ms: AtomicU64,
    disk_ms: AtomicU64,
}

impl Pulse {
    fn begin(now_ms: u64) -> Self {
        Self { loop_ms: AtomicU64::new(now_ms), disk_ms: AtomicU64::new(now_ms) }
    }

    /// What was not seen to work for too long, one line each.
    fn silent(&self, now_ms: u64) -> Vec<String> {
        let parts = [
            (&self.loop_ms, LOOP_SILENCE_MAX_MS, "the runtime has run nothing"),
            (&self.disk_ms, DISK_SILENCE_MAX_MS, "the log writer has not got through"),
        ];
        let silent = parts.into_iter().map(|(at, max_ms, what)| {
            let silent_ms = now_ms.saturating_sub(at.load(Ordering::Relaxed));
            (silent_ms > max_ms).then(|| format!("{what} for {silent_ms} ms"))
        });
        silent.flatten().collect()
    }
}

/// What the port tells of.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) log_writer: LogWriter,
    pub(crate) env: Env,
    /// Set as soon as the node is told to stop.
    pub(crate) leaving: CancellationToken,
}

#[derive(Clone)]
struct Told {
    watched: Watched,
    pulse: Arc<Pulse>,
    render: Render,
}

/// Serves until it is aborted.
pub(crate) async fn run(watched: Watched, mut listener: Box<dyn Listener>, render: Render) {
    let now_ms = watched.env.clock.monotonic_ms();
    let pulse = Arc::new(Pulse::begin(now_ms));
    let mut tasks = JoinSet::new();
    tasks.spawn(beat(watched.clone(), pulse.clone()));
    tasks.spawn(probe(watched.clone(), pulse.clone()));
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(rendered))
        .with_state(Told { watched, pulse, render });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok(stream) = accepted else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        if let Ok(permit) = room.clone().try_acquire_owned() {
            let serving = connection(stream, router.clone());
            tasks.spawn(async move {
                let _ = timeout(CONNECTION_WITHIN, serving).await;
                drop(permit);
            });
        }
    }
}

async fn connection(stream: Stream, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(16 * 1024);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of the operations port broke");
    }
}

/// The runtime runs this.
async fn beat(watched: Watched, pulse: Arc<Pulse>) {
    loop {
        pulse.loop_ms.store(watched.env.clock.monotonic_ms(), Ordering::Relaxed);
        sleep(BEAT).await;
    }
}

/// What is looked up rather than counted, at the moment of asking.
fn sample(watched: &Watched) {
    let gauge = |name: &'static str, count: usize| {
        ::metrics::gauge!(name).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    };
    let census = watched.replicas.census();
    gauge(kindred_replica::metrics::SHARDS_HOSTED, census.hosted);
    gauge(kindred_replica::metrics::SHARDS_LED, census.led);
    gauge(kindred_replica::metrics::SHARDS_UNREADY, census.unready);
    gauge(metrics::READY, usize::from(unready(watched).is_empty()));
    let stats = watched.log_writer.stats();
    ::metrics::counter!(metrics::LOG_SYNCS).absolute(stats.syncs);
    ::metrics::counter!(metrics::LOG_BATCHES).absolute(stats.batches);
    ::metrics::counter!(metrics::LOG_BYTES).absolute(stats.bytes);
}

/// Asks whether the log writer gets through. One that has failed ends the process by itself.
async fn probe(watched: Watched, pulse: Arc<Pulse>) {
    loop {
        if watched.log_writer.write(Vec::new()).await.is_ok() {
            pulse.disk_ms.store(watched.env.clock.monotonic_ms(), Ordering::Relaxed);
        }
        sleep(BEAT).await;
    }
}

/// What keeps the node from being ready, one line each.
pub(crate) fn unready(watched: &Watched) -> Vec<String> {
    if watched.leaving.is_cancelled() {
        return vec!["this node is stopping".to_owned()];
    }
    watched.replicas.unready()
}

async fn livez(State(told): State<Told>) -> impl IntoResponse {
    verdict("live", &told.pulse.silent(told.watched.env.clock.monotonic_ms()))
}

async fn readyz(State(told): State<Told>) -> impl IntoResponse {
    verdict("ready", &unready(&told.watched))
}

async fn startupz(State(told): State<Told>) -> impl IntoResponse {
    verdict("started", &told.watched.replicas.unstarted())
}

async fn rendered(State(told): State<Told>) -> impl IntoResponse {
    sample(&told.watched);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (told.render)())
}

/// `{"ready":false,"why":["shard 100: no leader is known"]}`, with 503; or 200 and no reasons.
fn verdict(what: &str, why: &[String]) -> (StatusCode, [(header::HeaderName, &'static str); 1], String) {
    let code = if why.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ what: why.is_empty(), "why": why });
    (code, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_hangs_and_a_runtime_that_stands_still_are_told_apart() {
        let pulse = Pulse::begin(1_000);
        assert!(pulse.silent(1_000 + LOOP_SILENCE_MAX_MS).is_empty());
        pulse.loop_ms.store(40_000, Ordering::Relaxed);
        assert_eq!(pulse.silent(40_000), ["the log writer has not got through for 39000 ms"]);
        pulse.disk_ms.store(60_000, Ordering::Relaxed);
        assert_eq!(pulse.silent(60_000), ["the runtime has run nothing for 20000 ms"]);
    }
}
