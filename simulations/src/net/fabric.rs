//! The message-level network: who has what on its way to whom.
//!
//! A call is a *stream* with two ends. What travels are the request with what of its body is there at once, each further
//! message, the answer with what is there at once, and the end; prost has encoded them, HTTP/2 never sees them. Between
//! nodes whole messages are lost, doubled and overtaken; the frames in them carry what puts that right. Elsewhere a stream
//! that loses a message breaks, as a connection would.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use kindred_wire::calls::ServedCalls;
use rand::{RngExt as _, rngs::StdRng};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::faults::Fault;
use crate::net::digest::Trace;
use crate::net::rules::{Host, Rules};
use crate::world::clock;

/// A stream that lost a message is given up by both ends within this time, µs: a reset soon, or a keepalive late.
const BREAKS_SOON_US: (u64, u64) = (50_000, 2_000_000);
const BREAKS_LATE_US: (u64, u64) = (2_000_000, 30_000_000);

/// A message on its way.
pub struct Packet {
    pub(super) to: Host,
    pub(super) stream: u64,
    pub(super) to_server: bool,
    pub(super) kind: Kind,
}

/// What travels. Data between nodes is one whole message each.
pub(super) enum Kind {
    Open { port: u16, head: Box<http::request::Parts>, body: Vec<Bytes>, ended: bool },
    Head { head: Box<http::response::Parts>, body: Vec<Bytes>, end: Option<Option<HeaderMap>> },
    Data(Bytes),
    End(Option<HeaderMap>),
    Reset,
}

/// What an end of a stream hears.
pub(super) enum Item {
    Head(Box<http::response::Parts>),
    Data(Bytes),
    End(Option<HeaderMap>),
    Broken,
}

pub(super) struct End {
    pub(super) hears: UnboundedSender<Item>,
    /// The task that serves it, at the server's end.
    pub(super) task: Option<AbortHandle>,
}

struct Stream {
    client: Host,
    server: Host,
    between_nodes: bool,
    changes_something: bool,
    /// Nothing of it arrives any more.
    dead: bool,
    /// When the latest message in each direction arrives, µs.
    last_due_us: [u64; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// No process; the machine says so.
    Refuses,
    /// No machine.
    Silent,
}

struct Machine {
    name: String,
    group: usize,
    state: State,
    /// Its process is as good as dead: what it still says is not heard.
    cut: bool,
    listeners: BTreeMap<u16, ServedCalls>,
    ends: BTreeMap<(u64, bool), End>,
    /// Answers to clients that will vanish.
    replies_lost: u32,
}

struct Core {
    machines: Vec<Machine>,
    names: BTreeMap<String, Host>,
    streams: BTreeMap<u64, Stream>,
    flights: BTreeMap<(u64, u64), Packet>,
    inboxes: Vec<VecDeque<Packet>>,
    numbers: u64,
    rules: Rules,
    rng: StdRng,
}

/// The network. One per world, on one thread; the lock is there because production asks for `Send`.
pub struct Fabric {
    core: Mutex<Core>,
    trace: Arc<Trace>,
}

impl Fabric {
    /// No hosts yet. The first `nodes` of them are nodes.
    pub fn new(rng: StdRng, nodes: usize, trace: Arc<Trace>) -> Arc<Self> {
        let core = Core {
            machines: Vec::new(),
            names: BTreeMap::new(),
            streams: BTreeMap::new(),
            flights: BTreeMap::new(),
            inboxes: Vec::new(),
            numbers: 0,
            rules: Rules { nodes, ..Rules::default() },
            rng,
        };
        Arc::new(Self { core: Mutex::new(core), trace })
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new host, whose tasks run in that group.
    pub fn add(&self, name: &str, group: usize) -> Host {
        let mut core = self.core();
        let host = core.machines.len();
        core.names.insert(name.to_owned(), host);
        core.machines.push(Machine {
            name: name.to_owned(),
            group,
            state: State::Up,
            cut: false,
            listeners: BTreeMap::new(),
            ends: BTreeMap::new(),
            replies_lost: 0,
        });
        if core.inboxes.len() <= group {
            core.inboxes.resize_with(group + 1, VecDeque::new);
        }
        host
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<Host> {
        self.core().names.get(name).copied()
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.core().machines.len()
    }

    /// Changes what happens to messages.
    pub fn rules<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> T {
        change(&mut self.core().rules)
    }

    /// From now on nothing that the host's process says is heard: it is dead and does not know it yet.
    pub fn cut(&self, host: Host) {
        self.core().machines[host].cut = true;
    }

    /// The host's process is gone. With `silent` its machine is, too: nobody is told.
    pub fn down(&self, host: Host, silent: bool) {
        let mut core = self.core();
        let machine = &mut core.machines[host];
        machine.cut = true;
        machine.state = if silent { State::Silent } else { State::Refuses };
        let listeners = std::mem::take(&mut machine.listeners);
        let ends = std::mem::take(&mut machine.ends);
        let group = machine.group;
        core.inboxes[group].clear();
        for (stream, _) in core.streams_of(host) {
            core.break_stream(stream, silent);
        }
        drop(core);
        drop((listeners, ends));
    }

    /// The host's process starts.
    pub fn up(&self, host: Host) {
        let machine = &mut self.core().machines[host];
        (machine.state, machine.cut, machine.replies_lost) = (State::Up, false, 0);
    }

    /// All connections of the host break; true if there were any.
    pub fn reset(&self, host: Host) -> bool {
        let mut core = self.core();
        let streams = core.streams_of(host);
        streams.iter().for_each(|(stream, _)| core.break_stream(*stream, false));
        !streams.is_empty()
    }

    /// All connections of the host go dead; true if there were any. Their ends give up late.
    pub fn half_open(&self, host: Host) -> bool {
        let mut core = self.core();
        let streams = core.streams_of(host);
        streams.iter().for_each(|(stream, _)| core.break_stream(*stream, true));
        !streams.is_empty()
    }

    /// The next answers of the host to clients that changed something vanish.
    pub fn lose_replies(&self, host: Host, answers: u32) {
        self.core().machines[host].replies_lost += answers;
    }

    /// No answers vanish any more.
    pub fn keep_replies(&self) {
        self.core().machines.iter_mut().for_each(|machine| machine.replies_lost = 0);
    }

    pub(super) fn listen(&self, host: Host, port: u16, service: ServedCalls) {
        self.core().machines[host].listeners.insert(port, service);
    }

    pub(super) fn unlisten(&self, host: Host, port: u16) {
        let gone = self.core().machines[host].listeners.remove(&port);
        drop(gone);
    }

    pub(super) fn service(&self, host: Host, port: u16) -> Option<ServedCalls> {
        self.core().machines[host].listeners.get(&port).cloned()
    }

    /// A new stream from one host to another.
    pub(super) fn open(&self, client: Host, server: Host, path: &str, hears: UnboundedSender<Item>) -> u64 {
        let mut core = self.core();
        core.numbers += 1;
        let number = core.numbers;
        let stream = Stream {
            client,
            server,
            between_nodes: path.starts_with("/kindred.raft."),
            changes_something: changes_something(path),
            dead: false,
            last_due_us: [0; 2],
        };
        core.streams.insert(number, stream);
        core.machines[client].ends.insert((number, false), End { hears, task: None });
        number
    }

    pub(super) fn serve(&self, host: Host, stream: u64, end: End) {
        self.core().machines[host].ends.insert((stream, true), end);
    }

    /// An end that is over; true if it was there until now.
    pub(super) fn close(&self, host: Host, stream: u64, is_server: bool) -> bool {
        let mut core = self.core();
        let gone = core.machines[host].ends.remove(&(stream, is_server));
        core.forget(stream);
        drop(core);
        gone.is_some()
    }

    /// Sends one message of a stream.
    pub(super) fn send(&self, stream: u64, to_server: bool, kind: Kind) {
        let at_us = clock::now_us();
        let mut core = self.core();
        let Some(Stream { client, server, between_nodes, changes_something, dead, .. }) = core.streams.get(&stream)
        else {
            return;
        };
        let (from, to) = if to_server { (*client, *server) } else { (*server, *client) };
        let (between_nodes, changes_something, dead) = (*between_nodes, *changes_something, *dead);
        if dead || core.machines[from].cut {
            return;
        }
        note(&self.trace, at_us, (from, to), &kind);
        if !to_server && changes_something && core.machines[from].replies_lost > 0 && is_good_news(&kind) {
            core.machines[from].replies_lost -= 1;
            core.rules.counts.add(Fault::ReplyLost);
            return core.break_stream(stream, true);
        }
        let whole = between_nodes && matches!(kind, Kind::Data(_));
        let fate = core.draw(|rules, rng| rules.fate(rng, (from, to), whole));
        let Some(after_us) = fate.after_us else {
            // Between nodes the message alone is lost, unless it was the one that ends the stream.
            if !between_nodes || matches!(kind, Kind::Reset | Kind::End(_)) {
                core.break_stream(stream, matches!(kind, Kind::Reset | Kind::End(_)));
            }
            return;
        };
        if let (Some(again_us), Kind::Data(data)) = (fate.again_us, &kind) {
            let twin = Packet { to, stream, to_server, kind: Kind::Data(data.clone()) };
            core.fly(at_us + again_us, twin);
        }
        let mut due_us = at_us + after_us;
        if let Some(stream) = core.streams.get_mut(&stream)
            && !fate.overtakes
        {
            let last = &mut stream.last_due_us[usize::from(to_server)];
            due_us = due_us.max(*last);
            *last = due_us;
        }
        core.fly(due_us, Packet { to, stream, to_server, kind });
    }

    /// What has arrived by now goes into the inboxes of its hosts' groups. True if nothing is on its way to anybody, and
    /// nothing has arrived.
    pub(super) fn sort(&self, now_us: u64) -> bool {
        let mut core = self.core();
        core.arrive(now_us);
        let awaited = |packet: &Packet| !matches!(packet.kind, Kind::Reset);
        !core.flights.values().any(awaited) && core.inboxes.iter().all(VecDeque::is_empty)
    }

    pub(super) fn has_mail(&self, group: usize) -> bool {
        !self.core().inboxes[group].is_empty()
    }

    pub(super) fn take_mail(&self, group: usize) -> VecDeque<Packet> {
        std::mem::take(&mut self.core().inboxes[group])
    }

    /// The end that a message is for; [`Kind::Reset`] takes it away.
    pub(super) fn end<T>(&self, packet: &Packet, with: impl FnOnce(&End) -> T) -> Option<T> {
        let key = (packet.stream, packet.to_server);
        let mut core = self.core();
        let machine = &mut core.machines[packet.to];
        let is_last = matches!(packet.kind, Kind::Reset)
            || (!packet.to_server && matches!(packet.kind, Kind::End(_) | Kind::Head { end: Some(_), .. }));
        let heard = machine.ends.get(&key).map(with);
        let gone = if is_last { machine.ends.remove(&key) } else { None };
        if gone.is_some() {
            core.forget(packet.stream);
        }
        drop(core);
        drop(gone);
        heard
    }

    pub(super) fn is_open(&self, host: Host, stream: u64) -> bool {
        self.core().machines[host].ends.contains_key(&(stream, false))
    }

    pub(super) fn name(&self, host: Host) -> String {
        self.core().machines[host].name.clone()
    }
}

impl Core {
    fn draw<T>(&mut self, with: impl FnOnce(&mut Rules, &mut StdRng) -> T) -> T {
        with(&mut self.rules, &mut self.rng)
    }

    fn arrive(&mut self, now_us: u64) {
        while let Some(entry) = self.flights.first_entry() {
            if entry.key().0 > now_us {
                return;
            }
            let packet = entry.remove();
            // A connection that broke takes along what was on its way.
            let dead = self.streams.get(&packet.stream).is_some_and(|stream| stream.dead);
            if dead && !matches!(packet.kind, Kind::Reset) {
                continue;
            }
            let Machine { state, group, .. } = &self.machines[packet.to];
            match (*state, *group) {
                (State::Up, group) => self.inboxes[group].push_back(packet),
                (State::Refuses, _) if !matches!(packet.kind, Kind::Reset) => self.break_stream(packet.stream, false),
                _ => {}
            }
        }
    }

    fn fly(&mut self, due_us: u64, packet: Packet) {
        self.numbers += 1;
        self.flights.insert((due_us, self.numbers), packet);
    }

    fn streams_of(&self, host: Host) -> Vec<(u64, Host)> {
        let of = |(number, stream): (&u64, &Stream)| match stream {
            Stream { client, server, .. } if *client == host => Some((*number, *server)),
            Stream { client, server, .. } if *server == host => Some((*number, *client)),
            _ => None,
        };
        self.streams.iter().filter_map(of).collect()
    }

    /// Nothing of the stream arrives any more; both ends learn it in a while, `late` or as soon as they might.
    fn break_stream(&mut self, stream: u64, late: bool) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        if std::mem::replace(&mut found.dead, true) {
            return;
        }
        let (client, server) = (found.client, found.server);
        let late = late || self.draw(|_, rng| rng.random_bool(0.3));
        for (to, to_server) in [(client, false), (server, true)] {
            let (least, most) = if late { BREAKS_LATE_US } else { BREAKS_SOON_US };
            let due_us = clock::now_us() + self.draw(|_, rng| rng.random_range(least..=most));
            self.fly(due_us, Packet { to, stream, to_server, kind: Kind::Reset });
        }
    }

    /// Forgets a stream without ends.
    fn forget(&mut self, stream: u64) {
        let Some(Stream { client, server, .. }) = self.streams.get(&stream) else { return };
        let has = |host: &Host, is_server| self.machines[*host].ends.contains_key(&(stream, is_server));
        // The request may still be on its way to a server that has no end yet; an empty stream costs nothing until then.
        if !has(client, false) && !has(server, true) {
            self.streams.remove(&stream);
        }
    }
}

/// True for a call of a client after which something is different.
fn changes_something(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    let reads = ["Get", "List", "Validate", "Why", "Watch", "Reconcile", "Export", "Check"];
    !path.starts_with("/kindred.raft.") && !reads.iter().any(|read| method.starts_with(read))
}

/// True for an answer that is no refusal: those have their status in the head.
fn is_good_news(kind: &Kind) -> bool {
    matches!(kind, Kind::Head { head, .. } if !head.headers.contains_key("grpc-status"))
}

fn note(trace: &Trace, at_us: u64, (from, to): (Host, Host), kind: &Kind) {
    let (from, to) = (from as u64, to as u64);
    match kind {
        Kind::Open { head, body, .. } => {
            let path = head.uri.path().as_bytes();
            trace.note(at_us, from, to, &[path, &body.concat()]);
        }
        Kind::Head { head, body, .. } => {
            trace.note(at_us, from, to, &[head.status.as_str().as_bytes(), &body.concat()]);
        }
        Kind::Data(data) => trace.note(at_us, from, to, &[data]),
        Kind::End(_) => trace.note(at_us, from, to, &[b"end"]),
        Kind::Reset => trace.note(at_us, from, to, &[b"reset"]),
    }
}
