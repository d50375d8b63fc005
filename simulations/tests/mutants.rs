//! Known bugs are where the registry says, and nowhere in the ordinary build.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kindred_simulations::mutants::{Registry, directory};

const LIST: &str = "crates/core/src/mutants.rs";

#[test]
fn every_mutant_is_described_and_sits_where_its_description_says() {
    let registry = Registry::load(&directory()).unwrap();
    let described: BTreeMap<_, _> = registry.mutants.iter().map(|m| (m.name.clone(), m.bug.clone())).collect();
    assert_eq!(listed(), described, "{LIST} and simulations/mutants/*.toml");
    let sites = call_sites();
    for mutant in &registry.mutants {
        let said: BTreeSet<_> = mutant.sites.iter().map(PathBuf::from).collect();
        assert!(!said.is_empty(), "{} is nowhere", mutant.name);
        // A call site may stand in the file of the type that it belongs to; the place where that is called counts as well.
        let found = sites.get(&mutant.name).cloned().unwrap_or_default();
        assert!(!found.is_empty() && found.is_subset(&said), "{}: said {said:?}, found {found:?}", mutant.name);
        assert!(said.iter().all(|path| text(path).contains("cfg(kindred_mutants)")), "{}: {said:?}", mutant.name);
        assert!(!mutant.breaks.is_empty() && !mutant.found_by.is_empty(), "{}", mutant.name);
        let checks = ["passes", "not reached", "fooled", "bypassed"];
        assert!(checks.iter().any(|check| mutant.runtime_check.starts_with(check)), "{}", mutant.name);
    }
    for name in sites.keys() {
        assert!(described.contains_key(name), "a call site asks for {name}, which is not listed");
    }
}

#[test]
fn what_waits_names_a_stand_in_that_exists() {
    let registry = Registry::load(&directory()).unwrap();
    for waiting in &registry.waiting {
        let exists = |name: &String| registry.mutants.iter().any(|mutant| mutant.name == *name);
        assert!(waiting.stand_in.as_ref().is_none_or(exists), "{waiting:?}");
    }
    assert!(registry.mutants.len() >= 36, "the issue asks for 36 at least");
}

#[test]
#[cfg(not(kindred_mutants))]
fn the_ordinary_simulator_holds_no_mutant_and_refuses_to_have_one() {
    let binary = fs::read(env!("CARGO_BIN_EXE_sim")).unwrap();
    let names: Vec<_> = listed().into_keys().collect();
    assert_eq!(found_in(&binary, &names), Vec::<&str>::new());
    // The search can find something.
    assert_eq!(found_in(&binary, &["grpc-status".to_owned()]), ["grpc-status"]);
    assert!(kindred_simulations::mutants::choose(&names[0]).unwrap_err().contains("no mutants"));
}

/// Those names that `binary` holds. All of them have a dash, which is rare in a binary.
#[cfg(not(kindred_mutants))]
fn found_in<'n>(binary: &[u8], names: &'n [String]) -> Vec<&'n str> {
    let names: Vec<(usize, &str)> = names.iter().map(|name| (name.find('-').expect("kebab case"), &**name)).collect();
    let dashes = binary.iter().enumerate().filter(|(_, byte)| **byte == b'-').map(|(at, _)| at);
    let mut found = BTreeSet::new();
    for at in dashes {
        for (dash, name) in &names {
            let start = at.checked_sub(*dash);
            if start.and_then(|start| binary.get(start..start + name.len())) == Some(name.as_bytes()) {
                found.insert(*name);
            }
        }
    }
    found.into_iter().collect()
}

/// The list in core, by name. It is read as text, since the ordinary build does not have it.
fn listed() -> BTreeMap<String, String> {
    let lines = text(Path::new(LIST));
    let entries = lines.lines().filter_map(|line| line.trim().strip_prefix("mutant(\"")?.strip_suffix("\"),"));
    entries
        .map(|entry| {
            let (name, bug) = entry.split_once("\", \"").expect("a name and a line");
            (name.to_owned(), bug.to_owned())
        })
        .collect()
}

/// The files that ask for each mutant.
fn call_sites() -> BTreeMap<String, BTreeSet<PathBuf>> {
    let mut found: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    let mut open = vec![root().join("crates")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(LIST) {
            let text = fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("mutants::is(\"") {
                let name = text[at..].split('"').nth(1).unwrap();
                found.entry(name.to_owned()).or_default().insert(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
