//! What decoding may take of memory. Included by path; see `fuzz.rs`.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

/// Decoded values per byte of input: an empty message in a list takes two bytes and becomes a whole struct, in a vector
/// that doubles and is copied as it grows.
const PER_BYTE: u64 = 1_024;
/// Whatever the input.
const CONSTANT: u64 = 16 * 1_024;

/// Decodes `bytes`, and is sure that it never holds more than is in proportion to them.
pub fn bounded<T>(bytes: &[u8], decode: impl FnOnce() -> T) -> T {
    within(PER_BYTE, bytes, decode)
}

/// The same, with so many bytes held for each of `bytes`.
pub fn within<T>(per_byte: u64, bytes: &[u8], decode: impl FnOnce() -> T) -> T {
    let mut value = None;
    let taken = allocation_counter::measure(|| value = Some(decode())).bytes_max;
    let most = CONSTANT + per_byte * u64::try_from(bytes.len()).unwrap();
    assert!(taken <= most, "{taken} bytes were taken to decode {}", bytes.len());
    value.unwrap()
}
