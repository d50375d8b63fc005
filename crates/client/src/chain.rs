//! A session set as a client holds it, checked change by change: every version one above the last, every digest following
//! from the one before, every change fitting the sessions held. What does not is refused with the reason, and the view
//! stays as it was.
//!
//! The chain is in docs/encoding.md. Whoever keeps a [`View`] across calls notices a cluster that lost or altered history.

use std::collections::BTreeMap;

use kindred_core::digest;
use kindred_core::id::{AccountId, DeviceKey, Digest, SessionId};
use kindred_core::reconcile::{Believed, Set};
use kindred_wire::convert::{self, Decoded, Invalid};
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::reconcile_reply::Result as Reconciled;
use kindred_wire::pb::session::v1::watch_account_reply::Event;

/// Why an answer cannot follow from what is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The set is told as of a version that is older than the one held.
    #[error("set_version went back from {held} to {told}")]
    WentBack {
        /// Held.
        held: u64,
        /// Told.
        told: u64,
    },
    /// A change is not the next one.
    #[error("change {told} was told, {expected} is next")]
    Gap {
        /// The version that is next.
        expected: u64,
        /// The version that was told.
        told: u64,
    },
    /// The digest told is not the one that follows, or not the one held for the same version.
    #[error("the digest of set_version {version} is {told}, and must be {expected}")]
    OtherDigest {
        /// Of which version.
        version: u64,
        /// What follows from what is held.
        expected: Digest,
        /// What was told.
        told: Digest,
    },
    /// A change ends a session that is not held, adds one that is, or a list of the same version has other sessions.
    #[error("session {session} does not fit the sessions of set_version {version}")]
    OtherSessions {
        /// Of which version.
        version: u64,
        /// Which session.
        session: SessionId,
    },
    /// A change that changes nothing.
    #[error("change {version} is empty")]
    Empty {
        /// Of which version.
        version: u64,
    },
    /// The answer does not decode.
    #[error(transparent)]
    Malformed(#[from] Invalid),
}

/// The digest after a change, from the change alone: what `change.digest` has to be.
///
/// # Errors
/// If the change does not decode.
pub fn follows(before: &Digest, change: &pb::SetChange) -> Decoded<Digest> {
    let added = change.added.iter().map(added).collect::<Decoded<Vec<_>>>()?;
    let ended = change.ended.iter().map(ended).collect::<Decoded<Vec<_>>>()?;
    Ok(digest::next_of(before, change.version, added, ended))
}

/// The digest after all of these changes, which must follow `(version, digest)` without a gap.
///
/// # Errors
/// [`Broken::Gap`], [`Broken::OtherDigest`], [`Broken::Empty`] or [`Broken::Malformed`], for the first change that does
/// not follow.
pub fn verify(version: u64, digest: &Digest, changes: &[pb::SetChange]) -> Result<(u64, Digest), Broken> {
    changes.iter().try_fold((version, *digest), |(version, digest), change| {
        if Some(change.version) != version.checked_add(1) {
            return Err(Broken::Gap { expected: version.saturating_add(1), told: change.version });
        }
        if change.added.is_empty() && change.ended.is_empty() {
            return Err(Broken::Empty { version: change.version });
        }
        let expected = follows(&digest, change)?;
        let told = convert::digest(&change.digest, "change.digest")?;
        if told != expected {
            return Err(Broken::OtherDigest { version: change.version, expected, told });
        }
        Ok((change.version, told))
    })
}

/// What a client holds of a session set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    account: AccountId,
    version: u64,
    digest: Digest,
    sessions: BTreeMap<SessionId, u64>,
}

impl View {
    /// The set of an account before its first change. Only a view that began here is verified from end to end.
    pub fn empty(account: &AccountId) -> Self {
        Self { account: account.clone(), version: 0, digest: digest::empty(account), sessions: BTreeMap::new() }
    }

    /// What was held before, from the caller's own store.
    pub fn held(account: &AccountId, version: u64, digest: Digest, sessions: BTreeMap<SessionId, u64>) -> Self {
        Self { account: account.clone(), version, digest, sessions }
    }

    /// The account.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Version of the set held.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its sessions with their numbers.
    pub fn sessions(&self) -> &BTreeMap<SessionId, u64> {
        &self.sessions
    }

    /// As it is asked about with a digest.
    pub fn by_digest(&self) -> Believed {
        Believed { set_version: self.version, set: Set::Digest(self.digest) }
    }

    /// As it is asked about with a list, in order of seq.
    pub fn by_list(&self) -> Believed {
        let mut sessions: Vec<_> = self.sessions.iter().map(|(id, seq)| (*id, *seq)).collect();
        sessions.sort_by_key(|(_, seq)| *seq);
        Believed { set_version: self.version, set: Set::Sessions(sessions) }
    }

    /// Takes in changes; none of them if one does not follow.
    ///
    /// # Errors
    /// As [`verify`], and [`Broken::OtherSessions`].
    pub fn advance(&mut self, changes: &[pb::SetChange]) -> Result<(), Broken> {
        let (version, digest) = verify(self.version, &self.digest, changes)?;
        let mut sessions = self.sessions.clone();
        for change in changes {
            let other = |session| Broken::OtherSessions { version: change.version, session };
            for (id, seq, _) in change.ended.iter().map(ended).collect::<Decoded<Vec<_>>>()? {
                if sessions.remove(&id) != Some(seq) {
                    return Err(other(id));
                }
            }
            for (id, seq, _) in change.added.iter().map(added).collect::<Decoded<Vec<_>>>()? {
                if sessions.insert(id, seq).is_some() {
                    return Err(other(id));
                }
            }
        }
        (self.version, self.digest, self.sessions) = (version, digest, sessions);
        Ok(())
    }

    /// Takes in the set as a whole. An older one is refused; of the same version it must be the very same.
    ///
    /// # Errors
    /// [`Broken::WentBack`], [`Broken::OtherDigest`], [`Broken::OtherSessions`] or [`Broken::Malformed`].
    pub fn replace(&mut self, snapshot: &pb::Snapshot) -> Result<(), Broken> {
        let digest = convert::digest(&snapshot.set_digest, "set_digest")?;
        let sessions = pairs(&snapshot.sessions)?;
        self.is_not_before(snapshot.set_version, &digest)?;
        if snapshot.set_version == self.version
            && let Some((session, _)) = differing(&self.sessions, &sessions)
        {
            return Err(Broken::OtherSessions { version: self.version, session });
        }
        (self.version, self.digest, self.sessions) = (snapshot.set_version, digest, sessions);
        Ok(())
    }

    /// Takes in an event of a watch.
    ///
    /// # Errors
    /// As [`Self::advance`] and [`Self::replace`]; a heartbeat must tell what is held.
    pub fn event(&mut self, event: &Event) -> Result<(), Broken> {
        match event {
            Event::Change(change) => self.advance(std::slice::from_ref(change)),
            Event::Snapshot(snapshot) => self.replace(snapshot),
            Event::Heartbeat(beat) if beat.set_version > self.version => {
                Err(Broken::Gap { expected: self.version, told: beat.set_version })
            }
            Event::Heartbeat(beat) => {
                self.is_not_before(beat.set_version, &convert::digest(&beat.set_digest, "set_digest")?)
            }
            Event::Records(records) => self.records(records),
            Event::LinkRequested(_) | Event::LinkRequestOver(_) | Event::Deleted(_) => Ok(()),
        }
    }

    /// What changes records leaves the set as it is.
    fn records(&self, records: &pb::Records) -> Result<(), Broken> {
        if records.set_version != self.version {
            return Err(Broken::Gap { expected: self.version, told: records.set_version });
        }
        match differing(&self.sessions, &pairs(&records.sessions)?) {
            Some((session, _)) => Err(Broken::OtherSessions { version: self.version, session }),
            None => Ok(()),
        }
    }

    /// Takes in a list.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub fn list(&mut self, list: &pb::ListSessionsReply) -> Result<(), Broken> {
        self.replace(&pb::Snapshot {
            sessions: list.sessions.clone(),
            set_version: list.set_version,
            set_digest: list.set_digest.clone(),
        })
    }

    /// Takes in what Reconcile has answered to this view: changes or a snapshot, if it is behind. DIVERGED changes nothing
    /// here: to believe the cluster's set instead is a decision ([`Self::adopt`]).
    ///
    /// # Errors
    /// As [`Self::advance`] and [`Self::replace`], and if IN_SYNC is told of another set than is held.
    pub fn reconciled(&mut self, reply: &pb::ReconcileReply) -> Result<(), Broken> {
        let digest = convert::digest(&reply.set_digest, "set_digest")?;
        let mut next = self.clone();
        match reply.result.as_ref().ok_or(Invalid("result"))? {
            Reconciled::Diverged(_) => return Ok(()),
            Reconciled::InSync(_) => {}
            Reconciled::Behind(pb::Behind { snapshot: Some(snapshot), .. }) => next.replace(snapshot)?,
            Reconciled::Behind(behind) => next.advance(&behind.changes)?,
        }
        if next.version != reply.set_version {
            return Err(Broken::Gap { expected: next.version, told: reply.set_version });
        }
        next.is_not_before(reply.set_version, &digest)?;
        *self = next;
        Ok(())
    }

    /// Believes a snapshot whatever is held: for a person who has looked at what differs.
    ///
    /// # Errors
    /// If it does not decode.
    pub fn adopt(&mut self, snapshot: &pb::Snapshot) -> Decoded<()> {
        let (digest, sessions) = (convert::digest(&snapshot.set_digest, "set_digest")?, pairs(&snapshot.sessions)?);
        (self.version, self.digest, self.sessions) = (snapshot.set_version, digest, sessions);
        Ok(())
    }

    fn is_not_before(&self, version: u64, digest: &Digest) -> Result<(), Broken> {
        if version < self.version {
            return Err(Broken::WentBack { held: self.version, told: version });
        }
        if version == self.version && *digest != self.digest {
            return Err(Broken::OtherDigest { version, expected: self.digest, told: *digest });
        }
        Ok(())
    }
}

fn differing(a: &BTreeMap<SessionId, u64>, b: &BTreeMap<SessionId, u64>) -> Option<(SessionId, u64)> {
    let only = |x: &BTreeMap<SessionId, u64>, y: &BTreeMap<SessionId, u64>| {
        x.iter().find(|(id, seq)| y.get(*id) != Some(*seq)).map(|(id, seq)| (*id, *seq))
    };
    only(a, b).or_else(|| only(b, a))
}

fn pairs(sessions: &[pb::SessionRecord]) -> Decoded<BTreeMap<SessionId, u64>> {
    sessions.iter().map(|s| Ok((convert::session_id(&s.session, "session.session")?, s.seq))).collect()
}

fn added(session: &pb::SessionRecord) -> Decoded<(SessionId, u64, DeviceKey)> {
    let id = convert::session_id(&session.session, "added.session")?;
    Ok((id, session.seq, convert::device_key(&session.device_key, "added.device_key")?))
}

/// The number of the reason on the wire is its number in the chain, also of one that this version has no name for.
fn ended(tombstone: &pb::Tombstone) -> Decoded<(SessionId, u64, u64)> {
    let session = tombstone.session.as_ref().ok_or(Invalid("ended.session"))?;
    let reason = u64::try_from(tombstone.reason).map_err(|_| Invalid("ended.reason"))?;
    Ok((convert::session_id(&session.session, "ended.session")?, session.seq, reason))
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
