//! The history format: one JSON object per line. docs/history.md shows it line by line.

use serde::{Deserialize, Serialize};

/// Most events of one history; a recorder stops there and says so in [`crate::Recorder::finish`].
pub const EVENTS_MAX: usize = 4_000_000;

/// One line.
///
/// The order of the lines is the order of events: a `call` stands before anything was sent, a `return` after the
/// answer was seen. `at_us` is for people and for durations; two events may share it (simulated time stands still
/// while code runs).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Number of the operation, the same in its call and its return; a note has its own.
    pub id: u64,
    /// Who acted. One client has one operation under way at a time; after an unknown outcome it may go on.
    pub client: String,
    /// Microseconds of the recorder's monotonic clock.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// An operation begins.
    Call(Operation),
    /// Its outcome is known, or is known to stay unknown.
    Return {
        /// The operation's name, for people and for `grep`.
        op: String,
        /// What came of it.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// Something that is no operation.
    Note(Note),
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    /// Makes an account with its primary session.
    Register {
        /// The account.
        account: String,
        /// The primary's key.
        device_key: String,
    },
    /// A companion opens a ticket.
    Open {
        /// The companion's key.
        device_key: String,
    },
    /// The phone scans it.
    Scan {
        /// The scanning account.
        account: String,
        /// The ticket.
        ticket: String,
    },
    /// The phone approves: the link.
    Approve {
        /// The approving account.
        account: String,
        /// The ticket.
        ticket: String,
        /// The companion's key.
        device_key: String,
        /// Request id.
        request: String,
        /// The session that the approval names as replaced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<String>,
    },
    /// The phone denies.
    Deny {
        /// The account.
        account: String,
        /// The ticket.
        ticket: String,
    },
    /// The companion gives up.
    Cancel {
        /// The ticket.
        ticket: String,
    },
    /// Reads the session set.
    List {
        /// The account.
        account: String,
        /// How fresh the answer must be.
        #[serde(default)]
        level: Level,
    },
    /// Asks for the verdict on one session.
    Validate {
        /// The account.
        account: String,
        /// The session.
        session: String,
        /// How fresh the answer must be.
        #[serde(default)]
        level: Level,
    },
    /// Ends one session, by name.
    Unlink {
        /// The account.
        account: String,
        /// The session that it names.
        session: String,
        /// Request id: the command that a tombstone will cite.
        request: String,
    },
    /// Ends all sessions of `set_version` but one; it names each of them.
    UnlinkOthers {
        /// The account.
        account: String,
        /// The session that stays.
        keep: String,
        /// Request id: the command that the tombstones will cite.
        request: String,
        /// The version whose sessions it names; without it, it names whatever there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set_version: Option<u64>,
    },
    /// Asks why a session was signed out.
    Why {
        /// The account.
        account: String,
        /// The session.
        session: String,
    },
    /// The companion's watch of its ticket: returns when it is told its session, or the ticket's other end.
    WatchLinked {
        /// The ticket.
        ticket: String,
        /// The companion's key.
        device_key: String,
    },
}

/// Freshness of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not older than anything that was acknowledged before the call.
    #[default]
    Linearizable,
    /// As one replica sees it, with its age. Exempt from the rules of real time, not from those of versions.
    Local,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was answered.
    Ok(Box<Answer>),
    /// It was refused and has no effect, now or later. Whatever *may* have had one is [`Outcome::Unknown`].
    Refused(Refusal),
    /// No answer, or OUTCOME_UNKNOWN: it may happen at any time since its call, or never.
    Unknown,
}

/// What an answer said; a field that it did not speak of is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The account, where the call did not name it (`watch_linked`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The session that came of it (`register`, `approve`, `watch_linked`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The whole session set as of `set_version` (`list`; `approve`: the receipt's "after").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<Member>>,
    /// set_version that the answer speaks of: for a mutation the one that it made, for a read the one that it saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_version: Option<u64>,
    /// The ticket (`open`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The device key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_key: Option<String>,
    /// The verdict (`validate`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Proofs of sign-out: of `validate` and `why` the one asked for, of `unlink` and `unlink_others` all that it made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tombstones: Vec<Tombstone>,
    /// Log index of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
}

/// A session in a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its number in the account; absent where an answer gives ids only (a receipt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// A verdict on a session, spelt as in the public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Live.
    Valid,
    /// Ended, with a tombstone.
    SignedOut,
    /// Denied for now, credentials kept.
    Suspended,
    /// Renew first.
    Stale,
    /// Not a credential.
    Malformed,
    /// Nobody knows just now.
    Undetermined,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, spelt as in the public interface.
    pub reason: String,
    /// With reason SIGNED_OUT (of the caller) or SESSION_ENDED: the proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstone: Option<Tombstone>,
}

/// Proof that a session ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tombstone {
    /// The session.
    pub session: String,
    /// Why, spelt as in the public interface (`SELF_LOGOUT`, …).
    pub reason: String,
    /// Request id of the command that ended it.
    pub command: String,
    /// Log index of that command.
    pub log_index: u64,
    /// set_version after it.
    pub set_version: u64,
}

/// Something that is no operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A node was killed.
    Kill {
        /// Which.
        node: String,
        /// The shard that it led, or for which it was chosen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<u32>,
        /// Where the saga stood (`ticket.approved`, `link.committed`, …), what the node was (`follower`, `leader`,
        /// `frontend`), or `power_loss` of all nodes.
        point: String,
        /// Log index at that point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log_index: Option<u64>,
    },
    /// A node was stopped without being killed: its connections stay, and it does nothing.
    Freeze {
        /// Which.
        node: String,
    },
    /// A stopped node goes on.
    Thaw {
        /// Which.
        node: String,
    },
    /// A node was started again.
    Restart {
        /// Which.
        node: String,
    },
    /// Something was done to the world, other than the above: a partition, a slow disk, a clock that jumps.
    Fault {
        /// Which kind, a word of `simulations/README.md` (`partition`, `message_loss`, `clock_jump`, …).
        fault: String,
        /// To which node; absent where it is to all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// And towards which other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
        /// How much, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A fault that lasted is over.
    Healed {
        /// Which kind.
        fault: String,
        /// On which node; absent where it was on all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// And towards which other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
    },
    /// A node leads a shard from now on, as far as it knows.
    Leader {
        /// Which shard.
        shard: u32,
        /// Which node.
        node: String,
        /// In which term.
        term: u64,
    },
    /// A replica installed a snapshot.
    Installed {
        /// Which shard.
        shard: u32,
        /// On which node.
        node: String,
        /// Log index of the last entry in it.
        log_index: u64,
    },
    /// A step of the scenario ended.
    Step {
        /// Its name.
        name: String,
        /// How long it took, in ms.
        ms: u64,
    },
}

impl Operation {
    /// Its name, as in `op`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Open { .. } => "open",
            Self::Scan { .. } => "scan",
            Self::Approve { .. } => "approve",
            Self::Deny { .. } => "deny",
            Self::Cancel { .. } => "cancel",
            Self::List { .. } => "list",
            Self::Validate { .. } => "validate",
            Self::Unlink { .. } => "unlink",
            Self::UnlinkOthers { .. } => "unlink_others",
            Self::Why { .. } => "why",
            Self::WatchLinked { .. } => "watch_linked",
        }
    }

    /// The account that it names.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Register { account, .. }
            | Self::Scan { account, .. }
            | Self::Approve { account, .. }
            | Self::Deny { account, .. }
            | Self::List { account, .. }
            | Self::Validate { account, .. }
            | Self::Unlink { account, .. }
            | Self::UnlinkOthers { account, .. }
            | Self::Why { account, .. } => Some(account),
            Self::Open { .. } | Self::Cancel { .. } | Self::WatchLinked { .. } => None,
        }
    }

    /// A read to which the rules of real time apply. `why` is none: it may be answered from an older replica.
    pub fn is_linearizable_read(&self) -> bool {
        matches!(
            self,
            Self::List { level: Level::Linearizable, .. } | Self::Validate { level: Level::Linearizable, .. }
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn round(event: &Event, line: &str) {
        assert_eq!(serde_json::to_string(event).unwrap(), line);
        assert_eq!(&serde_json::from_str::<Event>(line).unwrap(), event);
    }

    fn event(body: Body) -> Event {
        Event { id: 7, client: "phone".into(), at_us: 12, body }
    }

    #[test]
    fn the_lines_of_the_format_stay_as_they_are() {
        let unlink = Operation::Unlink { account: "a".into(), session: "s".into(), request: "r".into() };
        round(
            &event(Body::Call(unlink)),
            r#"{"id":7,"client":"phone","at_us":12,"kind":"call","op":"unlink","account":"a","session":"s","request":"r"}"#,
        );
        let answer = Answer { verdict: Some(Verdict::SignedOut), set_version: Some(3), ..Answer::default() };
        round(
            &event(Body::Return { op: "validate".into(), outcome: Outcome::Ok(Box::new(answer)) }),
            r#"{"id":7,"client":"phone","at_us":12,"kind":"return","op":"validate","outcome":"ok","set_version":3,"verdict":"SIGNED_OUT"}"#,
        );
        round(
            &event(Body::Return { op: "list".into(), outcome: Outcome::Unknown }),
            r#"{"id":7,"client":"phone","at_us":12,"kind":"return","op":"list","outcome":"unknown"}"#,
        );
        let refusal = Refusal { reason: "TICKET_EXPIRED".into(), tombstone: None };
        round(
            &event(Body::Return { op: "approve".into(), outcome: Outcome::Refused(refusal) }),
            r#"{"id":7,"client":"phone","at_us":12,"kind":"return","op":"approve","outcome":"refused","reason":"TICKET_EXPIRED"}"#,
        );
        let kill = Note::Kill { node: "n1".into(), shard: Some(2), point: "link.committed".into(), log_index: Some(9) };
        round(
            &event(Body::Note(kill)),
            r#"{"id":7,"client":"phone","at_us":12,"kind":"note","note":"kill","node":"n1","shard":2,"point":"link.committed","log_index":9}"#,
        );
    }

    #[test]
    fn a_read_is_linearizable_unless_it_says_otherwise() {
        let line = r#"{"id":1,"client":"c","at_us":0,"kind":"call","op":"list","account":"a"}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert!(matches!(event.body, Body::Call(op) if op.is_linearizable_read()));
    }
}
