//! The real clock and the real entropy. The only place outside simulations where either is taken.

use std::sync::Arc;

use kindred_core::env::{Clock, Entropy, Env};
use rand::TryRng as _;

/// Time and chance of this machine.
pub fn real() -> Env {
    Env { clock: Arc::new(Machine(start())), entropy: Arc::new(Os) }
}

#[allow(clippy::disallowed_methods)] // the seam itself
fn start() -> std::time::Instant {
    std::time::Instant::now()
}

struct Machine(std::time::Instant);

impl Clock for Machine {
    #[allow(clippy::disallowed_methods)] // the seam itself
    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    #[allow(clippy::disallowed_methods)] // the seam itself
    fn wall_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

struct Os;

impl Entropy for Os {
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = rand::rngs::SysRng.try_fill_bytes(bytes) {
            // Ids and keys from a broken source would be worse than no service.
            eprintln!("kindred: the operating system gives no entropy: {error}");
            std::process::abort();
        }
    }
}
