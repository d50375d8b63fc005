//! From the model's words to commands, and from apply's answers back to the model's words.

use std::collections::BTreeMap;

use kindred_core::apply::link_of;
use kindred_core::canonical::sha256;
use kindred_core::command::{Command, Decision, Envelope, Outcome, Proven, Reply};
use kindred_core::id::{DeviceKey, SessionId, Signature, TicketId};
use kindred_core::model::{
    Account, Approval, ApprovalKind, Device, DirectoryState, Method, Rejection, Requester, Role, Scan, TicketOutcome,
    TicketState,
};
use kindred_core::state::{Key, Record};

use super::model::{self, Op, Tamper, Who};
use super::{ENVELOPE, REGION, Shard, account, claim, envelope, key, nobody, request, ticket_id};

/// The real shard beside what the model knows by number.
#[derive(Clone, Default)]
pub struct Bridge {
    pub shard: Shard,
    ids: BTreeMap<(u8, u64), (SessionId, DeviceKey)>,
    names: BTreeMap<SessionId, u64>,
}

pub fn ticket(t: u8) -> TicketId {
    ticket_id(model::ticket_key(t), opened_by(t))
}

fn key_of_nobody(a: u8) -> DeviceKey {
    key(200 + a)
}

fn opened_by(t: u8) -> u64 {
    5_000 + u64::from(t)
}

impl Bridge {
    /// Applies one entry and says what apply said.
    pub fn entry(&mut self, elapsed_ms: u64, commands: Vec<Envelope>) -> Vec<String> {
        let replies = self.shard.entry(elapsed_ms, commands);
        for record in self.shard.memory.records.values() {
            let session = match record {
                Record::Account(account) => account.sessions.iter().map(|s| (account, s.clone())).collect::<Vec<_>>(),
                _ => continue,
            };
            for (of, session) in session {
                let a = of.id.as_bytes().last().unwrap() - b'0';
                self.ids.insert((a, session.seq), (session.id, session.device_key));
                self.names.insert(session.id, session.seq);
            }
        }
        // Linked and ended within one entry: only the tombstone tells, or the stub.
        for (key, record) in &self.shard.memory.records {
            if let (Key::Stub(of, id), Record::Stub(stub)) = (key, record) {
                let a = of.as_bytes().last().unwrap() - b'0';
                self.ids.entry((a, stub.seq)).or_insert((*id, key_of_nobody(a)));
                self.names.insert(*id, stub.seq);
            }
            if let (Key::Tombstone(of, id), Record::Tombstone(tombstone)) = (key, record) {
                let a = of.as_bytes().last().unwrap() - b'0';
                self.ids.insert((a, tombstone.session.seq), (*id, tombstone.session.device_key));
                self.names.insert(*id, tombstone.session.seq);
            }
        }
        replies.iter().map(|(reply, _)| self.said(reply)).collect()
    }

    fn session(&self, a: u8, seq: u64) -> (SessionId, DeviceKey) {
        self.ids.get(&(a, seq)).copied().unwrap_or((nobody(0xE0 + a), key_of_nobody(a)))
    }

    fn proven(&self, a: u8, who: &Who) -> Proven {
        if who.operator {
            return Proven::Operator("ops".into());
        }
        let session = self.session(a, who.seq).0;
        let key = key(if who.forged { 250 } else { who.key });
        Proven::Session { session, key, auth_epoch: who.epoch }
    }

    /// The command for `op`, from what is known before its entry. `None` if nobody could build it.
    pub fn command(&self, number: u64, op: &Op) -> Option<Envelope> {
        let (proven, command) = match op {
            Op::Claim { a, claim: c } => {
                (Proven::Cluster, Command::Claim { account: account(*a), claim: claim(*c), home: REGION })
            }
            Op::Confirm { a, claim: c } => {
                (Proven::Cluster, Command::ConfirmClaim { account: account(*a), claim: claim(*c), home_epoch: 1 })
            }
            Op::Register { a, claim: c, key: k, forged } => {
                let (account, device_key, device) = (account(*a), key(*k), Device::default());
                let proven = Proven::Key(key(if *forged { 250 } else { *k }));
                (proven, Command::Register { account, claim: claim(*c), home: REGION, device_key, device })
            }
            Op::SetLimit { a, who, limit } => {
                (self.proven(*a, who), Command::SetLimit { account: account(*a), limit: *limit })
            }
            Op::Unlink { a, who, target } => {
                let session = self.session(*a, *target).0;
                (self.proven(*a, who), Command::Unlink { account: account(*a), session })
            }
            Op::UnlinkOthers { a, who, keep, version } => {
                let keep = self.session(*a, *keep).0;
                (self.proven(*a, who), Command::UnlinkOthers { account: account(*a), keep, set_version: *version })
            }
            Op::Lock { a, who, locked } => {
                (self.proven(*a, who), Command::Lock { account: account(*a), locked: *locked })
            }
            Op::Pin { a, who, target, pinned } => {
                let session = self.session(*a, *target).0;
                (self.proven(*a, who), Command::Pin { account: account(*a), session, pinned: *pinned })
            }
            Op::Rotate { a, who, key: k } => {
                let session = self.session(*a, who.seq).0;
                let command = Command::RotateDeviceKey { account: account(*a), session, device_key: key(*k) };
                (self.proven(*a, who), command)
            }
            Op::Replace { a, who, key: k, keep, ends } => {
                let ends = ends.iter().map(|seq| self.session(*a, *seq).0).collect();
                let (account, device_key, device) = (account(*a), key(*k), Device::default());
                let command = Command::ReplacePrimary { account, device_key, device, keep_companions: *keep, ends };
                (self.proven(*a, who), command)
            }
            Op::Delete { a, who, version } => {
                (self.proven(*a, who), Command::Delete { account: account(*a), set_version: *version })
            }
            Op::Revoke { a, who, target } => {
                let session = self.session(*a, *target).0;
                (self.proven(*a, who), Command::Revoke { account: account(*a), session })
            }
            Op::Mark { a, claim: c } => {
                (Proven::Cluster, Command::MarkDeleted { account: account(*a), claim: claim(*c) })
            }
            Op::Tick => (Proven::Cluster, Command::Tick),
            _ => return self.ticket_command(number, op),
        };
        Some(envelope(request(number), proven, command))
    }

    fn ticket_command(&self, number: u64, op: &Op) -> Option<Envelope> {
        let number = if let Op::Open { t, .. } = op { opened_by(*t) } else { number };
        let of_device = |t: u8, forged: bool| Proven::Key(key(if forged { 250 } else { model::ticket_key(t) }));
        let (proven, command) = match op {
            Op::Open { t, forged } => {
                let (device_key, requester) = (key(model::ticket_key(*t)), Requester::default());
                let open = Command::Open { ticket: ticket(*t), device_key, method: Method::Qr, requester };
                (of_device(*t, *forged), open)
            }
            Op::Scan { t, a, who } => {
                let (approver, approver_key) = (self.session(*a, who.seq).0, key(who.key));
                let account = account(*a);
                let scan =
                    Scan { account, home: REGION, approver, approver_key, auth_epoch: who.epoch, scanned_at_ms: 0 };
                (self.proven(*a, who), Command::Scan { ticket: ticket(*t), scan })
            }
            Op::Approve { t, who, approval } => {
                let envelope = ENVELOPE.to_vec();
                let approve = Command::Approve {
                    ticket: ticket(*t),
                    approval: self.approval(*t, approval),
                    envelope,
                    number: None,
                };
                (self.proven(approval.a, who), approve)
            }
            Op::Deny { t, a, who } => (self.proven(*a, who), Command::Deny { ticket: ticket(*t) }),
            Op::Cancel { t, forged } => (of_device(*t, *forged), Command::Cancel { ticket: ticket(*t) }),
            Op::Expire { t } => (Proven::Cluster, Command::Expire { tickets: vec![ticket(*t)] }),
            Op::Settle { t, a, .. } => {
                let outcome = self.shard.outcome(&account(*a), &ticket(*t))?;
                (Proven::Cluster, Command::Settle { ticket: ticket(*t), outcome })
            }
            Op::Link { t, approval } => return Some(self.link(*t, approval)),
            Op::Decide { t, a, cancelled } => {
                let decision = if *cancelled { Decision::Cancelled } else { Decision::Expired };
                (Proven::Cluster, Command::DecideTicket { account: account(*a), ticket: ticket(*t), decision })
            }
            _ => return None,
        };
        Some(envelope(request(number), proven, command))
    }

    /// What the saga sends: the same whoever builds it.
    fn link(&self, t: u8, approval: &model::Approval) -> Envelope {
        let mut command = super::link(ticket(t), model::ticket_key(t), self.approval(t, approval));
        if let Command::Link { approver_key, .. } = &mut command {
            *approver_key = Some(key(approval.key));
        }
        let link = Envelope { policy_version: 0, ..envelope(super::RequestId(ticket(t).0), Proven::Cluster, command) };
        if let Some(Record::Ticket(ticket)) = self.shard.memory.records.get(&Key::Ticket(ticket(t)))
            && let TicketState::Approved { approval: standing, .. } = &ticket.state
            && *standing == self.approval(t, approval)
        {
            assert_eq!(link_of(ticket), Some(link.clone()));
        }
        link
    }

    fn approval(&self, t: u8, said: &model::Approval) -> Approval {
        let tampered = |with: Tamper| said.tamper == Some(with);
        let device = if tampered(Tamper::Key) { key(251) } else { key(model::ticket_key(t)) };
        let envelope: &[u8] = if tampered(Tamper::Envelope) { b"another" } else { ENVELOPE };
        Approval {
            kind: said.victim.map_or(ApprovalKind::Link, |v| ApprovalKind::LinkReplacing(self.session(said.a, v).0)),
            account: account(if tampered(Tamper::Account) { 9 } else { said.a }),
            auth_epoch: said.epoch,
            ticket: ticket(if tampered(Tamper::Ticket) { t + 1 } else { t }),
            device_key_hash: sha256(&[device.as_bytes()]),
            approver: if tampered(Tamper::Approver) { nobody(0xEF) } else { self.session(said.a, said.seq).0 },
            envelope_hash: sha256(&[envelope]),
            lifetime_ms: said.lifetime_ms,
            signature: Signature([9; 64]),
        }
    }

    fn said(&self, reply: &Reply) -> String {
        match reply {
            Ok(Outcome::Done) => "done".into(),
            Ok(Outcome::Claimed(entry)) => format!("claimed {}", entry.claim.0[0]),
            Ok(Outcome::Registered { session, set_version }) => {
                format!("registered {} v{set_version}", self.names[session])
            }
            Ok(Outcome::Ticket(ticket)) => self.ticket(&ticket.state),
            Ok(Outcome::Decided(outcome)) => format!("decided {}", self.fate(outcome)),
            Ok(Outcome::Ended(t)) => format!("ended {} {:?}", t.session.seq, t.reason),
            Ok(Outcome::EndedOthers { tombstones, set_version, auth_epoch }) => {
                let ended: Vec<_> = tombstones.iter().map(|t| t.session.seq).collect();
                format!("ended {ended:?} v{set_version} e{auth_epoch}")
            }
            Ok(Outcome::Installed { set_version, auth_epoch, .. }) => format!("installed v{set_version} e{auth_epoch}"),
            Ok(Outcome::EndedBefore(stub)) => format!("ended {} {:?} long ago", stub.seq, stub.reason),
            Ok(Outcome::Locked { locked, auth_epoch }) => format!("locked {locked} e{auth_epoch}"),
            Ok(Outcome::Session(s)) => {
                format!("session {} key {} r{} pinned {}", s.seq, s.device_key.0[0], s.record_version, s.pinned)
            }
            Ok(Outcome::Replaced { session, tombstones, set_version, auth_epoch }) => {
                let ended: Vec<_> = tombstones.iter().map(|t| t.session.seq).collect();
                format!("replaced {} {ended:?} v{set_version} e{auth_epoch}", self.names[session])
            }
            Ok(Outcome::Deleted { stubs, set_version }) => {
                let ended: Vec<_> = stubs.iter().map(|stub| stub.seq).collect();
                format!("deleted {ended:?} v{set_version}")
            }
            Err(rejection) => format!("no {}", self.why(rejection)),
        }
    }

    fn why(&self, rejection: &Rejection) -> String {
        match rejection {
            Rejection::EpochChanged { auth_epoch } => format!("EpochChanged {auth_epoch}"),
            Rejection::CompanionLimitReached { now, max } => format!("CompanionLimitReached {now}/{max}"),
            Rejection::DeviceKeyAlreadyLinked { session } => format!("DeviceKeyAlreadyLinked {}", self.names[session]),
            Rejection::QuarantinedActor { until_ms } => format!("QuarantinedActor {until_ms}"),
            Rejection::SessionEnded(t) => format!("SessionEnded {} {:?}", t.session.seq, t.reason),
            Rejection::SetVersionConflict { current } => format!("SetVersionConflict {current}"),
            Rejection::InvalidRequest(field) => format!("InvalidRequest {field}"),
            Rejection::SessionPinned { session } => format!("SessionPinned {}", self.names[session]),
            plain => format!("{plain:?}"),
        }
    }

    fn fate(&self, outcome: &TicketOutcome) -> String {
        match outcome {
            TicketOutcome::Linked(r) => {
                assert_eq!(r.version_after, r.version_before + 1);
                assert_eq!(r.sessions_after.last(), Some(&r.session));
                format!("linked {} v{}-v{}", r.seq, r.version_before, r.version_after)
            }
            TicketOutcome::Refused(reason) => format!("refused {}", self.why(reason)),
            TicketOutcome::Cancelled => "cancelled".into(),
            TicketOutcome::Expired => "expired".into(),
        }
    }

    fn ticket(&self, state: &TicketState) -> String {
        let a = |account: &kindred_core::id::AccountId| account.as_bytes().last().unwrap() - b'0';
        let state = match state {
            TicketState::Open => "open".into(),
            TicketState::Scanned(scan) => {
                let seq = self.names.get(&scan.approver).copied().unwrap_or_default();
                format!("scanned {}/{seq}", a(&scan.account))
            }
            TicketState::Approved { scan, .. } => format!("approved {}", a(&scan.account)),
            TicketState::Linked { receipt, .. } => self.fate(&TicketOutcome::Linked(receipt.clone())),
            TicketState::Refused { reason, .. } => format!("refused {}", self.why(reason)),
            TicketState::Expired => "expired".into(),
            TicketState::Denied => "denied".into(),
            TicketState::Cancelled => "cancelled".into(),
            TicketState::Locked => "locked".into(),
        };
        format!("ticket {state}")
    }

    /// What [`model::Model::picture`] must be equal to.
    pub fn picture(&self, tickets: u8) -> Vec<String> {
        let records = &self.shard.memory.records;
        let mut picture = Vec::new();
        for record in records.values() {
            if let Record::Directory(entry) = record {
                let home = entry.state == DirectoryState::Home { home_epoch: 1 };
                let a = entry.account.as_bytes().last().unwrap() - b'0';
                let deleted = entry.state == DirectoryState::Deleted;
                picture.push(format!("claim {a}: {} home {home} deleted {deleted}", entry.claim.0[0]));
            }
        }
        picture.extend(records.values().filter_map(|record| match record {
            Record::Account(account) => Some(self.account(account)),
            _ => None,
        }));
        picture.extend(records.iter().filter_map(|(key, record)| match (key, record) {
            (Key::Deleted(of), Record::Deleted(deletion)) => Some(self.deleted(of, deletion.set_version)),
            _ => None,
        }));
        for t in 0..tickets {
            if let Some(Record::Ticket(found)) = records.get(&Key::Ticket(ticket(t))) {
                picture.push(format!("{t}: {}", self.ticket(&found.state)));
            }
        }
        for a in 0..9 {
            for t in 0..tickets {
                let outcome = self.shard.outcome(&account(a), &ticket(t));
                picture.extend(outcome.map(|outcome| format!("{t} at {a}: {}", self.fate(&outcome))));
            }
        }
        picture
    }

    fn account(&self, x: &Account) -> String {
        let live = x.sessions.iter().map(|s| {
            let records = (s.pinned, s.key_generation, s.record_version);
            (s.seq, s.device_key.0[0], s.role == Role::Primary, s.quarantine_until_ms, records)
        });
        let live: Vec<_> = live.collect();
        let dead = self.shard.memory.records.iter().filter_map(|(key, record)| match (key, record) {
            (Key::Tombstone(of, _), Record::Tombstone(t)) if *of == x.id => {
                Some((t.session.seq, t.session.device_key.0[0], format!("{:?}", t.reason)))
            }
            _ => None,
        });
        let mut dead: Vec<_> = dead.collect();
        dead.sort();
        let a = x.id.as_bytes().last().unwrap() - b'0';
        let (e, v, limit) = (x.auth_epoch, x.set_version, x.companion_limit);
        let locked = x.locked_at_ms.is_some();
        format!("account {a}: e{e} v{v} limit {limit} locked {locked} live {live:?} dead {dead:?}")
    }

    /// A deleted account: its tombstones become stubs at their own pace, and say the same.
    fn deleted(&self, of: &kindred_core::id::AccountId, version: u64) -> String {
        let ended = self.shard.memory.records.iter().filter_map(|(key, record)| match (key, record) {
            (Key::Tombstone(id, _), Record::Tombstone(t)) if id == of => {
                Some((t.session.seq, format!("{:?}", t.reason)))
            }
            (Key::Stub(id, _), Record::Stub(stub)) if id == of => Some((stub.seq, format!("{:?}", stub.reason))),
            _ => None,
        });
        let mut stubs: Vec<_> = ended.collect();
        stubs.sort();
        format!("deleted {}: v{version} stubs {stubs:?}", of.as_bytes().last().unwrap() - b'0')
    }
}
