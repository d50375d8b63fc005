//! kindred.session.v1.Session.

use http::Extensions;
use kindred_core::command::{Answer, Command, Outcome, Query, SessionStatus};
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::why_signed_out_reply::Answer as Why;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;
use kindred_wire::reason::Reason;
use kindred_wire::shards::Consistency;
use kindred_wire::status::Failure;
use tonic::{Request, Response, Status, Streaming};

use crate::by::By;
use crate::front::{Answered, Front, invalid, reply, unexpected};
use crate::{validate, watch_account};

#[tonic::async_trait]
impl pb::session_server::Session for Front {
    type ValidateStreamStream = validate::Replies;
    type WatchAccountStream = watch_account::Events;

    async fn validate(&self, request: Request<pb::ValidateRequest>) -> Result<Response<pb::ValidateReply>, Status> {
        Ok(Response::new(self.verdict(request.into_inner()).await?))
    }

    async fn validate_stream(
        &self,
        request: Request<Streaming<pb::ValidateStreamRequest>>,
    ) -> Result<Response<Self::ValidateStreamStream>, Status> {
        Ok(Response::new(validate::replies(self.clone(), request.into_inner())))
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
