//! Verdicts on sessions: one at a time, and many on a stream.
//!
//! **Invariant:** SIGNED_OUT comes only from a committed tombstone or its stub. No answer, an unknown session, a replica
//! that is behind: all are UNDETERMINED.

use std::collections::BTreeMap;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use kindred_core::command::{Answer, Brief, Query, SessionStatus};
use kindred_core::id::{AccountId, SessionId, ShardId};
use kindred_core::limits::SESSIONS_ASKED_MAX;
use kindred_core::model::Session;
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_wire::reason::Reason;
use kindred_wire::shards::{Consistency, Observed};
use kindred_wire::status::{Failure, RETRY_AFTER_MS};
use tonic::{Status, Streaming};

use crate::front::{Front, invalid};

/// Messages of one stream that are worked on at once. The next one is not read before the first of them is answered.
const BATCHES_AT_ONCE: usize = 8;
/// Questions of one message that are asked one by one at once, since nobody knew where their accounts live.
const SINGLES_AT_ONCE: usize = 16;

/// Answers to the messages of one stream.
pub(crate) type Replies = BoxStream<'static, Result<pb::ValidateStreamReply, Status>>;

/// Answers message by message, in order; the first one that is no question ends the stream.
pub(crate) fn replies(front: Front, messages: Streaming<pb::ValidateStreamRequest>) -> Replies {
    let answered = messages.map_ok(move |message| {
        let front = front.clone();
        async move { front.verdicts(message).await.map_err(Status::from) }
    });
    answered.try_buffered(BATCHES_AT_ONCE).boxed()
}

/// A question whose ids can be.
struct Asked {
    account: AccountId,
    session: SessionId,
    min_set_version: u64,
    /// Its place in the message.
    at: usize,
}

impl Front {
    /// A malformed request is refused; everything else is a verdict.
    pub(crate) async fn verdict(&self, request: pb::ValidateRequest) -> Result<pb::ValidateReply, Failure> {
        let account = convert::account_id(&request.account, "account")?;
        let session = convert::session_id(&request.session, "session")?;
        let level = consistency(request.level)?;
        let query = Query::Session(account.clone(), session);
        let observed = match self.query_account(&account, &request.home_region, query, level).await {
            Ok((_, observed)) => observed,
            #[cfg(kindred_mutants)]
            Err(_) if kindred_core::mutants::is("failure-is-signed-out") => {
                return Ok(signed_out_by_mistake());
            }
            Err(failure) => return Ok(undetermined(failure.reason, failure.retry_after_ms)),
        };
        let Answer::Session { status, set_version } = &observed.answer else {
            return Ok(undetermined(Reason::ShardUnavailable, None));
        };
        #[cfg(kindred_mutants)]
        if *status == SessionStatus::Unknown && kindred_core::mutants::is("unknown-is-signed-out") {
            return Ok(signed_out_by_mistake());
        }
        let (brief, record) = split(status);
        Ok(told(&observed, brief, record, *set_version, request.min_set_version))
    }

    async fn verdicts(&self, message: pb::ValidateStreamRequest) -> Result<pb::ValidateStreamReply, Failure> {
        let level = consistency(message.level)?;
        let questions = &message.questions;
        if questions.is_empty() || questions.len() > SESSIONS_ASKED_MAX {
            return Err(invalid("questions"));
        }
        let mut replies = vec![malformed(); questions.len()];
        let (mut by_shard, mut singles) = (BTreeMap::<ShardId, Vec<Asked>>::new(), Vec::new());
        for asked in questions.iter().enumerate().filter_map(|(at, question)| asked(at, question)) {
            match self.likely_shard(&asked.account, &message.home_region) {
                Some(shard) => by_shard.entry(shard).or_default().push(asked),
                None => singles.push(asked),
            }
        }
        let asking = by_shard.into_iter().map(|(shard, asked)| self.ask(shard, asked, level));
        for (asked, observed) in futures::future::join_all(asking).await {
            singles.extend(put(&mut replies, asked, &observed));
        }
        let alone = singles.into_iter().map(|asked| async {
            let at = asked.at;
            (at, self.alone(asked, message.level).await)
        });
        let mut alone = stream::iter(alone).buffer_unordered(SINGLES_AT_ONCE);
        while let Some((at, reply)) = alone.next().await {
            replies[at] = reply;
        }
        Ok(pb::ValidateStreamReply { batch: message.batch, replies })
    }

    async fn ask(
        &self,
        shard: ShardId,
        asked: Vec<Asked>,
        level: Consistency,
    ) -> (Vec<Asked>, Result<Observed, Failure>) {
        let sessions = asked.iter().map(|asked| (asked.account.clone(), asked.session)).collect();
        let observed = self.query(shard, Query::Sessions(sessions), level).await;
        (asked, observed.map_err(Failure::from))
    }

    /// By way of the directory, as [`Front::verdict`].
    async fn alone(&self, asked: Asked, level: i32) -> pb::ValidateReply {
        let request = pb::ValidateRequest {
            account: convert::raw(asked.account.as_bytes()),
            session: convert::raw(asked.session.as_bytes()),
            level,
            min_set_version: asked.min_set_version,
            home_region: String::new(),
        };
        match self.verdict(request).await {
            Ok(reply) => without_record(reply),
            Err(failure) => undetermined(failure.reason, failure.retry_after_ms),
        }
    }
}

fn consistency(level: i32) -> Result<Consistency, Failure> {
    match pb::Level::try_from(level) {
        Ok(pb::Level::Local) => Ok(Consistency::Local),
        Ok(pb::Level::Linearizable | pb::Level::Unspecified) => Ok(Consistency::Linearizable),
        Err(_) => Err(invalid("level")),
    }
}

fn asked(at: usize, question: &pb::Question) -> Option<Asked> {
    let account = AccountId::new(&question.account)?;
    let session = SessionId::from_slice(&question.session)?;
    Some(Asked { account, session, min_set_version: question.min_set_version, at })
}

/// Puts a shard's answers in their places; returns the questions about accounts that do not live there.
fn put(replies: &mut [pb::ValidateReply], asked: Vec<Asked>, observed: &Result<Observed, Failure>) -> Vec<Asked> {
    let (observed, answers) = match observed {
        Ok(observed @ Observed { answer: Answer::Sessions(answers), .. }) if answers.len() == asked.len() => {
            (observed, answers)
        }
        Ok(_) => {
            asked.iter().for_each(|asked| replies[asked.at] = undetermined(Reason::ShardUnavailable, None));
            return Vec::new();
        }
        Err(failure) => {
            let reply = undetermined(failure.reason, failure.retry_after_ms);
            asked.iter().for_each(|asked| replies[asked.at] = reply.clone());
            return Vec::new();
        }
    };
    let mut elsewhere = Vec::new();
    for (asked, (brief, set_version)) in asked.into_iter().zip(answers) {
        match set_version {
            Some(_) => replies[asked.at] = told(observed, brief.clone(), None, *set_version, asked.min_set_version),
            None => elsewhere.push(asked),
        }
    }
    elsewhere
}

/// A status and the record in it.
fn split(status: &SessionStatus) -> (Brief, Option<&Session>) {
    match status {
        SessionStatus::Active(session) => (Brief::Active, Some(session)),
        SessionStatus::Suspended { session, since_ms } => (Brief::Suspended { since_ms: *since_ms }, Some(session)),
        SessionStatus::Ended(tombstone) => (Brief::Ended(tombstone.clone()), None),
        SessionStatus::Stub(stub) => (Brief::Stub(*stub), None),
        SessionStatus::Unknown => (Brief::Unknown, None),
    }
}

/// What a shard's answer says of a session.
fn told(
    observed: &Observed,
    brief: Brief,
    record: Option<&Session>,
    set_version: Option<u64>,
    min_set_version: u64,
) -> pb::ValidateReply {
    let is_behind = set_version.is_none_or(|version| version < min_set_version);
    let session = record.map(convert::session);
    let verdict = match brief {
        Brief::Ended(tombstone) => {
            Verdict::SignedOut(pb::SignedOut { tombstone: Some(convert::tombstone(&tombstone)) })
        }
        Brief::Stub(stub) => Verdict::SignedOut(pb::SignedOut { tombstone: Some(convert::stub(&stub)) }),
        Brief::Active if !is_behind => Verdict::Valid(pb::Valid { session }),
        Brief::Suspended { since_ms } if !is_behind => {
            Verdict::Suspended(pb::Suspended { since_ms: observed.shard_time_ms.saturating_sub(since_ms), session })
        }
        Brief::Active | Brief::Suspended { .. } => no_verdict(Reason::ShardUnavailable, None),
        Brief::Unknown if set_version.is_none() => no_verdict(Reason::AccountNotFound, None),
        Brief::Unknown => no_verdict(Reason::SessionUnknown, None),
    };
    pb::ValidateReply {
        verdict: Some(verdict),
        set_version: set_version.unwrap_or_default(),
        age_ms: observed.age_ms,
        shard_time_ms: observed.shard_time_ms,
        applied_index: observed.applied_index,
    }
}

fn without_record(mut reply: pb::ValidateReply) -> pb::ValidateReply {
    match &mut reply.verdict {
        Some(Verdict::Valid(valid)) => valid.session = None,
        Some(Verdict::Suspended(suspended)) => suspended.session = None,
        _ => {}
    }
    reply
}

fn malformed() -> pb::ValidateReply {
    pb::ValidateReply { verdict: Some(Verdict::Malformed(pb::Malformed {})), ..pb::ValidateReply::default() }
}

fn no_verdict(reason: Reason, retry_after_ms: Option<u64>) -> Verdict {
    let retry_after_ms = retry_after_ms.unwrap_or(RETRY_AFTER_MS);
    Verdict::Undetermined(pb::Undetermined { retry_after_ms, reason: reason.proto().into() })
}

#[cfg(kindred_mutants)]
fn signed_out_by_mistake() -> pb::ValidateReply {
    pb::ValidateReply { verdict: Some(Verdict::SignedOut(pb::SignedOut::default())), ..pb::ValidateReply::default() }
}

fn undetermined(reason: Reason, retry_after_ms: Option<u64>) -> pb::ValidateReply {
    pb::ValidateReply { verdict: Some(no_verdict(reason, retry_after_ms)), ..pb::ValidateReply::default() }
}
