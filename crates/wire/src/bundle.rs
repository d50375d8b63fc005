//! Whole accounts ⇄ protobuf, for export and import. Nothing that a stored account has may get lost on the way.

use bytes::Bytes;
use kindred_core::bundle::Bundle;
use kindred_core::id::{AccountId, ClaimId, RegionIndex, RequestId, SessionId, TicketId};
use kindred_core::model::{Account, Actor, EndReason, Role, Session, Stub, Tombstone};

use crate::convert::{
    self, Decoded, Invalid, account_id, device_in, device_key, digest, raw, receipt_in, request_id, session_id,
    ticket_id,
};
use crate::pb::{admin::v1 as admin, session::v1 as session};

/// An account for the wire.
pub fn bundle(bundle: &Bundle, home_region: String) -> admin::AccountBundle {
    let account = &bundle.account;
    let linked = bundle.linked.iter().map(|(ticket, receipt)| admin::LinkedTicket {
        ticket: raw(ticket.as_bytes()),
        receipt: Some(convert::receipt(receipt)),
    });
    admin::AccountBundle {
        account: raw(account.id.as_bytes()),
        home_region,
        home_epoch: account.home_epoch,
        auth_epoch: account.auth_epoch,
        set_version: account.set_version,
        set_digest: raw(account.set_digest.as_bytes()),
        next_session_seq: account.next_session_seq,
        companion_limit: account.companion_limit,
        claim: raw(account.claim.as_bytes()),
        registered_at_ms: account.registered_at_ms,
        sessions: account.sessions.iter().map(convert::session).collect(),
        tombstones: bundle
            .tombstones
            .iter()
            .map(convert::tombstone)
            .chain(bundle.stubs.iter().map(convert::stub))
            .collect(),
        locked_at_ms: account.locked_at_ms,
        record_version: account.record_version,
        linked: linked.collect(),
        shard_time_ms: bundle.time_ms,
    }
}

/// The same from the wire, with `home` for its home. Fields are checked each by itself; whether they fit together is
/// [`Bundle::check`]'s to say.
pub fn bundle_in(bundle: admin::AccountBundle, home: RegionIndex) -> Decoded<Bundle> {
    let linked = bundle.linked.into_iter().map(|linked| -> Decoded<(TicketId, _)> {
        Ok((ticket_id(&linked.ticket, "linked.ticket")?, receipt_in(linked.receipt)?))
    });
    let (stubs, tombstones): (Vec<_>, Vec<_>) = bundle.tombstones.into_iter().partition(|tombstone| tombstone.stub);
    Ok(Bundle {
        linked: linked.collect::<Decoded<_>>()?,
        account: Account {
            id: account_id(&bundle.account, "account")?,
            home,
            home_epoch: bundle.home_epoch,
            auth_epoch: bundle.auth_epoch,
            set_version: bundle.set_version,
            set_digest: digest(&bundle.set_digest, "set_digest")?,
            next_session_seq: bundle.next_session_seq,
            companion_limit: bundle.companion_limit,
            claim: ClaimId::from_slice(&bundle.claim).ok_or(Invalid("claim"))?,
            registered_at_ms: bundle.registered_at_ms,
            sessions: bundle.sessions.into_iter().map(session_in).collect::<Decoded<_>>()?,
            locked_at_ms: bundle.locked_at_ms,
            record_version: bundle.record_version,
        },
        stubs: stubs.into_iter().map(stub_in).collect::<Decoded<_>>()?,
        tombstones: tombstones.into_iter().map(tombstone_in).collect::<Decoded<_>>()?,
        time_ms: bundle.shard_time_ms,
    })
}

/// A session, whole.
pub fn session_in(record: session::SessionRecord) -> Decoded<Session> {
    Ok(Session {
        id: session_id(&record.session, "session.session")?,
        seq: record.seq,
        device_key: device_key(&record.device_key, "session.device_key")?,
        role: match record.role() {
            session::Role::Primary => Role::Primary,
            session::Role::Companion => Role::Companion,
            session::Role::Unspecified => return Err(Invalid("session.role")),
        },
        device: device_in(record.device)?,
        linked_at_ms: record.linked_at_ms,
        linked_wall_ms: record.linked_wall_ms,
        linked_by: optional(&record.linked_by, |id| session_id(id, "session.linked_by"))?,
        ticket: optional(&record.ticket, |id| ticket_id(id, "session.ticket"))?,
        policy_version: record.policy_version,
        key_generation: record.key_generation,
        record_version: record.record_version,
        quarantine_until_ms: record.quarantine_until_ms,
        pinned: record.pinned,
    })
}

/// What is left of a tombstone.
pub fn stub_in(stub: session::Tombstone) -> Decoded<Stub> {
    let reason = end_reason_in(stub.reason())?;
    let session = stub.session.unwrap_or_default();
    Ok(Stub {
        session: session_id(&session.session, "tombstone.session")?,
        seq: session.seq,
        reason,
        log_index: stub.log_index,
    })
}

/// A tombstone, whole.
pub fn tombstone_in(tombstone: session::Tombstone) -> Decoded<Tombstone> {
    use session::tombstone::Actor as By;
    let reason = end_reason_in(tombstone.reason())?;
    Ok(Tombstone {
        session: session_in(tombstone.session.ok_or(Invalid("tombstone.session"))?)?,
        reason,
        actor: match tombstone.actor.ok_or(Invalid("tombstone.actor"))? {
            By::ActorSession(id) => Actor::Session(session_id(&id, "tombstone.actor_session")?),
            By::ActorOperator(name) if name.len() <= kindred_core::limits::LABEL_BYTES_MAX => Actor::Operator(name),
            By::ActorOperator(_) => return Err(Invalid("tombstone.actor_operator")),
        },
        command: request_id(&tombstone.command, "tombstone.command")?,
        log_index: tombstone.log_index,
        set_version: tombstone.set_version,
        at_ms: tombstone.at_ms,
        wall_ms: tombstone.wall_ms,
        region: u16::try_from(tombstone.region).map(RegionIndex).map_err(|_| Invalid("tombstone.region"))?,
        policy_version: tombstone.policy_version,
    })
}

fn end_reason_in(reason: session::EndReason) -> Decoded<EndReason> {
    Ok(match reason {
        session::EndReason::UserUnlinkedFromPrimary => EndReason::UserUnlinkedFromPrimary,
        session::EndReason::UserUnlinkedFromSibling => EndReason::UserUnlinkedFromSibling,
        session::EndReason::SelfLogout => EndReason::SelfLogout,
        session::EndReason::LogoutOthers => EndReason::LogoutOthers,
        session::EndReason::ReplacedByLink => EndReason::ReplacedByLink,
        session::EndReason::AdminRevoked => EndReason::AdminRevoked,
        session::EndReason::PrimaryReplaced => EndReason::PrimaryReplaced,
        session::EndReason::AccountDeleted => EndReason::AccountDeleted,
        session::EndReason::CredentialCompromised => EndReason::CredentialCompromised,
        session::EndReason::Unspecified => return Err(Invalid("tombstone.reason")),
    })
}

/// A place in the order of accounts; none is the beginning.
pub fn cursor_in(cursor: Option<admin::Cursor>) -> Decoded<(u32, Option<AccountId>)> {
    let cursor = cursor.unwrap_or_default();
    Ok((cursor.shard, optional(&cursor.account, |id| account_id(id, "after.account"))?))
}

/// The request id of one account's import: the same whenever that file is imported.
pub fn import_request(export_id: &[u8], account: &[u8]) -> RequestId {
    let digest =
        kindred_core::canonical::Canonical::new("kindred/import-request/v1").bytes(export_id).bytes(account).digest();
    let mut id = [0; RequestId::LEN];
    id.copy_from_slice(&digest.0[..RequestId::LEN]);
    RequestId(id)
}

fn optional<T>(bytes: &Bytes, decode: impl FnOnce(&[u8]) -> Decoded<T>) -> Decoded<Option<T>> {
    if bytes.is_empty() { Ok(None) } else { decode(bytes).map(Some) }
}

/// Ids of sessions in hexadecimal, by comma.
pub fn named<'a>(sessions: impl IntoIterator<Item = &'a SessionId>) -> String {
    sessions.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kindred_core::id::{DeviceKey, Digest};
    use kindred_core::model::{Device, Receipt};

    fn a_session(n: u8) -> Session {
        Session {
            id: SessionId([n; 16]),
            seq: n.into(),
            device_key: DeviceKey([n; 32]),
            role: if n == 1 { Role::Primary } else { Role::Companion },
            device: Device { platform: "web".into(), app_version: "1".into(), display_name: vec![0xFF, n] },
            linked_at_ms: 2,
            linked_wall_ms: 3,
            linked_by: (n > 1).then_some(SessionId([1; 16])),
            ticket: (n > 1).then_some(TicketId([n; 16])),
            policy_version: 4,
            key_generation: 5,
            record_version: 6,
            quarantine_until_ms: 7,
            pinned: n == 2,
        }
    }

    #[test]
    fn an_account_comes_back_as_it_went() {
        let reasons = EndReason::ALL;
        let old = 3 + u8::try_from(reasons.len()).unwrap();
        let stub = Stub { session: SessionId([old; 16]), seq: old.into(), reason: EndReason::SelfLogout, log_index: 8 };
        let tombstones = reasons.into_iter().zip(3..).map(|(reason, n)| Tombstone {
            session: a_session(n),
            reason,
            actor: if n > 4 { Actor::Session(SessionId([1; 16])) } else { Actor::Operator("ops".into()) },
            command: RequestId([n; 16]),
            log_index: 8,
            set_version: 9,
            at_ms: 10,
            wall_ms: 11,
            region: RegionIndex(2),
            policy_version: 12,
        });
        let receipt = Receipt {
            session: SessionId([2; 16]),
            seq: 2,
            version_before: 1,
            version_after: 2,
            digest_after: Digest([3; 32]),
            sessions_before: vec![SessionId([1; 16])],
            sessions_after: vec![SessionId([1; 16]), SessionId([2; 16])],
            log_index: 4,
        };
        let account = Account {
            id: AccountId::new(b"ann").unwrap(),
            home: RegionIndex(1),
            home_epoch: 2,
            auth_epoch: 3,
            set_version: u64::from(old) + 1,
            set_digest: Digest([4; 32]),
            next_session_seq: u64::from(old) + 1,
            companion_limit: 5,
            claim: ClaimId([6; 16]),
            registered_at_ms: 7,
            sessions: vec![a_session(1), a_session(2)],
            locked_at_ms: Some(8),
            record_version: 9,
        };
        let whole = Bundle {
            account,
            tombstones: tombstones.collect(),
            stubs: vec![stub],
            linked: vec![(TicketId([2; 16]), receipt)],
            time_ms: 99,
        };
        assert_eq!(whole.check(), Ok(()));
        let told = bundle(&whole, "north".into());
        assert_eq!(told.home_region, "north");
        assert_eq!(bundle_in(told.clone(), RegionIndex(1)), Ok(whole));

        let mut nameless = told.clone();
        nameless.tombstones[0].actor = None;
        assert_eq!(bundle_in(nameless, RegionIndex(1)), Err(Invalid("tombstone.actor")));
        let mut reasonless = told;
        reasonless.tombstones[0].reason = 99;
        assert_eq!(bundle_in(reasonless, RegionIndex(1)), Err(Invalid("tombstone.reason")));
    }
}
