//! The key file of a phone or a companion: JSON, readable by its owner only.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kindred_core::id::{AccountId, RequestId, SessionId, hex, unhex};
use serde::{Deserialize, Serialize};

/// What a device keeps. No Debug: it holds a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Ed25519 secret key, hex of 32 bytes.
    secret: String,
    /// The key that is to come after it, while a rotation is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_secret: Option<String>,
    /// Id of the cluster that the device trusts; hex of 16 bytes.
    pub cluster: Option<String>,
    /// The account, once there is one (text, or 0x and hex).
    pub account: Option<String>,
    /// The session, once there is one; hex of 16 bytes.
    pub session: Option<String>,
    /// An act whose answer was not seen.
    pending: Option<Pending>,
    #[serde(skip)]
    path: PathBuf,
}

/// Doing the same again must use the same request id: it tells what became of the first attempt.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    act: String,
    request: String,
}

impl KeyFile {
    /// Opens the file, or makes it with a fresh key.
    pub fn open_or_create(path: &Path) -> anyhow::Result<Self> {
        if path.exists() {
            return Self::open(path);
        }
        let secret: [u8; 32] = crate::env::real().random();
        let file = Self {
            secret: hex(&secret),
            next_secret: None,
            cluster: None,
            account: None,
            session: None,
            pending: None,
            path: path.to_owned(),
        };
        crate::cluster::write_secret(path, &serde_json::to_string_pretty(&file)?)?;
        Ok(file)
    }

    /// Opens an existing file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("key file {}: make one with `kindred phone --keys FILE register ACCOUNT`", path.display())
        })?;
        let mut file: Self = serde_json::from_str(&text).with_context(|| format!("key file {}", path.display()))?;
        file.path = path.to_owned();
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file, atomically.
    pub fn save(&self) -> anyhow::Result<()> {
        let next = self.path.with_extension("new");
        if next.exists() {
            std::fs::remove_file(&next)?;
        }
        crate::cluster::write_secret(&next, &serde_json::to_string_pretty(self)?)?;
        std::fs::rename(&next, &self.path).with_context(|| format!("write {}", self.path.display()))
    }

    /// The request id for `act`, on the disk before it is used; the one of last time if that answer was not seen.
    pub fn begin(&mut self, act: &str) -> anyhow::Result<RequestId> {
        if let Some(pending) = self.pending.as_ref().filter(|pending| pending.act == act) {
            let request = unhex(&pending.request).and_then(|bytes| RequestId::from_slice(&bytes));
            return request.with_context(|| format!("key file {}: `pending.request` is no id", self.path.display()));
        }
        let request = kindred_client::request_id(&crate::env::real());
        self.pending = Some(Pending { act: act.to_owned(), request: request.to_string() });
        self.save()?;
        Ok(request)
    }

    /// The act was answered. Keeps everything else that changed as well.
    pub fn answered(&mut self) -> anyhow::Result<()> {
        self.pending = None;
        self.save()
    }

    /// The secret key.
    pub fn secret(&self) -> anyhow::Result<[u8; 32]> {
        match unhex(&self.secret).and_then(|bytes| bytes.try_into().ok()) {
            Some(secret) => Ok(secret),
            None => bail!("key file {}: `secret` is not 64 hex digits", self.path.display()),
        }
    }

    /// The key of a rotation that is under way: on the disk before anybody hears of it.
    pub fn next_secret(&mut self) -> anyhow::Result<[u8; 32]> {
        if let Some(text) = &self.next_secret {
            return match unhex(text).and_then(|bytes| bytes.try_into().ok()) {
                Some(secret) => Ok(secret),
                None => bail!("key file {}: `next_secret` is not 64 hex digits", self.path.display()),
            };
        }
        let secret: [u8; 32] = crate::env::real().random();
        self.next_secret = Some(hex(&secret));
        self.save()?;
        Ok(secret)
    }

    /// The rotation is done: the next key is the key.
    pub fn take_next_secret(&mut self) -> anyhow::Result<()> {
        if let Some(next) = self.next_secret.take() {
            self.secret = next;
        }
        self.answered()
    }

    /// The account that the device belongs to.
    pub fn account(&self) -> anyhow::Result<AccountId> {
        let text = self.account.as_deref().with_context(|| {
            format!("{} has no account yet: `kindred phone --keys FILE register ACCOUNT`", self.path.display())
        })?;
        account_id(text)
    }

    /// The device's session.
    pub fn session(&self) -> anyhow::Result<SessionId> {
        let text = self.session.as_deref();
        session_id(text.with_context(|| format!("{} has no session yet", self.path.display()))?)
    }
}

/// Reads an account id as printed: text, or 0x and hex.
pub fn account_id(text: &str) -> anyhow::Result<AccountId> {
    let bytes = match text.strip_prefix("0x").and_then(unhex) {
        Some(bytes) => bytes,
        None => text.as_bytes().to_vec(),
    };
    AccountId::new(&bytes).context("an account id has 1 to 64 bytes")
}

/// Reads a session id as printed.
pub fn session_id(text: &str) -> anyhow::Result<SessionId> {
    unhex(text).and_then(|b| SessionId::from_slice(&b)).context("a session id is 32 hex digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_keeps_its_request_id_until_it_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phone.json");
        let first = KeyFile::open_or_create(&path).unwrap().begin("unlink a").unwrap();
        let mut again = KeyFile::open(&path).unwrap();
        assert_eq!(again.begin("unlink a").unwrap(), first);
        again.answered().unwrap();
        assert_ne!(KeyFile::open(&path).unwrap().begin("unlink a").unwrap(), first);
    }

    #[test]
    fn the_next_key_is_kept_until_it_is_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phone.json");
        let first = KeyFile::open_or_create(&path).unwrap().secret().unwrap();
        let next = KeyFile::open(&path).unwrap().next_secret().unwrap();
        let mut again = KeyFile::open(&path).unwrap();
        assert_eq!((again.next_secret().unwrap(), again.secret().unwrap()), (next, first));
        again.take_next_secret().unwrap();
        assert_eq!(KeyFile::open(&path).unwrap().secret().unwrap(), next);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("next_secret"));
    }

    #[test]
    fn another_act_has_another_request_id() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = KeyFile::open_or_create(&dir.path().join("phone.json")).unwrap();
        assert_ne!(file.begin("unlink a").unwrap(), file.begin("unlink b").unwrap());
    }
}
