//! The directory: which region is an account's home.

use super::{Step, Tx};
use crate::command::Outcome;
use crate::id::{AccountId, ClaimId, RegionIndex};
use crate::model::{DirectoryEntry, DirectoryState, Rejection};
use crate::state::{Key, ReadError, Record};

impl Tx<'_> {
    fn directory(&self, account: &AccountId) -> Result<Option<DirectoryEntry>, ReadError> {
        Ok(match self.get(&Key::Directory(account.clone()))? {
            Some(Record::Directory(entry)) => Some(entry),
            _ => None,
        })
    }

    /// The first claim wins; the same claim again gets the same answer.
    pub(super) fn claim(&mut self, account: &AccountId, claim: &ClaimId, home: RegionIndex) -> Step {
        if let Some(entry) = self.directory(account)? {
            // The id of a deleted account is not for a second life, not even under the same claim.
            let same = entry.claim == *claim && entry.state != DirectoryState::Deleted;
            return Ok(if same { Ok(Outcome::Claimed(entry)) } else { Err(Rejection::AccountExists) });
        }
        let entry = DirectoryEntry { account: account.clone(), claim: *claim, home, state: DirectoryState::Claimed };
        self.put(Key::Directory(account.clone()), Record::Directory(entry.clone()));
        Ok(Ok(Outcome::Claimed(entry)))
    }

    /// The account exists at its home; a claim that is not the standing one changes nothing.
    pub(super) fn confirm_claim(&mut self, account: &AccountId, claim: &ClaimId, home_epoch: u64) -> Step {
        let Some(mut entry) = self.directory(account)? else { return Ok(Err(Rejection::AccountNotFound)) };
        if entry.claim != *claim {
            return Ok(Err(Rejection::AccountExists));
        }
        if entry.state == DirectoryState::Claimed {
            entry.state = DirectoryState::Home { home_epoch };
            self.put(Key::Directory(account.clone()), Record::Directory(entry));
        }
        Ok(Ok(Outcome::Done))
    }
    /// The account was deleted at its home. Whatever the claim has come to, this is its end.
    pub(super) fn mark_deleted(&mut self, account: &AccountId, claim: &ClaimId) -> Step {
        let Some(mut entry) = self.directory(account)? else { return Ok(Err(Rejection::AccountNotFound)) };
        if entry.claim != *claim {
            return Ok(Err(Rejection::AccountExists));
        }
        entry.state = DirectoryState::Deleted;
        self.put(Key::Directory(account.clone()), Record::Directory(entry));
        Ok(Ok(Outcome::Done))
    }
}
