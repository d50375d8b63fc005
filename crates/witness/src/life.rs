//! One attempt at what changes an account beside its links, in the history.

use kindred_check::{Answer, Operation};
use kindred_client::{Device, Error, Member, Operator};
use kindred_core::id::{AccountId, RequestId};
use kindred_core::model::Device as About;
use kindred_wire::pb::account::v1 as account;
use kindred_wire::pb::session::v1 as session;

use crate::{Ask, record};

impl Ask<'_> {
    /// Another phone takes the place of `by`, which must be the primary. `ends` are the sessions that it names, if the caller
    /// knows them.
    pub async fn replace_primary(
        self,
        by: &Member,
        device: &Device,
        (about, keep_companions): (&About, bool),
        request: RequestId,
    ) -> Result<(Member, account::ReplacePrimaryReply), Error> {
        let op = Operation::ReplacePrimary {
            account: by.account.to_string(),
            device_key: device.key().to_string(),
            keep_companions,
            request: request.to_string(),
            ends: None,
        };
        let call = self.client.replace_primary(by, device, about, keep_companions, request);
        self.attempt(op, call, |(_, reply)| record::primary_replaced(reply)).await
    }

    /// An operator puts `device` in the primary's place.
    pub async fn give_primary(
        self,
        of: &AccountId,
        device: &Device,
        (about, keep_companions): (&About, bool),
        request: RequestId,
    ) -> Result<(Member, account::ReplacePrimaryReply), Error> {
        let op = Operation::ReplacePrimary {
            account: of.to_string(),
            device_key: device.key().to_string(),
            keep_companions,
            request: request.to_string(),
            ends: None,
        };
        let operator = Operator { client: self.client, account: of, request };
        let call = operator.replace_primary(device, about, keep_companions);
        self.attempt(op, call, |(_, reply)| record::primary_replaced(reply)).await
    }

    /// The session of `by` gets the key of `device`.
    pub async fn rotate_key(
        self,
        by: &Member,
        device: &Device,
        request: RequestId,
    ) -> Result<(Member, session::RotateDeviceKeyReply), Error> {
        let op = Operation::RotateKey {
            account: by.account.to_string(),
            session: by.session.to_string(),
            device_key: device.key().to_string(),
            request: request.to_string(),
        };
        let call = self.client.rotate_key(by, device, request);
        let answer = |(_, reply): &(Member, session::RotateDeviceKeyReply)| Answer {
            log_index: Some(reply.log_index),
            ..Answer::default()
        };
        self.attempt(op, call, answer).await
    }

    /// An operator locks an account.
    pub async fn lock(self, of: &AccountId, request: RequestId) -> Result<account::LockReply, Error> {
        let op = Operation::Lock { account: of.to_string(), request: request.to_string() };
        let operator = Operator { client: self.client, account: of, request };
        let answer = |reply: &account::LockReply| Answer { log_index: Some(reply.log_index), ..Answer::default() };
        self.attempt(op, operator.lock(), answer).await
    }

    /// An operator unlocks it.
    pub async fn unlock(self, of: &AccountId, request: RequestId) -> Result<account::UnlockReply, Error> {
        let op = Operation::Unlock { account: of.to_string(), request: request.to_string() };
        let operator = Operator { client: self.client, account: of, request };
        let answer = |reply: &account::UnlockReply| Answer { log_index: Some(reply.log_index), ..Answer::default() };
        self.attempt(op, operator.unlock(), answer).await
    }
}
