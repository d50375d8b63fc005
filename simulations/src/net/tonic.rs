//! The network of all layers: tonic's HTTP/2 over the sockets of turmoil, with what turmoil cannot do done to the streams.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kindred_core::canonical::sha256;
use kindred_core::id::hex;
use kindred_wire::net::{Listener, Net, Stream};
use kindred_wire::shards::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::digest::Trace;
use crate::world::clock;

/// An answer of a gateway's connection is at least so long; settings, pings and window updates are shorter.
const ANSWER_BYTES_MIN: usize = 80;
/// From so many known streams on, those that are gone are forgotten at each new one.
const OPEN_LOOKED_AT: usize = 256;
/// Longest and shortest way of a message when nothing delays it.
pub const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(8));

/// What can be done to the streams of all hosts.
#[derive(Default)]
pub struct Streams {
    open: Mutex<BTreeMap<u64, Weak<Ends>>>,
    numbers: Mutex<u64>,
    hosts: Mutex<BTreeMap<String, Arc<Process>>>,
    trace: Arc<Trace>,
}

/// One host's process.
#[derive(Default)]
struct Process {
    cut: AtomicBool,
    replies_lost: AtomicU32,
    replies_gone: AtomicU32,
}

/// One end of a stream.
struct Ends {
    host: String,
    state: Mutex<EndState>,
}

#[derive(Default)]
struct EndState {
    broken: bool,
    dead: bool,
    wakers: Vec<Waker>,
}

impl Streams {
    /// None yet.
    pub fn new(trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self { trace, ..Self::default() })
    }

    fn process(&self, host: &str) -> Arc<Process> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(host.to_owned()).or_default().clone()
    }

    /// What the host's process writes from now on is not heard; with false, it is again.
    pub fn cut(&self, host: &str, cut: bool) {
        self.process(host).cut.store(cut, Ordering::Relaxed);
    }

    /// Instead of carrying an answer, that many gateway connections of the host break.
    pub fn lose_replies(&self, host: &str, answers: u32) {
        self.process(host).replies_lost.fetch_add(answers, Ordering::Relaxed);
    }

    /// No answers vanish any more.
    pub fn keep_replies(&self) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().for_each(|process| process.replies_lost.store(0, Ordering::Relaxed));
    }

    /// Answers of the host that vanished so.
    pub fn replies_gone(&self, host: &str) -> u32 {
        self.process(host).replies_gone.load(Ordering::Relaxed)
    }

    /// Breaks every stream of the host, or (`dead`) lets it hang; true if there were any.
    pub fn strike(&self, host: &str, dead: bool) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, ends| ends.strong_count() > 0);
        let mut struck = false;
        for ends in open.values().filter_map(Weak::upgrade).filter(|ends| ends.host == host) {
            struck = true;
            let mut state = ends.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.dead |= dead;
            state.broken |= !dead;
            state.wakers.drain(..).for_each(Waker::wake);
        }
        struck
    }

    fn wrap(self: &Arc<Self>, host: &str, gateway: bool, stream: turmoil::net::TcpStream) -> Stream {
        let end = |address: io::Result<std::net::SocketAddr>| address.map_or_else(|_| "?".into(), |a| a.to_string());
        let text = format!("{} -> {}", end(stream.local_addr()), end(stream.peer_addr()));
        let ends = Arc::new(Ends { host: host.to_owned(), state: Mutex::default() });
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        *numbers += 1;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_LOOKED_AT {
            open.retain(|_, ends| ends.strong_count() > 0);
        }
        open.insert(*numbers, Arc::downgrade(&ends));
        Stream::new(Wrapped {
            stream,
            text,
            number: *numbers,
            gateway,
            ends,
            process: self.process(host),
            trace: self.trace.clone(),
        })
    }
}

/// Sockets of turmoil, on one host.
pub struct SimNet {
    host: String,
    gateway_port: u16,
    streams: Arc<Streams>,
}

impl SimNet {
    /// As seen from `host`; connections to `gateway_port` are of clients.
    pub fn new(host: &str, gateway_port: u16, streams: Arc<Streams>) -> Self {
        Self { host: host.to_owned(), gateway_port, streams }
    }
}

impl Net for SimNet {
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        let (streams, host) = (self.streams.clone(), self.host.clone());
        Box::pin(async move {
            match turmoil::net::TcpStream::connect(address).await {
                Ok(stream) => Ok(streams.wrap(&host, false, stream)),
                Err(error) => {
                    // turmoil refuses at once; without this a retry loop would spin in one virtual instant.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Err(error)
                }
            }
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (streams, host, port) = (self.streams.clone(), self.host.clone(), self.gateway_port);
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(address).await?;
            let gateway = listener.local_addr()?.port() == port;
            Ok(Box::new(SimAccept { listener, streams, host, gateway }) as Box<dyn Listener>)
        })
    }
}

struct SimAccept {
    listener: turmoil::net::TcpListener,
    streams: Arc<Streams>,
    host: String,
    gateway: bool,
}

impl Listener for SimAccept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move { Ok(self.streams.wrap(&self.host, self.gateway, self.listener.accept().await?.0)) })
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }
}

/// Tells the trace of every write (who to whom, how much, and a digest of what), and does what was asked of it.
struct Wrapped {
    stream: turmoil::net::TcpStream,
    text: String,
    number: u64,
    gateway: bool,
    ends: Arc<Ends>,
    process: Arc<Process>,
    trace: Arc<Trace>,
}

enum Now {
    Whole,
    Dead,
    Broken,
}

impl Wrapped {
    fn now(&self, cx: &Context<'_>) -> Now {
        let mut state = self.ends.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.broken {
            return Now::Broken;
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        if state.dead || self.process.cut.load(Ordering::Relaxed) { Now::Dead } else { Now::Whole }
    }

    /// True if this answer is one that vanishes.
    fn loses(&self, bytes: usize) -> bool {
        let armed = &self.process.replies_lost;
        if !self.gateway || bytes < ANSWER_BYTES_MIN || armed.load(Ordering::Relaxed) == 0 {
            return false;
        }
        armed.fetch_sub(1, Ordering::Relaxed);
        self.process.replies_gone.fetch_add(1, Ordering::Relaxed);
        self.ends.state.lock().unwrap_or_else(PoisonError::into_inner).broken = true;
        true
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for Wrapped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.now(cx) {
            Now::Whole => Pin::new(&mut self.stream).poll_read(cx, buf),
            Now::Dead => Poll::Pending,
            Now::Broken => Poll::Ready(Err(reset())),
        }
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.now(cx) {
            Now::Dead => return Poll::Ready(Ok(buf.len())),
            Now::Broken => return Poll::Ready(Err(reset())),
            Now::Whole if self.loses(buf.len()) => return Poll::Ready(Err(reset())),
            Now::Whole => {}
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &written {
            let digest = sha256(&[&buf[..*n]]);
            self.trace.note(clock::now_us(), self.number, 0, &[digest.as_bytes()]);
            tracing::trace!(ends = self.text, bytes = n, digest = hex(&digest.0[..4]), "wrote");
        }
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
