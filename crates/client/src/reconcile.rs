//! Reconcile: a gateway asks how a view stands, a device proves who asks, a primary signs its list.

use kindred_core::arguments;
use kindred_core::id::{AccountId, RequestId};
use kindred_core::reconcile::Believed;
use kindred_wire::convert::raw;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::session_client::SessionClient;
use kindred_wire::reconcile::believed;

use crate::{Client, Error, Member};

impl Client {
    /// How a view stands to the set; as a gateway, for any account.
    pub async fn reconcile(
        &self,
        account: &AccountId,
        view: &Believed,
        home_region: &str,
    ) -> Result<pb::ReconcileReply, Error> {
        self.send_view(account, view, home_region, None).await
    }

    /// The same, signed by a device of the account. A list is the primary's to sign; one that lacks a live session is
    /// WOULD_DROP_SIBLINGS.
    pub async fn reconcile_signed(
        &self,
        member: &Member,
        view: &Believed,
        request: RequestId,
    ) -> Result<pb::ReconcileReply, Error> {
        let hash = arguments::reconcile(&member.account, view);
        let proof = member.sign(arguments::METHOD_RECONCILE, request, &hash);
        self.send_view(&member.account, view, &member.home_region, Some(proof)).await
    }

    async fn send_view(
        &self,
        account: &AccountId,
        view: &Believed,
        home_region: &str,
        proof: Option<pb::DeviceProof>,
    ) -> Result<pb::ReconcileReply, Error> {
        let message = pb::ReconcileRequest {
            account: raw(account.as_bytes()),
            home_region: home_region.to_owned(),
            set_version: view.set_version,
            view: Some(believed(view)),
            proof,
        };
        self.call(message, async |c, r| SessionClient::new(c).reconcile(r).await).await
    }
}
