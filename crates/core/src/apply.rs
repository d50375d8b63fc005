//! `apply`: the one place where a shard's state changes. Pure: equal (state, entry) give equal results (I14).

mod account;
mod code;
mod directory;
mod erase;
mod install;
mod life;
mod ticket;

pub(crate) use ticket::{closed, oversized};

use std::collections::BTreeMap;

use crate::arguments;
use crate::canonical::{Canonical, sha256};
use crate::command::{Aggregate, Command, Effect, Entry, Envelope, KeptReply, OutboxItem, Outcome, Proven, Reply};
use crate::id::{Digest, RegionIndex, RequestId};
use crate::limits;
use crate::model::{Method, Rejection, Ticket, TicketState};
use crate::state::{self, Applied, Key, ReadError, Record, Shard, Timer, View};

/// Result of one command: a reply, unless the state could not be read.
type Step = Result<Reply, ReadError>;

/// Applies one entry. `region` is the shard's home region (any value for the directory).
///
/// # Panics
/// If the entry would break an invariant of the session set ([`crate::invariants`]): that replica must stop rather than
/// go on with a set that nobody asked for.
pub fn apply(view: &dyn View, entry: &Entry, log_index: u64, region: RegionIndex) -> Result<Applied, ReadError> {
    let shard = match view.get(&Key::Shard)? {
        Some(Record::Shard(shard)) => shard,
        _ => Shard::default(),
    };
    let elapsed_ms = entry.elapsed_ms.min(limits::SHARD_TIME_STEP_MS_MAX);
    #[cfg(kindred_mutants)]
    let elapsed_ms = if crate::mutants::is("apply-uncapped-wall") { entry.elapsed_ms } else { elapsed_ms };
    let mut tx = Tx {
        view,
        writes: BTreeMap::new(),
        removals: BTreeMap::new(),
        touched: Vec::new(),
        effects: false,
        shard: Shard { time_ms: shard.time_ms + elapsed_ms, next_effect: shard.next_effect },
        log_index,
        wall_ms: entry.wall_ms,
        region,
        entropy: Digest(entry.entropy),
    };
    let mut replies = Vec::with_capacity(entry.commands.len());
    for (position, envelope) in (0u64..).zip(&entry.commands) {
        tx.entropy = sha256(&[&entry.entropy, &log_index.to_be_bytes(), &position.to_be_bytes()]);
        replies.push(tx.once(envelope)?);
    }
    tx.write_removals();
    let shard = Record::Shard(tx.shard.clone());
    tx.put(Key::Shard, shard);
    tx.touched.sort();
    tx.touched.dedup();
    Ok(Applied {
        changes: tx.writes.into_iter().collect(),
        replies,
        touched: tx.touched,
        time_ms: tx.shard.time_ms,
        effects: tx.effects,
    })
}

/// The Link that an APPROVED ticket asks for; the same envelope whoever builds it. `None` in any other state.
pub fn link_of(ticket: &Ticket) -> Option<Envelope> {
    let TicketState::Approved { approval, scan, .. } = &ticket.state else { return None };
    Some(Envelope {
        request: RequestId(ticket.id.0),
        policy_version: 0,
        proven: Proven::Cluster,
        command: Command::Link {
            ticket: ticket.id,
            device_key: ticket.device_key,
            device: ticket.requester.device.clone(),
            approval: approval.clone(),
            approver_key: Some(scan.approver_key),
        },
    })
}

/// The state as the entry sees it: what was there, under what it has written so far.
struct Tx<'a> {
    view: &'a dyn View,
    writes: BTreeMap<Key, Option<Record>>,
    /// Removals that this entry puts down, by when they are due.
    removals: BTreeMap<u64, Vec<Timer>>,
    touched: Vec<Aggregate>,
    effects: bool,
    shard: Shard,
    log_index: u64,
    wall_ms: u64,
    region: RegionIndex,
    entropy: Digest,
}

impl Tx<'_> {
    fn get(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.view.get(key),
        }
    }

    fn put(&mut self, key: Key, record: Record) {
        self.writes.insert(key, Some(record));
    }

    fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    fn now(&self) -> u64 {
        self.shard.time_ms
    }

    fn set_timer(&mut self, due_ms: u64, timer: Timer) {
        if timer.may_share() {
            self.removals.entry(due_ms).or_default().push(timer);
        } else {
            self.put(Key::Timer(due_ms, timer), Record::Timer);
        }
    }

    fn write_removals(&mut self) {
        for (due_ms, timers) in std::mem::take(&mut self.removals) {
            match <[Timer; 1]>::try_from(timers) {
                Ok([timer]) => self.put(Key::Timer(due_ms, timer), Record::Timer),
                Err(timers) => {
                    self.put(Key::Timer(due_ms, Timer::Removals(self.log_index)), Record::Removals(timers));
                }
            }
        }
    }

    fn emit(&mut self, effect: Effect) {
        let id = self.shard.next_effect;
        self.shard.next_effect += 1;
        let item = OutboxItem { id, due_ms: self.now(), effect };
        self.put(Key::Outbox(id), Record::Outbox(item));
        self.effects = true;
    }

    /// Runs the command unless its request id was answered before; keeps the answer.
    fn once(&mut self, envelope: &Envelope) -> Result<(Reply, u64), ReadError> {
        let Some((key, removal)) = reply_key(envelope) else {
            return Ok((self.run(envelope)?, self.log_index));
        };
        #[cfg(kindred_mutants)]
        if crate::mutants::is("replies-not-kept")
            || (crate::mutants::is("unlink-follows-device") && matches!(envelope.command, Command::Unlink { .. }))
        {
            return Ok((self.run(envelope)?, self.log_index));
        }
        let command_hash = fingerprint(&envelope.command);
        if let Some(Record::Reply(kept)) = self.get(&key)? {
            return repeat(&kept, &command_hash, &envelope.command, |key| self.get(key));
        }
        let reply = self.run(envelope)?;
        let kept = match &reply {
            // A ticket answers for itself; copying it (and its envelope) into every kept reply would say nothing more.
            Ok(Outcome::Ticket(_)) => Ok(Outcome::Done),
            other => other.clone(),
        };
        self.put(key, Record::Reply(KeptReply { command_hash, log_index: self.log_index, reply: kept }));
        self.set_timer(self.now() + limits::RESULT_TTL_MS, removal);
        Ok((reply, self.log_index))
    }

    fn run(&mut self, envelope: &Envelope) -> Step {
        match &envelope.command {
            Command::Claim { account, claim, home } => self.claim(account, claim, *home),
            Command::ConfirmClaim { account, claim, home_epoch } => self.confirm_claim(account, claim, *home_epoch),
            Command::Register { .. } => self.register(envelope),
            Command::SetLimit { account, limit } => self.set_limit(envelope, account, *limit),
            Command::Unlink { account, session } | Command::Revoke { account, session } => {
                self.unlink(envelope, account, session)
            }
            Command::UnlinkOthers { account, keep, set_version } => {
                self.unlink_others(envelope, account, keep, *set_version)
            }
            Command::Lock { account, locked } => self.lock(envelope, account, *locked),
            Command::Pin { account, session, pinned } => self.pin(envelope, account, session, *pinned),
            Command::RotateDeviceKey { account, session, device_key } => {
                self.rotate(envelope, account, session, device_key)
            }
            Command::ReplacePrimary { .. } => self.replace_primary(envelope),
            Command::Delete { account, set_version } => self.delete_account(envelope, account, *set_version),
            Command::MarkDeleted { account, claim } => self.mark_deleted(account, claim),
            Command::Link { .. } => self.link(envelope),
            Command::DecideTicket { account, ticket, decision } => self.decide(account, ticket, *decision),
            Command::Open { .. } => self.open(envelope),
            Command::Scan { ticket, scan } => self.scan(envelope, ticket, scan),
            Command::Approve { .. } => self.approve(envelope),
            Command::Deny { ticket } => self.deny(envelope, ticket),
            Command::Cancel { ticket } => self.cancel(envelope, ticket),
            Command::Expire { tickets } => self.expire(tickets),
            Command::Settle { ticket, outcome } => self.settle(ticket, outcome),
            Command::Tick => self.tick(),
            Command::AckEffects { effects } => self.ack_effects(effects),
            Command::ScanCode { ticket, scan, right, .. } => self.scan_code(envelope, ticket, scan, *right),
            Command::AttachCode { account, ticket, requester } => self.attach_code(account, ticket, requester),
            Command::HoldCode { account, ticket } => self.hold_code(account, ticket),
            Command::DetachCode { account, ticket } => self.detach_code(account, ticket),
            Command::Install { .. } => self.install(envelope),
        }
    }

    /// Removes what has outlived its keeping. Deadlines of tickets are not fired here: they are proposed by name.
    fn tick(&mut self) -> Step {
        // A timer that this entry has deleted is still in the view. Firing it again would remove what was written since
        // under the same key, the fresh reply to a request whose old one has just gone, say.
        let due = state::due(self.view, self.now(), limits::TICK_REMOVALS_MAX, |due_ms, timer| {
            timer.is_removal() && !self.writes.contains_key(&Key::Timer(due_ms, timer.clone()))
        })?;
        let mut removed = 0;
        for (due_ms, timer) in due {
            if removed >= limits::TICK_REMOVALS_MAX {
                break;
            }
            let at = Key::Timer(due_ms, timer.clone());
            let is_done = match &timer {
                Timer::TombstoneAgeing(account, session) => {
                    removed += 1;
                    self.age(account, session)?
                }
                Timer::Erasure(account) => {
                    let (erased, is_last) = self.erase_some(account)?;
                    removed += erased;
                    is_last
                }
                other => {
                    let keys: Vec<_> = match self.get(&at)? {
                        Some(Record::Removals(timers)) => timers.iter().filter_map(Timer::removes).collect(),
                        _ => other.removes().into_iter().collect(),
                    };
                    removed += keys.len();
                    keys.into_iter().for_each(|key| self.delete(key));
                    true
                }
            };
            if is_done {
                self.delete(at);
            }
        }
        Ok(Ok(Outcome::Done))
    }

    fn ack_effects(&mut self, effects: &[u64]) -> Step {
        for id in effects.iter().take(limits::ACK_EFFECTS_MAX) {
            self.delete(Key::Outbox(*id));
        }
        Ok(Ok(Outcome::Done))
    }
}

/// Where the reply to `envelope` is kept, and the timer that removes it.
pub(crate) fn reply_key(envelope: &Envelope) -> Option<(Key, Timer)> {
    let request = envelope.request;
    match envelope.command.aggregate()? {
        Aggregate::Account(account) => {
            Some((Key::AccountReply(account.clone(), request), Timer::AccountReplyRemoval(account, request)))
        }
        Aggregate::Ticket(ticket) => {
            Some((Key::TicketReply(ticket, request), Timer::TicketReplyRemoval(ticket, request)))
        }
    }
}

/// The answer to a repeated request: the kept one, with the ticket as it is now where the ticket is the answer.
pub(crate) fn repeat(
    kept: &KeptReply,
    command_hash: &Digest,
    command: &Command,
    get: impl Fn(&Key) -> Result<Option<Record>, ReadError>,
) -> Result<(Reply, u64), ReadError> {
    if kept.command_hash != *command_hash {
        return Ok((Err(Rejection::RequestIdReused), kept.log_index));
    }
    if let (Ok(Outcome::Done), Some(Aggregate::Ticket(ticket))) = (&kept.reply, command.aggregate()) {
        let reply = match get(&Key::Ticket(ticket))? {
            Some(Record::Ticket(ticket)) => match &ticket.state {
                TicketState::Refused { reason, .. } if matches!(command, Command::Approve { .. }) => {
                    Err(reason.clone())
                }
                _ => Ok(Outcome::Ticket(Box::new(ticket))),
            },
            _ => Err(Rejection::TicketNotFound),
        };
        return Ok((reply, kept.log_index));
    }
    Ok((kept.reply.clone(), kept.log_index))
}

/// SHA-256 over what the caller asked for; what frontends and gateways add (a fresh read, a version, a location) does not
/// count, so that an honest retry through another one is the same request.
pub(crate) fn fingerprint(command: &Command) -> Digest {
    let c = |name: &str| Canonical::new("kindred/command/v1").bytes(name.as_bytes());
    match command {
        Command::Register { account, claim, home, device_key, device } => c("register")
            .bytes(arguments::register(account, device_key, device).as_bytes())
            .bytes(claim.as_bytes())
            .u64(home.0.into())
            .digest(),
        Command::SetLimit { account, limit } => c("set-limit").bytes(account.as_bytes()).u64((*limit).into()).digest(),
        Command::Open { ticket, device_key, requester, method } => {
            let bytes = c("open")
                .bytes(ticket.as_bytes())
                .bytes(device_key.as_bytes())
                .bytes(requester.device.platform.as_bytes())
                .bytes(requester.device.app_version.as_bytes())
                .bytes(&requester.device.display_name);
            match method {
                Method::Qr => bytes.digest(),
                Method::Code { account, .. } => bytes.bytes(account.as_bytes()).digest(),
            }
        }
        Command::Scan { ticket, scan } => {
            c("scan").bytes(ticket.as_bytes()).bytes(scan.account.as_bytes()).bytes(scan.approver.as_bytes()).digest()
        }
        Command::ScanCode { ticket, scan, tried, .. } => c("scan-code")
            .bytes(ticket.as_bytes())
            .bytes(scan.account.as_bytes())
            .bytes(scan.approver.as_bytes())
            .bytes(tried.as_bytes())
            .digest(),
        // The envelope's bytes must match the hash in the approval, else the answer is ApprovalInvalid whatever they are.
        Command::Approve { ticket, approval, number, .. } => {
            c("approve").bytes(ticket.as_bytes()).bytes(arguments::approve_with(approval, *number).as_bytes()).digest()
        }
        Command::Deny { ticket } => c("deny").bytes(ticket.as_bytes()).digest(),
        Command::Cancel { ticket } => c("cancel").bytes(ticket.as_bytes()).digest(),
        Command::Unlink { account, session } => {
            c("unlink").bytes(account.as_bytes()).bytes(session.as_bytes()).digest()
        }
        Command::UnlinkOthers { account, keep, .. } => {
            c("unlink-others").bytes(account.as_bytes()).bytes(keep.as_bytes()).digest()
        }
        Command::Revoke { account, session } => {
            c("revoke").bytes(account.as_bytes()).bytes(session.as_bytes()).digest()
        }
        Command::Lock { account, locked } => c("lock").bytes(account.as_bytes()).u64((*locked).into()).digest(),
        Command::Pin { account, session, pinned } => {
            c("pin").bytes(arguments::pin(account, session, *pinned).as_bytes()).digest()
        }
        Command::RotateDeviceKey { account, session, device_key } => {
            c("rotate").bytes(arguments::rotate(account, session, device_key).as_bytes()).digest()
        }
        Command::ReplacePrimary { account, device_key, device, keep_companions, .. } => c("replace-primary")
            .bytes(arguments::replace_primary(account, device_key, device, *keep_companions).as_bytes())
            .digest(),
        Command::Delete { account, .. } => c("delete").bytes(account.as_bytes()).digest(),
        // Not kept by request id: idempotent by their own nature.
        Command::Claim { .. }
        | Command::ConfirmClaim { .. }
        | Command::MarkDeleted { .. }
        | Command::Expire { .. }
        | Command::Settle { .. }
        | Command::Link { .. }
        | Command::DecideTicket { .. }
        | Command::Tick
        | Command::AckEffects { .. }
        | Command::AttachCode { .. }
        | Command::HoldCode { .. }
        | Command::DetachCode { .. }
        | Command::Install { .. } => c("none").digest(),
    }
}
