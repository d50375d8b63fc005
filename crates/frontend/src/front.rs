//! What all services share: reaching the shard of a ticket or an account, with a bound on every wait.

use std::sync::Arc;
use std::time::Duration;

use kindred_core::canonical::{DeviceProof, proof_bytes, verify};
use kindred_core::command::{Answer, Command, Committed, Envelope, Outcome, Proven, Query, SessionStatus, Submission};
use kindred_core::env::Env;
use kindred_core::id::{AccountId, DeviceKey, Digest, RegionIndex, SessionId, ShardId, TicketId};
use kindred_core::limits::PROPOSE_WITHIN_MS_MAX;
use kindred_core::model::{Account, DirectoryEntry, Rejection, Ticket};
use kindred_wire::nonce;
use kindred_wire::reason::Reason;
use kindred_wire::shards::{Consistency, Observed, Points, ShardError, Shards};
use kindred_wire::status::Failure;
use tonic::{Response, Status};

use crate::homes::Homes;

/// A submission that no leader has proposed after this long is dropped.
pub(crate) const PROPOSE_WITHIN_MS: u64 = 5_000;
/// After this long a submission's outcome counts as unknown.
const SUBMIT_WITHIN: Duration = Duration::from_secs(10);
/// After this long a read counts as unanswered.
const QUERY_WITHIN: Duration = Duration::from_secs(5);
/// Linking policy in force; there is one until policies come.
pub(crate) const POLICY_VERSION: u64 = 0;

const _: () = assert!(PROPOSE_WITHIN_MS <= PROPOSE_WITHIN_MS_MAX);

/// The services' common state; a clone is another handle.
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    shards: Arc<dyn Shards>,
    points: Arc<dyn Points>,
    env: Env,
    homes: Homes,
}

/// A device's request for a command: its proof and the key that it claims to be by.
pub(crate) struct Asked {
    pub(crate) proof: DeviceProof,
    pub(crate) key: DeviceKey,
}

impl Asked {
    /// The account in the proof.
    pub(crate) fn account(&self) -> Result<AccountId, Failure> {
        self.proof.account.clone().ok_or_else(|| invalid("proof.account"))
    }

    /// The caller's session in the proof.
    pub(crate) fn session(&self) -> Result<SessionId, Failure> {
        self.proof.session.ok_or_else(|| invalid("proof.session"))
    }

    /// The command with this proof. Who is behind it is a claim until the leader has verified it.
    pub(crate) fn submission(&self, command: Command) -> Submission {
        let proven = match self.proof.session {
            Some(session) => Proven::Session { session, key: self.key, auth_epoch: self.proof.auth_epoch },
            None => Proven::Key(self.key),
        };
        let envelope = Envelope { request: self.proof.request, policy_version: POLICY_VERSION, proven, command };
        let (proof, within) = (Some(self.proof.clone()), PROPOSE_WITHIN_MS);
        Submission { envelope, proof, possession: None, reference: None, propose_within_ms: within }
    }
}

/// A command of the cluster's own.
pub(crate) fn by_cluster(envelope: Envelope) -> Submission {
    Submission { envelope, proof: None, possession: None, reference: None, propose_within_ms: PROPOSE_WITHIN_MS }
}

/// A reply, with the nonce for the caller's next proof.
pub(crate) type Answered<T> = Result<(T, Vec<u8>), Failure>;

/// The reply as it leaves.
pub(crate) fn reply<T>(answer: Answered<T>) -> Result<Response<T>, Status> {
    let (message, next) = answer?;
    Ok(nonce::reply(message, &next))
}

pub(crate) fn invalid(field: &'static str) -> Failure {
    Failure::from(kindred_wire::convert::Invalid(field))
}

/// A reply of a kind that the command or query does not have: another version of the cluster, say.
pub(crate) fn unexpected() -> Failure {
    tracing::error!("a shard gave an answer of another kind than the question");
    Failure::new(Reason::OutcomeUnknown)
}

impl Front {
    pub(crate) fn new(shards: Arc<dyn Shards>, points: Arc<dyn Points>, env: Env) -> Self {
        Self(Arc::new(Inner { shards, points, env, homes: Homes::default() }))
    }

    pub(crate) fn shards(&self) -> &dyn Shards {
        self.0.shards.as_ref()
    }

    pub(crate) fn env(&self) -> &Env {
        &self.0.env
    }

    pub(crate) async fn reach(&self, point: &'static str, account: &AccountId, log_index: u64) {
        self.0.points.reach(point, account, log_index).await;
    }

    /// Name of a region; empty for one that the map does not have.
    pub(crate) fn region_name(&self, region: RegionIndex) -> String {
        let map = self.shards().map();
        map.regions.get(usize::from(region.0)).map(|r| r.name.clone()).unwrap_or_default()
    }

    /// True if `proof` is by `key`, for `method` and these arguments.
    pub(crate) fn verifies(&self, key: &DeviceKey, method: &str, proof: &DeviceProof, arguments: &Digest) -> bool {
        let Some(cluster) = self.shards().cluster() else { return false };
        verify(key, &proof_bytes(&cluster, method, proof, arguments), &proof.signature)
    }

    pub(crate) async fn submit(&self, shard: ShardId, submission: Submission) -> Result<Committed, ShardError> {
        let submit = self.shards().submit(shard, submission);
        tokio::time::timeout(SUBMIT_WITHIN, submit).await.unwrap_or(Err(ShardError::OutcomeUnknown))
    }

    pub(crate) async fn query(&self, shard: ShardId, query: Query, level: Consistency) -> Result<Observed, ShardError> {
        let query = self.shards().query(shard, query, level);
        let late = ShardError::Unavailable { retry_after_ms: 500 };
        tokio::time::timeout(QUERY_WITHIN, query).await.unwrap_or(Err(late))
    }

    pub(crate) fn ticket_shard(&self, ticket: &TicketId) -> Result<ShardId, Failure> {
        self.shards().map().ticket(ticket).ok_or_else(|| Failure::new(Reason::TicketNotFound))
    }

    pub(crate) fn account_shard(&self, home: RegionIndex, account: &AccountId) -> Result<ShardId, Failure> {
        self.shards().map().account(home, account).ok_or_else(|| Failure::new(Reason::AccountNotFound))
    }

    /// Submits a command that answers with the ticket.
    pub(crate) async fn submit_ticket(
        &self,
        ticket: &TicketId,
        submission: Submission,
    ) -> Result<(Ticket, Committed), Failure> {
        let caller = caller(&submission);
        let committed = self.submit(self.ticket_shard(ticket)?, submission).await?;
        match &committed.reply {
            Ok(Outcome::Ticket(ticket)) => Ok((ticket.as_ref().clone(), committed)),
            Ok(_) => Err(unexpected()),
            Err(rejection) => Err(Failure::rejected(rejection, caller.as_ref())),
        }
    }

    /// Submits a command of an account at its home; follows the directory if it is not where the hint says.
    pub(crate) async fn submit_account(
        &self,
        account: &AccountId,
        hint: &str,
        submission: Submission,
    ) -> Result<(Outcome, Committed), Failure> {
        let caller = caller(&submission);
        let mut committed = None;
        let hinted = self.hinted(account, hint);
        if let Some(home) = hinted {
            committed = Some(self.submit(self.account_shard(home, account)?, submission.clone()).await?);
        }
        if committed.as_ref().is_none_or(|c| c.reply == Err(Rejection::AccountNotFound)) {
            let home = self.directory(account).await?.home;
            if hinted != Some(home) {
                committed = Some(self.submit(self.account_shard(home, account)?, submission).await?);
            }
        }
        let committed = committed.ok_or_else(unexpected)?;
        match &committed.reply {
            Ok(outcome) => Ok((outcome.clone(), committed)),
            Err(rejection) => Err(Failure::rejected(rejection, caller.as_ref())),
        }
    }

    /// Reads an account's records at its home; follows the directory if it is not where the hint says.
    pub(crate) async fn query_account(
        &self,
        account: &AccountId,
        hint: &str,
        query: Query,
        level: Consistency,
    ) -> Result<(RegionIndex, Observed), Failure> {
        let hinted = self.hinted(account, hint);
        if let Some(home) = hinted {
            let observed = self.query(self.account_shard(home, account)?, query.clone(), level).await?;
            if is_here(&observed.answer) {
                self.0.homes.put(account, home);
                return Ok((home, observed));
            }
        }
        let home = self.directory(account).await?.home;
        let observed = self.query(self.account_shard(home, account)?, query, level).await?;
        Ok((home, observed))
    }

    /// The account, linearizably.
    pub(crate) async fn account(
        &self,
        account: &AccountId,
        hint: &str,
    ) -> Result<(RegionIndex, Account, Observed), Failure> {
        let query = Query::Account(account.clone());
        let level = Consistency::Linearizable;
        #[cfg(kindred_mutants)]
        let level = if kindred_core::mutants::is("account-reads-locally") { Consistency::Local } else { level };
        let (home, observed) = self.query_account(account, hint, query, level).await?;
        match &observed.answer {
            Answer::Account(Some(found)) => Ok((home, found.as_ref().clone(), observed)),
            Answer::Account(None) | Answer::Deleted(_) => Err(Failure::new(Reason::AccountNotFound)),
            _ => Err(unexpected()),
        }
    }

    /// The next nonce, if this one is good at `shard`; else NONCE_STALE. For proofs that no leader gets to see.
    pub(crate) async fn fresh(&self, shard: ShardId, nonce: &[u8]) -> Result<Vec<u8>, Failure> {
        let query = Query::Nonce(shard, nonce.to_vec());
        match self.query(shard, query, Consistency::Linearizable).await?.answer {
            // A replica without the region's key cannot tell; another one can.
            Answer::Nonce { next, .. } if next.is_empty() => Err(Failure::new(Reason::ShardUnavailable)),
            Answer::Nonce { is_fresh: true, next } => Ok(next),
            Answer::Nonce { is_fresh: false, next } => Err(nonce::stale(&next)),
            _ => Err(unexpected()),
        }
    }

    /// Why a session that is not among the live ones may not act: it has ended, if it can prove that it was that session.
    pub(crate) async fn not_live(&self, home: RegionIndex, asked: &Asked, method: &str, arguments: &Digest) -> Failure {
        let status = async {
            let (account, session) = (asked.account()?, asked.session()?);
            let shard = self.account_shard(home, &account)?;
            let query = Query::Session(account, session);
            Ok::<_, Failure>(self.query(shard, query, Consistency::Linearizable).await?.answer)
        };
        match status.await {
            Ok(Answer::Session { status: SessionStatus::Ended(tombstone), .. })
                if self.verifies(&tombstone.session.device_key, method, &asked.proof, arguments) =>
            {
                Failure::signed_out(kindred_wire::convert::tombstone(&tombstone))
            }
            Ok(_) => Failure::new(Reason::ProofInvalid),
            Err(failure) => failure,
        }
    }

    /// The directory's entry. Homes do not move yet, so an entry that the nearest replica has is as good as any.
    pub(crate) async fn directory(&self, account: &AccountId) -> Result<DirectoryEntry, Failure> {
        let not_found = || Failure::new(Reason::AccountNotFound);
        let shard = self.shards().map().directory(account).ok_or_else(not_found)?;
        for level in [Consistency::Local, Consistency::Linearizable] {
            match self.query(shard, Query::Directory(account.clone()), level).await {
                Ok(Observed { answer: Answer::Directory(Some(entry)), .. }) => {
                    self.0.homes.put(account, entry.home);
                    return Ok(entry);
                }
                Err(error) if level == Consistency::Linearizable => return Err(error.into()),
                _ => {}
            }
        }
        Err(not_found())
    }

    /// Where the account probably lives: as the caller says, else as seen lately.
    fn hinted(&self, account: &AccountId, hint: &str) -> Option<RegionIndex> {
        let map = self.shards().map();
        if hint.is_empty() { self.0.homes.get(account) } else { map.region(hint) }
    }
}

/// The session that asks.
fn caller(submission: &Submission) -> Option<SessionId> {
    match &submission.envelope.proven {
        Proven::Session { session, .. } => Some(*session),
        _ => None,
    }
}

/// False if the shard asked is not the account's home.
fn is_here(answer: &Answer) -> bool {
    match answer {
        Answer::Account(account) => account.is_some(),
        Answer::Session { set_version, .. } => set_version.is_some(),
        Answer::Changes { account, .. } => account.is_some(),
        Answer::Reconcile(compared) => compared.is_some(),
        Answer::Ticket(_) | Answer::Directory(_) | Answer::Outcome(_) | Answer::Code(_) | Answer::Export(_) => true,
        Answer::Deleted(_) | Answer::Nonce { .. } => true,
    }
}
