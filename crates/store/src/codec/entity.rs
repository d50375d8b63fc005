//! Accounts, sessions and how they end.

use bytes::Bytes;
use kindred_core::model::{
    Account, Actor, Deletion, Device, DirectoryEntry, DirectoryState, EndReason, Role, Session, SetChange, Stub,
    Tombstone,
};
use kindred_core::state::Shard;

use super::Malformed;
use super::convert::{UNIT, account, each, id, maybe_id, need, part, parts, raw, raw_account, region};
use crate::proto::storage::v1 as pb;

impl From<&Shard> for pb::Shard {
    fn from(shard: &Shard) -> Self {
        Self { time_ms: shard.time_ms, next_effect: shard.next_effect }
    }
}

impl From<pb::Shard> for Shard {
    fn from(shard: pb::Shard) -> Self {
        Self { time_ms: shard.time_ms, next_effect: shard.next_effect }
    }
}

impl From<&DirectoryEntry> for pb::DirectoryEntry {
    fn from(entry: &DirectoryEntry) -> Self {
        use pb::directory_entry::State;
        Self {
            account: raw_account(&entry.account),
            claim: raw(&entry.claim),
            home: entry.home.0.into(),
            state: Some(match entry.state {
                DirectoryState::Claimed => State::Claimed(UNIT),
                DirectoryState::Home { home_epoch } => State::HomeEpoch(home_epoch),
                DirectoryState::Deleted => State::Deleted(UNIT),
            }),
        }
    }
}

impl TryFrom<pb::DirectoryEntry> for DirectoryEntry {
    type Error = Malformed;
    fn try_from(entry: pb::DirectoryEntry) -> Result<Self, Malformed> {
        use pb::directory_entry::State;
        Ok(Self {
            account: account(&entry.account)?,
            claim: id(&entry.claim)?,
            home: region(entry.home)?,
            state: match need(entry.state, "state of a directory entry")? {
                State::Claimed(_) => DirectoryState::Claimed,
                State::HomeEpoch(home_epoch) => DirectoryState::Home { home_epoch },
                State::Deleted(_) => DirectoryState::Deleted,
            },
        })
    }
}

impl From<&Device> for pb::Device {
    fn from(device: &Device) -> Self {
        Self {
            platform: device.platform.clone(),
            app_version: device.app_version.clone(),
            display_name: Bytes::copy_from_slice(&device.display_name),
        }
    }
}

impl TryFrom<pb::Device> for Device {
    type Error = Malformed;
    fn try_from(device: pb::Device) -> Result<Self, Malformed> {
        Ok(Self {
            platform: device.platform,
            app_version: device.app_version,
            display_name: device.display_name.into(),
        })
    }
}

impl From<&Session> for pb::Session {
    fn from(session: &Session) -> Self {
        let role = match session.role {
            Role::Primary => pb::Role::Primary,
            Role::Companion => pb::Role::Companion,
        };
        Self {
            id: raw(&session.id),
            seq: session.seq,
            device_key: raw(&session.device_key),
            role: role.into(),
            device: Some((&session.device).into()),
            linked_at_ms: session.linked_at_ms,
            linked_wall_ms: session.linked_wall_ms,
            linked_by: session.linked_by.as_ref().map(raw),
            ticket: session.ticket.as_ref().map(raw),
            policy_version: session.policy_version,
            key_generation: session.key_generation,
            record_version: session.record_version,
            quarantine_until_ms: session.quarantine_until_ms,
            pinned: session.pinned,
        }
    }
}

impl TryFrom<pb::Session> for Session {
    type Error = Malformed;
    fn try_from(session: pb::Session) -> Result<Self, Malformed> {
        Ok(Self {
            id: id(&session.id)?,
            seq: session.seq,
            device_key: id(&session.device_key)?,
            role: match pb::Role::try_from(session.role) {
                Ok(pb::Role::Primary) => Role::Primary,
                Ok(pb::Role::Companion) => Role::Companion,
                Ok(pb::Role::Unspecified) | Err(_) => return Err(Malformed("role of a session")),
            },
            device: part(session.device, "device of a session")?,
            linked_at_ms: session.linked_at_ms,
            linked_wall_ms: session.linked_wall_ms,
            linked_by: maybe_id(session.linked_by.as_ref())?,
            ticket: maybe_id(session.ticket.as_ref())?,
            policy_version: session.policy_version,
            key_generation: session.key_generation,
            record_version: session.record_version,
            quarantine_until_ms: session.quarantine_until_ms,
            pinned: session.pinned,
        })
    }
}

impl From<&Account> for pb::Account {
    fn from(account: &Account) -> Self {
        Self {
            id: raw_account(&account.id),
            home: account.home.0.into(),
            home_epoch: account.home_epoch,
            auth_epoch: account.auth_epoch,
            set_version: account.set_version,
            set_digest: raw(&account.set_digest),
            next_session_seq: account.next_session_seq,
            companion_limit: account.companion_limit,
            claim: raw(&account.claim),
            registered_at_ms: account.registered_at_ms,
            sessions: each(&account.sessions),
            locked_at_ms: account.locked_at_ms,
            record_version: account.record_version,
        }
    }
}

impl TryFrom<pb::Account> for Account {
    type Error = Malformed;
    fn try_from(message: pb::Account) -> Result<Self, Malformed> {
        Ok(Self {
            id: account(&message.id)?,
            home: region(message.home)?,
            home_epoch: message.home_epoch,
            auth_epoch: message.auth_epoch,
            set_version: message.set_version,
            set_digest: id(&message.set_digest)?,
            next_session_seq: message.next_session_seq,
            companion_limit: message.companion_limit,
            claim: id(&message.claim)?,
            registered_at_ms: message.registered_at_ms,
            sessions: parts(message.sessions)?,
            locked_at_ms: message.locked_at_ms,
            record_version: message.record_version,
        })
    }
}

fn reason_to(reason: EndReason) -> pb::EndReason {
    match reason {
        EndReason::UserUnlinkedFromPrimary => pb::EndReason::UserUnlinkedFromPrimary,
        EndReason::UserUnlinkedFromSibling => pb::EndReason::UserUnlinkedFromSibling,
        EndReason::SelfLogout => pb::EndReason::SelfLogout,
        EndReason::LogoutOthers => pb::EndReason::LogoutOthers,
        EndReason::ReplacedByLink => pb::EndReason::ReplacedByLink,
        EndReason::AdminRevoked => pb::EndReason::AdminRevoked,
        EndReason::PrimaryReplaced => pb::EndReason::PrimaryReplaced,
        EndReason::AccountDeleted => pb::EndReason::AccountDeleted,
        EndReason::CredentialCompromised => pb::EndReason::CredentialCompromised,
    }
}

fn reason_from(reason: i32) -> Result<EndReason, Malformed> {
    Ok(match pb::EndReason::try_from(reason) {
        Ok(pb::EndReason::UserUnlinkedFromPrimary) => EndReason::UserUnlinkedFromPrimary,
        Ok(pb::EndReason::UserUnlinkedFromSibling) => EndReason::UserUnlinkedFromSibling,
        Ok(pb::EndReason::SelfLogout) => EndReason::SelfLogout,
        Ok(pb::EndReason::LogoutOthers) => EndReason::LogoutOthers,
        Ok(pb::EndReason::ReplacedByLink) => EndReason::ReplacedByLink,
        Ok(pb::EndReason::AdminRevoked) => EndReason::AdminRevoked,
        Ok(pb::EndReason::PrimaryReplaced) => EndReason::PrimaryReplaced,
        Ok(pb::EndReason::AccountDeleted) => EndReason::AccountDeleted,
        Ok(pb::EndReason::CredentialCompromised) => EndReason::CredentialCompromised,
        Ok(pb::EndReason::Unspecified) | Err(_) => return Err(Malformed("reason of a tombstone")),
    })
}

impl From<&Tombstone> for pb::Tombstone {
    fn from(tombstone: &Tombstone) -> Self {
        let actor = match &tombstone.actor {
            Actor::Session(session) => pb::actor::Actor::Session(raw(session)),
            Actor::Operator(name) => pb::actor::Actor::Operator(name.clone()),
        };
        Self {
            session: Some((&tombstone.session).into()),
            reason: reason_to(tombstone.reason).into(),
            actor: Some(pb::Actor { actor: Some(actor) }),
            command: raw(&tombstone.command),
            log_index: tombstone.log_index,
            set_version: tombstone.set_version,
            at_ms: tombstone.at_ms,
            wall_ms: tombstone.wall_ms,
            region: tombstone.region.0.into(),
            policy_version: tombstone.policy_version,
        }
    }
}

impl TryFrom<pb::Tombstone> for Tombstone {
    type Error = Malformed;
    fn try_from(tombstone: pb::Tombstone) -> Result<Self, Malformed> {
        Ok(Self {
            session: part(tombstone.session, "session of a tombstone")?,
            reason: reason_from(tombstone.reason)?,
            actor: match need(tombstone.actor.and_then(|actor| actor.actor), "actor of a tombstone")? {
                pb::actor::Actor::Session(session) => Actor::Session(id(&session)?),
                pb::actor::Actor::Operator(name) => Actor::Operator(name),
            },
            command: id(&tombstone.command)?,
            log_index: tombstone.log_index,
            set_version: tombstone.set_version,
            at_ms: tombstone.at_ms,
            wall_ms: tombstone.wall_ms,
            region: region(tombstone.region)?,
            policy_version: tombstone.policy_version,
        })
    }
}

impl From<&Stub> for pb::Stub {
    fn from(stub: &Stub) -> Self {
        Self {
            session: raw(&stub.session),
            seq: stub.seq,
            reason: reason_to(stub.reason).into(),
            log_index: stub.log_index,
        }
    }
}

impl TryFrom<pb::Stub> for Stub {
    type Error = Malformed;
    fn try_from(stub: pb::Stub) -> Result<Self, Malformed> {
        Ok(Self {
            session: id(&stub.session)?,
            seq: stub.seq,
            reason: reason_from(stub.reason)?,
            log_index: stub.log_index,
        })
    }
}

impl From<&Deletion> for pb::Deletion {
    fn from(deletion: &Deletion) -> Self {
        Self { set_version: deletion.set_version, log_index: deletion.log_index, at_ms: deletion.at_ms }
    }
}

impl From<pb::Deletion> for Deletion {
    fn from(deletion: pb::Deletion) -> Self {
        Self { set_version: deletion.set_version, log_index: deletion.log_index, at_ms: deletion.at_ms }
    }
}

impl From<&SetChange> for pb::SetChange {
    fn from(change: &SetChange) -> Self {
        Self {
            version: change.version,
            digest: raw(&change.digest),
            added: each(&change.added),
            ended: each(&change.ended),
            command: raw(&change.command),
            log_index: change.log_index,
            wall_ms: change.wall_ms,
        }
    }
}

impl TryFrom<pb::SetChange> for SetChange {
    type Error = Malformed;
    fn try_from(change: pb::SetChange) -> Result<Self, Malformed> {
        Ok(Self {
            version: change.version,
            digest: id(&change.digest)?,
            added: parts(change.added)?,
            ended: parts(change.ended)?,
            command: id(&change.command)?,
            log_index: change.log_index,
            wall_ms: change.wall_ms,
        })
    }
}
