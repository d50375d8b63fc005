//! What clients ask for. docs/history.md shows each as a line.

use serde::{Deserialize, Serialize};

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
    /// A companion opens a ticket that is typed as a code, for the account that its user names.
    OpenCode {
        /// The companion's key.
        device_key: String,
        /// The account.
        account: String,
    },
    /// The phone types a code.
    ScanCode {
        /// The scanning account.
        account: String,
        /// Whether it typed another code than any that a companion was shown for this account.
        #[serde(default)]
        wrong: bool,
    },
    /// Waits for the next steps of an account's watch.
    Watch {
        /// The account.
        account: String,
        /// The set_version that the watcher has; 0 for none.
        from: u64,
    },
    /// Puts another phone in the primary's place. Names the primary, and the companions too if they are not kept.
    ReplacePrimary {
        /// The account.
        account: String,
        /// The new phone's key.
        device_key: String,
        /// Whether the companions stay.
        keep_companions: bool,
        /// Request id: the command that the tombstones will cite.
        request: String,
        /// The sessions that the command names, if whoever asks knows them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends: Option<Vec<String>>,
    },
    /// Gives a session another key. Ends nobody.
    RotateKey {
        /// The account.
        account: String,
        /// The session.
        session: String,
        /// Its new key.
        device_key: String,
        /// Request id.
        request: String,
    },
    /// An operator locks the account: its sessions are suspended, and none ends.
    Lock {
        /// The account.
        account: String,
        /// Request id.
        request: String,
    },
    /// An operator unlocks it.
    Unlock {
        /// The account.
        account: String,
        /// Request id.
        request: String,
    },
    /// Deletes the account. Names every session of it.
    Delete {
        /// The account.
        account: String,
        /// Request id.
        request: String,
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
            Self::OpenCode { .. } => "open_code",
            Self::ScanCode { .. } => "scan_code",
            Self::Watch { .. } => "watch",
            Self::ReplacePrimary { .. } => "replace_primary",
            Self::RotateKey { .. } => "rotate_key",
            Self::Lock { .. } => "lock",
            Self::Unlock { .. } => "unlock",
            Self::Delete { .. } => "delete",
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
            | Self::Why { account, .. }
            | Self::OpenCode { account, .. }
            | Self::ScanCode { account, .. }
            | Self::Watch { account, .. }
            | Self::ReplacePrimary { account, .. }
            | Self::RotateKey { account, .. }
            | Self::Lock { account, .. }
            | Self::Unlock { account, .. }
            | Self::Delete { account, .. } => Some(account),
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

    /// The request id under which a retry is the same command; none where the operation has none of its own.
    pub fn request(&self) -> Option<&str> {
        match self {
            Self::Approve { request, .. }
            | Self::Unlink { request, .. }
            | Self::UnlinkOthers { request, .. }
            | Self::ReplacePrimary { request, .. }
            | Self::RotateKey { request, .. }
            | Self::Lock { request, .. }
            | Self::Unlock { request, .. }
            | Self::Delete { request, .. } => Some(request),
            _ => None,
        }
    }

    /// Whether it only looks.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Validate { .. } | Self::Why { .. } | Self::Watch { .. })
    }
}
