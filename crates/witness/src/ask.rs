//! One attempt at each operation of an account and its sessions, in the history.

use kindred_check::{Answer, Level, Operation, Outcome, Recorder};
use kindred_client::{Client, Device, Error, Member};
use kindred_core::id::{AccountId, RequestId, SessionId};
use kindred_core::model::Device as About;
use kindred_wire::convert::raw;
use kindred_wire::pb::account::v1 as account;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;

use crate::{record, refusal};

/// Somebody who asks one node, once.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Where it is written down.
    pub recorder: &'a Recorder,
    /// Whom it asks. What a client with more patience than one attempt does by itself stands as one operation.
    pub client: &'a Client,
    /// Its name in the history.
    pub who: &'a str,
}

impl Ask<'_> {
    /// One attempt at `op`, whatever it is.
    pub async fn attempt<T>(
        self,
        op: Operation,
        call: impl Future<Output = Result<T, Error>>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<T, Error> {
        let pending = self.recorder.call(self.who, op);
        let result = call.await;
        let outcome = match &result {
            Ok(reply) => Outcome::Ok(Box::new(answer(reply))),
            Err(error) => refusal(error).map_or(Outcome::Unknown, Outcome::Refused),
        };
        self.recorder.done(pending, outcome);
        result
    }

    /// A phone makes an account.
    pub async fn register(
        self,
        device: &Device,
        id: &AccountId,
        (about, home_region): (&About, &str),
        request: RequestId,
    ) -> Result<(Member, account::RegisterReply), Error> {
        let op = Operation::Register { account: id.to_string(), device_key: device.key().to_string() };
        let call = self.client.register(device, id, about, home_region, request);
        self.attempt(op, call, |(_, reply)| record::registered(reply)).await
    }

    /// Ends `target`, asked for by `by`.
    pub async fn unlink(
        self,
        by: &Member,
        target: &SessionId,
        request: RequestId,
    ) -> Result<session::UnlinkReply, Error> {
        let op = Operation::Unlink {
            account: by.account.to_string(),
            session: target.to_string(),
            request: request.to_string(),
        };
        self.attempt(op, self.client.unlink(by, target, request), record::unlinked).await
    }

    /// Ends everybody but `by`.
    pub async fn unlink_others(self, by: &Member, request: RequestId) -> Result<session::UnlinkOthersReply, Error> {
        let op = Operation::UnlinkOthers {
            account: by.account.to_string(),
            keep: by.session.to_string(),
            request: request.to_string(),
            set_version: None,
        };
        let mut by = by.clone();
        let call = async { self.client.unlink_others(&mut by, request).await };
        self.attempt(op, call, record::unlinked_others).await
    }

    /// The session set, linearizably.
    pub async fn list(self, of: &AccountId) -> Result<session::ListSessionsReply, Error> {
        let op = Operation::List { account: of.to_string(), level: Level::Linearizable };
        self.attempt(op, self.client.sessions(of, ""), record::listed).await
    }

    /// One question about one session.
    pub async fn validate(
        self,
        (of, target): (&AccountId, SessionId),
        level: Level,
    ) -> Result<session::ValidateReply, Error> {
        let asked = match level {
            Level::Linearizable => session::Level::Linearizable,
            Level::Local => session::Level::Local,
        };
        let request = session::ValidateRequest {
            account: raw(of.as_bytes()),
            session: raw(target.as_bytes()),
            level: asked.into(),
            ..session::ValidateRequest::default()
        };
        let op = Operation::Validate { account: of.to_string(), session: target.to_string(), level };
        self.attempt(op, self.client.validate(request), record::validated).await
    }

    /// Why a session was signed out.
    pub async fn why(self, of: &AccountId, target: SessionId) -> Result<session::WhySignedOutReply, Error> {
        let op = Operation::Why { account: of.to_string(), session: target.to_string() };
        let which = Which::Session(raw(target.as_bytes()));
        self.attempt(op, self.client.why(of, which, ""), record::explained).await
    }
}
