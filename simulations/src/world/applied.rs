//! One account as one entry left it on one replica, in plain words.

use std::collections::VecDeque;

use bytes::Bytes;
use kindred_core::canonical::sha256;
use kindred_core::command::Command;
use kindred_core::id::{AccountId, SessionId, ShardId, TicketId};
use kindred_core::model::{ApprovalKind, Session};
use kindred_core::state::{Key, Record, View as _};
use kindred_store::codec::{decode_entry, encode_record};
use kindred_store::engine::Read;
use kindred_store::state::StateView;
use serde::Serialize;

/// Sessions by id.
pub type Named = Vec<SessionId>;

/// Most tombstones and stubs that are read of an account.
const ENDED_MAX: usize = 100_000;

/// What one entry left of one account on one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The replica's node.
    pub node: String,
    /// Its id.
    pub replica: u64,
    /// Its shard.
    pub shard: u32,
    /// The entry.
    pub log_index: u64,
    /// Its term.
    pub term: u64,
    /// When it was applied there, simulated µs.
    pub at_us: u64,
    /// The account.
    pub account: String,
    /// Its version after the entry; 0 once it is deleted.
    pub set_version: u64,
    /// Its live sessions, in order of seq.
    pub sessions: Vec<Member>,
    /// Everything that is told of sessions that have ended, in order of session.
    pub ended: Vec<Ended>,
    /// SHA-256 over all these records, byte for byte.
    pub digest: String,
    /// Sessions of the account that a command of the entry may have started.
    pub linked: Vec<String>,
    /// Sessions that a command of the entry names to be ended, whether or not it did.
    pub named: Vec<String>,
    /// Sessions whose record a command of the entry may change without ending them: a pin, a key.
    pub touched: Vec<String>,
    /// False if the entry's commands are not known here: then `linked` and `named` say nothing.
    pub commands_known: bool,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its number.
    pub seq: u64,
    /// SHA-256 over its record: a sibling's must not change.
    pub digest: String,
}

/// A session that has ended: a tombstone, or the stub that is left of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Its id.
    pub session: String,
    /// Its number.
    pub seq: u64,
    /// Why, as Debug writes it.
    pub reason: String,
    /// At which log index.
    pub log_index: u64,
    /// Version that its end made; none in a stub.
    pub set_version: Option<u64>,
    /// The command that ended it, by its request id; none in a stub.
    pub command: Option<String>,
}

impl Applied {
    /// Ids of the live sessions.
    pub(super) fn ids(&self) -> Named {
        let id = |member: &Member| SessionId::from_slice(&kindred_core::id::unhex(&member.id)?);
        self.sessions.iter().filter_map(id).collect()
    }
}

/// The account as it stands in `visible`; none if it has never been there, or cannot be read.
pub(super) fn applied(
    visible: &dyn Read,
    (shard, generation): (ShardId, u32),
    id: &AccountId,
    entry: Option<&Bytes>,
    versions: &VecDeque<(u64, Named)>,
) -> Option<Applied> {
    let view = StateView::new(visible, shard, generation);
    let account = match view.get(&Key::Account(id.clone())).ok()? {
        Some(Record::Account(account)) => Some(account),
        _ => None,
    };
    let mut records = Vec::new();
    let mut found = Applied { account: id.to_string(), ..Applied::default() };
    if let Some(account) = &account {
        found.set_version = account.set_version;
        found.sessions = account.sessions.iter().map(member).collect();
        records.push(encode_record(&Record::Account(account.clone())));
    }
    for tombstone in view.tombstones(id, ENDED_MAX).ok()? {
        found.ended.push(Ended {
            session: tombstone.session.id.to_string(),
            seq: tombstone.session.seq,
            reason: format!("{:?}", tombstone.reason),
            log_index: tombstone.log_index,
            set_version: Some(tombstone.set_version),
            command: Some(tombstone.command.to_string()),
        });
        records.push(encode_record(&Record::Tombstone(tombstone)));
    }
    for stub in view.stubs(id, ENDED_MAX).ok()? {
        found.ended.push(Ended {
            session: stub.session.to_string(),
            seq: stub.seq,
            reason: format!("{:?}", stub.reason),
            log_index: stub.log_index,
            set_version: None,
            command: None,
        });
        records.push(encode_record(&Record::Stub(stub)));
    }
    found.ended.sort_by(|a, b| a.session.cmp(&b.session));
    let parts: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
    found.digest = sha256(&parts).to_string();
    if let Some(entry) = entry.and_then(|entry| decode_entry(entry).ok()) {
        found.commands_known = true;
        let sessions = account.map(|account| account.sessions).unwrap_or_default();
        for envelope in &entry.commands {
            let (linked, named) = of_command(&envelope.command, id, &sessions, versions);
            found.linked.extend(linked.iter().map(ToString::to_string));
            found.named.extend(named.iter().map(ToString::to_string));
            if let Command::Pin { account, session, .. } | Command::RotateDeviceKey { account, session, .. } =
                &envelope.command
                && account == id
            {
                found.touched.push(session.to_string());
            }
        }
    }
    Some(found)
}

fn member(session: &Session) -> Member {
    let digest = sha256(&[format!("{session:?}").as_bytes()]);
    Member { id: session.id.to_string(), seq: session.seq, digest: digest.to_string() }
}

/// Which sessions of the account a command may have started, and which it names to be ended. Written from the meaning of
/// the commands (domain.md §3), not from how they are applied.
fn of_command(
    command: &Command,
    id: &AccountId,
    after: &[Session],
    versions: &VecDeque<(u64, Named)>,
) -> (Named, Named) {
    let by_ticket = |ticket: &TicketId| ids(after, |session| session.ticket == Some(*ticket));
    let at = |version: u64| versions.iter().find(|(known, _)| *known == version).map(|(_, set)| set.clone());
    let of = |account: &AccountId| account == id;
    match command {
        Command::Register { account, device_key, .. } if of(account) => {
            (ids(after, |session| session.device_key == *device_key), Named::new())
        }
        Command::Link { ticket, approval, .. } | Command::Approve { ticket, approval, .. } if of(&approval.account) => {
            let named = match approval.kind {
                ApprovalKind::LinkReplacing(victim) => vec![victim],
                ApprovalKind::Link => Named::new(),
            };
            (by_ticket(ticket), named)
        }
        Command::Unlink { account, session } | Command::Revoke { account, session } if of(account) => {
            (Named::new(), vec![*session])
        }
        Command::UnlinkOthers { account, keep, set_version } if of(account) => {
            let mut named = at(*set_version).unwrap_or_default();
            named.retain(|session| session != keep);
            (Named::new(), named)
        }
        Command::ReplacePrimary { account, device_key, ends, .. } if of(account) => {
            (ids(after, |session| session.device_key == *device_key), ends.clone())
        }
        Command::Delete { account, set_version } if of(account) => (Named::new(), at(*set_version).unwrap_or_default()),
        Command::Install { bundle, .. } if of(&bundle.account.id) => {
            (bundle.account.sessions.iter().map(|session| session.id).collect(), Named::new())
        }
        _ => (Named::new(), Named::new()),
    }
}

fn ids(sessions: &[Session], of: impl Fn(&Session) -> bool) -> Named {
    sessions.iter().filter(|session| of(session)).map(|session| session.id).collect()
}
