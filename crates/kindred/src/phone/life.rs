//! What the owner does to the account and its devices beside pairing: limit, pin, another key, another phone, the end.

use std::path::Path;

use clap::ValueEnum;
use kindred_client::Device;
use kindred_core::id::{DeviceKey, SessionId};
use serde_json::json;

use super::{Phone, ask, settle, usage};
use crate::connect::{self, failed};
use crate::keys::KeyFile;
use crate::output::{self, Exit, Output, exit};
use crate::records::{self, print_tombstone, session_json, tombstone_json};

/// Whether the companions stay when the primary changes. There is no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Companions {
    /// They all stay linked.
    Keep,
    /// They all end, each with its own tombstone.
    End,
}

impl Phone {
    pub(super) async fn limit(&mut self, limit: u32) -> anyhow::Result<()> {
        let request = self.file.begin(&format!("limit {limit}"))?;
        let result = self.client.set_limit(&self.member, limit, request).await;
        let reply = settle(&mut self.file, "limit", result)?;
        match self.output {
            Output::Json => output::json(&json!({ "companion_limit": limit, "log_index": reply.log_index })),
            Output::Table => {
                println!("{} may have {limit} companions", self.member.account);
                Ok(())
            }
        }
    }

    pub(super) async fn pin(&mut self, target: &SessionId, pinned: bool) -> anyhow::Result<()> {
        let doing = if pinned { "pin" } else { "unpin" };
        let request = self.file.begin(&format!("{doing} {target}"))?;
        let result = self.client.pin(&self.member, target, pinned, request).await;
        let reply = settle(&mut self.file, doing, result)?;
        let session = reply.session.unwrap_or_default();
        match self.output {
            Output::Json => output::json(&session_json(&session)),
            Output::Table => {
                println!(
                    "{target} {}",
                    if session.pinned { "is pinned: no sibling can end it" } else { "is not pinned" }
                );
                Ok(())
            }
        }
    }

    /// The new key is on the disk before anybody hears of it; a lost answer is asked for again with the same one.
    pub(super) async fn rotate(&mut self) -> anyhow::Result<()> {
        let device = Device::new(&self.file.next_secret()?, self.member.device.cluster());
        let listed = self.client.sessions(&self.member.account, &self.member.home_region).await;
        let listed = listed.map_err(|error| failed("rotate-key", &error))?;
        let own = listed.sessions.iter().find(|s| s.session == self.member.session.as_bytes());
        // An earlier attempt may have come through, and its answer may be gone.
        let is_done = own.and_then(|s| DeviceKey::from_slice(&s.device_key)) == Some(device.key());
        if !is_done {
            let request = self.file.begin(&format!("rotate-key {}", device.key()))?;
            let result = self.client.rotate_key(&self.member, &device, request).await;
            settle(&mut self.file, "rotate-key", result)?;
        }
        self.file.take_next_secret()?;
        match self.output {
            Output::Json => output::json(&json!({ "device_key": device.key().to_string() })),
            Output::Table => {
                println!("this phone has another key, {}; the old one proves nothing any more", device.key());
                Ok(())
            }
        }
    }

    pub(super) async fn replace(
        &mut self,
        new_keys: &Path,
        companions: Companions,
        name: Option<&str>,
    ) -> anyhow::Result<()> {
        let (mut file, device) = newcomer(&self.client, new_keys).await?;
        let about = connect::about("phone", name, new_keys);
        let request = self.file.begin(&format!("replace {} {companions:?}", device.key()))?;
        let keep = companions == Companions::Keep;
        let result = self.client.replace_primary(&self.member, &device, &about, keep, request).await;
        let (member, reply) = settle(&mut self.file, "replace", result)?;
        (file.account, file.session) = (Some(member.account.to_string()), Some(member.session.to_string()));
        file.save()?;
        replaced(&member, &reply, new_keys, self.output)
    }

    pub(super) async fn delete(&mut self, yes: bool) -> anyhow::Result<()> {
        let account = &self.member.account;
        if !yes && !ask(&format!("Delete {account} for good? All its sessions end, and the id is never free again."))? {
            return Err(Exit::error(exit::FAILED, "nothing was deleted"));
        }
        let request = self.file.begin("delete")?;
        let result = self.client.delete_account(&self.member, request).await;
        let reply = settle(&mut self.file, "delete", result)?;
        deleted(&self.member.account.to_string(), &reply, self.output)
    }
}

/// The key file of a phone that is to become the primary, made if it is not there.
pub async fn newcomer(client: &kindred_client::Client, keys: &Path) -> anyhow::Result<(KeyFile, Device)> {
    let mut file = usage(KeyFile::open_or_create(keys))?;
    if let (Some(account), Some(session)) = (&file.account, &file.session) {
        let message = format!("{} has session {session} of account {account}; take another file", keys.display());
        return Err(Exit::error(exit::USAGE, message));
    }
    let device = connect::device(client, &mut file).await?;
    Ok((file, device))
}

/// Prints what a replacement did.
pub fn replaced(
    member: &kindred_client::Member,
    reply: &kindred_wire::pb::account::v1::ReplacePrimaryReply,
    keys: &Path,
    output: Output,
) -> anyhow::Result<()> {
    if output == Output::Json {
        return output::json(&json!({
            "account": member.account.to_string(),
            "session": member.session.to_string(),
            "set_version": reply.set_version,
            "auth_epoch": reply.auth_epoch,
            "tombstones": reply.tombstones.iter().map(tombstone_json).collect::<Vec<_>>(),
        }));
    }
    println!("{} is the phone of {} now, as session {}", keys.display(), member.account, member.session);
    for tombstone in &reply.tombstones {
        println!("ended:");
        print_tombstone(tombstone);
    }
    Ok(())
}

/// Prints what a deletion left.
pub fn deleted(
    account: &str,
    reply: &kindred_wire::pb::account::v1::DeleteReply,
    output: Output,
) -> anyhow::Result<()> {
    if output == Output::Json {
        return output::json(&json!({
            "account": account,
            "set_version": reply.set_version,
            "log_index": reply.log_index,
            "stubs": reply.stubs.iter().map(tombstone_json).collect::<Vec<_>>(),
        }));
    }
    println!("{account} is deleted; {} sessions have ended", reply.stubs.len());
    for stub in &reply.stubs {
        let session = stub.session.clone().unwrap_or_default();
        println!("  {}  {}", kindred_core::id::hex(&session.session), records::why(stub));
    }
    Ok(())
}
