//! Scenario files: simulations/scenarios/*.toml. simulations/README.md tells how to write one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use toml::{Table, Value};

use crate::faults::{Fault, Injection};
use crate::workload::design::Design;
use crate::workload::mix::Mix;
use crate::workload::plan::{Event, Filter, Planned, Trouble, numbered};
use crate::workload::steps::{Step, Verb};
use crate::world::setup::REGION_NAMES;
use crate::world::{Knobs, Network, Setup, World};

macro_rules! built_in {
    ($($name:literal,)*) => {
        /// The files of simulations/scenarios, by name; they are part of the binary.
        pub const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml"))),)*];
    };
}

built_in! {
    "default",
    "abandoned",
    "accepted-and-completed",
    "add-only",
    "cut-off-leaders",
    "dead-code",
    "forgotten-votes",
    "full-account",
    "ids-are-not-reused",
    "lost-directory",
    "lost-key-reply",
    "new-phone",
    "outage",
    "own-session",
    "refused-keeps-credentials",
    "replays-end-nobody",
    "rolling-restart",
    "rot-does-not-travel",
    "slow-hop",
    "stale-list",
    "stampede",
    "wrong-clocks",
}

/// Longest run, simulated.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A scenario as its file tells it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(default)]
    world: RawWorld,
    #[serde(default)]
    run: Run,
    mix: Option<Mix>,
    #[serde(default)]
    fault: Vec<Table>,
    #[serde(default)]
    step: Vec<RawStep>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawWorld {
    /// Nodes; in the regions in turn.
    nodes: usize,
    regions: usize,
    /// Beside the directory.
    shards_per_region: u32,
    snapshot_every_entries: u64,
    /// The networks on which it makes sense.
    networks: Vec<Network>,
    /// Whether nodes run with settings that the seed draws.
    knobs: bool,
}

impl Default for RawWorld {
    fn default() -> Self {
        Self {
            nodes: 3,
            regions: 3,
            shards_per_region: 1,
            snapshot_every_entries: 1_000,
            networks: vec![Network::Tonic, Network::Messages],
            knobs: false,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Run {
    /// How long the storm is; with a story and no accounts, how long it may take at most.
    storm: String,
    /// Accounts that go about their business.
    accounts: usize,
    /// Everything but the world is drawn from the seed.
    swarm: bool,
    /// Whether it waits for the end of abandoned tickets.
    patient: bool,
    /// Between two acts of a phone, at most.
    breath: String,
    /// Share of changes whose first reply is not waited for, per mille.
    hasty_per_mille: u32,
}

impl Default for Run {
    fn default() -> Self {
        let breath = "800ms".into();
        Self { storm: "90s".into(), accounts: 0, swarm: false, patient: false, breath, hasty_per_mille: 0 }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    #[serde(rename = "do")]
    verb: Verb,
    #[serde(default)]
    account: String,
    #[serde(default = "phone")]
    companion: String,
    by: Option<String>,
    replaces: Option<String>,
    home: Option<String>,
    at: Option<String>,
    through: Option<String>,
    #[serde(default)]
    times: usize,
    #[serde(default = "yes")]
    keep: bool,
    #[serde(rename = "for")]
    lasts: Option<String>,
    fault: Option<Table>,
    expect: Option<Expect>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Expect {
    Number(u64),
    Word(String),
    Any(Vec<String>),
}

fn phone() -> String {
    "phone".into()
}

fn yes() -> bool {
    true
}

impl Scenario {
    /// The one of this name, or the file at this path.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(text).with_context(|| format!("scenario {name}"));
        }
        let path = Path::new(name);
        if path.extension().is_none_or(|ending| ending != "toml") {
            bail!("no scenario is called `{name}`; see `sim scenarios`, or give the path of a .toml file");
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("read {name}"))?;
        Self::parse(&text).with_context(|| format!("scenario {name}"))
    }

    /// From the text of a file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        let RawWorld { nodes, regions, .. } = scenario.world;
        anyhow::ensure!((1..=27).contains(&nodes), "world.nodes: 1 to 27");
        anyhow::ensure!((1..=REGION_NAMES.len()).contains(&regions), "world.regions: 1 to {}", REGION_NAMES.len());
        anyhow::ensure!(regions <= nodes, "world.regions: a region without a node");
        // Everything in it must make sense, whichever seed it is run with.
        scenario.design(1, &Filter::default())?;
        Ok(scenario)
    }

    /// The networks on which it makes sense.
    pub fn networks(&self) -> &[Network] {
        &self.world.networks
    }

    fn setup(&self, seed: u64, network: Network) -> Setup {
        let RawWorld { nodes, regions, shards_per_region, snapshot_every_entries, .. } = self.world;
        let mut setup = Setup { nodes, regions, shards_per_region, limit: LONGEST, ..Setup::new(seed, network) };
        setup.knobs.snapshot_every_entries = snapshot_every_entries;
        setup
    }

    /// The world that it needs, with nothing running yet.
    pub fn build(&self, (seed, network): (u64, Network), filter: &Filter) -> anyhow::Result<World> {
        anyhow::ensure!(self.world.networks.contains(&network), "it is not for the network {}", network.word());
        let mut setup = self.setup(seed, network);
        // Half of the seeds run with unusual settings.
        let is_unusual = self.world.knobs && filter.lets_kind(Fault::Knobs) && seed % 2 == 0;
        if is_unusual {
            setup.knobs = Knobs::draw(seed);
        }
        let mut world = World::new(setup).map_err(|failed| anyhow::anyhow!("{failed}"))?;
        if is_unusual {
            world.count(Fault::Knobs);
        }
        Ok(world)
    }

    /// What clients do in it, and what goes wrong.
    pub fn design(&self, seed: u64, filter: &Filter) -> anyhow::Result<Design> {
        let (setup, storm_ms) = (self.setup(seed, Network::default()), ms(&self.run.storm)?);
        let nodes: Vec<String> = (0..setup.nodes).map(|node| setup.name(node)).collect();
        let mut design = Design::draw(seed, nodes.clone(), storm_ms, filter);
        if !self.run.swarm {
            let breath_ms = ms(&self.run.breath)?.max(2);
            design.accounts = self.run.accounts;
            design.mix = Mix::usual();
            design.breath_ms = breath_ms / 4..breath_ms;
            design.question_ms = breath_ms / 4..breath_ms;
            design.haste = f64::from(self.run.hasty_per_mille.min(1_000)) / 1_000.0;
            design.is_patient = self.run.patient;
            let plan = self.fault.iter().map(|fault| planned(fault, &nodes)).collect::<anyhow::Result<_>>()?;
            design.plan = filter.apply(numbered(plan));
        } else if !self.fault.is_empty() {
            bail!("run.swarm draws the faults; [[fault]] does not go with it");
        }
        if let Some(mix) = &self.mix {
            design.mix = mix.clone();
        }
        design.story = self.step.iter().map(|step| told(step, &nodes)).collect::<anyhow::Result<_>>()?;
        design.ends_with_story = !design.story.is_empty() && design.accounts == 0;
        Ok(design)
    }
}

/// The first lines of a file: what it is about.
pub fn head(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    lines.map(|line| line.trim_start_matches('#').trim()).collect::<Vec<_>>().join(" ")
}

fn told(raw: &RawStep, nodes: &[String]) -> anyhow::Result<Step> {
    let node = |name: &Option<String>| match name {
        Some(name) => index(name, nodes),
        None => Ok(0),
    };
    let usual = if raw.verb == Verb::Validate { "VALID" } else { "ok" };
    let expect = match &raw.expect {
        None => vec![usual.to_owned()],
        Some(Expect::Number(number)) => vec![number.to_string()],
        Some(Expect::Word(word)) => vec![word.clone()],
        Some(Expect::Any(words)) => words.clone(),
    };
    let event = raw.fault.as_ref().map(|fault| event(fault.clone(), nodes)).transpose()?;
    let is_fault = matches!(event, Some(Event::World(_)));
    anyhow::ensure!(is_fault == (raw.verb == Verb::Fault), "a step `fault` has a table `fault`, and no other has");
    Ok(Step {
        verb: raw.verb,
        account: raw.account.clone(),
        companion: raw.companion.clone(),
        by: raw.by.clone(),
        replaces: raw.replaces.clone(),
        home: raw.home.clone(),
        at: node(&raw.at)?,
        through: node(&raw.through)?,
        times: raw.times,
        keep: raw.keep,
        for_ms: raw.lasts.as_deref().map(ms).transpose()?.unwrap_or(0),
        event,
        expect,
    })
}

fn planned(table: &Table, nodes: &[String]) -> anyhow::Result<Planned> {
    let mut table = table.clone();
    let at = table.remove("at").context("a fault needs `at`, like \"12.5s\"")?;
    let at_ms = ms(at.as_str().context("at: like \"12.5s\"")?)?;
    Ok(Planned { index: 0, at_ms, event: event(table, nodes)? })
}

/// A fault as a table: names of nodes become indexes, durations become ms under the name that ends with `_ms`.
fn event(table: Table, nodes: &[String]) -> anyhow::Result<Event> {
    let word = table.get("fault").and_then(Value::as_str).context("a fault needs `fault`, its kind")?.to_owned();
    let fault = Fault::from_word(&word).with_context(|| format!("there is no fault `{word}`"))?;
    let mut plain = Table::new();
    for (key, value) in table {
        let (key, value) = match (key.as_str(), value) {
            ("node" | "a" | "b" | "to", Value::String(name)) => (key, Value::Integer(index(&name, nodes)?.try_into()?)),
            ("nodes", Value::Array(names)) => {
                let all = names.iter().map(|name| {
                    let name = name.as_str().context("nodes: a list of names")?;
                    Ok(Value::Integer(index(name, nodes)?.try_into()?))
                });
                (key, Value::Array(all.collect::<anyhow::Result<_>>()?))
            }
            ("for" | "down" | "extra" | "every" | "skew" | "by" | "sync_max", Value::String(text)) => {
                let name = if key == "sync_max" { "sync_ms_max".into() } else { format!("{key}_ms") };
                (name, Value::Integer(signed_ms(&text)?))
            }
            (_, value) => (key, value),
        };
        plain.insert(key, value);
    }
    if fault.is_clients() {
        let number = |key: &str| plain.get(key).and_then(Value::as_integer).map(u64::try_from).transpose();
        let account = usize::try_from(number("account")?.unwrap_or(0))?;
        let (amount, for_ms) = (number("amount")?.unwrap_or(1), number("for_ms")?.unwrap_or(0));
        return Ok(Event::Clients(Trouble { fault, account, amount, for_ms }));
    }
    let given: Vec<String> = plain.keys().cloned().collect();
    let injection = Injection::deserialize(Value::Table(plain)).with_context(|| format!("fault {word}"))?;
    let Value::Table(known) = Value::try_from(&injection)? else { bail!("fault {word}") };
    if let Some(unknown) = given.iter().find(|key| !known.contains_key(*key)) {
        bail!("fault {word} has no `{unknown}`; it has {}", known.keys().cloned().collect::<Vec<_>>().join(", "));
    }
    Ok(Event::World(injection))
}

fn index(name: &str, nodes: &[String]) -> anyhow::Result<usize> {
    let at = nodes.iter().position(|node| node == name);
    at.with_context(|| format!("there is no node `{name}`; there are {}", nodes.join(", ")))
}

fn ms(text: &str) -> anyhow::Result<u64> {
    u64::try_from(signed_ms(text)?).with_context(|| format!("`{text}`: a duration from now on"))
}

/// `12.5s`, `300ms`, `2m`, `-1h`.
fn signed_ms(text: &str) -> anyhow::Result<i64> {
    let units = [("ms", 1.0), ("s", 1_000.0), ("m", 60_000.0), ("h", 3_600_000.0), ("d", 86_400_000.0)];
    let parsed = units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * factor)
    });
    let parsed = parsed.filter(|ms: &f64| ms.is_finite() && ms.abs() <= 1e12);
    #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
    parsed.map(|ms| ms.round() as i64).with_context(|| format!("`{text}` is no duration; write 300ms, 12.5s, 2m or 1h"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_scenario_that_is_built_in_makes_sense_and_says_what_it_is_about() {
        for (name, text) in BUILT_IN {
            let scenario = Scenario::find(name).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(head(text).len() > 20, "{name} begins without a comment");
            assert!(
                scenario.run.swarm || !scenario.step.is_empty() || scenario.run.accounts > 0,
                "{name} does nothing"
            );
        }
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")).unwrap();
        let files =
            files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "toml"));
        assert_eq!(files.count(), BUILT_IN.len(), "a file of simulations/scenarios is not built in");
    }

    #[test]
    fn a_fault_is_spelt_with_names_and_durations() {
        let text = "[run]\naccounts = 2\n[[fault]]\nat = \"12.5s\"\nfault = \"partition\"\nnodes = [\"boston-0\"]\n\
                    clients = false\nfor = \"4s\"\n";
        let design = Scenario::parse(text).unwrap().design(1, &Filter::default()).unwrap();
        let partition = Injection::Partition { nodes: vec![1], clients: false, for_ms: 4_000 };
        assert_eq!(design.plan, [Planned { index: 0, at_ms: 12_500, event: Event::World(partition) }]);
    }

    #[test]
    fn what_makes_no_sense_is_told_by_name() {
        let wrong = |text: &str| format!("{:#}", Scenario::parse(text).unwrap_err());
        let fault = |rest: &str| wrong(&format!("[run]\naccounts = 1\n[[fault]]\nat = \"1s\"\n{rest}"));
        assert!(fault("fault = \"partitoin\"").contains("partitoin"));
        assert!(fault("fault = \"crash\"\nnode = \"paris-0\"\ndown = \"1s\"").contains("amsterdam-0"));
        assert!(fault("fault = \"crash\"\nnode = \"boston-0\"\ndown = \"1s\"\nhard = 3").contains("hard"));
        assert!(fault("fault = \"crash\"\nnode = \"boston-0\"\ndown = \"soon\"").contains("soon"));
        assert!(wrong("[[step]]\ndo = \"dance\"").contains("dance"));
    }
}
