//! Who may do what, as one table, and the reason that a sign-out gets. `apply` asks nothing else, and tests go through
//! every cell.
//!
//! A reason is never the caller's to choose: it follows from who proved what to whom.

use crate::command::Command;
use crate::model::{Account, EndReason, Rejection, Role, Session};

/// Who asks, in relation to what is asked for. One column each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The very session that the act is about, young or not.
    Itself,
    /// Another companion, in quarantine (I20).
    Young,
    /// Another companion.
    Companion,
    /// The primary.
    Primary,
    /// An operator, by certificate.
    Operator,
    /// A device key that has no session.
    Key,
    /// The cluster.
    Cluster,
}

impl Who {
    /// Every column, in order.
    pub const ALL: [Self; 7] =
        [Self::Itself, Self::Young, Self::Companion, Self::Primary, Self::Operator, Self::Key, Self::Cluster];
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are the commands, which say what they are")]
pub enum Act {
    Unlink,
    LinkReplacing,
    UnlinkOthers,
    Revoke,
    ReplacePrimary,
    Delete,
    Link,
    SetLimit,
    Lock,
    Pin,
    RotateDeviceKey,
    /// Scan, Approve, Deny: steps of a ticket by a session of the account.
    Decide,
    /// Register, Open, Cancel: by a device key alone.
    Begin,
    /// Writes a whole account that comes from elsewhere, where there is none.
    Install,
    /// What the cluster does by itself.
    Bookkeeping,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 15] = [
        Self::Unlink,
        Self::LinkReplacing,
        Self::UnlinkOthers,
        Self::Revoke,
        Self::ReplacePrimary,
        Self::Delete,
        Self::Link,
        Self::SetLimit,
        Self::Lock,
        Self::Pin,
        Self::RotateDeviceKey,
        Self::Decide,
        Self::Begin,
        Self::Install,
        Self::Bookkeeping,
    ];

    /// What a command asks for. The command Link is the cluster's; [`Act::Link`] is what its approver wants of it.
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Unlink { .. } => Self::Unlink,
            Command::UnlinkOthers { .. } => Self::UnlinkOthers,
            Command::Revoke { .. } => Self::Revoke,
            Command::ReplacePrimary { .. } => Self::ReplacePrimary,
            Command::Delete { .. } => Self::Delete,
            Command::SetLimit { .. } => Self::SetLimit,
            Command::Lock { .. } => Self::Lock,
            Command::Pin { .. } => Self::Pin,
            Command::RotateDeviceKey { .. } => Self::RotateDeviceKey,
            Command::Scan { .. } | Command::ScanCode { .. } | Command::Approve { .. } | Command::Deny { .. } => {
                Self::Decide
            }
            Command::Register { .. } | Command::Open { .. } | Command::Cancel { .. } => Self::Begin,
            Command::Install { .. } => Self::Install,
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
            | Command::DetachCode { .. } => Self::Bookkeeping,
        }
    }
}

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The account, ticket or shard as a whole.
    Whole,
    /// Its primary.
    Primary,
    /// A companion.
    Companion,
    /// A pinned companion.
    Pinned,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 4] = [Self::Whole, Self::Primary, Self::Companion, Self::Pinned];

    /// What the table calls this session; none is the whole account.
    pub fn of(session: Option<&Session>) -> Self {
        match session {
            None => Self::Whole,
            Some(Session { role: Role::Primary, .. }) => Self::Primary,
            Some(Session { pinned: true, .. }) => Self::Pinned,
            Some(_) => Self::Companion,
        }
    }
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Allowed; ends nothing.
    May,
    /// Allowed, and this is what the sign-out is called.
    Ends(EndReason),
    /// The act is allowed and passes over this session.
    Spared,
    /// CALLER_NOT_ALLOWED.
    No,
    /// QUARANTINED_ACTOR.
    TooYoung,
    /// SESSION_PINNED.
    IsPinned,
    /// PROOF_INVALID: nobody of the account has proved it.
    Unproved,
}

/// The table: act, target, then a cell for each of [`Who::ALL`]. What has no row is not allowed to anybody.
#[rustfmt::skip]
pub const TABLE: &[(Act, Target, [Rule; 7])] = {
    use {Act as A, EndReason as E, Rule::*, Target as T};
    const SIBLING: Rule = Ends(E::UserUnlinkedFromSibling);
    const PHONE: Rule = Ends(E::UserUnlinkedFromPrimary);
    const ADMIN: Rule = Ends(E::AdminRevoked);
    const REPLACED: Rule = Ends(E::ReplacedByLink);
    const OTHERS: Rule = Ends(E::LogoutOthers);
    const PHONE_REPLACED: Rule = Ends(E::PrimaryReplaced);
    const DELETED: Rule = Ends(E::AccountDeleted);
    const STOLEN: Rule = Ends(E::CredentialCompromised);
    &[
        //                                  itself               young     companion  primary         operator        key       cluster
        (A::Unlink,          T::Primary,   [No,                  No,       No,        No,             ADMIN,          Unproved, Unproved]),
        (A::Unlink,          T::Companion, [Ends(E::SelfLogout), TooYoung, SIBLING,   PHONE,          ADMIN,          Unproved, Unproved]),
        (A::Unlink,          T::Pinned,    [Ends(E::SelfLogout), TooYoung, IsPinned,  PHONE,          ADMIN,          Unproved, Unproved]),
        // By approval: the actor is the approver, and an operator approves nothing.
        (A::LinkReplacing,   T::Primary,   [No,                  No,       No,        No,             No,             No,       No]),
        (A::LinkReplacing,   T::Companion, [REPLACED,            TooYoung, REPLACED,  REPLACED,       No,             No,       No]),
        (A::LinkReplacing,   T::Pinned,    [REPLACED,            TooYoung, IsPinned,  REPLACED,       No,             No,       No]),
        // Whole: may it be done at all? Sessions: whom does it end? Never the one that is kept, never the primary.
        (A::UnlinkOthers,    T::Whole,     [No,                  TooYoung, May,       May,            May,            Unproved, Unproved]),
        (A::UnlinkOthers,    T::Primary,   [Spared,              No,       Spared,    Spared,         Spared,         Unproved, Unproved]),
        (A::UnlinkOthers,    T::Companion, [Spared,              No,       OTHERS,    OTHERS,         OTHERS,         Unproved, Unproved]),
        (A::UnlinkOthers,    T::Pinned,    [Spared,              No,       Spared,    OTHERS,         OTHERS,         Unproved, Unproved]),
        (A::Revoke,          T::Primary,   [No,                  No,       No,        No,             STOLEN,         Unproved, Unproved]),
        (A::Revoke,          T::Companion, [No,                  No,       No,        No,             STOLEN,         Unproved, Unproved]),
        (A::Revoke,          T::Pinned,    [No,                  No,       No,        No,             STOLEN,         Unproved, Unproved]),
        // Whole: may it be done at all? Sessions: what their end is called, if they end.
        (A::ReplacePrimary,  T::Whole,     [No,                  No,       No,        May,            May,            Unproved, Unproved]),
        (A::ReplacePrimary,  T::Primary,   [PHONE_REPLACED,      No,       No,        No,             PHONE_REPLACED, Unproved, Unproved]),
        (A::ReplacePrimary,  T::Companion, [No,                  No,       No,        PHONE_REPLACED, PHONE_REPLACED, Unproved, Unproved]),
        (A::ReplacePrimary,  T::Pinned,    [No,                  No,       No,        PHONE_REPLACED, PHONE_REPLACED, Unproved, Unproved]),
        (A::Delete,          T::Whole,     [No,                  No,       No,        May,            May,            Unproved, Unproved]),
        (A::Delete,          T::Primary,   [DELETED,             No,       No,        No,             DELETED,        Unproved, Unproved]),
        (A::Delete,          T::Companion, [No,                  No,       No,        DELETED,        DELETED,        Unproved, Unproved]),
        (A::Delete,          T::Pinned,    [No,                  No,       No,        DELETED,        DELETED,        Unproved, Unproved]),
        (A::Link,            T::Whole,     [No,                  May,      May,       May,            No,             No,       No]),
        (A::SetLimit,        T::Whole,     [No,                  No,       No,        May,            May,            Unproved, Unproved]),
        (A::Lock,            T::Whole,     [No,                  No,       No,        No,             May,            Unproved, Unproved]),
        // Pinning is for companions; nobody but an operator ends a primary anyway.
        (A::Pin,             T::Primary,   [No,                  No,       No,        No,             No,             Unproved, Unproved]),
        (A::Pin,             T::Companion, [No,                  No,       No,        May,            May,            Unproved, Unproved]),
        (A::Pin,             T::Pinned,    [No,                  No,       No,        May,            May,            Unproved, Unproved]),
        (A::RotateDeviceKey, T::Primary,   [May,                 No,       No,        No,             No,             Unproved, Unproved]),
        (A::RotateDeviceKey, T::Companion, [May,                 No,       No,        No,             No,             Unproved, Unproved]),
        (A::RotateDeviceKey, T::Pinned,    [May,                 No,       No,        No,             No,             Unproved, Unproved]),
        (A::Decide,          T::Whole,     [No,                  May,      May,       May,            No,             Unproved, Unproved]),
        (A::Begin,           T::Whole,     [No,                  Unproved, Unproved,  Unproved,       No,             May,      Unproved]),
        (A::Install,         T::Whole,     [No,                  No,       No,        No,             May,            No,       No]),
        (A::Bookkeeping,     T::Whole,     [No,                  No,       No,        No,             No,             No,       May]),
    ]
};

/// The cell; [`Rule::No`] where there is no row.
pub fn rule(act: Act, target: Target, who: Who) -> Rule {
    let column = Who::ALL.iter().position(|w| *w == who);
    let row = TABLE.iter().find(|(a, t, _)| (*a, *t) == (act, target));
    row.zip(column).map_or(Rule::No, |((_, _, cells), column)| cells[column])
}

/// True where a locked account refuses nothing: to an operator, to a session that ends itself, and to whatever is not
/// decided at the account (the steps of a ticket; its link is).
pub fn is_open_while_locked(act: Act, who: Who) -> bool {
    matches!(who, Who::Operator | Who::Cluster | Who::Key)
        || (act, who) == (Act::Unlink, Who::Itself)
        || matches!(act, Act::Decide | Act::Begin | Act::Bookkeeping)
}

/// True if there is anything in this act that an operator may do: else `admit` need not look further.
pub fn is_for_operators(act: Act) -> bool {
    Target::ALL.iter().any(|target| matches!(rule(act, *target, Who::Operator), Rule::May | Rule::Ends(_)))
}

/// What the table allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be done.
    May,
    /// It ends the target, which is called so.
    Ends(EndReason),
    /// It passes over the target.
    Spared,
}

/// Asks the table. `actor` is a live session of the account, or none for an operator; `target` a live one, or none for the
/// account as a whole.
pub fn judge(
    account: &Account,
    act: Act,
    actor: Option<&Session>,
    target: Option<&Session>,
    now_ms: u64,
) -> Result<Verdict, Rejection> {
    let who = who(actor, target, now_ms);
    let verdict = match rule(act, Target::of(target), who) {
        Rule::May => Verdict::May,
        Rule::Ends(reason) => Verdict::Ends(reason),
        Rule::Spared => Verdict::Spared,
        Rule::No => return Err(Rejection::CallerNotAllowed),
        Rule::TooYoung => {
            let until_ms = actor.map_or(0, |session| session.quarantine_until_ms);
            return Err(Rejection::QuarantinedActor { until_ms });
        }
        Rule::IsPinned => {
            return Err(target.map_or(Rejection::CallerNotAllowed, |s| Rejection::SessionPinned { session: s.id }));
        }
        Rule::Unproved => return Err(Rejection::ProofInvalid),
    };
    if account.locked_at_ms.is_some() && !is_open_while_locked(act, who) {
        return Err(Rejection::AccountLocked);
    }
    Ok(verdict)
}

/// The column of whoever asks.
fn who(actor: Option<&Session>, target: Option<&Session>, now_ms: u64) -> Who {
    match actor {
        None => Who::Operator,
        Some(actor) if target.is_some_and(|target| target.id == actor.id) => Who::Itself,
        Some(Session { role: Role::Primary, .. }) => Who::Primary,
        Some(actor) if now_ms < actor.quarantine_until_ms => Who::Young,
        Some(_) => Who::Companion,
    }
}
