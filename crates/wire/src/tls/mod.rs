//! Mutual TLS 1.3 over any [`Net`]: who is at the other end of a connection is known before a byte of it is read.
//!
//! ```text
//!   certificate, key, trust bundle ──read, checked──► Material ──► new connections, on both sides
//!            ▲ changed? every few seconds, or on a nudge               old ones live on until they are too old
//! ```
//!
//! **Invariant:** there is no session resumption, so every connection is judged by the trust bundle that is in force when
//! it is made. **Invariant:** files that do not fit together never replace those that do.

mod identity;
mod material;
mod verify;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use self::identity::{Identity, NoIdentity, PART_BYTES_MAX};
use self::material::Material;
pub use self::material::{Error, Files};
use crate::net::{Listener, Net, Stream};
use crate::shards::BoxFuture;

/// A peer that we dial has to end its handshake within this time; who dials us is bounded by the listener.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// What became of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They are the same.
    Unchanged,
    /// New connections are made with what they hold now.
    Taken,
}

/// A [`Net`] whose every connection is mutually authenticated. Dialling expects a node; accepting takes whoever has a
/// certificate of the same trust domain, and tells who it is.
pub struct Tls {
    inner: Arc<dyn Net>,
    files: Files,
    material: Arc<ArcSwap<Material>>,
}

impl Tls {
    /// Over `inner`, with what the files hold now.
    pub fn new(inner: Arc<dyn Net>, files: Files) -> Result<Self, Error> {
        let material = files.build(files.read()?)?;
        Ok(Self { inner, files, material: Arc::new(ArcSwap::from_pointee(material)) })
    }

    /// Who we are.
    pub fn identity(&self) -> Identity {
        self.material.load().identity.clone()
    }

    /// Fails unless our certificate is that of the node `name`.
    pub fn for_node(&self, name: &str) -> Result<(), Error> {
        self.files.for_node(&self.identity(), name)
    }

    /// Looks at the files again. Connections that there are do not notice.
    pub fn reload(&self) -> Result<Reloaded, Error> {
        let bytes = self.files.read()?;
        let before = self.material.load();
        if before.bytes == bytes {
            return Ok(Reloaded::Unchanged);
        }
        let next = self.files.build(bytes)?;
        if next.identity != before.identity {
            let certificate = self.files.certificate.clone();
            return Err(Error::Renamed { certificate, before: before.identity.clone(), now: next.identity });
        }
        self.material.store(Arc::new(next));
        Ok(Reloaded::Taken)
    }

    /// Reloads for ever: this often, and whenever it is nudged. Refused files are told once for each reason.
    pub async fn follow(self: Arc<Self>, every: Duration, nudge: Arc<Notify>) {
        let mut told = None;
        loop {
            tokio::select! {
                biased;
                () = nudge.notified() => told = None,
                () = tokio::time::sleep(every) => {}
            }
            match self.reload() {
                Ok(Reloaded::Unchanged) => told = None,
                Ok(Reloaded::Taken) => {
                    told = None;
                    metrics::counter!(crate::metrics::TLS_RELOADS, "outcome" => "taken").increment(1);
                    tracing::info!(identity = %self.identity(), "certificate, key and trust were read anew");
                }
                // What is half replaced fits together at the next look.
                Err(error) => {
                    let why = error.to_string();
                    if told.as_ref() != Some(&why) {
                        metrics::counter!(crate::metrics::TLS_RELOADS, "outcome" => "refused").increment(1);
                        tracing::error!(%error, "new TLS files are refused; the old ones go on");
                        told = Some(why);
                    }
                }
            }
        }
    }

    fn connect(&self, address: String, name: Option<&str>) -> BoxFuture<'static, io::Result<Stream>> {
        let (dialled, client) = (self.inner.dial(address.clone()), self.material.load().client.clone());
        let name = name.map(str::to_owned);
        Box::pin(async move {
            let stream = dialled.await?;
            let connector = TlsConnector::from(client);
            let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, connector.connect(server_name(&address), stream)).await;
            let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let stream = shaken.map_err(|error| told(&address, &error))?;
            let identity = peer(stream.get_ref().1.peer_certificates())?;
            if name.is_some_and(|name| name != *identity.name) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{address} is {identity}")));
            }
            Ok(Stream::new(stream).with_caller(identity.caller()))
        })
    }
}

impl Net for Tls {
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        self.connect(address, None)
    }

    fn dial_node(&self, address: String, name: &str) -> BoxFuture<'static, io::Result<Stream>> {
        self.connect(address, Some(name))
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (bound, material) = (self.inner.listen(address), self.material.clone());
        Box::pin(async move { Ok(Box::new(TlsListener { inner: bound.await?, material }) as Box<dyn Listener>) })
    }
}

struct TlsListener {
    inner: Box<dyn Listener>,
    material: Arc<ArcSwap<Material>>,
}

impl Listener for TlsListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        self.inner.accept()
    }

    fn local_addr(&self) -> io::Result<String> {
        self.inner.local_addr()
    }

    fn secure(&self, stream: Stream) -> BoxFuture<'static, io::Result<Stream>> {
        let (below, server) = (self.inner.secure(stream), self.material.load().server.clone());
        Box::pin(async move {
            let stream = TlsAcceptor::from(server).accept(below.await?).await?;
            let identity = peer(stream.get_ref().1.peer_certificates())?;
            Ok(Stream::new(stream).with_caller(identity.caller()))
        })
    }
}

/// What rustls has verified; without it there would be no connection.
fn peer(certificates: Option<&[rustls::pki_types::CertificateDer<'_>]>) -> io::Result<Identity> {
    let none = || io::Error::new(io::ErrorKind::InvalidData, "the peer has no certificate");
    let leaf = certificates.and_then(<[_]>::first).ok_or_else(none)?;
    Identity::of(leaf).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The host that is dialled, as SNI. It decides nothing.
fn server_name(address: &str) -> ServerName<'static> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .unwrap_or_else(|_| ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into()))
}

fn told(address: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("TLS with {address}: {error}"))
}
