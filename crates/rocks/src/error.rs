//! What an error of RocksDB means to a node.

use kindred_store::engine::Error;
use rocksdb::ErrorKind;

/// Of `open`.
pub(crate) fn opening(error: rocksdb::Error) -> Error {
    reading(error)
}

/// Of a read, a write, a flush or an open. (A failed sync is always [`Error::SyncFailed`]: nobody knows what is on disk.)
pub(crate) fn reading(error: rocksdb::Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption => Error::Corrupt(error.into_string()),
        _ if no_space(error.as_ref()) => Error::Full,
        _ => Error::Io(error.into_string()),
    }
}

/// RocksDB's C interface gives a text and no code. These are its own words for the condition (`Status::NoSpace`, quota
/// included through strerror), and the ones of the system behind it.
fn no_space(text: &str) -> bool {
    ["No space left on device", "Space limit reached", "Disk quota exceeded"].iter().any(|words| text.contains(words))
}
