//! Server nonces: a proof is good only if it covers one that this shard made lately (RFC 9449 §8). Nothing is stored for
//! them.
//!
//! ```text
//!   nonce (24 bytes) = shard time in ms (8, big-endian) ‖ first 16 bytes of HMAC-SHA-256(region's ticket key,
//!                      "nonce" ‖ shard id (4, big-endian) ‖ shard time (8, big-endian))
//! ```

use subtle::ConstantTimeEq as _;

use crate::canonical::{TicketKey, hmac};
use crate::id::ShardId;
use crate::limits::{NONCE_AHEAD_MS_MAX, NONCE_TTL_MS};

/// Width of a nonce in bytes.
pub const NONCE_LEN: usize = 24;

/// The nonce that a leader of `shard` makes at this shard time.
pub fn nonce(key: &TicketKey, shard: ShardId, time_ms: u64) -> [u8; NONCE_LEN] {
    let time = time_ms.to_be_bytes();
    let mac = hmac(&key.0, &[b"nonce", &shard.0.to_be_bytes(), &time]);
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&time);
    nonce[8..].copy_from_slice(&mac.0[..16]);
    nonce
}

/// True if `nonce` was made for `shard` within the last [`NONCE_TTL_MS`]; constant time in the MAC.
pub fn is_fresh(key: &TicketKey, shard: ShardId, now_ms: u64, nonce: &[u8]) -> bool {
    let Some((time, _)) = nonce.split_first_chunk::<8>() else { return false };
    let time_ms = u64::from_be_bytes(*time);
    let in_time =
        time_ms <= now_ms.saturating_add(NONCE_AHEAD_MS_MAX) && now_ms.saturating_sub(time_ms) <= NONCE_TTL_MS;
    in_time && bool::from(self::nonce(key, shard, time_ms).ct_eq(nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: TicketKey = TicketKey([7; 32]);
    const SHARD: ShardId = ShardId(300);

    #[test]
    fn a_nonce_is_fresh_for_five_minutes_at_its_own_shard() {
        let made = nonce(&KEY, SHARD, 1_000_000);
        for (now_ms, fresh) in [
            (1_000_000 - NONCE_AHEAD_MS_MAX - 1, false),
            (1_000_000 - NONCE_AHEAD_MS_MAX, true),
            (1_000_000, true),
            (1_000_000 + NONCE_TTL_MS, true),
            (1_000_001 + NONCE_TTL_MS, false),
            (u64::MAX, false),
        ] {
            assert_eq!(is_fresh(&KEY, SHARD, now_ms, &made), fresh, "at {now_ms}");
        }
        assert!(!is_fresh(&KEY, ShardId(301), 1_000_000, &made));
        assert!(!is_fresh(&TicketKey([8; 32]), SHARD, 1_000_000, &made));
    }

    #[test]
    fn no_other_bytes_are_fresh() {
        let made = nonce(&KEY, SHARD, 5);
        for bit in 0..8 * NONCE_LEN {
            let mut spoilt = made;
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_fresh(&KEY, SHARD, 5, &spoilt), "bit {bit}");
        }
        for length in 0..NONCE_LEN {
            assert!(!is_fresh(&KEY, SHARD, 5, &made[..length]));
        }
        assert!(!is_fresh(&KEY, SHARD, 5, &[&made[..], &[0]].concat()));
        assert!(!is_fresh(&KEY, SHARD, u64::MAX, &[0xFF; NONCE_LEN]));
    }
}
