//! What must be known of one replica wherever it is written or read.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Flags of one replica; each is only ever raised.
#[derive(Debug, Default)]
pub struct Health {
    damaged: AtomicBool,
    retired: AtomicBool,
}

impl Health {
    /// Remembers whether `error` is damage: then this replica must be rebuilt from its peers.
    pub fn note(&self, error: &Error) {
        if error.is_damage() {
            self.damaged.store(true, Ordering::SeqCst);
        }
    }

    /// True once a record could not be read because it is damaged.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::SeqCst)
    }

    /// From here on nothing is written under this replica's id.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Fails once the replica is retired.
    pub fn check(&self) -> Result<(), Error> {
        if self.retired.load(Ordering::SeqCst) {
            return Err(Error::Raft("the replica is retired".into()));
        }
        Ok(())
    }
}
