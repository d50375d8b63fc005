//! The dial / listen seam: the only door to sockets.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::Channel;

use crate::caller::Caller;
use crate::calls::{CallService, ServedCalls};
use crate::shards::BoxFuture;

/// A connected byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A boxed [`Io`] that tonic serves and dials, and who is at its other end.
pub struct Stream {
    io: Box<dyn Io>,
    caller: Option<Caller>,
}

impl Stream {
    /// Wraps a connected stream. Nobody knows who is at its other end.
    pub fn new(io: impl Io) -> Self {
        Self { io: Box::new(io), caller: None }
    }

    /// The same, with the peer that its certificate has proved.
    #[must_use]
    pub fn with_caller(self, caller: Caller) -> Self {
        Self { caller: Some(caller), ..self }
    }

    /// The peer, where it has proved who it is.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl tonic::transport::server::Connected for Stream {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

/// Accepts connections.
pub trait Listener: Send + 'static {
    /// The next connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>>;
    /// Where it listens, `host:port`.
    fn local_addr(&self) -> io::Result<String>;
    /// What has to happen on a new connection before it is used: the handshake of TLS. Runs beside those of other
    /// connections; whoever calls it bounds its time.
    fn secure(&self, stream: Stream) -> BoxFuture<'static, io::Result<Stream>> {
        Box::pin(std::future::ready(Ok(stream)))
    }
    /// Hands over what is served here. True if its [`Net`] carries whole calls: then no connection is ever accepted, and
    /// `service` is called until the listener is dropped. Over bytes, the default, it is false and nothing has happened.
    fn serve_calls(&mut self, service: ServedCalls) -> bool {
        let _ = service;
        false
    }
}

/// Opens and accepts connections. `address` is `host:port`.
pub trait Net: Send + Sync + 'static {
    /// Connects. An implementation that fails at once must first yield to time, or retry loops spin.
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Stream>>;
    /// Connects to the node of that name. Where peers prove who they are, any other node is an error.
    fn dial_node(&self, address: String, name: &str) -> BoxFuture<'static, io::Result<Stream>> {
        let _ = name;
        self.dial(address)
    }
    /// Calls to `address`, where this network carries whole calls; none where it carries bytes, as all real ones do.
    fn calls(&self, address: &str) -> Option<CallService> {
        let _ = address;
        None
    }
    /// Binds.
    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// TCP, with Nagle off.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Net for Tcp {
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::new(stream))
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind(address).await?;
            Ok(Box::new(TcpAccept(listener)) as Box<dyn Listener>)
        })
    }
}

struct TcpAccept(tokio::net::TcpListener);

impl Listener for TcpAccept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let (stream, _) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Stream::new(stream))
        })
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.0.local_addr()?.to_string())
    }
}

/// A tonic channel to `address` through `net`; connects lazily and reconnects by itself.
pub fn channel(net: Arc<dyn Net>, address: &str) -> Result<Channel, tonic::transport::Error> {
    let to = address.to_owned();
    connect(address, move || net.dial(to.clone()))
}

/// The same to the node of that name, and to no other: see [`Net::dial_node`].
pub fn channel_to_node(net: Arc<dyn Net>, address: &str, name: &str) -> Result<Channel, tonic::transport::Error> {
    let (to, name) = (address.to_owned(), name.to_owned());
    connect(address, move || net.dial_node(to.clone(), &name))
}

fn connect(
    address: &str,
    dial: impl Fn() -> BoxFuture<'static, io::Result<Stream>> + Send + Sync + 'static,
) -> Result<Channel, tonic::transport::Error> {
    // TLS, where there is any, is below: what tonic sees is plain.
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    let connector = tower::service_fn(move |_: http::Uri| {
        let dialled = dial();
        async move { dialled.await.map(hyper_util::rt::TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// Connections of `listener` as the stream that tonic serves, without handshakes: for tests over connections in memory. A
/// node has a loop of its own. Accept errors are skipped after a pause.
pub fn incoming(mut listener: Box<dyn Listener>) -> impl futures::Stream<Item = io::Result<Stream>> + Send {
    let (tx, rx) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = tx.closed() => return,
                accepted = listener.accept() => match accepted {
                    Ok(stream) => if tx.send(Ok(stream)).await.is_err() { return },
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            }
        }
    });
    futures::stream::unfold(rx, |mut rx| async move { rx.recv().await.map(|item| (item, rx)) })
}
