//! Compares what somebody believes of a session set with what it is. Reads only: a view may be wrong, the state is not
//! changed for it.

use crate::digest;
use crate::id::{Digest, SessionId};
use crate::model::{Account, Session, SetChange, Stub, Tombstone};
use crate::query::changes;
use crate::state::{Key, ReadError, Record, View};

/// What somebody believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    /// The set_version that the view belongs to.
    pub set_version: u64,
    /// What it was then.
    pub set: Set,
}

/// A session set as held by somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// Its digest.
    Digest(Digest),
    /// Its sessions with their numbers; at most [`crate::limits::VIEW_SESSIONS_MAX`].
    Sessions(Vec<(SessionId, u64)>),
}

/// How a view stands to the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the set.
    InSync,
    /// It was the set.
    Behind {
        /// What came after it, +1 each; empty if that is no longer kept.
        changes: Vec<SetChange>,
        /// Tombstones of the sessions in the view that have ended since; for a list only.
        ended: Vec<Tombstone>,
        /// Stubs of those among them that ended long ago.
        stubs: Vec<Stub>,
    },
    /// It never was the set.
    Diverged(Differences),
}

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// In the view, and not live under that number.
    pub unexpected: Vec<Unexpected>,
    /// Live, and not in the view; of a list only.
    pub missing: Vec<SessionId>,
    /// The digest that is not the view's, by its version: the first one that can be compared.
    pub digest: Option<(u64, Digest)>,
}

/// A session that the view has and the set has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexpected {
    /// As the view has it.
    pub session: SessionId,
    /// As the view has it.
    pub seq: u64,
    /// What there is of it.
    pub standing: Standing,
}

/// What there is of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has ended.
    Ended(Box<Tombstone>),
    /// It has ended long ago.
    EndedBefore(Stub),
    /// It is live under another number.
    OtherSeq(u64),
    /// The account never had it. Never a sign-out.
    Unknown,
}

/// Compares.
pub(crate) fn compare(view: &dyn View, account: &Account, believed: &Believed) -> Result<Verdict, ReadError> {
    match &believed.set {
        Set::Digest(digest) => by_digest(view, account, believed.set_version, digest),
        Set::Sessions(sessions) => by_list(view, account, believed.set_version, sessions),
    }
}

fn by_digest(view: &dyn View, account: &Account, version: u64, believed: &Digest) -> Result<Verdict, ReadError> {
    let differs = |at: u64, digest: &Digest| {
        Verdict::Diverged(Differences { digest: Some((at, *digest)), ..Differences::default() })
    };
    if version >= account.set_version {
        let same = version == account.set_version && *believed == account.set_digest;
        return Ok(if same { Verdict::InSync } else { differs(account.set_version, &account.set_digest) });
    }
    let changes = changes(view, account, version)?;
    if let Some(first) = changes.first()
        && digest::next(believed, first.version, &first.added, &first.ended) != first.digest
    {
        return Ok(differs(first.version, &first.digest));
    }
    Ok(Verdict::Behind { changes, ended: Vec::new(), stubs: Vec::new() })
}

fn by_list(
    view: &dyn View,
    account: &Account,
    version: u64,
    believed: &[(SessionId, u64)],
) -> Result<Verdict, ReadError> {
    let live = pairs(&account.sessions);
    let in_order = sorted(believed.to_vec());
    if version == account.set_version && in_order == live {
        return Ok(Verdict::InSync);
    }
    let unexpected = unexpected(view, account, believed)?;
    let is_known = |u: &Unexpected| matches!(u.standing, Standing::Ended(_) | Standing::EndedBefore(_));
    if version < account.set_version && unexpected.iter().all(is_known) {
        let changes = changes(view, account, version)?;
        // Without the changes nobody can say what the set was then; that all in the view were once its sessions will do.
        if changes.is_empty() || set_before(account, &changes) == in_order {
            let (mut ended, mut stubs) = (Vec::new(), Vec::new());
            for known in unexpected {
                match known.standing {
                    Standing::Ended(tombstone) => ended.push(*tombstone),
                    Standing::EndedBefore(stub) => stubs.push(stub),
                    Standing::OtherSeq(_) | Standing::Unknown => {}
                }
            }
            return Ok(Verdict::Behind { changes, ended, stubs });
        }
    }
    let missing = account.sessions.iter().map(|s| s.id).filter(|id| !believed.iter().any(|(b, _)| b == id));
    let digest = (version > account.set_version).then_some((account.set_version, account.set_digest));
    Ok(Verdict::Diverged(Differences { missing: missing.collect(), unexpected, digest }))
}

/// Live sessions that a list lacks, in order of seq.
pub fn omitted<'a>(account: &'a Account, believed: &[(SessionId, u64)]) -> Vec<&'a Session> {
    account.sessions.iter().filter(|s| !believed.contains(&(s.id, s.seq))).collect()
}

fn unexpected(view: &dyn View, account: &Account, believed: &[(SessionId, u64)]) -> Result<Vec<Unexpected>, ReadError> {
    let mut found = Vec::new();
    for (session, seq) in believed {
        let standing = match account.sessions.iter().find(|s| s.id == *session) {
            Some(live) if live.seq == *seq => continue,
            Some(live) => Standing::OtherSeq(live.seq),
            None => match view.get(&Key::Tombstone(account.id.clone(), *session))? {
                Some(Record::Tombstone(t)) if t.session.seq == *seq => Standing::Ended(Box::new(t)),
                _ => match view.get(&Key::Stub(account.id.clone(), *session))? {
                    Some(Record::Stub(stub)) if stub.seq == *seq => Standing::EndedBefore(stub),
                    _ => Standing::Unknown,
                },
            },
        };
        found.push(Unexpected { session: *session, seq: *seq, standing });
    }
    Ok(found)
}

/// The set before all of these changes, which are the latest ones.
fn set_before(account: &Account, changes: &[SetChange]) -> Vec<(SessionId, u64)> {
    let mut set = pairs(&account.sessions);
    for change in changes.iter().rev() {
        set.retain(|(id, _)| !change.added.iter().any(|s| s.id == *id));
        set.extend(change.ended.iter().map(|t| (t.session.id, t.session.seq)));
    }
    sorted(set)
}

fn pairs(sessions: &[Session]) -> Vec<(SessionId, u64)> {
    sorted(sessions.iter().map(|s| (s.id, s.seq)).collect())
}

fn sorted(mut pairs: Vec<(SessionId, u64)>) -> Vec<(SessionId, u64)> {
    pairs.sort();
    pairs
}
