//! The binary that is shipped holds none of the bugs that are seeded for simulations.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

#[test]
#[cfg(not(kindred_mutants))]
fn the_shipped_binary_holds_no_mutant() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("crates/core/src/mutants.rs");
    let list = fs::read_to_string(list).unwrap();
    let names = list.lines().filter_map(|line| line.trim().strip_prefix("mutant(\"")?.split('"').next());
    let names: Vec<&str> = names.collect();
    assert!(names.len() >= 36, "the list was not understood: {names:?}");
    let binary = fs::read(kindred_tests::binary().unwrap()).unwrap();
    let held = |name: &&&str| holds(&binary, name.as_bytes());
    assert_eq!(names.iter().filter(held).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(holds(&binary, b"grpc-status"), "the search finds nothing at all");
}

/// Looks at dashes only: every name has one, and a binary has few.
#[cfg(not(kindred_mutants))]
fn holds(binary: &[u8], name: &[u8]) -> bool {
    let dash = name.iter().position(|byte| *byte == b'-').expect("kebab case");
    let is_at = |at: usize| at.checked_sub(dash).and_then(|from| binary.get(from..from + name.len())) == Some(name);
    binary.iter().enumerate().filter(|(_, byte)| **byte == b'-').any(|(at, _)| is_at(at))
}
