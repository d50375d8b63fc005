//! A client of Kindred: device keys that prove and approve, every call with retries, and watches that resume.
//!
//! ```text
//!   Device / Member ─sign─► Client ─► node a ┐ UNAVAILABLE, OUTCOME_UNKNOWN: the same request id,
//!                                  ─► node b ┘ the next node, after a pause; bounded
//! ```
//!
//! Owns: signing, retrying, resuming. Must not know: what the answers are used for. **Invariant:** one call is one request
//! id and one set of arguments, however many attempts it takes; it is signed anew only where the cluster asks for another
//! nonce.
//!
//! Reading order: [`device`], [`Client`], [`watch`], [`chain`].

mod admin;
mod calls;
pub mod chain;
mod codes;
pub mod device;
mod life;
mod nonces;
mod operator;
mod reconcile;
pub mod watch;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kindred_wire::calls::{Calls, calls};
use kindred_wire::convert::Invalid;
use kindred_wire::net::Net;
use kindred_wire::nonce;
use kindred_wire::reason::{Reason, Retry};
use kindred_wire::status::{metadata, retry_after};
use tonic::{Code, Status};

use crate::device::Signing;

pub use admin::AccountExport;
pub use calls::Approve;
pub use chain::{Broken, View};
pub use device::{Device, Member, Qr, request_id};
pub use operator::Operator;

/// A call is signed again so often, at most: once for the nonce, and once more if the first was another shard's, because
/// the home region that it named was not the account's.
const RESIGNS_MAX: u32 = 2;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Refused, or still failing after the last attempt.
    #[error("{}: {}", self.reason().map_or("no reason", Reason::name), .0.message())]
    Status(Box<Status>),
    /// An answer that does not decode.
    #[error(transparent)]
    Malformed(#[from] Invalid),
    /// An address that is none.
    #[error("cannot connect: {0}")]
    Address(#[from] tonic::transport::Error),
    /// A client needs at least one address.
    #[error("no address given")]
    NoAddress,
}

impl Error {
    /// Why it was refused; `None` if nobody said.
    pub fn reason(&self) -> Option<Reason> {
        self.status().and_then(Reason::of)
    }

    /// The status as received.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// A number that the refusal carries, `auth_epoch` of EPOCH_CHANGED, say.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.status().and_then(|status| metadata(status).get(key)?.parse().ok())
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// How patient a client is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Most attempts at one call.
    pub attempts: u32,
    /// One attempt may take this long; then the outcome counts as unknown.
    pub attempt: Duration,
    /// First pause; doubled up to [`Self::pause_max`] unless the answer says better.
    pub pause: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 30,
            attempt: Duration::from_secs(15),
            pause: Duration::from_millis(50),
            pause_max: Duration::from_secs(1),
        }
    }
}

/// Calls any of several nodes. A clone shares connections.
#[derive(Clone)]
pub struct Client {
    channels: Vec<Calls>,
    preferred: Arc<AtomicUsize>,
    patience: Patience,
}

impl Client {
    /// A client of the nodes at `addresses` (`host:port`), in order of preference. Connects when first used.
    pub fn connect(net: Arc<dyn Net>, addresses: &[String]) -> Result<Self, Error> {
        if addresses.is_empty() {
            return Err(Error::NoAddress);
        }
        let channels = addresses.iter().map(|a| calls(net.clone(), a)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { channels, preferred: Arc::default(), patience: Patience::default() })
    }

    /// The same client with other patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The node that is asked first just now.
    fn channel(&self) -> (usize, Calls) {
        let at = self.preferred.load(Ordering::Relaxed) % self.channels.len();
        (at, self.channels[at].clone())
    }

    /// Prefers the node after `failed` from now on, unless somebody has moved on already.
    fn leave(&self, failed: usize) {
        let next = (failed + 1) % self.channels.len();
        let _ = self.preferred.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Calls until an answer, a refusal that waiting does not help, or the last attempt.
    async fn call<Req, Rep, F>(&self, request: Req, call: impl Fn(Calls, Req) -> F) -> Result<Rep, Error>
    where
        Req: Clone,
        F: Future<Output = Result<tonic::Response<Rep>, Status>>,
    {
        self.answered(request, &call).await.map(tonic::Response::into_inner)
    }

    /// The same for a signed request: where another nonce is asked for, it is signed again with that, under the same
    /// request id. Every reply brings the nonce for the next one.
    async fn signed<Req, Rep, F>(
        &self,
        by: &[Signing<'_>],
        sign: impl Fn() -> Req,
        call: impl Fn(Calls, Req) -> F,
    ) -> Result<Rep, Error>
    where
        Req: Clone,
        F: Future<Output = Result<tonic::Response<Rep>, Status>>,
    {
        let mut stale = 0;
        loop {
            match self.answered(sign(), &call).await {
                Ok(reply) => {
                    if let Some(nonce) = nonce::of_reply(reply.metadata()) {
                        by.iter().for_each(|signing| signing.keep(&nonce));
                    }
                    return Ok(reply.into_inner());
                }
                Err(error) => match error.status().and_then(nonce::of_status) {
                    Some(nonce) if stale < RESIGNS_MAX => {
                        stale += 1;
                        by.iter().for_each(|signing| signing.keep(&nonce));
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    async fn answered<Req, Rep, F>(
        &self,
        request: Req,
        call: &impl Fn(Calls, Req) -> F,
    ) -> Result<tonic::Response<Rep>, Error>
    where
        Req: Clone,
        F: Future<Output = Result<tonic::Response<Rep>, Status>>,
    {
        let mut attempt = 0;
        loop {
            let (at, channel) = self.channel();
            let answer = tokio::time::timeout(self.patience.attempt, call(channel, request.clone())).await;
            let status = match answer {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            attempt += 1;
            if !may_retry(&status) || attempt >= self.patience.attempts {
                return Err(status.into());
            }
            self.leave(at);
            tokio::time::sleep(self.pause(&status, attempt)).await;
        }
    }

    fn pause(&self, status: &Status, attempt: u32) -> Duration {
        let doubled = self.patience.pause.saturating_mul(1 << attempt.saturating_sub(1).min(10));
        retry_after(status).unwrap_or(doubled).min(self.patience.pause_max)
    }
}

/// True where the same signed request may be sent again. A status without a reason came from the connection, and says
/// nothing about what happened: the request id makes another attempt safe.
fn may_retry(status: &Status) -> bool {
    match Reason::of(status) {
        Some(reason) => matches!(reason.retry(), Retry::After | Retry::SameRequestId),
        None => matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal
        ),
    }
}
