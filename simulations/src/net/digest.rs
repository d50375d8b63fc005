//! A digest over everything that crossed the simulated network: two runs that agree here took the same way.

use std::sync::{Mutex, PoisonError};

use kindred_core::id::hex;
use sha2::{Digest as _, Sha256};

/// Grows with every message; one per world.
#[derive(Default)]
pub struct Trace(Mutex<(Sha256, u64)>);

impl Trace {
    /// Takes in one message: when, from whom to whom, and what.
    pub fn note(&self, at_us: u64, from: u64, to: u64, parts: &[&[u8]]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (hasher, messages) = &mut *state;
        *messages += 1;
        let mut head = [0; 24];
        head[..8].copy_from_slice(&at_us.to_be_bytes());
        head[8..16].copy_from_slice(&from.to_be_bytes());
        head[16..].copy_from_slice(&to.to_be_bytes());
        hasher.update(head);
        parts.iter().for_each(|part| hasher.update(part));
    }

    /// Messages so far.
    pub fn messages(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// The digest so far, with `more` behind it, in hexadecimal.
    pub fn with(&self, more: &[&[u8]]) -> String {
        let mut hasher = self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        more.iter().for_each(|part| hasher.update(part));
        hex(hasher.finalize().as_ref())
    }
}
