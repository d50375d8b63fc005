//! The known bugs, as listed in `simulations/mutants/*.toml`; the README there explains the fields.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::output::Exit;

/// Where the lists lie, from the root of the repository.
pub const DIR: &str = "simulations/mutants";
/// Most bugs; far more than anybody writes.
const MUTANTS_MAX: usize = 1_000;

/// A bug that can be put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutant {
    /// Its name, for `--mutant`.
    pub name: String,
    /// What it does, in one line.
    pub bug: String,
    /// The words of testing.md's list that it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<String>,
    /// The promises that it breaks.
    #[serde(default)]
    pub breaks: Vec<String>,
    /// The scenario that finds it.
    #[serde(default = "default_scenario")]
    pub scenario: String,
    /// The network that it must be hunted in, if any will not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What must happen for it to show.
    #[serde(default)]
    pub needs: Vec<String>,
    /// What production's own check of each change makes of it.
    #[serde(default)]
    pub runtime_check: String,
    /// The checkers that are expected to find it.
    #[serde(default)]
    pub found_by: String,
}

/// A bug of testing.md's list that cannot be put back yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The words of the list.
    pub listed: String,
    /// The feature that it waits for.
    pub feature: String,
}

fn default_scenario() -> String {
    "default".to_owned()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    mutant: Vec<Mutant>,
    waiting: Vec<Waiting>,
}

/// Reads every list of the directory, in the order of their names.
///
/// # Errors
/// If there is none, if one cannot be read, or if a name occurs twice.
pub fn read(dir: &Path) -> anyhow::Result<(Vec<Mutant>, Vec<Waiting>)> {
    let unreadable = |error: std::io::Error| Exit::usage(format!("{}: {error}", dir.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let (mut mutants, mut waiting) = (Vec::<Mutant>::new(), Vec::new());
    for path in paths {
        let text =
            std::fs::read_to_string(&path).map_err(|error| Exit::usage(format!("{}: {error}", path.display())))?;
        let file: File = toml::from_str(&text).map_err(|error| Exit::usage(format!("{}: {error}", path.display())))?;
        for mutant in file.mutant {
            if mutants.iter().any(|known| known.name == mutant.name) {
                return Err(Exit::usage(format!("{}: a second mutant `{}`", path.display(), mutant.name)));
            }
            mutants.push(mutant);
        }
        waiting.extend(file.waiting);
    }
    if mutants.is_empty() || mutants.len() > MUTANTS_MAX {
        return Err(Exit::usage(format!("{}: {} mutants listed", dir.display(), mutants.len())));
    }
    Ok((mutants, waiting))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listed(files: &[(&str, &str)]) -> anyhow::Result<(Vec<Mutant>, Vec<Waiting>)> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        read(dir.path())
    }

    const ONE: &str = "[[mutant]]\nname = \"link-twice\"\nbug = \"a Link that is sent again links again\"\n";

    #[test]
    fn bugs_are_listed_by_file() {
        let other = "[[mutant]]\nname = \"x\"\nbug = \"y\"\nscenario = \"lag\"\nnote = \"n\"\n[[waiting]]\nlisted = \"l\"\nfeature = \"f\"\n";
        let (mutants, waiting) = listed(&[("b.toml", ONE), ("a.toml", other), ("README.md", "not a list")]).unwrap();
        let told: Vec<_> = mutants.iter().map(|mutant| (&*mutant.name, &*mutant.scenario)).collect();
        assert_eq!(told, [("x", "lag"), ("link-twice", "default")]);
        assert_eq!(waiting[0].feature, "f");
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        let error = listed(&[("a.toml", ONE), ("b.toml", ONE)]).unwrap_err();
        assert!(error.to_string().contains("link-twice"), "{error}");
    }

    #[test]
    fn a_directory_without_bugs_is_refused() {
        assert!(listed(&[]).is_err());
    }
}
