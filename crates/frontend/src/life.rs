//! The life of an account beside its links: limit, lock, pin, another key, another phone, the end.

use http::Extensions;
use kindred_core::command::{Command, Outcome};
use kindred_core::limits::{COMPANION_LIMIT_MAX, COMPANION_LIMIT_MIN};
use kindred_core::model::Role;
use kindred_wire::convert;
use kindred_wire::pb::account::v1 as account;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::reason::Reason;
use kindred_wire::status::Failure;

use crate::by::{By, possession};
use crate::front::{Answered, Asked, Front, invalid, unexpected};

impl Front {
    pub(crate) async fn change_limit(
        &self,
        extensions: &Extensions,
        request: account::SetLimitRequest,
    ) -> Answered<account::SetLimitReply> {
        let by = By::of(extensions, request.proof, &request.account, &request.request_id)?;
        if !(COMPANION_LIMIT_MIN..=COMPANION_LIMIT_MAX).contains(&request.limit) {
            return Err(invalid("limit"));
        }
        let command = Command::SetLimit { account: by.account().clone(), limit: request.limit };
        let (_, committed) = self.submit_account(by.account(), &request.home_region, by.submission(command)).await?;
        Ok((account::SetLimitReply { log_index: committed.log_index }, committed.nonce))
    }

    /// Locks or unlocks; auth_epoch and log index after it.
    pub(crate) async fn lock_account(
        &self,
        extensions: &Extensions,
        (id, request_id): (&[u8], &[u8]),
        home_region: &str,
        locked: bool,
    ) -> Result<(u64, u64), Failure> {
        let by = By::of(extensions, None, id, request_id)?;
        let command = Command::Lock { account: by.account().clone(), locked };
        match self.submit_account(by.account(), home_region, by.submission(command)).await? {
            (Outcome::Locked { auth_epoch, .. }, committed) => Ok((auth_epoch, committed.log_index)),
            _ => Err(unexpected()),
        }
    }

    /// Names what it ends, as read here: if that changes in between, nothing ends.
    pub(crate) async fn replace(
        &self,
        extensions: &Extensions,
        request: account::ReplacePrimaryRequest,
    ) -> Answered<account::ReplacePrimaryReply> {
        let by = By::of(extensions, request.proof, &request.account, &request.request_id)?;
        let device_key = convert::device_key(&request.device_key, "device_key")?;
        let device = convert::device_in(request.device)?;
        let keep_companions = request.keep_companions.ok_or_else(|| invalid("keep_companions"))?;
        let possession = possession(request.possession, &device_key)?;
        if possession.request != by.request() {
            return Err(Failure::new(Reason::ProofInvalid));
        }
        let (home, found, _) = self.account(by.account(), &request.home_region).await?;
        let goes = found.sessions.iter().filter(|s| s.role == Role::Primary || !keep_companions);
        let ends = goes.map(|s| s.id).collect();
        let account = by.account().clone();
        let command = Command::ReplacePrimary { account, device_key, device, keep_companions, ends };
        let mut submission = by.submission(command);
        submission.possession = Some(possession);
        let home_region = self.region_name(home);
        match self.submit_account(by.account(), &home_region, submission).await? {
            (Outcome::Replaced { session, tombstones, set_version, auth_epoch }, committed) => {
                let reply = account::ReplacePrimaryReply {
                    session: convert::raw(session.as_bytes()),
                    tombstones: tombstones.iter().map(convert::tombstone).collect(),
                    set_version,
                    auth_epoch,
                    log_index: committed.log_index,
                    home_region,
                };
                Ok((reply, committed.nonce))
            }
            _ => Err(unexpected()),
        }
    }

    /// Names what it ends: the sessions of the set_version read here. An account that is gone has none; what became of an
    /// earlier attempt, its shard still knows.
    pub(crate) async fn delete_account(
        &self,
        extensions: &Extensions,
        request: account::DeleteRequest,
    ) -> Answered<account::DeleteReply> {
        let by = By::of(extensions, request.proof, &request.account, &request.request_id)?;
        let set_version = match self.account(by.account(), &request.home_region).await {
            Ok((_, found, _)) => found.set_version,
            Err(failure) if failure.reason == Reason::AccountNotFound => 0,
            Err(failure) => return Err(failure),
        };
        let command = Command::Delete { account: by.account().clone(), set_version };
        match self.submit_account(by.account(), &request.home_region, by.submission(command)).await? {
            (Outcome::Deleted { stubs, set_version }, committed) => {
                let stubs = stubs.iter().map(convert::stub).collect();
                Ok((account::DeleteReply { stubs, set_version, log_index: committed.log_index }, committed.nonce))
            }
            _ => Err(unexpected()),
        }
    }

    pub(crate) async fn pin_session(
        &self,
        extensions: &Extensions,
        request: session::PinRequest,
    ) -> Answered<session::PinReply> {
        let by = By::of(extensions, request.proof, &request.account, &request.request_id)?;
        let session = convert::session_id(&request.session, "session")?;
        let command = Command::Pin { account: by.account().clone(), session, pinned: request.pinned };
        match self.submit_account(by.account(), &request.home_region, by.submission(command)).await? {
            (Outcome::Session(session), committed) => {
                let session = Some(convert::session(&session));
                Ok((session::PinReply { session, log_index: committed.log_index }, committed.nonce))
            }
            _ => Err(unexpected()),
        }
    }

    pub(crate) async fn rotate_key(
        &self,
        request: session::RotateDeviceKeyRequest,
    ) -> Answered<session::RotateDeviceKeyReply> {
        let (proof, key) = convert::proof_in(request.proof)?;
        let asked = Asked { proof, key };
        let (account, session) = (asked.account()?, asked.session()?);
        let device_key = convert::device_key(&request.device_key, "device_key")?;
        let possession = possession(request.possession, &device_key)?;
        let command = Command::RotateDeviceKey { account: account.clone(), session, device_key };
        let mut submission = asked.submission(command);
        submission.possession = Some(possession);
        match self.submit_account(&account, &request.home_region, submission).await? {
            (Outcome::Session(session), committed) => {
                let session = Some(convert::session(&session));
                Ok((session::RotateDeviceKeyReply { session, log_index: committed.log_index }, committed.nonce))
            }
            _ => Err(unexpected()),
        }
    }
}
