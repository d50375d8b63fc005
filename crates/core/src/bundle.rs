//! A whole account on its way into a cluster that does not have it: what export reads and Install takes in.
//!
//! The minimum that keeps every promise (docs/decisions/0020): the account with its live sessions, every tombstone or stub, and
//! what became of tickets that were linked. Changes are not in it: a watch that asks for them gets a snapshot. Answers to
//! request ids and refused tickets are not, since Install voids every proof and approval given before.

use std::collections::BTreeSet;

use crate::apply::oversized;
use crate::canonical::Canonical;
use crate::id::{AccountId, ClaimId, RegionIndex, RequestId, TicketId};
use crate::invariants::check_account;
use crate::limits::{
    BUNDLE_BYTES_MAX, BUNDLE_RECORDS_MAX, COMPANION_LIMIT_MAX, COMPANION_LIMIT_MIN, EXPORT_ACCOUNTS_MAX, QUARANTINE_MS,
};
use crate::model::{Account, Receipt, Role, Session, Stub, TicketOutcome, Tombstone};
use crate::state::{ReadError, View};

/// An account as it was at one point of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The account with its live sessions.
    pub account: Account,
    /// One per ended session that has one, in order of seq.
    pub tombstones: Vec<Tombstone>,
    /// One per session that ended longer ago, in order of seq.
    pub stubs: Vec<Stub>,
    /// Receipts of linked tickets that are still remembered, in order of ticket id.
    pub linked: Vec<(TicketId, Receipt)>,
    /// Shard time at that point: what all shard times in it count against.
    pub time_ms: u64,
}

/// One page of a shard's accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In order of account id.
    pub bundles: Vec<Bundle>,
    /// Accounts that are too large for a bundle.
    pub too_large: Vec<AccountId>,
    /// The last account that was looked at; none if there is nothing behind what was asked for.
    pub last: Option<AccountId>,
}

/// The accounts behind `after`, each as it is now. At most [`EXPORT_ACCOUNTS_MAX`] of them, and not more than fit into
/// [`BUNDLE_BYTES_MAX`], but one at least.
pub(crate) fn page(view: &dyn View, after: Option<&AccountId>, now_ms: u64) -> Result<Page, ReadError> {
    let (mut page, mut bytes) = (Page::default(), 0);
    for account in view.accounts(after, EXPORT_ACCOUNTS_MAX)? {
        let id = account.id.clone();
        match read(view, account, now_ms)? {
            Some(bundle) => {
                bytes += bundle.weight();
                if bytes > BUNDLE_BYTES_MAX && !page.bundles.is_empty() {
                    return Ok(page);
                }
                page.bundles.push(bundle);
            }
            None => page.too_large.push(id.clone()),
        }
        page.last = Some(id);
    }
    Ok(page)
}

/// `None` if it is too large.
fn read(view: &dyn View, account: Account, now_ms: u64) -> Result<Option<Bundle>, ReadError> {
    let mut tombstones = view.tombstones(&account.id, BUNDLE_RECORDS_MAX + 1)?;
    let mut stubs = view.stubs(&account.id, BUNDLE_RECORDS_MAX + 1)?;
    let outcomes = view.outcomes(&account.id, BUNDLE_RECORDS_MAX + 1)?;
    if tombstones.len().max(stubs.len()).max(outcomes.len()) > BUNDLE_RECORDS_MAX {
        return Ok(None);
    }
    tombstones.sort_by_key(|tombstone| tombstone.session.seq);
    stubs.sort_by_key(|stub| stub.seq);
    let linked = outcomes.into_iter().filter_map(|(ticket, outcome)| match outcome {
        TicketOutcome::Linked(receipt) => Some((ticket, receipt)),
        _ => None,
    });
    let bundle = Bundle { account, tombstones, stubs, linked: linked.collect(), time_ms: now_ms };
    Ok((bundle.weight() <= BUNDLE_BYTES_MAX).then_some(bundle))
}

impl Bundle {
    /// The claim of an import of this bundle under this request id: the same for every attempt, and for nothing else.
    pub fn claim(&self, request: &RequestId, home: RegionIndex) -> ClaimId {
        let digest = Canonical::new("kindred/import/v1")
            .bytes(request.as_bytes())
            .bytes(self.account.id.as_bytes())
            .u64(home.0.into())
            .u64(self.account.set_version)
            .bytes(self.account.set_digest.as_bytes())
            .digest();
        let mut claim = [0; ClaimId::LEN];
        claim.copy_from_slice(&digest.0[..ClaimId::LEN]);
        ClaimId(claim)
    }

    /// An upper estimate of its encoded size, in bytes.
    pub fn weight(&self) -> usize {
        const PLAIN: usize = 512;
        let session = |s: &Session| PLAIN + s.device.platform.len() + s.device.display_name.len();
        let receipt = |r: &Receipt| 128 + 20 * (r.sessions_before.len() + r.sessions_after.len());
        PLAIN
            + self.account.sessions.iter().map(session).sum::<usize>()
            + self.tombstones.iter().map(|t| 256 + session(&t.session)).sum::<usize>()
            + 64 * self.stubs.len()
            + self.linked.iter().map(|(_, r)| receipt(r)).sum::<usize>()
    }

    /// Whether it can be installed; else the name of what is wrong with it. What a cluster exports always can.
    ///
    /// The digest cannot be checked, for the history that it stands for is not here; whoever holds a view of the account
    /// can, with Reconcile.
    pub fn check(&self) -> Result<(), &'static str> {
        let most = self.tombstones.len().max(self.stubs.len()).max(self.linked.len());
        if self.weight() > BUNDLE_BYTES_MAX || most > BUNDLE_RECORDS_MAX {
            return Err("size");
        }
        self.check_set()?;
        self.check_ended()?;
        self.check_times()?;
        self.check_linked()
    }

    fn check_set(&self) -> Result<(), &'static str> {
        let account = &self.account;
        if !(COMPANION_LIMIT_MIN..=COMPANION_LIMIT_MAX).contains(&account.companion_limit) {
            return Err("companion_limit");
        }
        if account.auth_epoch == 0 || account.home_epoch == 0 {
            return Err("epoch");
        }
        let primaries = account.sessions.iter().filter(|s| s.role == Role::Primary).count();
        // No account has ever had more companions than the highest limit that can be set.
        let companions = u32::try_from(account.sessions.len() - primaries).unwrap_or(u32::MAX);
        if primaries > 1 || companions > COMPANION_LIMIT_MAX || check_account(account).is_err() {
            return Err("sessions");
        }
        if account.sessions.iter().any(|s| oversized(&s.device).is_some()) {
            return Err("sessions.device");
        }
        Ok(())
    }

    /// Every number that was given out is live or has its tombstone or its stub, and only one of them (I3, I4).
    fn check_ended(&self) -> Result<(), &'static str> {
        let account = &self.account;
        let ended = self.tombstones.iter().map(|tombstone| &tombstone.session);
        let (mut numbers, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for session in account.sessions.iter().chain(ended) {
            let known = session.seq >= 1 && session.seq < account.next_session_seq;
            if !known || !numbers.insert(session.seq) || !ids.insert(session.id) {
                return Err("session.seq");
            }
            if oversized(&session.device).is_some() {
                return Err("tombstones.device");
            }
        }
        for stub in &self.stubs {
            let known = stub.seq >= 1 && stub.seq < account.next_session_seq;
            if !known || !numbers.insert(stub.seq) || !ids.insert(stub.session) {
                return Err("session.seq");
            }
        }
        let given = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
        if given == 0 || account.next_session_seq != given + 1 {
            return Err("next_session_seq");
        }
        // A change brings one session at most, and ends one at least if it brings none (I5).
        let ended = u64::try_from(self.tombstones.len() + self.stubs.len()).unwrap_or(u64::MAX);
        if account.set_version < given || account.set_version > given + ended {
            return Err("set_version");
        }
        if self.tombstones.iter().any(|t| t.set_version < 2 || t.set_version > account.set_version) {
            return Err("tombstones.set_version");
        }
        let in_order = self.tombstones.windows(2).all(|two| two[0].session.seq < two[1].session.seq);
        if !in_order || !self.stubs.windows(2).all(|two| two[0].seq < two[1].seq) {
            return Err("tombstones");
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), &'static str> {
        let ended = self.tombstones.iter().map(|tombstone| &tombstone.session);
        let is_past = |s: &Session| {
            s.linked_at_ms <= self.time_ms && s.quarantine_until_ms <= self.time_ms.saturating_add(QUARANTINE_MS)
        };
        let all = self.account.sessions.iter().chain(ended).all(is_past)
            && self.tombstones.iter().all(|tombstone| tombstone.at_ms <= self.time_ms)
            && self.account.registered_at_ms <= self.time_ms
            && self.account.locked_at_ms.is_none_or(|at_ms| at_ms <= self.time_ms);
        if all { Ok(()) } else { Err("time_ms") }
    }

    /// A receipt is for a session that came by that ticket; of a stub nobody knows any more by which.
    fn check_linked(&self) -> Result<(), &'static str> {
        let ended = self.tombstones.iter().map(|tombstone| &tombstone.session);
        let came: BTreeSet<_> = self.account.sessions.iter().chain(ended).map(|s| (s.ticket, s.id, s.seq)).collect();
        let old: BTreeSet<_> = self.stubs.iter().map(|stub| (stub.session, stub.seq)).collect();
        let is_lawful = |(ticket, receipt): &(TicketId, Receipt)| {
            (came.contains(&(Some(*ticket), receipt.session, receipt.seq))
                || old.contains(&(receipt.session, receipt.seq)))
                && receipt.version_after <= self.account.set_version
        };
        let in_order = self.linked.windows(2).all(|two| two[0].0 < two[1].0);
        if in_order && self.linked.iter().all(is_lawful) { Ok(()) } else { Err("linked") }
    }

    /// The same as seen by a clock that shows `now_ms`: ages and what is left of quarantines stay what they are. What
    /// would lie before the beginning of that clock becomes its beginning, that is younger, never older.
    pub(crate) fn rebased(mut self, now_ms: u64) -> Self {
        let from_ms = self.time_ms;
        let past = |at_ms: u64| now_ms.saturating_sub(from_ms.saturating_sub(at_ms));
        let session = |s: &mut Session| {
            s.linked_at_ms = past(s.linked_at_ms);
            s.quarantine_until_ms = match (s.quarantine_until_ms, s.quarantine_until_ms.checked_sub(from_ms)) {
                (0, _) => 0,
                (_, Some(left_ms)) => now_ms.saturating_add(left_ms),
                (until_ms, None) => past(until_ms),
            };
        };
        self.account.sessions.iter_mut().for_each(session);
        for tombstone in &mut self.tombstones {
            session(&mut tombstone.session);
            tombstone.at_ms = past(tombstone.at_ms);
        }
        self.account.registered_at_ms = past(self.account.registered_at_ms);
        self.account.locked_at_ms = self.account.locked_at_ms.map(past);
        self.time_ms = now_ms;
        self
    }
}
