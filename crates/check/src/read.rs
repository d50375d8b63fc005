//! Reads a history.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::Error;
use crate::history::{EVENTS_MAX, Event};

/// Reads JSON lines; blank lines are passed over. That the events fit together is for
/// [`crate::timeline::Timeline::new`] to say.
pub fn read(source: impl BufRead) -> Result<Vec<Event>, Error> {
    let mut events = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let line = line.map_err(|source| Error::Io { path: format!("line {}", index + 1), source })?;
        if line.trim().is_empty() {
            continue;
        }
        if events.len() == EVENTS_MAX {
            return Err(Error::TooLong { max: EVENTS_MAX });
        }
        events.push(serde_json::from_str(&line).map_err(|source| Error::Line { line: index + 1, source })?);
    }
    Ok(events)
}

/// [`read`] from a file.
pub fn read_file(path: &Path) -> Result<Vec<Event>, Error> {
    let file = File::open(path).map_err(|source| Error::Io { path: path.display().to_string(), source })?;
    read(BufReader::new(file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_damaged_line_is_named() {
        let good = r#"{"id":1,"client":"c","at_us":0,"kind":"call","op":"open","device_key":"k"}"#;
        assert_eq!(read(format!("{good}\n\n").as_bytes()).unwrap().len(), 1);
        for bad in ["{", r#"{"id":1}"#, r#"{"id":1,"client":"c","at_us":0,"kind":"call","op":"steal"}"#] {
            let error = read(format!("{good}\n{bad}\n").as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Line { line: 2, .. }), "{error}");
        }
    }
}
