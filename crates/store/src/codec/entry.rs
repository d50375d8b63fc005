//! Log entries and the commands in them.

use bytes::Bytes;
use kindred_core::code::MatchNumber;
use kindred_core::command::{Command, Decision, Entry, Envelope, Proven};

use super::Malformed;
use super::bundle::{install_arm, install_from};
use super::code::{number_from, of_account};
use super::convert::{UNIT, account, each, id, ids, maybe_id, need, part, parts, raw, raw_account, raws, region};
use super::decision::{method_from, method_to};
use super::life::{life_arm, life_from};
use crate::proto::storage::v1 as pb;
use crate::proto::storage::v1::command::Command as Arm;

impl From<&Entry> for pb::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            elapsed_ms: entry.elapsed_ms,
            wall_ms: entry.wall_ms,
            entropy: Bytes::copy_from_slice(&entry.entropy),
            commands: each(&entry.commands),
        }
    }
}

impl TryFrom<pb::Entry> for Entry {
    type Error = Malformed;
    fn try_from(entry: pb::Entry) -> Result<Self, Malformed> {
        Ok(Self {
            elapsed_ms: entry.elapsed_ms,
            wall_ms: entry.wall_ms,
            entropy: entry.entropy.as_ref().try_into().map_err(|_| Malformed("width of an entry's entropy"))?,
            commands: parts(entry.commands)?,
        })
    }
}

impl From<&Envelope> for pb::Envelope {
    fn from(envelope: &Envelope) -> Self {
        Self {
            request: raw(&envelope.request),
            policy_version: envelope.policy_version,
            proven: Some((&envelope.proven).into()),
            command: Some((&envelope.command).into()),
        }
    }
}

impl TryFrom<pb::Envelope> for Envelope {
    type Error = Malformed;
    fn try_from(envelope: pb::Envelope) -> Result<Self, Malformed> {
        Ok(Self {
            request: id(&envelope.request)?,
            policy_version: envelope.policy_version,
            proven: part(envelope.proven, "author of a command")?,
            command: part(envelope.command, "command")?,
        })
    }
}

impl From<&Proven> for pb::Proven {
    fn from(proven: &Proven) -> Self {
        use pb::proven::Proven as By;
        let proven = match proven {
            Proven::Cluster => By::Cluster(UNIT),
            Proven::Key(key) => By::Key(raw(key)),
            Proven::Session { session, key, auth_epoch } => {
                By::Session(pb::ProvenSession { session: raw(session), key: raw(key), auth_epoch: *auth_epoch })
            }
            Proven::Operator(name) => By::Operator(name.clone()),
        };
        Self { proven: Some(proven) }
    }
}

impl TryFrom<pb::Proven> for Proven {
    type Error = Malformed;
    fn try_from(proven: pb::Proven) -> Result<Self, Malformed> {
        use pb::proven::Proven as By;
        Ok(match need(proven.proven, "arm of an author")? {
            By::Cluster(_) => Self::Cluster,
            By::Key(key) => Self::Key(id(&key)?),
            By::Session(by) => {
                Self::Session { session: id(&by.session)?, key: id(&by.key)?, auth_epoch: by.auth_epoch }
            }
            By::Operator(name) => Self::Operator(name),
        })
    }
}

impl From<&Command> for pb::Command {
    fn from(command: &Command) -> Self {
        let special = ticket_arm(command).or_else(|| install_arm(command)).or_else(|| life_arm(command));
        let arm = special.unwrap_or_else(|| account_arm(command));
        Self { command: Some(arm) }
    }
}

/// Commands of a ticket; `None` for all others.
fn ticket_arm(command: &Command) -> Option<Arm> {
    Some(match command {
        Command::Open { ticket, device_key, method, requester } => {
            let (method, code) = method_to(method);
            Arm::Open(pb::Open {
                ticket: raw(ticket),
                device_key: raw(device_key),
                method: method.into(),
                requester: Some(requester.into()),
                code_account: code.map(|code| code.account),
            })
        }
        Command::Scan { ticket, scan } => Arm::Scan(pb::ScanTicket { ticket: raw(ticket), scan: Some(scan.into()) }),
        Command::ScanCode { ticket, scan, tried, right } => Arm::ScanCode(pb::ScanCode {
            ticket: raw(ticket),
            scan: Some(scan.into()),
            tried: raw(tried),
            right: *right,
        }),
        Command::Approve { ticket, approval, envelope, number } => Arm::Approve(pb::Approve {
            ticket: raw(ticket),
            approval: Some(approval.into()),
            envelope: Bytes::copy_from_slice(envelope),
            number: number.map(MatchNumber::number),
        }),
        Command::Deny { ticket } => Arm::Deny(raw(ticket)),
        Command::Cancel { ticket } => Arm::Cancel(raw(ticket)),
        Command::Expire { tickets } => Arm::Expire(pb::Expire { tickets: raws(tickets) }),
        Command::Settle { ticket, outcome } => {
            Arm::Settle(pb::Settle { ticket: raw(ticket), outcome: Some(outcome.into()) })
        }
        _ => return None,
    })
}

/// Commands of an account, of the directory and of the shard itself. Names every command, so that a new one does not
/// compile until it has a place here, in [`ticket_arm`] or in [`life_arm`].
fn account_arm(command: &Command) -> Arm {
    match command {
        Command::Claim { account, claim, home } => {
            Arm::Claim(pb::Claim { account: raw_account(account), claim: raw(claim), home: home.0.into() })
        }
        Command::ConfirmClaim { account, claim, home_epoch } => Arm::ConfirmClaim(pb::ConfirmClaim {
            account: raw_account(account),
            claim: raw(claim),
            home_epoch: *home_epoch,
        }),
        Command::Register { account, claim, home, device_key, device } => Arm::Register(pb::Register {
            account: raw_account(account),
            claim: raw(claim),
            home: home.0.into(),
            device_key: raw(device_key),
            device: Some(device.into()),
        }),
        Command::SetLimit { account, limit } => {
            Arm::SetLimit(pb::SetLimit { account: raw_account(account), limit: *limit })
        }
        Command::Link { ticket, device_key, device, approval, approver_key } => Arm::Link(pb::Link {
            ticket: raw(ticket),
            device_key: raw(device_key),
            device: Some(device.into()),
            approval: Some(approval.into()),
            approver_key: approver_key.as_ref().map(raw),
        }),
        Command::DecideTicket { account, ticket, decision } => Arm::DecideTicket(pb::DecideTicket {
            account: raw_account(account),
            ticket: raw(ticket),
            decision: decision_to(*decision).into(),
        }),
        Command::Unlink { account, session } => {
            Arm::Unlink(pb::Unlink { account: raw_account(account), session: raw(session) })
        }
        Command::UnlinkOthers { account, keep, set_version } => Arm::UnlinkOthers(pb::UnlinkOthers {
            account: raw_account(account),
            keep: raw(keep),
            set_version: *set_version,
        }),
        Command::AckEffects { effects } => Arm::AckEffects(pb::AckEffects { effects: effects.clone() }),
        Command::Tick => Arm::Tick(UNIT),
        Command::AttachCode { account, ticket, requester } => Arm::AttachCode(pb::AttachCode {
            account: raw_account(account),
            ticket: raw(ticket),
            requester: Some(requester.into()),
        }),
        Command::HoldCode { account, ticket } => Arm::HoldCode(of_account(account, ticket)),
        Command::DetachCode { account, ticket } => Arm::DetachCode(of_account(account, ticket)),
        Command::Open { .. }
        | Command::Scan { .. }
        | Command::ScanCode { .. }
        | Command::Approve { .. }
        | Command::Deny { .. }
        | Command::Cancel { .. }
        | Command::Expire { .. }
        | Command::Settle { .. } => unreachable!("a command of a ticket"),
        Command::Install { .. } => unreachable!("it has an arm of its own"),
        Command::Revoke { .. }
        | Command::Lock { .. }
        | Command::Pin { .. }
        | Command::RotateDeviceKey { .. }
        | Command::ReplacePrimary { .. }
        | Command::Delete { .. }
        | Command::MarkDeleted { .. } => unreachable!("a command of an account's life"),
    }
}

impl TryFrom<pb::Command> for Command {
    type Error = Malformed;
    fn try_from(command: pb::Command) -> Result<Self, Malformed> {
        Ok(match need(command.command, "arm of a command")? {
            Arm::Claim(c) => Self::Claim { account: account(&c.account)?, claim: id(&c.claim)?, home: region(c.home)? },
            Arm::ConfirmClaim(c) => {
                Self::ConfirmClaim { account: account(&c.account)?, claim: id(&c.claim)?, home_epoch: c.home_epoch }
            }
            Arm::Register(c) => Self::Register {
                account: account(&c.account)?,
                claim: id(&c.claim)?,
                home: region(c.home)?,
                device_key: id(&c.device_key)?,
                device: part(c.device, "device of a Register")?,
            },
            Arm::SetLimit(c) => Self::SetLimit { account: account(&c.account)?, limit: c.limit },
            Arm::Open(c) => Self::Open {
                ticket: id(&c.ticket)?,
                device_key: id(&c.device_key)?,
                method: method_from(
                    c.method,
                    c.code_account.map(|account| pb::CodeTicket { account, wrong_tries: 0 }),
                )?,
                requester: part(c.requester, "requester of an Open")?,
            },
            Arm::Scan(c) => Self::Scan { ticket: id(&c.ticket)?, scan: part(c.scan, "scan of a Scan")? },
            Arm::Approve(c) => Self::Approve {
                ticket: id(&c.ticket)?,
                approval: part(c.approval, "approval of an Approve")?,
                envelope: c.envelope.into(),
                number: number_from(c.number)?,
            },
            Arm::ScanCode(c) => Self::ScanCode {
                ticket: id(&c.ticket)?,
                scan: part(c.scan, "scan of a ScanCode")?,
                tried: id(&c.tried)?,
                right: c.right,
            },
            Arm::Deny(ticket) => Self::Deny { ticket: id(&ticket)? },
            Arm::Cancel(ticket) => Self::Cancel { ticket: id(&ticket)? },
            Arm::Expire(c) => Self::Expire { tickets: ids(&c.tickets)? },
            Arm::Settle(c) => Self::Settle { ticket: id(&c.ticket)?, outcome: part(c.outcome, "outcome of a Settle")? },
            Arm::Link(c) => Self::Link {
                ticket: id(&c.ticket)?,
                device_key: id(&c.device_key)?,
                device: part(c.device, "device of a Link")?,
                approval: part(c.approval, "approval of a Link")?,
                approver_key: maybe_id(c.approver_key.as_ref())?,
            },
            Arm::DecideTicket(c) => Self::DecideTicket {
                account: account(&c.account)?,
                ticket: id(&c.ticket)?,
                decision: decision_from(c.decision)?,
            },
            Arm::Unlink(c) => Self::Unlink { account: account(&c.account)?, session: id(&c.session)? },
            Arm::UnlinkOthers(c) => {
                Self::UnlinkOthers { account: account(&c.account)?, keep: id(&c.keep)?, set_version: c.set_version }
            }
            Arm::Tick(_) => Self::Tick,
            Arm::AckEffects(c) => Self::AckEffects { effects: c.effects },
            arm @ (Arm::Revoke(_)
            | Arm::Lock(_)
            | Arm::Pin(_)
            | Arm::RotateDeviceKey(_)
            | Arm::ReplacePrimary(_)
            | Arm::Delete(_)
            | Arm::MarkDeleted(_)) => life_from(arm)?,
            Arm::AttachCode(c) => Self::AttachCode {
                account: account(&c.account)?,
                ticket: id(&c.ticket)?,
                requester: part(c.requester, "requester of an AttachCode")?,
            },
            Arm::Install(c) => install_from(c)?,
            Arm::HoldCode(c) => Self::HoldCode { account: account(&c.account)?, ticket: id(&c.ticket)? },
            Arm::DetachCode(c) => Self::DetachCode { account: account(&c.account)?, ticket: id(&c.ticket)? },
        })
    }
}

fn decision_to(decision: Decision) -> pb::Decision {
    match decision {
        Decision::Cancelled => pb::Decision::Cancelled,
        Decision::Expired => pb::Decision::Expired,
    }
}

fn decision_from(decision: i32) -> Result<Decision, Malformed> {
    match pb::Decision::try_from(decision) {
        Ok(pb::Decision::Cancelled) => Ok(Decision::Cancelled),
        Ok(pb::Decision::Expired) => Ok(Decision::Expired),
        Ok(pb::Decision::Unspecified) | Err(_) => Err(Malformed("decision of a DecideTicket")),
    }
}
