//! Certificate, key and trust bundle as they lie in files, and what rustls makes of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::identity::{Identity, NoIdentity};
use super::verify::{Callers, Nodes};
use crate::caller::Role;

/// Largest of the three files.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Three PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, first, and the intermediates that lead to the trust bundle.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificates of the authorities that are believed, of ourselves and of others.
    pub trust: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of them cannot be read.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The certificate does not say who it is.
    #[error("{}: {why}", path.display())]
    Identity {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        why: NoIdentity,
    },
    /// They do not belong together.
    #[error("{} and {}: {why}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        why: rustls::Error,
    },
    /// What we would not believe of others they would not believe of us.
    #[error("{} is not valid under {}: {why}", certificate.display(), trust.display())]
    Untrusted {
        /// The certificate's file.
        certificate: PathBuf,
        /// The trust bundle.
        trust: PathBuf,
        /// Why.
        why: rustls::Error,
    },
    /// A certificate that is renewed stays the certificate of the same.
    #[error("{} is now of {now}, and was of {before}", certificate.display())]
    Renamed {
        /// The certificate's file.
        certificate: PathBuf,
        /// Whose it was.
        before: Identity,
        /// Whose it is.
        now: Identity,
    },
}

/// The bytes of the three files. No Debug: one of them is a key.
#[derive(PartialEq, Eq)]
pub(super) struct Bytes {
    certificate: Vec<u8>,
    key: Vec<u8>,
    trust: Vec<u8>,
}

/// What connections are made with.
pub(super) struct Material {
    pub(super) identity: Identity,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) bytes: Bytes,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Files {
    /// Reads all three.
    pub(super) fn read(&self) -> Result<Bytes, Error> {
        let read = |path: &PathBuf| {
            let failed = |why: String| Error::File { path: path.clone(), why };
            let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
            if metadata.len() > FILE_BYTES_MAX {
                return Err(failed(format!("{} bytes, at most {FILE_BYTES_MAX}", metadata.len())));
            }
            std::fs::read(path).map_err(|error| failed(error.to_string()))
        };
        Ok(Bytes { certificate: read(&self.certificate)?, key: read(&self.key)?, trust: read(&self.trust)? })
    }

    fn chain(&self, pem: &[u8], path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, Error> {
        let failed = |why: String| Error::File { path: path.clone(), why };
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let all = all.map_err(|error| failed(format!("not PEM: {error}")))?;
        if all.is_empty() { Err(failed("holds no certificate (PEM)".into())) } else { Ok(all) }
    }

    fn roots(&self, pem: &[u8]) -> Result<Arc<RootCertStore>, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.chain(pem, &self.trust)? {
            roots.add(certificate).map_err(|error| Error::File { path: self.trust.clone(), why: error.to_string() })?;
        }
        Ok(Arc::new(roots))
    }

    /// Makes configurations of what was read, if all of it fits together.
    pub(super) fn build(&self, bytes: Bytes) -> Result<Material, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = self.chain(&bytes.certificate, &self.certificate)?;
        let roots = self.roots(&bytes.trust)?;
        let leaf = chain.first().ok_or_else(|| self.file_of_certificate("holds no certificate"))?;
        let identity = Identity::of(leaf).map_err(|why| Error::Identity { path: self.certificate.clone(), why })?;
        let server = self.server(&bytes, &chain, &roots, &identity, &provider)?;
        let client = self.client(&bytes, chain, roots, &identity, provider)?;
        Ok(Material { identity, server: Arc::new(server), client: Arc::new(client), bytes })
    }

    fn file_of_certificate(&self, why: &str) -> Error {
        Error::File { path: self.certificate.clone(), why: why.into() }
    }

    fn key(&self, bytes: &Bytes) -> Result<PrivateKeyDer<'static>, Error> {
        // The reason could quote the file.
        let unreadable = |_| Error::File { path: self.key.clone(), why: "holds no private key (PEM)".into() };
        PrivateKeyDer::from_pem_slice(&bytes.key).map_err(unreadable)
    }

    fn pair(&self, why: rustls::Error) -> Error {
        Error::Pair { certificate: self.certificate.clone(), key: self.key.clone(), why }
    }

    fn server(
        &self,
        bytes: &Bytes,
        chain: &[CertificateDer<'static>],
        roots: &Arc<RootCertStore>,
        identity: &Identity,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerConfig, Error> {
        let untrusted =
            |why| Error::Untrusted { certificate: self.certificate.clone(), trust: self.trust.clone(), why };
        let inner = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let inner = inner.map_err(|error| untrusted(rustls::Error::General(error.to_string())))?;
        let (leaf, intermediates) =
            chain.split_first().ok_or_else(|| self.file_of_certificate("holds no certificate"))?;
        inner.verify_client_cert(leaf, intermediates, UnixTime::now()).map_err(untrusted)?;
        let callers = Callers { inner, trust_domain: identity.trust_domain.clone() };
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|why| self.pair(why))?
            .with_client_cert_verifier(Arc::new(callers))
            .with_single_cert(chain.to_vec(), self.key(bytes)?)
            .map_err(|why| self.pair(why))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would be believed on a certificate that a newer trust bundle may no longer believe.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(server)
    }

    fn client(
        &self,
        bytes: &Bytes,
        chain: Vec<CertificateDer<'static>>,
        roots: Arc<RootCertStore>,
        identity: &Identity,
        provider: Arc<CryptoProvider>,
    ) -> Result<ClientConfig, Error> {
        let nodes = Nodes { roots, provider: provider.clone(), trust_domain: identity.trust_domain.clone() };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|why| self.pair(why))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nodes))
            .with_client_auth_cert(chain, self.key(bytes)?)
            .map_err(|why| self.pair(why))?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();
        Ok(client)
    }

    /// The identity that a node must have to serve under `name`.
    pub fn for_node(&self, identity: &Identity, name: &str) -> Result<(), Error> {
        if identity.role == Role::Node && *identity.name == *name {
            return Ok(());
        }
        let why = format!("is of {identity}; this node needs …/node/{name}");
        Err(Error::File { path: self.certificate.clone(), why })
    }
}
