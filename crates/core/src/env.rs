//! The seam for time and chance. Production reads the machine; simulations inject both.

use std::sync::Arc;

/// Reads time.
pub trait Clock: Send + Sync {
    /// Milliseconds on a clock that never runs back, from an arbitrary start.
    fn monotonic_ms(&self) -> u64;
    /// Milliseconds since the Unix epoch; for people, never for decisions.
    fn wall_ms(&self) -> u64;
}

/// Draws random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` from a cryptographic source.
    fn fill(&self, bytes: &mut [u8]);
}

/// Time and chance of one node.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
}

impl Env {
    /// N random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}
