//! One simulated world: the production node on simulated hosts. Only wire, disk, clock and entropy are swapped.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use kindred_core::canonical::sha256;
use kindred_core::env::{Clock, Entropy, Env};
use kindred_core::id::hex;
use kindred_wire::net::{Listener, Net, Stream};
use kindred_wire::shards::BoxFuture;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sockets of turmoil.
pub struct SimNet;

impl Net for SimNet {
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        Box::pin(async move {
            match turmoil::net::TcpStream::connect(address).await {
                Ok(stream) => Ok(traced(stream)),
                Err(error) => {
                    // turmoil refuses at once; without this a retry loop would spin in one virtual instant.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Err(error)
                }
            }
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(address).await?;
            Ok(Box::new(SimAccept(listener)) as Box<dyn Listener>)
        })
    }
}

/// Tells the trace of every write: who to whom, how much, and a digest of what.
struct Traced {
    stream: turmoil::net::TcpStream,
    ends: String,
}

fn traced(stream: turmoil::net::TcpStream) -> Stream {
    let end = |address: io::Result<std::net::SocketAddr>| address.map_or_else(|_| "?".into(), |a| a.to_string());
    let ends = format!("{} -> {}", end(stream.local_addr()), end(stream.peer_addr()));
    Stream::new(Traced { stream, ends })
}

impl AsyncRead for Traced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Traced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &written {
            let digest = sha256(&[&buf[..*n]]);
            tracing::trace!(ends = self.ends, bytes = n, digest = hex(&digest.0[..4]), "wrote");
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

struct SimAccept(turmoil::net::TcpListener);

impl Listener for SimAccept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move { Ok(traced(self.0.accept().await?.0)) })
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.0.local_addr()?.to_string())
    }
}

/// Wall clock at the start of every run: 2026-01-01T00:00:00Z.
pub const EPOCH_MS: u64 = 1_767_225_600_000;

struct SimClock;

impl Clock for SimClock {
    fn monotonic_ms(&self) -> u64 {
        // Outside a host (while the world is built) time has not begun.
        turmoil::sim_elapsed().map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    fn wall_ms(&self) -> u64 {
        EPOCH_MS + self.monotonic_ms()
    }
}

struct SimEntropy(Mutex<StdRng>);

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

/// Time and chance of one process, from the run's seed and the process's number.
pub fn env(seed: u64, process: u64) -> Env {
    let stream = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(process);
    Env { clock: Arc::new(SimClock), entropy: Arc::new(SimEntropy(Mutex::new(StdRng::seed_from_u64(stream)))) }
}
