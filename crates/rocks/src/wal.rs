//! A look at the write-ahead logs before RocksDB recovers from them.
//!
//! Its recovery mode for torn tails takes two kinds of damage for the end of a log and goes on without a word: a header
//! of zeros (it skips the rest of that block of 32 KiB, and continues behind it), and, in the last block, a length that
//! reaches beyond the file (it drops whatever follows). Both would lose entries and votes that were synced. Here they
//! are told from a real end: behind that there is nothing.
//!
//! The layout is RocksDB's (wiki, "Write Ahead Log File Format"): blocks of 32 KiB, in each of them records of masked
//! crc32c (4, little-endian) ‖ length (2) ‖ type (1) ‖ payload, and zeros where no further header fits. Damage that
//! RocksDB reports itself is left to it.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use kindred_store::engine::Error;

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;

/// Looks at every log in `directory`.
pub(crate) fn check(directory: &Path) -> Result<(), Error> {
    let files = match std::fs::read_dir(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(&error)),
    };
    for file in files {
        let path = file.map_err(|error| io(&error))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if numbered && path.extension().is_some_and(|extension| extension == "log") {
            let found = File::open(&path).and_then(damage).map_err(|error| io(&error))?;
            if let Some(what) = found {
                return Err(Error::Corrupt(format!("{what} in {}", path.display())));
            }
        }
    }
    Ok(())
}

fn io(error: &std::io::Error) -> Error {
    Error::Io(error.to_string())
}

/// What of a log RocksDB would pass over in silence.
fn damage(mut log: impl std::io::Read) -> std::io::Result<Option<&'static str>> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut ended = false;
    loop {
        block.clear();
        let length = log.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        let found = match (ended, end_of(&block, length < BLOCK)) {
            (true, _) if block.iter().any(|byte| *byte != 0) => Some("a hole"),
            (true, _) | (false, End::None) => None,
            (false, End::Zeros) => {
                ended = true;
                None
            }
            (false, End::Damage(what)) => Some(what),
        };
        if found.is_some() || length < BLOCK {
            return Ok(found);
        }
    }
}

/// How a block ends.
enum End {
    /// With its last record, whole or torn.
    None,
    /// Before its end; from there on it is zeros.
    Zeros,
    /// It does not end where it seems to.
    Damage(&'static str),
}

fn end_of(block: &[u8], last: bool) -> End {
    let mut rest = block;
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let size = size(header);
        if header[6] == 0 && size == HEADER {
            return if rest.iter().all(|byte| *byte == 0) { End::Zeros } else { End::Damage("a hole") };
        }
        match rest.get(size..) {
            Some(next) => rest = next,
            None if last && (1..rest.len()).any(|at| is_record(&rest[at..])) => {
                return End::Damage("a record of impossible length");
            }
            None => break,
        }
    }
    End::None
}

/// Of a record with its header.
fn size(header: &[u8; HEADER]) -> usize {
    HEADER + usize::from(u16::from_le_bytes([header[4], header[5]]))
}

/// True if a whole record, by its checksum, begins here. Types above 4 do not occur in our logs in numbers that matter:
/// they belong to recycled logs and to features that are off.
fn is_record(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return false };
    let Some(checked) = bytes.get(6..size(header)) else { return false };
    let sum = crc32c::crc32c(checked).rotate_right(15).wrapping_add(0xA282_EAD8);
    (1..=4).contains(&header[6]) && header[..4] == sum.to_le_bytes()
}

#[cfg(test)]
#[path = "../../../tests/support/fuzz.rs"]
mod mangled;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A record as RocksDB writes it.
    fn record(payload: &[u8]) -> Vec<u8> {
        let checked = [&[1], payload].concat();
        let sum = crc32c::crc32c(&checked).rotate_right(15).wrapping_add(0xA282_EAD8);
        let length = u16::try_from(payload.len()).unwrap();
        [&sum.to_le_bytes()[..], &length.to_le_bytes(), &checked].concat()
    }

    #[test]
    fn a_mangled_log_is_judged_and_a_whole_or_torn_one_is_let_pass() {
        let whole = [record(b"one"), record(&[7; 300]), record(b""), record(b"four")].concat();
        for end in 0..=whole.len() {
            assert_eq!(damage(&whole[..end]).unwrap(), None, "torn at {end}");
        }
        let long = [record(&vec![9; BLOCK - 2 * HEADER]), vec![0; HEADER], record(b"next block")].concat();
        mangled::run(1, vec![whole, long], 300, |bytes| {
            let _ = damage(bytes).unwrap();
        });
    }
}
