//! kindred.session.v1.Session.

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

use crate::front::{Asked, Front, invalid, unexpected};
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
        Ok(Response::new(self.unlink_one(request.into_inner()).await?))
    }

    async fn unlink_others(
        &self,
        request: Request<pb::UnlinkOthersRequest>,
    ) -> Result<Response<pb::UnlinkOthersReply>, Status> {
        Ok(Response::new(self.unlink_all_others(request.into_inner()).await?))
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
            Err(failure) => return Ok(undetermined(failure.reason, failure.retry_after_ms)),
        };
        let Answer::Session { status, set_version } = observed.answer else {
            return Ok(undetermined(Reason::ShardUnavailable, None));
        };
        let behind = set_version.is_none_or(|version| version < request.min_set_version);
        let verdict = match status {
            SessionStatus::Ended(tombstone) => {
                Verdict::SignedOut(pb::SignedOut { tombstone: Some(convert::tombstone(&tombstone)) })
            }
            SessionStatus::Active(live) if !behind => {
                Verdict::Valid(pb::Valid { session: Some(convert::session(&live)) })
            }
            SessionStatus::Active(_) => no_verdict(Reason::ShardUnavailable, None),
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
        })
    }

    async fn unlink_one(&self, request: pb::UnlinkRequest) -> Result<pb::UnlinkReply, Failure> {
        let (proof, key) = convert::proof_in(request.proof)?;
        let asked = Asked { proof, key };
        let account = asked.account()?;
        asked.session()?;
        let session = convert::session_id(&request.session, "session")?;
        let command = Command::Unlink { account: account.clone(), session };
        match self.submit_account(&account, &request.home_region, &asked, command).await? {
            (Outcome::Ended(tombstone), committed) => Ok(pb::UnlinkReply {
                already_ended: tombstone.command != asked.proof.request,
                tombstone: Some(convert::tombstone(&tombstone)),
                log_index: committed.log_index,
            }),
            _ => Err(unexpected()),
        }
    }

    /// Names what it ends: the sessions of the set_version read here. If the set changes in between, nothing ends.
    async fn unlink_all_others(&self, request: pb::UnlinkOthersRequest) -> Result<pb::UnlinkOthersReply, Failure> {
        let (proof, key) = convert::proof_in(request.proof)?;
        let asked = Asked { proof, key };
        let (account, keep) = (asked.account()?, asked.session()?);
        let (home, found, _) = self.account(&account, &request.home_region).await?;
        let command = Command::UnlinkOthers { account: account.clone(), keep, set_version: found.set_version };
        match self.submit_account(&account, &self.region_name(home), &asked, command).await? {
            (Outcome::EndedOthers { tombstones, set_version, auth_epoch }, committed) => Ok(pb::UnlinkOthersReply {
                tombstones: tombstones.iter().map(convert::tombstone).collect(),
                set_version,
                auth_epoch,
                log_index: committed.log_index,
            }),
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
            Answer::Session { status: SessionStatus::Active(session), .. } => Why::Active(convert::session(&session)),
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

fn undetermined(reason: Reason, retry_after_ms: Option<u64>) -> pb::ValidateReply {
    pb::ValidateReply { verdict: Some(no_verdict(reason, retry_after_ms)), ..pb::ValidateReply::default() }
}
