//! The registry of known bugs, `simulations/mutants/*.toml`, and how one of them is put into this process.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// A bug that can be put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// What is wrong, in one line.
    pub bug: String,
    /// The words of testing.md's list that it stands for; none for one of our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<String>,
    /// Which invariants it breaks.
    pub breaks: Vec<String>,
    /// Files that it is in, from the root of the workspace.
    pub sites: Vec<String>,
    /// The scenario that finds it.
    pub scenario: String,
    /// What has to happen in a run for the bug to show.
    pub needs: Vec<String>,
    /// What production's own checks make of it.
    pub runtime_check: String,
    /// Which checkers are expected to find it.
    pub found_by: String,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A bug of the list whose feature does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// The words of testing.md's list.
    pub listed: String,
    /// What does not exist yet.
    pub feature: String,
    /// The mutant that comes nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<String>,
}

/// All that the files list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Bugs that can be put back, in the order of the files and of their lines.
    #[serde(default, rename = "mutant")]
    pub mutants: Vec<Mutant>,
    /// Those that wait.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
}

impl Registry {
    /// Reads every `*.toml` of `directory`.
    ///
    /// # Errors
    /// If one of them cannot be read, or is not as README.md beside them says, or if two mutants share a name.
    pub fn load(directory: &Path) -> anyhow::Result<Self> {
        let listing = std::fs::read_dir(directory).with_context(|| format!("mutants in {}", directory.display()))?;
        let mut files = listing.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        let mut all = Self::default();
        for path in files {
            let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            let mut one: Self = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
            all.mutants.append(&mut one.mutants);
            all.waiting.append(&mut one.waiting);
        }
        for (at, mutant) in all.mutants.iter().enumerate() {
            let is_double = all.mutants[..at].iter().any(|earlier| earlier.name == mutant.name);
            anyhow::ensure!(!is_double, "two mutants are called {}", mutant.name);
        }
        Ok(all)
    }
}

/// Where the files are in the sources that this was built from.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants")
}

/// Whether this build has any.
pub const COMPILED_IN: bool = cfg!(kindred_mutants);

/// Puts the bug of this name into this process; to be called before anything else is done.
///
/// # Errors
/// In words: there is none of that name, there is another one already, or this build has none.
#[cfg(kindred_mutants)]
pub fn choose(name: &str) -> Result<(), String> {
    kindred_core::mutants::choose(name).map_err(|error| error.to_string())
}

/// As above, in a build that has none.
///
/// # Errors
/// Always.
#[cfg(not(kindred_mutants))]
pub fn choose(name: &str) -> Result<(), String> {
    Err(format!("this build has no mutants, so not {name} either; build with --cfg kindred_mutants"))
}
