//! `sim scenarios`, and what else is known by name: kinds of faults.

use std::path::PathBuf;

use serde::Serialize;

use crate::faults::Fault;
use crate::run::Network;
use crate::scenarios;
use crate::scenarios::file::{self, BUILT_IN};

use super::output::{self, Output, exit, lines, print, table};

/// A scenario that can be run by name.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What happens in it.
    pub about: String,
    /// The networks that it is made for.
    pub networks: Vec<Network>,
    /// Its file, from the root of the repository; none for those written in Rust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// What happens in those that are written in Rust.
const TOLD: [(&str, &str); 7] = [
    ("link", "Three companions link from three regions; nothing fails."),
    ("crash", "Companions link while each node crashes once, losing what it had not synced."),
    ("lag", "A node is away while the log that it needs is purged."),
    ("wipe", "A node loses its directory."),
    ("rot", "A record of one replica is damaged."),
    ("two-wiped", "Two of three nodes lose their directories at once."),
    ("code", "A companion links by a typed code; the leader that counts wrong ones crashes in between."),
];

/// All scenarios, by name: files first.
pub fn scenarios() -> anyhow::Result<Vec<Scenario>> {
    let files = BUILT_IN.iter().map(|(name, text)| {
        let networks = file::Scenario::parse(text)?.networks().to_vec();
        let path = format!("simulations/scenarios/{name}.toml");
        Ok(Scenario { name: (*name).to_owned(), about: file::head(text), networks, file: Some(path.into()) })
    });
    let mut all = files.collect::<anyhow::Result<Vec<_>>>()?;
    all.extend(TOLD.map(|(name, about)| Scenario {
        name: name.to_owned(),
        about: about.to_owned(),
        networks: vec![Network::Tonic],
        file: None,
    }));
    Ok(all)
}

/// Whether it is one of those that are written in Rust, which judge themselves and record nothing.
pub fn is_told(scenario: &str) -> bool {
    scenarios::told(scenario).is_some()
}

/// Whether a scenario can be played in that network. What is not known here is for the run to say.
pub fn can_run(scenario: &str, network: Network) -> bool {
    if is_told(scenario) {
        return network == Network::Tonic;
    }
    file::Scenario::find(scenario).map_or(true, |scenario| scenario.networks().contains(&network))
}

/// The network in which a scenario is played where nobody asks for one: the faster one, if it is made for it.
pub fn network_of(scenario: &str) -> Network {
    if can_run(scenario, Network::Messages) { Network::Messages } else { Network::Tonic }
}

/// Faults that TCP cannot have, and a host of turmoil neither.
const NOT_OVER_TONIC: [Fault; 3] = [Fault::MessageDuplicate, Fault::MessageReorder, Fault::Pause];

/// Kinds of faults that a sweep in that network must see fire.
pub fn fault_kinds(network: Network) -> Vec<&'static str> {
    let possible = |fault: &&Fault| network == Network::Messages || !NOT_OVER_TONIC.contains(*fault);
    Fault::ALL.iter().filter(possible).map(|fault| fault.word()).collect()
}

/// Prints the list.
pub fn run(output: Output) -> anyhow::Result<u8> {
    let scenarios = scenarios()?;
    match output {
        Output::Json => output::json(&scenarios)?,
        Output::Table => {
            let mut table = table(&["scenario", "networks", "what happens"]);
            for scenario in &scenarios {
                let networks: Vec<_> = scenario.networks.iter().map(|network| network.word()).collect();
                table.add_row([scenario.name.clone(), networks.join(", "), in_a_line(&scenario.about)]);
            }
            print(lines(&table));
        }
    }
    Ok(exit::OK)
}

/// The first sentence, or as much of it as a line takes.
fn in_a_line(text: &str) -> String {
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    let first = text[..end].trim_start_matches("domain.md §7, ");
    match first.char_indices().nth(LINE_CHARS) {
        Some((cut, _)) => format!("{}…", &first[..cut]),
        None => first.to_owned(),
    }
}

/// Characters of a description in the table; all of it is in the JSON.
const LINE_CHARS: usize = 110;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_in_rust_is_listed() {
        let listed: Vec<_> = TOLD.iter().map(|(name, _)| *name).collect();
        let known: Vec<_> = scenarios::TOLD.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn faults_that_a_network_cannot_have_are_not_asked_of_it() {
        let (tonic, messages) = (fault_kinds(Network::Tonic), fault_kinds(Network::Messages));
        assert!(!tonic.contains(&"message_reorder") && messages.contains(&"message_reorder"));
        assert!(tonic.contains(&"crash") && messages.len() == Fault::ALL.len());
    }
}
