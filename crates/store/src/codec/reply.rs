//! Outcomes, kept replies and the outbox.

use kindred_core::command::{Effect, KeptReply, OutboxItem, Outcome, Reply};
use kindred_core::state::Timer;

use super::Malformed;
use super::bundle::installed_from;
use super::code::of_account;
use super::convert::{UNIT, account, each, id, need, part, parts, raw, raw_account};
use crate::keys;
use crate::proto::storage::v1 as pb;

pub(super) fn removals(timers: &[Timer]) -> pb::Removals {
    pb::Removals { timers: timers.iter().map(|timer| keys::timer(timer).into()).collect() }
}

pub(super) fn timers(message: pb::Removals) -> Result<Vec<Timer>, Malformed> {
    message.timers.iter().map(|timer| keys::parse_timer(timer)).collect()
}

impl From<&Outcome> for pb::Outcome {
    fn from(outcome: &Outcome) -> Self {
        use pb::outcome::Outcome as Arm;
        let outcome = match outcome {
            Outcome::Done => Arm::Done(UNIT),
            Outcome::Claimed(entry) => Arm::Claimed(entry.into()),
            Outcome::Registered { session, set_version } => {
                Arm::Registered(pb::Registered { session: raw(session), set_version: *set_version })
            }
            Outcome::Ticket(ticket) => Arm::Ticket(ticket.as_ref().into()),
            Outcome::Decided(outcome) => Arm::Decided(outcome.into()),
            Outcome::Ended(tombstone) => Arm::Ended(tombstone.as_ref().into()),
            Outcome::EndedOthers { tombstones, set_version, auth_epoch } => Arm::EndedOthers(pb::EndedOthers {
                tombstones: each(tombstones),
                set_version: *set_version,
                auth_epoch: *auth_epoch,
            }),
            Outcome::Installed { set_version, auth_epoch, again } => {
                Arm::Installed(pb::Installed { set_version: *set_version, auth_epoch: *auth_epoch, again: *again })
            }
            Outcome::EndedBefore(stub) => Arm::EndedBefore(stub.into()),
            Outcome::Locked { locked, auth_epoch } => {
                Arm::Locked(pb::Locked { locked: *locked, auth_epoch: *auth_epoch })
            }
            Outcome::Session(session) => Arm::Session(session.as_ref().into()),
            Outcome::Replaced { session, tombstones, set_version, auth_epoch } => Arm::Replaced(pb::Replaced {
                session: raw(session),
                tombstones: each(tombstones),
                set_version: *set_version,
                auth_epoch: *auth_epoch,
            }),
            Outcome::Deleted { stubs, set_version } => {
                Arm::Deleted(pb::Deleted { stubs: each(stubs), set_version: *set_version })
            }
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<pb::Outcome> for Outcome {
    type Error = Malformed;
    fn try_from(outcome: pb::Outcome) -> Result<Self, Malformed> {
        use pb::outcome::Outcome as Arm;
        Ok(match need(outcome.outcome, "arm of an outcome")? {
            Arm::Done(_) => Self::Done,
            Arm::Claimed(entry) => Self::Claimed(entry.try_into()?),
            Arm::Registered(registered) => {
                Self::Registered { session: id(&registered.session)?, set_version: registered.set_version }
            }
            Arm::Ticket(ticket) => Self::Ticket(Box::new(ticket.try_into()?)),
            Arm::Decided(outcome) => Self::Decided(outcome.try_into()?),
            Arm::Ended(tombstone) => Self::Ended(Box::new(tombstone.try_into()?)),
            Arm::Installed(installed) => installed_from(installed),
            Arm::EndedOthers(ended) => Self::EndedOthers {
                tombstones: parts(ended.tombstones)?,
                set_version: ended.set_version,
                auth_epoch: ended.auth_epoch,
            },
            Arm::EndedBefore(stub) => Self::EndedBefore(stub.try_into()?),
            Arm::Locked(pb::Locked { locked, auth_epoch }) => Self::Locked { locked, auth_epoch },
            Arm::Session(session) => Self::Session(Box::new(session.try_into()?)),
            Arm::Replaced(replaced) => Self::Replaced {
                session: id(&replaced.session)?,
                tombstones: parts(replaced.tombstones)?,
                set_version: replaced.set_version,
                auth_epoch: replaced.auth_epoch,
            },
            Arm::Deleted(deleted) => Self::Deleted { stubs: parts(deleted.stubs)?, set_version: deleted.set_version },
        })
    }
}

pub(super) fn reply_to(reply: &Reply) -> pb::Reply {
    let reply = match reply {
        Ok(outcome) => pb::reply::Reply::Outcome(outcome.into()),
        Err(rejection) => pb::reply::Reply::Rejection(rejection.into()),
    };
    pb::Reply { reply: Some(reply) }
}

pub(super) fn reply_from(reply: Option<pb::Reply>) -> Result<Reply, Malformed> {
    Ok(match need(reply.and_then(|reply| reply.reply), "reply")? {
        pb::reply::Reply::Outcome(outcome) => Ok(outcome.try_into()?),
        pb::reply::Reply::Rejection(rejection) => Err(rejection.try_into()?),
    })
}

impl From<&KeptReply> for pb::KeptReply {
    fn from(kept: &KeptReply) -> Self {
        Self { command_hash: raw(&kept.command_hash), log_index: kept.log_index, reply: Some(reply_to(&kept.reply)) }
    }
}

impl TryFrom<pb::KeptReply> for KeptReply {
    type Error = Malformed;
    fn try_from(kept: pb::KeptReply) -> Result<Self, Malformed> {
        Ok(Self { command_hash: id(&kept.command_hash)?, log_index: kept.log_index, reply: reply_from(kept.reply)? })
    }
}

impl From<&OutboxItem> for pb::OutboxItem {
    fn from(item: &OutboxItem) -> Self {
        use pb::outbox_item::Effect as Arm;
        let effect = match &item.effect {
            Effect::Settle { ticket, outcome } => {
                Arm::Settle(pb::Settle { ticket: raw(ticket), outcome: Some(outcome.into()) })
            }
            Effect::ConfirmClaim { account, claim, home_epoch } => Arm::ConfirmClaim(pb::ConfirmClaim {
                account: raw_account(account),
                claim: raw(claim),
                home_epoch: *home_epoch,
            }),
            Effect::MarkDeleted { account, claim } => {
                Arm::MarkDeleted(pb::MarkDeleted { account: raw_account(account), claim: raw(claim) })
            }
            Effect::AttachCode { account, ticket, requester } => Arm::AttachCode(pb::AttachCode {
                account: raw_account(account),
                ticket: raw(ticket),
                requester: Some(requester.into()),
            }),
            Effect::HoldCode { account, ticket } => Arm::HoldCode(of_account(account, ticket)),
            Effect::DetachCode { account, ticket } => Arm::DetachCode(of_account(account, ticket)),
        };
        Self { id: item.id, due_ms: item.due_ms, effect: Some(effect) }
    }
}

impl TryFrom<pb::OutboxItem> for OutboxItem {
    type Error = Malformed;
    fn try_from(item: pb::OutboxItem) -> Result<Self, Malformed> {
        use pb::outbox_item::Effect as Arm;
        let effect = match need(item.effect, "effect of an outbox item")? {
            Arm::Settle(settle) => {
                Effect::Settle { ticket: id(&settle.ticket)?, outcome: part(settle.outcome, "outcome of an effect")? }
            }
            Arm::ConfirmClaim(confirm) => Effect::ConfirmClaim {
                account: account(&confirm.account)?,
                claim: id(&confirm.claim)?,
                home_epoch: confirm.home_epoch,
            },
            Arm::MarkDeleted(mark) => Effect::MarkDeleted { account: account(&mark.account)?, claim: id(&mark.claim)? },
            Arm::AttachCode(attach) => Effect::AttachCode {
                account: account(&attach.account)?,
                ticket: id(&attach.ticket)?,
                requester: part(attach.requester, "requester of an effect")?,
            },
            Arm::HoldCode(of) => Effect::HoldCode { account: account(&of.account)?, ticket: id(&of.ticket)? },
            Arm::DetachCode(of) => Effect::DetachCode { account: account(&of.account)?, ticket: id(&of.ticket)? },
        };
        Ok(Self { id: item.id, due_ms: item.due_ms, effect })
    }
}
