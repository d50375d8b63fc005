//! What becomes of tombstones: whole for 90 days, then a stub; at once when the account is deleted, some per Tick.

use super::Tx;
use crate::id::{AccountId, SessionId};
use crate::limits::TICK_ERASES_MAX;
use crate::model::Tombstone;
use crate::state::{Key, ReadError, Record};

impl Tx<'_> {
    /// The tombstone becomes a stub, if it is still there. The index goes on naming it by its device key, as long as the
    /// account lives.
    pub(super) fn age(&mut self, account: &AccountId, session: &SessionId) -> Result<bool, ReadError> {
        if let Some(tombstone) = self.tombstone(account, session)? {
            self.reduce(account, &tombstone);
        }
        Ok(true)
    }

    /// Erases some of what a deleted account has left: how much, and whether there is nothing more. Nothing is added to it
    /// any more, so what the view shows is all there is.
    pub(super) fn erase_some(&mut self, account: &AccountId) -> Result<(usize, bool), ReadError> {
        let tombstones = self.view.tombstones(account, TICK_ERASES_MAX)?;
        let keys = self.view.ended_keys(account, TICK_ERASES_MAX)?;
        let erased = tombstones.len() + keys.len();
        let is_last = tombstones.len() < TICK_ERASES_MAX && keys.len() < TICK_ERASES_MAX;
        for tombstone in tombstones {
            self.reduce(account, &tombstone);
        }
        for key in keys {
            self.delete(Key::KeyIndex(account.clone(), key));
        }
        Ok((erased, is_last))
    }

    fn reduce(&mut self, account: &AccountId, tombstone: &Tombstone) {
        let session = tombstone.session.id;
        self.delete(Key::Tombstone(account.clone(), session));
        self.put(Key::Stub(account.clone(), session), Record::Stub(tombstone.into()));
    }
}
