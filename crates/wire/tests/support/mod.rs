//! Certificates for tests, good and bad.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use kindred_wire::tls::Files;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pair = KeyPair::generate().unwrap();
        let pem = params.self_signed(&pair).unwrap().pem();
        Self { issuer: Issuer::new(params, pair), pem }
    }

    /// A certificate with these URIs, and its key.
    pub fn certify(&self, uris: &[&str]) -> Certified {
        self.certify_with(uris, |_| {})
    }

    pub fn certify_with(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certified {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let pair = KeyPair::generate().unwrap();
        Certified { pem: params.signed_by(&pair, &self.issuer).unwrap().pem(), key: pair.serialize_pem() }
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Certified {
    pub pem: String,
    pub key: String,
}

/// A directory with the files of one party.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new(certified: &Certified, trust: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write(certified, trust);
        place
    }

    pub fn write(&self, certified: &Certified, trust: &str) {
        for (name, text) in [("cert", &certified.pem), ("key", &certified.key), ("trust", &trust.to_owned())] {
            std::fs::write(self.path().join(name), text).unwrap();
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn files(&self) -> Files {
        let of = |name: &str| -> PathBuf { self.path().join(name) };
        Files { certificate: of("cert"), key: of("key"), trust: of("trust") }
    }
}
