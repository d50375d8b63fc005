//! `sim scenarios`, and what else is known by name: kinds of faults.

use std::path::PathBuf;

use serde::Serialize;

use crate::run::Network;

use super::output::{self, Output, exit, lines, print, table};

/// A scenario that can be run by name.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What happens in it.
    pub about: String,
    /// Its file, from the root of the repository; none for those written in Rust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// All scenarios, by name.
pub fn scenarios() -> anyhow::Result<Vec<Scenario>> {
    let builtin = [
        ("link", "Three companions link from three regions; nothing fails."),
        ("crash", "Companions link while each node crashes once, losing what it had not synced."),
        ("lag", "A node is away while the log that it needs is purged."),
        ("wipe", "A node loses its directory."),
        ("rot", "A record of one replica is damaged."),
        ("two-wiped", "Two of three nodes lose their directories at once."),
        ("code", "A companion links by a typed code; the leader that counts wrong ones crashes in between."),
    ];
    Ok(builtin.map(|(name, about)| Scenario { name: name.to_owned(), about: about.to_owned(), file: None }).to_vec())
}

/// Whether a scenario can be played in that network.
pub fn can_run(_scenario: &str, _network: &str) -> bool {
    true
}

/// Kinds of faults that a sweep in that network must see fire.
pub fn fault_kinds(_network: Network) -> Vec<&'static str> {
    Vec::new()
}

/// Prints the list.
pub fn run(output: Output) -> anyhow::Result<u8> {
    let scenarios = scenarios()?;
    match output {
        Output::Json => output::json(&scenarios)?,
        Output::Table => {
            let mut table = table(&["scenario", "what happens"]);
            for scenario in &scenarios {
                table.add_row([&scenario.name, &scenario.about]);
            }
            print(lines(&table));
        }
    }
    Ok(exit::OK)
}
