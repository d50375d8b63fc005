//! What an error of RocksDB means to a node.

use kindred_store::engine::{Durability, Error};
use rocksdb::ErrorKind;

/// Of `open`.
pub(crate) fn opening(error: rocksdb::Error) -> Error {
    reading(error)
}

/// Of a read, a flush or an open.
pub(crate) fn reading(error: rocksdb::Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption => Error::Corrupt(error.into_string()),
        _ if no_space(error.as_ref()) => Error::Full,
        _ => Error::Io(error.into_string()),
    }
}

/// Of a commit. When a synced write fails for any reason but lack of space, nobody knows what is on disk; RocksDB
/// itself then refuses all further writes.
pub(crate) fn writing(error: &rocksdb::Error, durability: Durability) -> Error {
    let text = error.to_string();
    match (error.kind(), durability) {
        _ if no_space(&text) => Error::Full,
        (ErrorKind::Corruption, _) => Error::Corrupt(text),
        (_, Durability::Synced) => Error::SyncFailed(text),
        (_, Durability::Buffered) => Error::Io(text),
    }
}

/// RocksDB's C interface gives a text and no code. These are its own words for the condition (`Status::NoSpace`, quota
/// included through strerror), and the ones of the system behind it.
fn no_space(text: &str) -> bool {
    ["No space left on device", "Space limit reached", "Disk quota exceeded"].iter().any(|words| text.contains(words))
}
