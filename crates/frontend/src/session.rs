//! kindred.session.v1.Session.

use http::Extensions;
use kindred_core::command::{Answer, Command, Outcome, Query, SessionStatus};
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_wire::pb::session::v1::why_signed_out_reply::Answer as Why;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;
use kindred_wire::reason::Reason;
use kindred_wire::shards::Consistency;
use kindred_wire::status::{Failure, RETRY_AFTER_MS};
use tonic::{Request, Response, Status};

use crate::by::By;
use crate::front::{Answered, Front, invalid, reply, unexpected};
use crate::watch_account;

#[tonic::async_trait]
impl pb::session_server::Session for Front {
    type WatchAccountStream = watch_account::Events;

    async fn validate(&self, request: Request<pb::ValidateRequest>) -> Result<Response<pb::ValidateReply>, Status> {
        Ok(Response::new(self.verdict(request.into_inner()).await?))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsReply>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn unlink(&self, request: Request<pb::UnlinkRequest>) -> Result<Response<pb::UnlinkReply>, Status> {
        let (_, extensions, request) = request.into_parts();
        reply(self.unlink_one(&extensions, request).await)
    }

    async fn unlink_others(
        &self,
        request: Request<pb::UnlinkOthersRequest>,
    ) -> Result<Response<pb::UnlinkOthersReply>, Status> {
        let (_, extensions, request) = request.into_parts();
        reply(self.unlink_all_others(&extensions, request).await)
    }

    async fn pin(&self, request: Request<pb::PinRequest>) -> Result<Response<pb::PinReply>, Status> {
        let (_, extensions, request) = request.into_parts();
        reply(self.pin_session(&extensions, request).await)
    }

    async fn rotate_device_key(
        &self,
        request: Request<pb::RotateDeviceKeyRequest>,
    ) -> Result<Response<pb::RotateDeviceKeyReply>, Status> {
        reply(self.rotate_key(request.into_inner()).await)
    }

    async fn why_signed_out(
        &self,
        request: Request<pb::WhySignedOutRequest>,
    ) -> Result<Response<pb::WhySignedOutReply>, Status> {
        Ok(Response::new(self.why(request.into_inner()).await?))
    }

    async fn reconcile(&self, request: Request<pb::ReconcileRequest>) -> Result<Response<pb::ReconcileReply>, Status> {
        Ok(Response::new(self.reconcile_view(request.into_inner()).await?))
    }

    async fn watch_account(
        &self,
        request: Request<pb::WatchAccountRequest>,
    ) -> Result<Response<Self::WatchAccountStream>, Status> {
        Ok(Response::new(watch_account::watch(self.clone(), request.into_inner()).await?))
    }
}

impl Front {
    /// A malformed request is refused; everything else is a verdict. SIGNED_OUT comes only from a committed tombstone:
    /// no answer, an unknown session, a replica that is behind, all are UNDETERMINED.
    async fn verdict(&self, request: pb::ValidateRequest) -> Result<pb::ValidateReply, Failure> {
        let account = convert::account_id(&request.account, "account")?;
        let session = convert::session_id(&request.session, "session")?;
        let level = match pb::Level::try_from(request.level) {
            Ok(pb::Level::Local) => Consistency::Local,
            Ok(pb::Level::Linearizable | pb::Level::Unspecified) => Consistency::Linearizable,
            Err(_) => return Err(invalid("level")),
        };
        let query = Query::Session(account.clone(), session);
        let observed = match self.query_account(&account, &request.home_region, query, level).await {
            Ok((_, observed)) => observed,
            #[cfg(kindred_mutants)]
            Err(_) if kindred_core::mutants::is("failure-is-signed-out") => {
                return Ok(signed_out_by_mistake());
            }
            Err(failure) => return Ok(undetermined(failure.reason, failure.retry_after_ms)),
        };
        let Answer::Session { status, set_version } = observed.answer else {
            return Ok(undetermined(Reason::ShardUnavailable, None));
        };
        #[cfg(kindred_mutants)]
        if status == SessionStatus::Unknown && kindred_core::mutants::is("unknown-is-signed-out") {
            return Ok(signed_out_by_mistake());
        }
        let behind = set_version.is_none_or(|version| version < request.min_set_version);
        let verdict = match status {
            SessionStatus::Ended(tombstone) => {
                Verdict::SignedOut(pb::SignedOut { tombstone: Some(convert::tombstone(&tombstone)) })
            }
            SessionStatus::Active(live) if !behind => {
                Verdict::Valid(pb::Valid { session: Some(convert::session(&live)) })
            }
            SessionStatus::Suspended { session, since_ms } if !behind => Verdict::Suspended(pb::Suspended {
                since_ms: observed.shard_time_ms.saturating_sub(since_ms),
                session: Some(convert::session(&session)),
            }),
            SessionStatus::Stub(stub) => Verdict::SignedOut(pb::SignedOut { tombstone: Some(convert::stub(&stub)) }),
            SessionStatus::Active(_) | SessionStatus::Suspended { .. } => no_verdict(Reason::ShardUnavailable, None),
            SessionStatus::Unknown if set_version.is_none() => no_verdict(Reason::AccountNotFound, None),
            SessionStatus::Unknown => no_verdict(Reason::SessionUnknown, None),
        };
        Ok(pb::ValidateReply {
            verdict: Some(verdict),
            set_version: set_version.unwrap_or_default(),
            age_ms: observed.age_ms,
            shard_time_ms: observed.shard_time_ms,
            applied_index: observed.applied_index,
        })
    }

    async fn list(&self, request: pb::ListSessionsRequest) -> Result<pb::ListSessionsReply, Failure> {
        let id = convert::account_id(&request.account, "account")?;
        let (home, account, _) = self.account(&id, &request.home_region).await?;
        Ok(pb::ListSessionsReply {
            sessions: account.sessions.iter().map(convert::session).collect(),
            set_version: account.set_version,
            set_digest: convert::raw(account.set_digest.as_bytes()),
            auth_epoch: account.auth_epoch,
            home_region: self.region_name(home),
            companion_limit: account.companion_limit,
            locked: account.locked_at_ms.is_some(),
            record_version: account.record_version,
        })
    }

    async fn unlink_one(&self, extensions: &Extensions, request: pb::UnlinkRequest) -> Answered<pb::UnlinkReply> {
        // A device signs only whom it ends; what an operator knows of a key is not its to say.
        if request.proof.is_some() && request.compromised {
            return Err(invalid("compromised"));
        }
        let by = By::of(extensions, request.proof, &request.account, &request.request_id)?;
        let session = convert::session_id(&request.session, "session")?;
        let account = by.account().clone();
        let command = match request.compromised {
            true => Command::Revoke { account, session },
            false => Command::Unlink { account, session },
        };
        let (outcome, committed) =
            self.submit_account(by.account(), &request.home_region, by.submission(command)).await?;
        let (tombstone, already_ended) = match outcome {
            Outcome::Ended(tombstone) => (convert::tombstone(&tombstone), tombstone.command != by.request()),
            Outcome::EndedBefore(stub) => (convert::stub(&stub), true),
            _ => return Err(unexpected()),
        };
        let log_index = committed.log_index;
        Ok((pb::UnlinkReply { already_ended, tombstone: Some(tombstone), log_index }, committed.nonce))
    }

    /// Names what it ends: the sessions of the set_version read here. If the set changes in between, nothing ends.
    async fn unlink_all_others(
        &self,
        extensions: &Extensions,
        request: pb::UnlinkOthersRequest,
    ) -> Answered<pb::UnlinkOthersReply> {
        let by = By::of(extensions, request.proof, &request.account, &request.request_id)?;
        let keep = match by.session() {
            Some(session) => session,
            None => convert::session_id(&request.keep, "keep")?,
        };
        let (home, found, _) = self.account(by.account(), &request.home_region).await?;
        let command = Command::UnlinkOthers { account: by.account().clone(), keep, set_version: found.set_version };
        match self.submit_account(by.account(), &self.region_name(home), by.submission(command)).await? {
            (Outcome::EndedOthers { tombstones, set_version, auth_epoch }, committed) => {
                let tombstones = tombstones.iter().map(convert::tombstone).collect();
                let log_index = committed.log_index;
                Ok((pb::UnlinkOthersReply { tombstones, set_version, auth_epoch, log_index }, committed.nonce))
            }
            _ => Err(unexpected()),
        }
    }

    async fn why(&self, request: pb::WhySignedOutRequest) -> Result<pb::WhySignedOutReply, Failure> {
        let account = convert::account_id(&request.account, "account")?;
        let query = match request.which.ok_or_else(|| invalid("which"))? {
            Which::Session(id) => Query::Session(account.clone(), convert::session_id(&id, "session")?),
            Which::DeviceKey(key) => Query::SessionByKey(account.clone(), convert::device_key(&key, "device_key")?),
        };
        let (_, observed) =
            self.query_account(&account, &request.home_region, query, Consistency::Linearizable).await?;
        let answer = match observed.answer {
            Answer::Session { status: SessionStatus::Ended(tombstone), .. } => {
                Why::Ended(convert::tombstone(&tombstone))
            }
            Answer::Session { status: SessionStatus::Stub(stub), .. } => Why::Ended(convert::stub(&stub)),
            Answer::Session {
                status: SessionStatus::Active(session) | SessionStatus::Suspended { session, .. },
                ..
            } => Why::Active(convert::session(&session)),
            Answer::Session { set_version: None, .. } => return Err(Failure::new(Reason::AccountNotFound)),
            Answer::Session { .. } => return Err(Failure::new(Reason::SessionUnknown)),
            _ => return Err(unexpected()),
        };
        Ok(pb::WhySignedOutReply { answer: Some(answer) })
    }
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
