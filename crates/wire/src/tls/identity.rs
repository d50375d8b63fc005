//! Who a certificate says it is: `spiffe://kindred/<trust domain>/<role>/<name>`, as its only SPIFFE URI.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::caller::{Caller, Role};

const PREFIX: &str = "spiffe://kindred/";
/// Longest trust domain and name.
pub const PART_BYTES_MAX: usize = 64;

/// A role and a name within one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What sets the certificates of one cluster apart from those of another under the same authority.
    pub trust_domain: Arc<str>,
    /// The role.
    pub role: Role,
    /// The name within the role; a node's is its node name.
    pub name: Arc<str>,
}

/// Why a certificate tells no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// There must be one, so that nobody has to choose.
    #[error("the certificate has {0} SPIFFE URIs instead of one")]
    Count(usize),
    /// It is of another form.
    #[error("`{0}` is not spiffe://kindred/<trust domain>/<node|gateway|operator>/<name>")]
    Form(String),
}

impl Identity {
    /// Of these parts; none if one of them is empty, longer than [`PART_BYTES_MAX`], or not of `A-Z a-z 0-9 . _ -`.
    pub fn new(trust_domain: &str, role: Role, name: &str) -> Option<Self> {
        let is_good = |part: &str| {
            (1..=PART_BYTES_MAX).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        (is_good(trust_domain) && is_good(name)).then(|| Self {
            trust_domain: trust_domain.into(),
            role,
            name: name.into(),
        })
    }

    /// Reads a URI.
    pub fn parse(uri: &str) -> Result<Self, NoIdentity> {
        let parts: Vec<_> = uri.strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
        let identity = match parts[..] {
            [trust_domain, role, name] => Role::from_name(role).and_then(|role| Self::new(trust_domain, role, name)),
            _ => None,
        };
        identity.ok_or_else(|| NoIdentity::Form(uri.chars().take(256).collect()))
    }

    /// Reads it from a certificate, whose signature is somebody else's business.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, NoIdentity> {
        let unreadable = |error: webpki::Error| NoIdentity::Unreadable(error.to_string());
        let certificate = webpki::EndEntityCert::try_from(certificate).map_err(unreadable)?;
        let uris: Vec<_> = certificate.valid_uri_names().filter(|uri| uri.starts_with("spiffe:")).collect();
        match uris[..] {
            [uri] => Self::parse(uri),
            _ => Err(NoIdentity::Count(uris.len())),
        }
    }

    /// As requests carry it.
    pub fn caller(&self) -> Caller {
        Caller { role: self.role, name: self.name.clone() }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}/{}", self.trust_domain, self.role.name(), self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_identity_reads_as_it_was_written() {
        for role in Role::ALL {
            let identity = Identity::new("prod.example", role, "eu-0").unwrap();
            assert_eq!(Identity::parse(&identity.to_string()), Ok(identity));
        }
    }

    #[test]
    fn anything_else_is_no_identity() {
        let long = format!("spiffe://kindred/dev/node/{}", "a".repeat(PART_BYTES_MAX + 1));
        for uri in [
            "",
            "spiffe://kindred/dev/node",
            "spiffe://kindred/dev/node/",
            "spiffe://kindred//node/a",
            "spiffe://kindred/dev/root/a",
            "spiffe://kindred/dev/Node/a",
            "spiffe://kindred/dev/node/a/b",
            "spiffe://kindred/dev/node/a b",
            "spiffe://kindred/dev/node/ä",
            "spiffe://other/dev/node/a",
            "https://kindred/dev/node/a",
            &long,
        ] {
            assert!(Identity::parse(uri).is_err(), "{uri}");
        }
    }
}
