//! What people type and devices send as plain bytes: any of it is a value or none, and a value is written as it was read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use kindred_core::canonical::{TicketKey, verify};
use kindred_core::code::{Code, MatchNumber};
use kindred_core::id::{AccountId, DeviceKey, RequestId, SessionId, Signature, TicketId, hex, unhex};

#[path = "../../../tests/support/allocation.rs"]
mod allocation;
#[path = "../../../tests/support/fuzz.rs"]
mod fuzz;

use allocation::bounded;

#[test]
fn a_code_that_was_typed_is_eight_letters_or_none() {
    fuzz::run_text(1, &["BCDF-GHJK", "bcdf ghjk", "ZZZZ-ZZZZ", ""], 4_000, |text| {
        if let Some(code) = bounded(text.as_bytes(), || Code::parse(text)) {
            // No assert_eq: a code is a secret, and has no Debug.
            assert!(Code::parse(&code.shown()).is_some_and(|again| again.matches(&code)));
            assert!(Code::from_letters(code.letters()).is_some_and(|again| again.matches(&code)));
        }
        let _ = Code::from_letters(text.as_bytes());
    });
}

#[test]
fn a_number_is_four_digits_or_none() {
    fuzz::run_text(2, &["0000", "4765", "9999", "+123", "٣٣٣٣"], 4_000, |text| {
        if let Some(number) = bounded(text.as_bytes(), || MatchNumber::parse(text)) {
            assert_eq!(number.to_string(), text);
            assert_eq!(MatchNumber::new(number.number()), Some(number));
        }
    });
}

#[test]
fn hexadecimal_reads_as_it_is_written() {
    fuzz::run_text(3, &["00ff", "DEADBEEF", "5ec2e7", "0", "é0"], 4_000, |text| {
        if let Some(bytes) = bounded(text.as_bytes(), || unhex(text)) {
            assert_eq!(hex(&bytes), text.to_lowercase());
        }
    });
}

#[test]
fn ids_have_their_length() {
    fuzz::run(4, vec![vec![7; 16], vec![7; 32], vec![7; 64], b"ann".to_vec()], 4_000, |bytes| {
        assert_eq!(AccountId::new(bytes).map(|id| id.as_bytes().to_vec()).is_some(), (1..=64).contains(&bytes.len()));
        assert_eq!(SessionId::from_slice(bytes).is_some(), bytes.len() == 16);
        assert_eq!(RequestId::from_slice(bytes).is_some(), bytes.len() == 16);
        assert_eq!(TicketId::from_slice(bytes).map(|id| id.slot()).is_some(), bytes.len() == 16);
        assert_eq!(DeviceKey::from_slice(bytes).is_some(), bytes.len() == 32);
        assert_eq!(Signature::from_slice(bytes).is_some(), bytes.len() == 64);
    });
}

#[test]
fn no_ref_but_the_ones_on_screen_is_taken() {
    let (key, ticket) = (TicketKey([0x44; 32]), TicketId([9; 16]));
    let shown = [key.reference(&ticket, 3), key.reference(&ticket, 4)];
    fuzz::run(5, shown.to_vec(), 2_000, |bytes| {
        let is_shown = shown.iter().any(|reference| reference == bytes);
        assert_eq!(bounded(bytes, || key.accepts(&ticket, bytes, 4)), is_shown);
    });
}

#[test]
fn whatever_stands_for_a_key_or_a_signature_verifies_nothing() {
    // A key that is one, the neutral element, and bytes that are no point.
    let key = unhex("8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c").unwrap();
    let neutral = [&[1][..], &[0; 31]].concat();
    fuzz::run(6, vec![key, neutral, vec![0xFF; 32]], 1_000, |bytes| {
        let mut wide = [0; 64];
        let len = bytes.len().min(64);
        wide[..len].copy_from_slice(&bytes[..len]);
        let mut point = [0; 32];
        point.copy_from_slice(&wide[..32]);
        assert!(!verify(&DeviceKey(point), b"message", &Signature(wide)));
    });
}
