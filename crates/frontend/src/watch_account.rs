//! WatchAccount: every membership change after a version, in order and without gaps; whatever else changed, as it now is;
//! requests to be linked by code ([`crate::watch_requests`]).

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use kindred_core::command::{Aggregate, Answer, Query};
use kindred_core::id::{AccountId, ShardId};
use kindred_core::model::{Account, Deletion, SetChange};
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::watch_account_reply::Event;
use kindred_wire::reason::Reason;
use kindred_wire::reconcile as convert_view;
use kindred_wire::shards::Consistency;
use kindred_wire::status::Failure;
use tonic::Status;

use crate::front::{Front, unexpected};
use crate::watch_requests::Requests;

/// What the rpc returns.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<pb::WatchAccountReply, Status>> + Send>>;

/// Silence is broken this often.
pub(crate) const HEARTBEAT_MS: u64 = 30_000;
/// News may be missed while a leader changes; look again after this long in any case.
const LOOK_AGAIN_MS: u64 = 5_000;
/// Reads may fail this often in a row before the caller is told to resume elsewhere.
const FAILURES_MAX: u32 = 60;

struct Watch {
    front: Front,
    account: AccountId,
    shard: ShardId,
    // Last version told.
    version: u64,
    // Last record_version told.
    records: u64,
    // Read and not yet told; at most CHANGES_KEPT.
    pending: VecDeque<SetChange>,
    heartbeat_due_ms: u64,
    requests: Requests,
    over: bool,
}

/// What a look found.
enum Seen {
    Account(Box<Account>, Vec<SetChange>),
    Deleted(Deletion),
}

/// Finds the account, then follows it.
pub(crate) async fn watch(front: Front, request: pb::WatchAccountRequest) -> Result<Events, Failure> {
    let account = convert::account_id(&request.account, "account")?;
    let query = Query::Account(account.clone());
    let (home, observed) =
        front.query_account(&account, &request.home_region, query, Consistency::Linearizable).await?;
    let current = match observed.answer {
        Answer::Account(Some(found)) => found.set_version,
        Answer::Deleted(deletion) => deletion.set_version,
        Answer::Account(None) => return Err(Failure::new(Reason::AccountNotFound)),
        _ => return Err(unexpected()),
    };
    // A version that we never gave: another cluster's, or one that a recovery lost. To go on from there would alias.
    if request.from_set_version > current {
        return Err(Failure::new(Reason::SetVersionConflict).with("current", current));
    }
    let shard = front.account_shard(home, &account)?;
    let heartbeat_due_ms = front.env().clock.monotonic_ms() + HEARTBEAT_MS;
    let (version, records) = (request.from_set_version, request.from_record_version);
    #[cfg(kindred_mutants)]
    let version = if kindred_core::mutants::is("watch-resumes-from-latest") { current } else { version };
    let requests = Requests::new(front.clone(), account.clone(), shard);
    let pending = VecDeque::new();
    let watch = Watch { front, account, shard, version, records, pending, heartbeat_due_ms, requests, over: false };
    Ok(Box::pin(futures::stream::unfold(watch, |mut watch| async move {
        if watch.over {
            return None;
        }
        let event = watch.next().await;
        watch.over = matches!(event, Err(_) | Ok(Event::Deleted(_)));
        let reply = event.map(|event| pb::WatchAccountReply { event: Some(event) }).map_err(Status::from);
        Some((reply, watch))
    })))
}

impl Watch {
    async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            let next = self.pending.pop_front();
            #[cfg(kindred_mutants)]
            let next = match (kindred_core::mutants::is("watch-out-of-order"), self.pending.pop_back(), next) {
                (true, Some(last), Some(first)) => {
                    self.pending.push_front(first);
                    Some(last)
                }
                (_, last, first) => {
                    self.pending.extend(last);
                    first
                }
            };
            if let Some(change) = next {
                self.version = change.version;
                return Ok(Event::Change(convert::change(&change)));
            }
            // Listen before looking, or what happens in between is missed.
            let aggregate = Aggregate::Account(self.account.clone());
            let changed = self.front.shards().changed(self.shard, aggregate, LOOK_AGAIN_MS);
            let (account, changes) = match self.look().await? {
                Seen::Account(account, changes) => (account, changes),
                Seen::Deleted(Deletion { set_version, log_index, .. }) => {
                    return Ok(Event::Deleted(pb::AccountDeleted { set_version, log_index }));
                }
            };
            if account.set_version < self.version {
                return Err(Failure::new(Reason::SetVersionConflict).with("current", account.set_version));
            }
            if account.set_version > self.version {
                let gapless = (self.version + 1..).zip(&changes).all(|(version, change)| version == change.version);
                if changes.is_empty() || !gapless {
                    self.version = account.set_version;
                    return Ok(Event::Snapshot(convert_view::snapshot(&account)));
                }
                self.pending = changes.into();
                continue;
            }
            if account.record_version > self.records {
                self.records = account.record_version;
                return Ok(Event::Records(records(&account)));
            }
            if let Some(event) = self.requests.news().await {
                return Ok(event);
            }
            let now_ms = self.front.env().clock.monotonic_ms();
            if now_ms >= self.heartbeat_due_ms {
                self.heartbeat_due_ms = now_ms + HEARTBEAT_MS;
                let set_digest = convert::raw(account.set_digest.as_bytes());
                return Ok(Event::Heartbeat(pb::Heartbeat { set_version: account.set_version, set_digest }));
            }
            let silent = Duration::from_millis(self.heartbeat_due_ms - now_ms);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(silent) => {}
            }
        }
    }

    /// Reads, patiently: a shard without a leader says nothing about the account.
    async fn look(&self) -> Result<Seen, Failure> {
        let mut failures = 0;
        loop {
            let query = Query::Changes(self.account.clone(), self.version);
            let failure = match self.front.query(self.shard, query, Consistency::Linearizable).await {
                Ok(observed) => match observed.answer {
                    Answer::Changes { account: Some(account), changes } => return Ok(Seen::Account(account, changes)),
                    Answer::Deleted(deletion) => return Ok(Seen::Deleted(deletion)),
                    Answer::Changes { account: None, .. } => return Err(Failure::new(Reason::AccountNotFound)),
                    _ => return Err(unexpected()),
                },
                Err(error) => Failure::from(error),
            };
            failures += 1;
            if failures > FAILURES_MAX {
                return Err(failure);
            }
            let pause_ms = failure.retry_after_ms.unwrap_or_default().clamp(50, 1_000);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

fn records(account: &Account) -> pb::Records {
    pb::Records {
        record_version: account.record_version,
        sessions: account.sessions.iter().map(convert::session).collect(),
        set_version: account.set_version,
        auth_epoch: account.auth_epoch,
        locked: account.locked_at_ms.is_some(),
        companion_limit: account.companion_limit,
    }
}
