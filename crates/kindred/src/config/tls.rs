//! `[tls]`: who may connect, and by what they are known.

use std::path::PathBuf;

use anyhow::bail;
use kindred_wire::caller::Role;
use kindred_wire::tls::Files;
use serde::{Deserialize, Serialize};

use super::whole;

/// What is to be written where there is no such section.
pub const WHAT_TO_WRITE: &str = "write a section [tls] with mode = \"mutual\", certificate, key and trust (PEM files; \
     `kindred certificates` makes some for development), or, on a closed network only, mode = \"plaintext\"";

/// Whether connections are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Mutual TLS 1.3 on both listeners and on everything that is dialled.
    Mutual,
    /// None: each listener grants a role to whoever reaches it.
    Plaintext,
}

/// The section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Must be said.
    pub mode: Mode,
    /// PEM: this node's certificate, then intermediates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM: its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// PEM: the authorities that are believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<PathBuf>,
    /// Between two looks at the files, ms; SIGHUP looks at once.
    #[serde(default = "default_reload", deserialize_with = "whole")]
    pub reload_interval_ms: u64,
    /// Mode plaintext only: the role of whoever reaches `listen.gateway`; `gateway` or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext_role: Option<String>,
}

fn default_reload() -> u64 {
    5_000
}

impl Tls {
    /// No authentication; whoever reaches `listen.gateway` has this role.
    pub fn plaintext(role: Role) -> Self {
        let plaintext_role = Some(role.name().to_owned());
        let (certificate, key, trust) = (None, None, None);
        Self { mode: Mode::Plaintext, certificate, key, trust, reload_interval_ms: default_reload(), plaintext_role }
    }

    /// Mutual authentication with these files.
    pub fn mutual(files: Files) -> Self {
        Self {
            mode: Mode::Mutual,
            certificate: Some(files.certificate),
            key: Some(files.key),
            trust: Some(files.trust),
            reload_interval_ms: default_reload(),
            plaintext_role: None,
        }
    }

    /// The files of mode mutual.
    pub fn files(&self) -> anyhow::Result<Files> {
        let (Some(certificate), Some(key), Some(trust)) = (&self.certificate, &self.key, &self.trust) else {
            bail!("tls.mode `mutual` needs tls.certificate, tls.key and tls.trust; write the paths of PEM files");
        };
        Ok(Files { certificate: certificate.clone(), key: key.clone(), trust: trust.clone() })
    }

    /// The role of whoever reaches `listen.gateway` in mode plaintext.
    pub fn granted(&self) -> anyhow::Result<Role> {
        match self.plaintext_role.as_deref() {
            None | Some("gateway") => Ok(Role::Gateway),
            Some("operator") => Ok(Role::Operator),
            Some(other) => bail!("tls.plaintext_role `{other}` must be `gateway` or `operator`"),
        }
    }

    /// Says what is wrong, the files' contents aside.
    pub fn check(&self) -> anyhow::Result<()> {
        if !(100..=3_600_000).contains(&self.reload_interval_ms) {
            bail!("tls.reload_interval_ms must be 100 to 3600000");
        }
        match self.mode {
            Mode::Mutual if self.plaintext_role.is_some() => {
                bail!("tls.plaintext_role has no meaning in tls.mode `mutual`; remove it")
            }
            Mode::Mutual => self.files().map(drop),
            Mode::Plaintext if self.certificate.is_some() || self.key.is_some() || self.trust.is_some() => {
                bail!("tls.certificate, tls.key and tls.trust have no meaning in tls.mode `plaintext`; remove them")
            }
            Mode::Plaintext => self.granted().map(drop),
        }
    }
}
