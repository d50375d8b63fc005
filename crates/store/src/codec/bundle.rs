//! Whole accounts, in the log and between nodes.

use kindred_core::bundle::{Bundle, Page};
use kindred_core::command::Command;

use super::Malformed;
use super::convert::{account, each, id, part, parts, raw, raw_account, region};
use crate::proto::shard::v1 as shard_pb;
use crate::proto::storage::v1 as pb;

impl From<&Bundle> for pb::Bundle {
    fn from(bundle: &Bundle) -> Self {
        let linked = bundle
            .linked
            .iter()
            .map(|(ticket, receipt)| pb::LinkedTicket { ticket: raw(ticket), receipt: Some(receipt.into()) });
        Self {
            account: Some((&bundle.account).into()),
            tombstones: each(&bundle.tombstones),
            stubs: each(&bundle.stubs),
            linked: linked.collect(),
            time_ms: bundle.time_ms,
        }
    }
}

impl TryFrom<pb::Bundle> for Bundle {
    type Error = Malformed;
    fn try_from(bundle: pb::Bundle) -> Result<Self, Malformed> {
        let linked = bundle
            .linked
            .into_iter()
            .map(|linked| Ok((id(&linked.ticket)?, part(linked.receipt, "receipt of a linked ticket")?)));
        Ok(Self {
            account: part(bundle.account, "account of a bundle")?,
            tombstones: parts(bundle.tombstones)?,
            stubs: parts(bundle.stubs)?,
            linked: linked.collect::<Result<_, Malformed>>()?,
            time_ms: bundle.time_ms,
        })
    }
}

/// The arm of an Install; `None` for every other command.
pub(super) fn install_arm(command: &Command) -> Option<pb::command::Command> {
    let Command::Install { bundle, claim, home } = command else { return None };
    let install = pb::Install { bundle: Some(bundle.as_ref().into()), claim: raw(claim), home: home.0.into() };
    Some(pb::command::Command::Install(install))
}

pub(super) fn install_from(install: pb::Install) -> Result<Command, Malformed> {
    let bundle: Bundle = part(install.bundle, "bundle of an Install")?;
    Ok(Command::Install { bundle: Box::new(bundle), claim: id(&install.claim)?, home: region(install.home)? })
}

impl From<&Page> for shard_pb::ExportAnswer {
    fn from(page: &Page) -> Self {
        Self {
            bundles: each(&page.bundles),
            too_large: page.too_large.iter().map(raw_account).collect(),
            last: page.last.as_ref().map(raw_account),
        }
    }
}

impl TryFrom<shard_pb::ExportAnswer> for Page {
    type Error = Malformed;
    fn try_from(page: shard_pb::ExportAnswer) -> Result<Self, Malformed> {
        Ok(Self {
            bundles: parts(page.bundles)?,
            too_large: page.too_large.iter().map(account).collect::<Result<_, _>>()?,
            last: page.last.as_ref().map(account).transpose()?,
        })
    }
}

pub(super) fn export_to(after: Option<&kindred_core::id::AccountId>) -> shard_pb::ExportQuery {
    shard_pb::ExportQuery { after: after.map(raw_account) }
}

pub(super) fn export_from(query: &shard_pb::ExportQuery) -> Result<Option<kindred_core::id::AccountId>, Malformed> {
    query.after.as_ref().map(account).transpose()
}

pub(super) fn installed_from(installed: pb::Installed) -> kindred_core::command::Outcome {
    let pb::Installed { set_version, auth_epoch, again } = installed;
    kindred_core::command::Outcome::Installed { set_version, auth_epoch, again }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_install_without_its_bundle_is_malformed() {
        let install = pb::Install { bundle: None, claim: vec![1; 16].into(), home: 0 };
        assert!(install_from(install).is_err());
        assert!(Bundle::try_from(pb::Bundle::default()).is_err());
    }
}
