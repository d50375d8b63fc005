//! Calls over the [`Fabric`]: how a request becomes messages at one host and a request again at another.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{future, io};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Frame};
use kindred_wire::calls::{BoxError, CallService, ServedCalls};
use kindred_wire::net::{Listener, Net, Stream};
use kindred_wire::shards::BoxFuture;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::net::fabric::{End, Fabric, Item, Kind, Packet};
use crate::net::rules::Host;

/// A call to nobody fails after this time; at once, a retry would spin.
const NOBODY: Duration = Duration::from_millis(50);
/// Bytes before each message of a gRPC body: compressed or not (1), length (4).
const GRPC_HEAD: usize = 5;

/// The network as one host sees it.
pub struct MessageNet {
    fabric: Arc<Fabric>,
    host: Host,
}

impl MessageNet {
    /// As seen from `host`.
    pub fn new(fabric: Arc<Fabric>, host: Host) -> Self {
        Self { fabric, host }
    }
}

impl Net for MessageNet {
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        Box::pin(async move {
            tokio::time::sleep(NOBODY).await;
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("{address}: this network carries whole calls")))
        })
    }

    fn calls(&self, address: &str) -> Option<CallService> {
        let (fabric, from) = (self.fabric.clone(), self.host);
        let to = parse(address).and_then(|(name, port)| Some((fabric.host(name)?, port)));
        Some(CallService::new(tower::service_fn(move |request: Request<Body>| {
            let fabric = fabric.clone();
            async move {
                match to {
                    Some(to) => call(fabric, from, to, request).await,
                    None => {
                        tokio::time::sleep(NOBODY).await;
                        Err(broken("no such host"))
                    }
                }
            }
        })))
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (fabric, host) = (self.fabric.clone(), self.host);
        Box::pin(async move {
            let (_, port) = parse(&address).ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Box::new(MessageListener { fabric, host, port }) as Box<dyn Listener>)
        })
    }
}

fn parse(address: &str) -> Option<(&str, u16)> {
    let (name, port) = address.rsplit_once(':')?;
    Some((name, port.parse().ok()?))
}

struct MessageListener {
    fabric: Arc<Fabric>,
    host: Host,
    port: u16,
}

impl Listener for MessageListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(future::pending())
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(format!("{}:{}", self.fabric.name(self.host), self.port))
    }

    fn serve_calls(&mut self, service: ServedCalls) -> bool {
        self.fabric.listen(self.host, self.port, service);
        true
    }
}

impl Drop for MessageListener {
    fn drop(&mut self) {
        self.fabric.unlisten(self.host, self.port);
    }
}

fn broken(why: &'static str) -> BoxError {
    Box::new(Status::unavailable(why))
}

/// One call, from the caller's side.
async fn call(
    fabric: Arc<Fabric>,
    from: Host,
    (to, port): (Host, u16),
    request: Request<Body>,
) -> Result<Response<Body>, BoxError> {
    let (head, mut body) = request.into_parts();
    let (ready, end) = at_once(&mut body);
    let (hears, mut heard) = unbounded_channel();
    let stream = fabric.open(from, to, head.uri.path(), hears);
    let mut mine = Mine { fabric: fabric.clone(), host: from, stream, pump: None };
    fabric.send(stream, true, Kind::Open { port, head: Box::new(head), body: ready, ended: end.is_some() });
    if end.is_none() {
        mine.pump = Some(tokio::spawn(pump(fabric, stream, true, body)).abort_handle());
    }
    match heard.recv().await {
        Some(Item::Head(head)) => Ok(Response::from_parts(*head, Body::new(Incoming { heard, mine: Some(mine) }))),
        _ => Err(broken("the connection broke")),
    }
}

/// The caller's end: dropping it tells the other one.
struct Mine {
    fabric: Arc<Fabric>,
    host: Host,
    stream: u64,
    pump: Option<AbortHandle>,
}

impl Drop for Mine {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
        self.fabric.send_if_open(self.host, self.stream);
    }
}

impl Fabric {
    /// Tells the server that nobody listens any more, if it still may speak.
    fn send_if_open(&self, host: Host, stream: u64) {
        if self.is_open(host, stream) {
            self.send(stream, true, Kind::Reset);
            self.close(host, stream, false);
        }
    }

    /// Hands an arrived message to its end. To be called in the runtime of the host's group.
    pub(super) fn deliver(self: &Arc<Self>, packet: Packet) {
        if let Kind::Open { port, .. } = &packet.kind {
            match self.service(packet.to, *port) {
                Some(service) => self.serve_call(service, packet),
                None => self.send(packet.stream, false, Kind::Reset),
            }
            return;
        }
        let (known, kind) = (self.end(&packet, |end| (end.hears.clone(), end.task.clone())), packet.kind);
        let Some((hears, task)) = known else { return };
        let tell = |item| drop(hears.send(item));
        match kind {
            Kind::Head { head, body, end } => {
                tell(Item::Head(head));
                body.into_iter().for_each(|data| tell(Item::Data(data)));
                if let Some(trailers) = end {
                    tell(Item::End(trailers));
                }
            }
            Kind::Data(data) => tell(Item::Data(data)),
            Kind::End(trailers) => tell(Item::End(trailers)),
            Kind::Reset => {
                tell(Item::Broken);
                if let Some(task) = task {
                    task.abort();
                }
            }
            Kind::Open { .. } => {}
        }
    }

    fn serve_call(self: &Arc<Self>, service: ServedCalls, packet: Packet) {
        let Packet { to, stream, kind: Kind::Open { head, body, ended, .. }, .. } = packet else { return };
        let (hears, heard) = unbounded_channel();
        body.into_iter().for_each(|data| drop(hears.send(Item::Data(data))));
        if ended {
            let _ = hears.send(Item::End(None));
        }
        let request = Request::from_parts(*head, Body::new(Incoming { heard, mine: None }));
        let fabric = self.clone();
        let task = tokio::spawn(async move {
            // What is served answers everything; see `ServedCalls`.
            let Ok(response) = service.oneshot(request).await;
            let (head, mut body) = response.into_parts();
            let (ready, end) = at_once(&mut body);
            let goes_on = end.is_none();
            fabric.send(stream, false, Kind::Head { head: Box::new(head), body: ready, end });
            if goes_on {
                pump(fabric.clone(), stream, false, body).await;
            }
            fabric.close(to, stream, true);
        });
        self.serve(to, stream, End { hears, task: Some(task.abort_handle()) });
    }
}

/// The messages of a body that are there without waiting, and its end, if that is there, too.
fn at_once(body: &mut Body) -> (Vec<Bytes>, Option<Option<HeaderMap>>) {
    let mut ready = Vec::new();
    while let Some(next) = next_frame(body).now_or_never() {
        match next {
            Next::Data(data) => ready.extend(messages(data)),
            Next::End(trailers) => return (ready, Some(trailers)),
            Next::Failed => return (ready, Some(None)),
        }
    }
    (ready, None)
}

/// Sends the rest of a body as it comes.
async fn pump(fabric: Arc<Fabric>, stream: u64, to_server: bool, mut body: Body) {
    loop {
        match next_frame(&mut body).await {
            Next::Data(data) => {
                for message in messages(data) {
                    fabric.send(stream, to_server, Kind::Data(message));
                }
            }
            Next::End(trailers) => return fabric.send(stream, to_server, Kind::End(trailers)),
            Next::Failed => return fabric.send(stream, to_server, Kind::Reset),
        }
    }
}

enum Next {
    Data(Bytes),
    End(Option<HeaderMap>),
    Failed,
}

async fn next_frame(body: &mut Body) -> Next {
    match future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => Next::Data(data),
            Err(frame) => Next::End(frame.into_trailers().ok()),
        },
        Some(Err(_)) => Next::Failed,
        None => Next::End(None),
    }
}

/// tonic packs what is ready into one piece; the network carries each message by itself.
fn messages(mut data: Bytes) -> Vec<Bytes> {
    let mut found = Vec::with_capacity(1);
    while let Some(length) = data.get(1..GRPC_HEAD) {
        let length = length.iter().fold(0usize, |sum, byte| (sum << 8) | usize::from(*byte));
        found.push(data.split_to(data.len().min(GRPC_HEAD + length)));
    }
    if !data.is_empty() {
        found.push(data);
    }
    found
}

/// A body that arrives.
struct Incoming {
    heard: UnboundedReceiver<Item>,
    /// On the caller's side, kept until the answer is read or dropped.
    mine: Option<Mine>,
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.heard.poll_recv(cx).map(|item| match item {
            Some(Item::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Item::End(trailers)) => {
                self.mine = None;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
            Some(Item::Broken) => Some(Err(broken("the connection broke"))),
            Some(Item::Head(_)) | None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_several_messages_is_carried_as_several() {
        let piece = Bytes::from_static(&[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 8, 9]);
        let parts: Vec<_> = messages(piece).iter().map(|m| m.len()).collect();
        assert_eq!(parts, [6, 5, 7]);
    }
}
