//! How a server nonce travels: in the metadata of a good reply, and in the details of NONCE_STALE.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Response, Status};

use crate::reason::Reason;
use crate::status::{Failure, metadata};

/// Metadata of a reply to a call that carried a proof: the nonce for the next proof about the same account or ticket.
pub const METADATA: &str = "kindred-nonce-bin";
/// Key in the metadata of ErrorInfo; base64url without padding.
const DETAIL: &str = "nonce";

/// NONCE_STALE with the nonce to sign instead.
pub fn stale(fresh: &[u8]) -> Failure {
    Failure::new(Reason::NonceStale).with(DETAIL, URL_SAFE_NO_PAD.encode(fresh))
}

/// A reply that brings the next nonce, if there is one.
pub fn reply<T>(message: T, next: &[u8]) -> Response<T> {
    let mut response = Response::new(message);
    if !next.is_empty() {
        response.metadata_mut().insert_bin(METADATA, MetadataValue::from_bytes(next));
    }
    response
}

/// The nonce that a reply brought.
pub fn of_reply(metadata: &MetadataMap) -> Option<Vec<u8>> {
    Some(metadata.get_bin(METADATA)?.to_bytes().ok()?.to_vec())
}

/// The nonce that came with NONCE_STALE; none with any other status.
pub fn of_status(status: &Status) -> Option<Vec<u8>> {
    if Reason::of(status) != Some(Reason::NonceStale) {
        return None;
    }
    URL_SAFE_NO_PAD.decode(metadata(status).get(DETAIL)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_nonce_survives_both_ways() {
        let nonce: Vec<u8> = (230..=253).collect();
        assert_eq!(of_reply(reply((), &nonce).metadata()), Some(nonce.clone()));
        assert_eq!(of_reply(reply((), &[]).metadata()), None);
        assert_eq!(of_status(&stale(&nonce).into()), Some(nonce));
        assert_eq!(of_status(&Failure::new(Reason::ProofInvalid).with("nonce", "AAAA").into()), None);
    }
}
