//! Commands of the life of an account: lock, pin, another key, another phone, the end.

use kindred_core::command::Command;

use super::Malformed;
use super::convert::{account, id, ids, part, raw, raw_account, raws};
use crate::proto::storage::v1 as pb;
use crate::proto::storage::v1::command::Command as Arm;

/// `None` for all other commands.
pub(super) fn life_arm(command: &Command) -> Option<Arm> {
    Some(match command {
        Command::Revoke { account, session } => {
            Arm::Revoke(pb::Unlink { account: raw_account(account), session: raw(session) })
        }
        Command::Lock { account, locked } => Arm::Lock(pb::Lock { account: raw_account(account), locked: *locked }),
        Command::Pin { account, session, pinned } => {
            Arm::Pin(pb::Pin { account: raw_account(account), session: raw(session), pinned: *pinned })
        }
        Command::RotateDeviceKey { account, session, device_key } => Arm::RotateDeviceKey(pb::RotateDeviceKey {
            account: raw_account(account),
            session: raw(session),
            device_key: raw(device_key),
        }),
        Command::ReplacePrimary { account, device_key, device, keep_companions, ends } => {
            Arm::ReplacePrimary(pb::ReplacePrimary {
                account: raw_account(account),
                device_key: raw(device_key),
                device: Some(device.into()),
                keep_companions: *keep_companions,
                ends: raws(ends),
            })
        }
        Command::Delete { account, set_version } => {
            Arm::Delete(pb::Delete { account: raw_account(account), set_version: *set_version })
        }
        Command::MarkDeleted { account, claim } => {
            Arm::MarkDeleted(pb::MarkDeleted { account: raw_account(account), claim: raw(claim) })
        }
        _ => return None,
    })
}

/// Reads what [`life_arm`] wrote; any other arm is malformed.
pub(super) fn life_from(arm: Arm) -> Result<Command, Malformed> {
    Ok(match arm {
        Arm::Revoke(c) => Command::Revoke { account: account(&c.account)?, session: id(&c.session)? },
        Arm::Lock(c) => Command::Lock { account: account(&c.account)?, locked: c.locked },
        Arm::Pin(c) => Command::Pin { account: account(&c.account)?, session: id(&c.session)?, pinned: c.pinned },
        Arm::RotateDeviceKey(c) => Command::RotateDeviceKey {
            account: account(&c.account)?,
            session: id(&c.session)?,
            device_key: id(&c.device_key)?,
        },
        Arm::ReplacePrimary(c) => Command::ReplacePrimary {
            account: account(&c.account)?,
            device_key: id(&c.device_key)?,
            device: part(c.device, "device of a ReplacePrimary")?,
            keep_companions: c.keep_companions,
            ends: ids(&c.ends)?,
        },
        Arm::Delete(c) => Command::Delete { account: account(&c.account)?, set_version: c.set_version },
        Arm::MarkDeleted(c) => Command::MarkDeleted { account: account(&c.account)?, claim: id(&c.claim)? },
        _ => return Err(Malformed("arm of a command")),
    })
}
