//! Mangled histories: a line that is named, an order that is named, or a judgement; never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/support/fuzz.rs"]
mod mangled;

use crate::read::read;
use crate::report::judge;
use crate::story::Story;

#[test]
fn a_mangled_history_is_refused_or_judged() {
    let lines: Vec<_> = Story::good().events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let whole = lines.join("\n");
    assert!(read(whole.as_bytes()).is_ok());
    mangled::run_text(1, &[&whole], 1_000, |text| {
        let Ok(events) = read(text.as_bytes()) else { return };
        for event in &events {
            let line = serde_json::to_string(event).unwrap();
            let again = read(line.as_bytes()).unwrap();
            assert_eq!(serde_json::to_string(&again[0]).unwrap(), line);
        }
        let _ = judge(&events);
    });
}

#[test]
fn a_mangled_line_is_refused_or_an_event() {
    let lines: Vec<_> = Story::good().events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let samples: Vec<_> = lines.iter().map(String::as_str).collect();
    mangled::run_text(2, &samples, 4_000, |text| {
        if let Ok(events) = read(text.as_bytes()) {
            let _ = judge(&events);
        }
    });
}
