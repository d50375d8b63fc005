//! Certificate, key and trust bundle as they lie in files, and what rustls makes of them.

use std::fmt;
use std::path::{Path, PathBuf};
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
            let length = std::fs::metadata(path).map_err(|error| file(path, error))?.len();
            if length > FILE_BYTES_MAX {
                return Err(file(path, format!("{length} bytes, at most {FILE_BYTES_MAX}")));
            }
            std::fs::read(path).map_err(|error| file(path, error))
        };
        Ok(Bytes { certificate: read(&self.certificate)?, key: read(&self.key)?, trust: read(&self.trust)? })
    }

    /// Makes configurations of what was read, if all of it fits together.
    pub(super) fn build(&self, bytes: Bytes) -> Result<Material, Error> {
        let chain = certificates(&bytes.certificate, &self.certificate)?;
        let Some(leaf) = chain.first() else { return Err(file(&self.certificate, "holds no certificate (PEM)")) };
        let identity = Identity::of(leaf).map_err(|why| Error::Identity { path: self.certificate.clone(), why })?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&bytes.trust, &self.trust)? {
            roots.add(certificate).map_err(|error| file(&self.trust, error))?;
        }
        // The reason could quote the file.
        let key =
            PrivateKeyDer::from_pem_slice(&bytes.key).map_err(|_| file(&self.key, "holds no private key (PEM)"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let parts = Parts { chain, key, roots: Arc::new(roots), identity, provider };
        let callers = self.callers(&parts)?;
        let pair = |why| Error::Pair { certificate: self.certificate.clone(), key: self.key.clone(), why };
        let (server, client) = (parts.server(callers).map_err(pair)?, parts.client().map_err(pair)?);
        Ok(Material { identity: parts.identity, server: Arc::new(server), client: Arc::new(client), bytes })
    }

    /// Who may call us; fails if we ourselves might not.
    fn callers(&self, parts: &Parts) -> Result<Arc<Callers>, Error> {
        let untrusted =
            |why| Error::Untrusted { certificate: self.certificate.clone(), trust: self.trust.clone(), why };
        let inner = WebPkiClientVerifier::builder_with_provider(parts.roots.clone(), parts.provider.clone()).build();
        let inner = inner.map_err(|error| untrusted(rustls::Error::General(error.to_string())))?;
        if let Some((leaf, intermediates)) = parts.chain.split_first() {
            inner.verify_client_cert(leaf, intermediates, UnixTime::now()).map_err(untrusted)?;
        }
        Ok(Arc::new(Callers { inner, trust_domain: parts.identity.trust_domain.clone() }))
    }

    /// The identity that a node must have to serve under `name`.
    pub fn for_node(&self, identity: &Identity, name: &str) -> Result<(), Error> {
        if identity.role == Role::Node && *identity.name == *name {
            return Ok(());
        }
        Err(file(&self.certificate, format!("is of {identity}; this node needs …/node/{name}")))
    }
}

fn file(path: &Path, why: impl ToString) -> Error {
    Error::File { path: path.to_owned(), why: why.to_string() }
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| file(path, format!("not PEM: {error}")))?;
    if all.is_empty() { Err(file(path, "holds no certificate (PEM)")) } else { Ok(all) }
}

/// What the files hold. No Debug: one of them is a key.
struct Parts {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    identity: Identity,
    provider: Arc<CryptoProvider>,
}

impl Parts {
    fn server(&self, callers: Arc<Callers>) -> Result<ServerConfig, rustls::Error> {
        let mut server = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(callers)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would be believed on a certificate that a newer trust bundle may no longer believe.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(server)
    }

    fn client(&self) -> Result<ClientConfig, rustls::Error> {
        let (roots, provider) = (self.roots.clone(), self.provider.clone());
        let nodes = Nodes { roots, provider: provider.clone(), trust_domain: self.identity.trust_domain.clone() };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nodes))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();
        Ok(client)
    }
}
