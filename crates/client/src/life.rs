//! The life of an account beside its links: calls of its devices.

use kindred_core::arguments;
use kindred_core::id::{RequestId, SessionId};
use kindred_core::model::Device as About;
use kindred_wire::convert::{self, raw};
use kindred_wire::pb::account::v1::account_client::AccountClient;
use kindred_wire::pb::session::v1::session_client::SessionClient;
use kindred_wire::pb::{account::v1 as account, session::v1 as session};

use crate::device::Signing;
use crate::nonces::Topic;
use crate::{Client, Device, Error, Member};

impl Client {
    /// Changes the companion limit.
    pub async fn set_limit(
        &self,
        member: &Member,
        limit: u32,
        request: RequestId,
    ) -> Result<account::SetLimitReply, Error> {
        let hash = arguments::set_limit(&member.account, limit);
        let message = || account::SetLimitRequest {
            proof: Some(member.sign(arguments::METHOD_SET_LIMIT, request, &hash)),
            limit,
            home_region: member.home_region.clone(),
            ..account::SetLimitRequest::default()
        };
        self.signed(&[member.signing()], message, async |c, r| AccountClient::new(c).set_limit(r).await).await
    }

    /// Puts `device` in the place of `member`, which must be the primary; the new member, and whom it replaced.
    pub async fn replace_primary(
        &self,
        member: &Member,
        device: &Device,
        about: &About,
        keep_companions: bool,
        request: RequestId,
    ) -> Result<(Member, account::ReplacePrimaryReply), Error> {
        let hash = arguments::replace_primary(&member.account, &device.key(), about, keep_companions);
        let message = || account::ReplacePrimaryRequest {
            proof: Some(member.sign(arguments::METHOD_REPLACE_PRIMARY, request, &hash)),
            possession: Some(device.sign_possession(
                arguments::METHOD_REPLACE_PRIMARY,
                request,
                &member.account,
                &hash,
            )),
            device_key: raw(device.key().as_bytes()),
            device: Some(convert::device(about)),
            keep_companions: Some(keep_companions),
            home_region: member.home_region.clone(),
            ..account::ReplacePrimaryRequest::default()
        };
        let new = Signing { device, topic: Topic::Account(member.account.clone()) };
        let call = async |c, r| AccountClient::new(c).replace_primary(r).await;
        let reply = self.signed(&[member.signing(), new], message, call).await?;
        let successor = Member {
            device: device.clone(),
            account: member.account.clone(),
            session: convert::session_id(&reply.session, "session")?,
            auth_epoch: reply.auth_epoch,
            home_region: reply.home_region.clone(),
        };
        Ok((successor, reply))
    }

    /// Deletes the account, for good. Asked for by the primary.
    pub async fn delete_account(&self, member: &Member, request: RequestId) -> Result<account::DeleteReply, Error> {
        let hash = arguments::delete(&member.account);
        let message = || account::DeleteRequest {
            proof: Some(member.sign(arguments::METHOD_DELETE, request, &hash)),
            home_region: member.home_region.clone(),
            ..account::DeleteRequest::default()
        };
        self.signed(&[member.signing()], message, async |c, r| AccountClient::new(c).delete(r).await).await
    }

    /// Pins a companion, or lets it go.
    pub async fn pin(
        &self,
        member: &Member,
        target: &SessionId,
        pinned: bool,
        request: RequestId,
    ) -> Result<session::PinReply, Error> {
        let hash = arguments::pin(&member.account, target, pinned);
        let message = || session::PinRequest {
            proof: Some(member.sign(arguments::METHOD_PIN, request, &hash)),
            session: raw(target.as_bytes()),
            pinned,
            home_region: member.home_region.clone(),
            ..session::PinRequest::default()
        };
        self.signed(&[member.signing()], message, async |c, r| SessionClient::new(c).pin(r).await).await
    }

    /// Gives the session of `member` the key of `device`; whoever keeps both must store the new one first.
    pub async fn rotate_key(
        &self,
        member: &Member,
        device: &Device,
        request: RequestId,
    ) -> Result<(Member, session::RotateDeviceKeyReply), Error> {
        let hash = arguments::rotate(&member.account, &member.session, &device.key());
        let message = || session::RotateDeviceKeyRequest {
            proof: Some(member.sign(arguments::METHOD_ROTATE, request, &hash)),
            possession: Some(device.sign_possession(arguments::METHOD_ROTATE, request, &member.account, &hash)),
            device_key: raw(device.key().as_bytes()),
            home_region: member.home_region.clone(),
        };
        let new = Signing { device, topic: Topic::Account(member.account.clone()) };
        let call = async |c, r| SessionClient::new(c).rotate_device_key(r).await;
        let reply = self.signed(&[member.signing(), new], message, call).await?;
        Ok((Member { device: device.clone(), ..member.clone() }, reply))
    }
}
