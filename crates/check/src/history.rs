//! The history format: one JSON object per line. docs/history.md shows it line by line.

use serde::{Deserialize, Serialize};

pub use crate::note::{Held, Note, TicketState};
pub use crate::operation::{Level, Operation};

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
    /// What a watch told (`watch`), in the order in which it did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<Told>,
}

/// One step of a watch of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Told {
    /// The whole set as it stands: the start of a watch from 0, or where the changes asked for are no longer kept.
    Snapshot {
        /// Version of the set.
        set_version: u64,
        /// The set.
        sessions: Vec<Member>,
    },
    /// The next change: its version is one above the last.
    Change {
        /// Version that it made.
        set_version: u64,
        /// Who came.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        added: Vec<Member>,
        /// Who left.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ended: Vec<Tombstone>,
    },
    /// Nothing new, or nothing new in the membership: the version is the one that was told last.
    Same {
        /// Version of the set.
        set_version: u64,
    },
    /// The account was deleted; the last step.
    Deleted {
        /// Version after it.
        set_version: u64,
    },
}

impl Told {
    /// The version that it speaks of.
    pub fn set_version(&self) -> u64 {
        match self {
            Self::Snapshot { set_version, .. }
            | Self::Change { set_version, .. }
            | Self::Same { set_version }
            | Self::Deleted { set_version } => *set_version,
        }
    }
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
    /// set_version after it; 0 if it is not told.
    pub set_version: u64,
}

impl Tombstone {
    /// What is left after 90 days or a deletion: it names no command and no version any more.
    pub fn is_stub(&self) -> bool {
        self.command.is_empty()
    }

    /// Version from which on the session is over, if it is told.
    pub fn version(&self) -> Option<u64> {
        Some(self.set_version).filter(|version| *version > 0)
    }

    /// Whether both can be of one and the same end; a stub says less, and nothing else.
    pub fn agrees(&self, other: &Self) -> bool {
        if self.is_stub() || other.is_stub() {
            let of = |t: &Self| (t.session.clone(), t.reason.clone(), t.log_index);
            return of(self) == of(other);
        }
        self == other
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
