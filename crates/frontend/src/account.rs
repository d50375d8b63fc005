//! kindred.account.v1.Account.

use kindred_core::arguments::{METHOD_REGISTER, register};
use kindred_core::canonical::{Canonical, DeviceProof};
use kindred_core::command::{Command, Envelope, Outcome, Proven};
use kindred_core::id::{AccountId, ClaimId, DeviceKey, RegionIndex, RequestId};
use kindred_core::model::Role;
use kindred_wire::convert;
use kindred_wire::pb::account::v1 as pb;
use kindred_wire::reason::Reason;
use kindred_wire::status::Failure;
use tonic::{Request, Response, Status};

use crate::front::{Answered, Asked, Front, by_cluster, invalid, reply, unexpected};

#[tonic::async_trait]
impl pb::account_server::Account for Front {
    async fn get_cluster(&self, _: Request<pb::GetClusterRequest>) -> Result<Response<pb::GetClusterReply>, Status> {
        let map = self.shards().map();
        // Whatever a device signed for another cluster's id would be refused for good.
        let cluster = self.shards().cluster().ok_or_else(|| Failure::new(Reason::ShardUnavailable))?;
        Ok(Response::new(pb::GetClusterReply {
            cluster: convert::raw(cluster.as_bytes()),
            regions: map.regions.iter().map(|r| r.name.clone()).collect(),
            region: self.region_name(self.shards().region()),
        }))
    }

    async fn register(&self, request: Request<pb::RegisterRequest>) -> Result<Response<pb::RegisterReply>, Status> {
        reply(self.register_account(request.into_inner()).await)
    }

    async fn get_account(
        &self,
        request: Request<pb::GetAccountRequest>,
    ) -> Result<Response<pb::GetAccountReply>, Status> {
        Ok(Response::new(self.read_account(request.into_inner()).await?))
    }

    async fn set_limit(&self, request: Request<pb::SetLimitRequest>) -> Result<Response<pb::SetLimitReply>, Status> {
        let (_, extensions, request) = request.into_parts();
        reply(self.change_limit(&extensions, request).await)
    }

    async fn replace_primary(
        &self,
        request: Request<pb::ReplacePrimaryRequest>,
    ) -> Result<Response<pb::ReplacePrimaryReply>, Status> {
        let (_, extensions, request) = request.into_parts();
        reply(self.replace(&extensions, request).await)
    }

    async fn lock(&self, request: Request<pb::LockRequest>) -> Result<Response<pb::LockReply>, Status> {
        let (_, extensions, r) = request.into_parts();
        let locked = self.lock_account(&extensions, (&r.account, &r.request_id), &r.home_region, true).await?;
        let (auth_epoch, log_index) = locked;
        Ok(Response::new(pb::LockReply { auth_epoch, log_index }))
    }

    async fn unlock(&self, request: Request<pb::UnlockRequest>) -> Result<Response<pb::UnlockReply>, Status> {
        let (_, extensions, r) = request.into_parts();
        let unlocked = self.lock_account(&extensions, (&r.account, &r.request_id), &r.home_region, false).await?;
        let (auth_epoch, log_index) = unlocked;
        Ok(Response::new(pb::UnlockReply { auth_epoch, log_index }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteReply>, Status> {
        let (_, extensions, request) = request.into_parts();
        reply(self.delete_account(&extensions, request).await)
    }
}

impl Front {
    /// Claim at the directory, then Register at the home. A retry with the same request id and key makes the same claim,
    /// so it goes on where an earlier attempt broke off.
    async fn register_account(&self, request: pb::RegisterRequest) -> Answered<pb::RegisterReply> {
        let (proof, key) = convert::proof_in(request.proof)?;
        let account = convert::account_id(&request.account, "account")?;
        let device_key = convert::device_key(&request.device_key, "device_key")?;
        let device = convert::device_in(request.device)?;
        if proof.account.as_ref() != Some(&account) || proof.session.is_some() || key != device_key {
            return Err(Failure::new(Reason::ProofInvalid));
        }
        // The directory takes the cluster's word for a claim; so look before giving it.
        if !self.verifies(&device_key, METHOD_REGISTER, &proof, &register(&account, &device_key, &device)) {
            return Err(Failure::new(Reason::ProofInvalid));
        }
        let home = match request.home_region.as_str() {
            "" => self.shards().region(),
            name => self.shards().map().region(name).ok_or_else(|| invalid("home_region"))?,
        };
        let claim = claim_of(&proof.request, &device_key);
        let home = self.claimed(&account, claim, home, &proof).await?;

        let command = Command::Register { account: account.clone(), claim, home, device_key, device };
        let submission = Asked { proof, key }.submission(command);
        // The claim stands by now, so "nothing happened" would not be true of anything that fails from here on.
        let unknown = |_| Failure::new(Reason::OutcomeUnknown);
        let committed = self.submit(self.account_shard(home, &account)?, submission).await.map_err(unknown)?;
        let (session, set_version) = match &committed.reply {
            Ok(Outcome::Registered { session, set_version }) => (*session, *set_version),
            Ok(_) => return Err(unexpected()),
            Err(rejection) => return Err(Failure::from(rejection)),
        };
        let home_region = self.region_name(home);
        let found = self.account(&account, &home_region).await;
        let (_, found, _) = found.map_err(|_| Failure::new(Reason::OutcomeUnknown))?;
        let reply = pb::RegisterReply {
            session: convert::raw(session.as_bytes()),
            set_version,
            home_region,
            auth_epoch: found.auth_epoch,
            log_index: committed.log_index,
        };
        Ok((reply, committed.nonce))
    }

    /// Claims with a fresh nonce only, so that no recorded request claims anything. A retry whose nonce has grown old goes to
    /// where its claim stands, and is answered there: with what was decided, or with another nonce.
    async fn claimed(
        &self,
        account: &AccountId,
        claim: ClaimId,
        home: RegionIndex,
        proof: &DeviceProof,
    ) -> Result<RegionIndex, Failure> {
        match self.fresh(self.account_shard(home, account)?, &proof.nonce).await {
            Ok(_) => self.claim(account, claim, home, proof.request).await,
            Err(stale) if stale.reason == Reason::NonceStale => match self.directory(account).await {
                Ok(entry) if entry.claim == claim => Ok(entry.home),
                Ok(_) => Err(Failure::new(Reason::AccountExists)),
                Err(missing) if missing.reason == Reason::AccountNotFound => Err(stale),
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        }
    }

    /// The home under which the claim stands: of an earlier attempt, perhaps.
    pub(crate) async fn claim(
        &self,
        account: &AccountId,
        claim: ClaimId,
        home: RegionIndex,
        request: RequestId,
    ) -> Result<RegionIndex, Failure> {
        let shard = self.shards().map().directory(account).ok_or_else(unexpected)?;
        let command = Command::Claim { account: account.clone(), claim, home };
        let envelope = Envelope { request, policy_version: 0, proven: Proven::Cluster, command };
        match self.submit(shard, by_cluster(envelope)).await?.reply {
            Ok(Outcome::Claimed(entry)) if entry.claim == claim => Ok(entry.home),
            Ok(Outcome::Claimed(_)) => Err(Failure::new(Reason::AccountExists)),
            Ok(_) => Err(unexpected()),
            Err(rejection) => Err(Failure::from(&rejection)),
        }
    }

    async fn read_account(&self, request: pb::GetAccountRequest) -> Result<pb::GetAccountReply, Failure> {
        let id = convert::account_id(&request.account, "account")?;
        let (home, account, observed) = self.account(&id, &request.home_region).await?;
        let companions = account.sessions.iter().filter(|s| s.role == Role::Companion).count();
        Ok(pb::GetAccountReply {
            account: request.account,
            home_region: self.region_name(home),
            home_epoch: account.home_epoch,
            auth_epoch: account.auth_epoch,
            set_version: account.set_version,
            set_digest: convert::raw(account.set_digest.as_bytes()),
            sessions: count(account.sessions.len()),
            companions: count(companions),
            companion_limit: account.companion_limit,
            shard_time_ms: observed.shard_time_ms,
            applied_index: observed.applied_index,
            locked: account.locked_at_ms.is_some(),
            locked_for_ms: account.locked_at_ms.map_or(0, |since| observed.shard_time_ms.saturating_sub(since)),
            record_version: account.record_version,
        })
    }
}

/// The same for every attempt of one registration, and for no other.
fn claim_of(request: &RequestId, key: &DeviceKey) -> ClaimId {
    let digest = Canonical::new("kindred/claim/v1").bytes(request.as_bytes()).bytes(key.as_bytes()).digest();
    let mut claim = [0; ClaimId::LEN];
    claim.copy_from_slice(&digest.0[..ClaimId::LEN]);
    ClaimId(claim)
}

pub(crate) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
