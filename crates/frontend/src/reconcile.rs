//! Session/Reconcile: a view is compared with the set, at the account's home. Nothing is ever written.

use kindred_core::arguments::{self, METHOD_RECONCILE};
use kindred_core::command::{Answer, Compared, Query};
use kindred_core::id::{AccountId, RegionIndex};
use kindred_core::model::Role;
use kindred_core::reconcile::{Believed, Set, omitted};
use kindred_wire::bundle::named;
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::reason::Reason;
use kindred_wire::reconcile::{believed_in, compared};
use kindred_wire::shards::Consistency;
use kindred_wire::status::Failure;

use crate::front::{Asked, Front, unexpected};

impl Front {
    pub(crate) async fn reconcile_view(&self, request: pb::ReconcileRequest) -> Result<pb::ReconcileReply, Failure> {
        let account = convert::account_id(&request.account, "account")?;
        let believed = believed_in(request.set_version, request.view)?;
        let asked = match request.proof {
            Some(proof) => {
                let (proof, key) = convert::proof_in(Some(proof))?;
                Some(Asked { proof, key })
            }
            None => None,
        };
        let query = Query::Reconcile(account.clone(), believed.clone());
        let (home, observed) =
            self.query_account(&account, &request.home_region, query, Consistency::Linearizable).await?;
        let answer = match observed.answer {
            Answer::Reconcile(Some(answer)) => answer,
            Answer::Reconcile(None) => return Err(Failure::new(Reason::AccountNotFound)),
            _ => return Err(unexpected()),
        };
        if let Some(asked) = asked {
            self.proved(home, &account, &asked, &believed, &answer).await?;
        }
        Ok(compared(&answer))
    }

    /// A device proves that it is a live session of the account; a list is the primary's to sign, and whole.
    async fn proved(
        &self,
        home: RegionIndex,
        account: &AccountId,
        asked: &Asked,
        believed: &Believed,
        answer: &Compared,
    ) -> Result<(), Failure> {
        let session = asked.session()?;
        if asked.account()? != *account {
            return Err(Failure::new(Reason::ProofInvalid));
        }
        let arguments = arguments::reconcile(account, believed);
        let Some(actor) = answer.account.sessions.iter().find(|s| s.id == session) else {
            return Err(self.not_live(home, asked, METHOD_RECONCILE, &arguments).await);
        };
        if !self.verifies(&actor.device_key, METHOD_RECONCILE, &asked.proof, &arguments) {
            return Err(Failure::new(Reason::ProofInvalid));
        }
        if asked.proof.auth_epoch != answer.account.auth_epoch {
            return Err(Failure::new(Reason::EpochChanged).with("auth_epoch", answer.account.auth_epoch));
        }
        let Set::Sessions(sessions) = &believed.set else { return Ok(()) };
        if actor.role != Role::Primary {
            return Err(Failure::new(Reason::CallerNotAllowed));
        }
        match omitted(&answer.account, sessions) {
            lacking if lacking.is_empty() => Ok(()),
            #[cfg(kindred_mutants)]
            lacking if kindred_core::mutants::is("reconcile-drops-missing") => {
                self.drop_by_mistake(home, account, lacking.iter().map(|s| s.id)).await
            }
            lacking => Err(Failure::new(Reason::WouldDropSiblings)
                .with("sessions", named(lacking.into_iter().map(|s| &s.id)))
                .with("set_version", answer.account.set_version)),
        }
    }

    /// Makes the set what the list says.
    #[cfg(kindred_mutants)]
    async fn drop_by_mistake(
        &self,
        home: RegionIndex,
        account: &AccountId,
        sessions: impl Iterator<Item = kindred_core::id::SessionId>,
    ) -> Result<(), Failure> {
        use kindred_core::command::{Command, Envelope, Proven};
        for session in sessions {
            let envelope = Envelope {
                request: kindred_core::id::RequestId(self.env().random()),
                policy_version: 0,
                proven: Proven::Operator("reconcile".into()),
                command: Command::Unlink { account: account.clone(), session },
            };
            self.submit(self.account_shard(home, account)?, crate::front::by_cluster(envelope)).await?;
        }
        Ok(())
    }
}
