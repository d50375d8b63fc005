//! Flags of `kindred bench`.

use std::path::PathBuf;
use std::time::Duration;

use super::compare;
use super::drive::Pace;
use super::schedule::{Arrivals, Schedule};
use crate::output::Output;

/// Flags of `bench`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub(super) what: Option<What>,
    /// What to measure, comma separated.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = ALL)]
    pub(super) operations: Vec<Operation>,
    /// Closed loop: calls in flight; several make a sweep.
    #[arg(long, value_delimiter = ',', default_values_t = [64], value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) in_flight: Vec<u32>,
    /// Open loop instead: calls per second, whether the cluster keeps up or not; latency counts from the intended start.
    #[arg(long, value_delimiter = ',', value_name = "PER_SECOND", conflicts_with = "in_flight",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate: Vec<u32>,
    /// How calls of an open loop follow each other.
    #[arg(long, value_enum, default_value_t)]
    pub(super) arrivals: Arrivals,
    /// Links to make at each point.
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) links: u32,
    /// How long validations and mixed calls last at each point.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(super) seconds: u32,
    /// Popularity of sessions in validations and mixed calls: session k in proportion to 1 / k^ZIPF; 0 = all equal.
    #[arg(long, default_value_t = 0.99, value_parser = zipf)]
    pub(super) zipf: f64,
    /// Mixed calls: per cent of validations, links and lists.
    #[arg(long, default_value = "90,5,5", value_parser = mix)]
    pub(super) mix: Mix,
    /// Watch fan-out: watches on each account, spread over the nodes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) watchers: u32,
    /// Watch fan-out: accounts that change at the same time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) watched: u32,
    /// Watch fan-out: changes of each account.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(super) changes: u32,
    /// Seed of arrivals and keys.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) local: Local,
    /// Regions that are home to accounts; with 1 and one shard per region all links meet in one Raft group.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    pub(super) homes: u32,
    /// Shards per region.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) shards: u32,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// Flags about the local cluster and how it is called, for `bench` and `bench compare`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Local {
    /// Links that are prepared and then measured in one go: a ticket lives only 160 s.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(super) round: u32,
    /// Connections to each node.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) connections: u32,
    /// Keep data and logs of what is started here.
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Log filter of the nodes.
    #[arg(long, default_value = "warn,openraft=error")]
    pub(super) log: String,
    /// Worker threads of each node.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) threads: u32,
    /// No TLS between the nodes, nor to them.
    #[arg(long)]
    pub(super) plaintext: bool,
}

/// Instead of measuring Kindred alone.
#[derive(Debug, clap::Subcommand)]
pub(super) enum What {
    /// Measure etcd, PostgreSQL and Redis with the same work in the same run, and print the ratios.
    ///
    /// Exit codes: 0 every point counts, whatever its ratio · 1 a point was rejected or a system failed · 2 wrong command
    /// line, or a program is not installed.
    Compare(compare::Args),
}

/// Operations that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Operation {
    /// ApproveTicket to receipt, tickets opened in the account's home region.
    Link,
    /// The same with tickets opened in other regions: two shards take part.
    LinkAbroad,
    /// The command of a link at home, submitted to the leader of its shard as a frontend does, without the public rpc.
    LinkShard,
    /// Validate, linearizable.
    Validate,
    /// ValidateStream, linearizable: messages of 128 questions, each counted; latencies are those of messages.
    ValidateStream,
    /// Validate, whatever the nearest replica has.
    ValidateLocal,
    /// Validations, links and lists of sessions together, see --mix.
    Mixed,
    /// Whole pairings: open, scan, approve, and the companion's watch tells LINKED.
    Pairing,
    /// From the start of a link or unlink until the last of many watches on the account has told it.
    Watch,
}

const ALL: [Operation; 9] = [
    Operation::Link,
    Operation::LinkAbroad,
    Operation::LinkShard,
    Operation::Validate,
    Operation::ValidateStream,
    Operation::ValidateLocal,
    Operation::Mixed,
    Operation::Pairing,
    Operation::Watch,
];

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = clap::ValueEnum::to_possible_value(self);
        f.write_str(name.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Parts of the mixed calls, in per cent of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mix {
    /// Linearizable validations.
    pub(super) validate: u32,
    /// Links at home.
    pub(super) link: u32,
    /// Lists of an account's sessions.
    pub(super) list: u32,
}

fn mix(text: &str) -> Result<Mix, String> {
    let parts: Vec<u32> = text.split(',').map(|part| part.trim().parse().unwrap_or(u32::MAX)).collect();
    match parts[..] {
        [validate, link, list] if [link, list].iter().fold(validate, |sum, part| sum.saturating_add(*part)) == 100 => {
            Ok(Mix { validate, link, list })
        }
        _ => Err("give three whole numbers that add up to 100: validations, links, lists".to_owned()),
    }
}

fn zipf(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(exponent),
        _ => Err("give a number from 0 to 10".to_owned()),
    }
}

impl Args {
    /// Points of the sweep.
    pub(super) fn paces(&self) -> Vec<Pace> {
        if self.rate.is_empty() {
            return self.in_flight.iter().map(|n| Pace::Closed(*n as usize)).collect();
        }
        self.rate.iter().map(|rate| Pace::Open(Schedule::new(self.arrivals, f64::from(*rate), self.seed))).collect()
    }

    /// How long validations last.
    pub(super) fn span(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from([&["bench"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn a_mix_must_add_up_to_a_hundred() {
        assert_eq!(parse(&[]).unwrap().mix, Mix { validate: 90, link: 5, list: 5 });
        assert_eq!(parse(&["--mix", "80,0,20"]).unwrap().mix, Mix { validate: 80, link: 0, list: 20 });
        for wrong in ["90,5", "90,5,6", "90,x,5", "4294967295,1,100", ""] {
            assert!(parse(&["--mix", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_makes_the_loop_open_and_in_flight_makes_a_sweep() {
        assert!(matches!(parse(&["--in-flight", "1,16,64,256"]).unwrap().paces()[..], [Pace::Closed(1), _, _, _]));
        assert!(matches!(parse(&["--rate", "500"]).unwrap().paces()[..], [Pace::Open(_)]));
        assert!(parse(&["--rate", "500", "--in-flight", "1"]).is_err());
        assert_eq!(parse(&[]).unwrap().operations, ALL);
    }
}
