//! Calls of an operator: it proves itself by the certificate of its connection, and signs nothing.

use kindred_core::id::{AccountId, RequestId, SessionId};
use kindred_core::model::Device as About;
use kindred_wire::convert::{self, raw};
use kindred_wire::pb::account::v1::account_client::AccountClient;
use kindred_wire::pb::session::v1::session_client::SessionClient;
use kindred_wire::pb::{account::v1 as account, session::v1 as session};

use crate::device::Signing;
use crate::nonces::Topic;
use crate::{Client, Device, Error, Member};

/// An operator's act upon one account. The request id is kept until the act is answered.
pub struct Operator<'a> {
    /// Connected with the operator's certificate.
    pub client: &'a Client,
    /// The account.
    pub account: &'a AccountId,
    /// Idempotency key of the act.
    pub request: RequestId,
}

impl Operator<'_> {
    fn ids(&self) -> (bytes::Bytes, bytes::Bytes) {
        (raw(self.account.as_bytes()), raw(self.request.as_bytes()))
    }

    /// Locks the account; auth_epoch after it.
    pub async fn lock(&self) -> Result<account::LockReply, Error> {
        let (account, request_id) = self.ids();
        let message = account::LockRequest { account, request_id, home_region: String::new() };
        self.client.call(message, async |c, r| AccountClient::new(c).lock(r).await).await
    }

    /// Unlocks it.
    pub async fn unlock(&self) -> Result<account::UnlockReply, Error> {
        let (account, request_id) = self.ids();
        let message = account::UnlockRequest { account, request_id, home_region: String::new() };
        self.client.call(message, async |c, r| AccountClient::new(c).unlock(r).await).await
    }

    /// Changes the companion limit.
    pub async fn set_limit(&self, limit: u32) -> Result<account::SetLimitReply, Error> {
        let (account, request_id) = self.ids();
        let message = account::SetLimitRequest { account, request_id, limit, ..Default::default() };
        self.client.call(message, async |c, r| AccountClient::new(c).set_limit(r).await).await
    }

    /// Puts `device` in the primary's place, or makes it the primary if there is none; `device` proves its key.
    pub async fn replace_primary(
        &self,
        device: &Device,
        about: &About,
        keep_companions: bool,
    ) -> Result<(Member, account::ReplacePrimaryReply), Error> {
        use kindred_core::arguments::{METHOD_REPLACE_PRIMARY, replace_primary};
        let hash = replace_primary(self.account, &device.key(), about, keep_companions);
        let message = || {
            let (account, request_id) = self.ids();
            let possession = device.sign_possession(METHOD_REPLACE_PRIMARY, self.request, self.account, &hash);
            account::ReplacePrimaryRequest {
                possession: Some(possession),
                device_key: raw(device.key().as_bytes()),
                device: Some(convert::device(about)),
                keep_companions: Some(keep_companions),
                account,
                request_id,
                ..account::ReplacePrimaryRequest::default()
            }
        };
        let new = Signing { device, topic: Topic::Account(self.account.clone()) };
        let call = async |c, r| AccountClient::new(c).replace_primary(r).await;
        let reply = self.client.signed(&[new], message, call).await?;
        let member = Member {
            device: device.clone(),
            account: self.account.clone(),
            session: convert::session_id(&reply.session, "session")?,
            auth_epoch: reply.auth_epoch,
            home_region: reply.home_region.clone(),
        };
        Ok((member, reply))
    }

    /// Deletes the account, for good.
    pub async fn delete_account(&self) -> Result<account::DeleteReply, Error> {
        let (account, request_id) = self.ids();
        let message = account::DeleteRequest { account, request_id, ..Default::default() };
        self.client.call(message, async |c, r| AccountClient::new(c).delete(r).await).await
    }

    /// Pins a companion, or lets it go.
    pub async fn pin(&self, target: &SessionId, pinned: bool) -> Result<session::PinReply, Error> {
        let (account, request_id) = self.ids();
        let session = raw(target.as_bytes());
        let message = session::PinRequest { account, request_id, session, pinned, ..Default::default() };
        self.client.call(message, async |c, r| SessionClient::new(c).pin(r).await).await
    }

    /// Ends a session; `compromised` says that its key is in other hands.
    pub async fn unlink(&self, target: &SessionId, compromised: bool) -> Result<session::UnlinkReply, Error> {
        let (account, request_id) = self.ids();
        let session = raw(target.as_bytes());
        let message = session::UnlinkRequest { account, request_id, session, compromised, ..Default::default() };
        self.client.call(message, async |c, r| SessionClient::new(c).unlink(r).await).await
    }

    /// Ends all sessions but the primary's and `keep`.
    pub async fn unlink_others(&self, keep: &SessionId) -> Result<session::UnlinkOthersReply, Error> {
        let (account, request_id) = self.ids();
        let keep = raw(keep.as_bytes());
        let message = session::UnlinkOthersRequest { account, request_id, keep, ..Default::default() };
        self.client.call(message, async |c, r| SessionClient::new(c).unlink_others(r).await).await
    }
}
