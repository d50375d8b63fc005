//! A read's answer between nodes: age (8) ‖ shard time (8) ‖ applied index (8) ‖ answer.

use bytes::{Bytes, BytesMut};
use kindred_store::codec::{decode_answer, encode_answer};
use kindred_wire::shards::Observed;

use crate::codec::{Compact as _, Malformed};

/// Encodes.
pub fn encode_observed(observed: &Observed) -> Bytes {
    let answer = encode_answer(&observed.answer);
    let mut out = BytesMut::with_capacity(24 + answer.len());
    observed.age_ms.put(&mut out);
    observed.shard_time_ms.put(&mut out);
    observed.applied_index.put(&mut out);
    out.extend_from_slice(&answer);
    out.freeze()
}

/// Decodes what [`encode_observed`] wrote.
pub fn decode_observed(payload: &Bytes) -> Result<Observed, Malformed> {
    let mut input = payload.clone();
    let (age_ms, shard_time_ms, applied_index) =
        (u64::take(&mut input)?, u64::take(&mut input)?, u64::take(&mut input)?);
    let answer = decode_answer(&input).map_err(|_| Malformed("answer"))?;
    Ok(Observed { answer, age_ms, shard_time_ms, applied_index })
}
