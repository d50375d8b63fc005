//! `kindred bench compare`: the same work by Kindred, etcd, PostgreSQL and Redis, in turn and in the same run, so that what
//! else the machine does hits all of them. Every system has three processes on loopback, and syncs what it acknowledges.
//!
//! ```text
//!   start all ─► load, restart etcd ─► rounds × in flight × (link, read) × each system ─► kills ─► 16 groups ─► ratios
//! ```

mod etcd;
mod failover;
mod figures;
mod markdown;
mod postgres;
mod process;
mod redis;
mod report;
mod store;
mod targets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kindred_core::env::Env;
use kindred_wire::pb::session::v1::Level;

use self::etcd::Etcd;
use self::failover::Gaps;
use self::figures::{Figures, Point, Sample, System, Work};
use self::postgres::Postgres;
use self::redis::Redis;
use self::report::Report;
use self::store::{Peer, Store};
use self::targets::GROUPS_IN_FLIGHT;
use super::args::Local;
use super::drive::Pace;
use super::lab::{Lab, Measured, tell};
use super::prepare::Opened;
use super::validate::Popularity;
use crate::output::{Exit, Output, exit};

/// Sixteen groups: five in each region, and the directory.
const MANY_SHARDS_PER_REGION: u32 = 5;
/// Of that many tickets, one in five has the shard of its account.
const MANY_GROUPS_ROUND: u32 = 5;

/// Flags of `bench compare`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Systems to compare with, comma separated.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Other::Etcd, Other::Postgres, Other::Redis])]
    peers: Vec<Other>,
    /// Calls in flight; several make a sweep.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256],
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    in_flight: Vec<u32>,
    /// Measurements of each point, the systems in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement lasts, but for our links, of which --round are made.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Kills of the leader, of Kindred and of etcd in turn; 0 leaves them out.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    kills: u32,
    /// Writes around each kill.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1000..=20_000))]
    kill_writes: u32,
    /// Leave out the cluster of 16 groups.
    #[arg(long)]
    one_group: bool,
    /// Write the figures to this file too, as Markdown.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    local: Local,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Other {
    /// Three members.
    Etcd,
    /// A primary and two standbys, ANY 1 synchronous.
    Postgres,
    /// A master and two replicas, appendfsync always, WAIT 1.
    Redis,
}

/// Programs that were found.
struct Programs {
    etcd: Option<PathBuf>,
    postgres: Option<PathBuf>,
    redis: Option<PathBuf>,
}

/// Systems that run.
struct Peers {
    etcd: Option<Peer<Etcd>>,
    postgres: Option<Peer<Postgres>>,
    redis: Option<Peer<Redis>>,
}

/// Compares, prints, and fails if a point had to be rejected.
pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let programs = Programs::find(&args.peers)?;
    let env = crate::env::real();
    let (mut figures, mut gaps) = (Figures::default(), Gaps::default());
    {
        // Outlives the servers, which are declared after it.
        let temporary = tempfile::Builder::new().prefix("kindred-peers-").tempdir()?;
        let dir = args.local.data.clone().map_or_else(|| temporary.path().to_owned(), |dir| dir.join("peers"));
        let is_used = std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
        if is_used {
            return Err(Exit::error(exit::USAGE, format!("{} is not empty; give another --data", dir.display())));
        }
        std::fs::create_dir_all(&dir)?;
        // PostgreSQL runs as another user, who must get through.
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut lab = Lab::start(&env, &args.local, "one-group", 1, 1).await?;
        let mut peers = Peers::start(&programs, &dir, args.local.connections as usize).await?;
        lab.populate().await?;
        for round in 1..=args.rounds {
            for in_flight in &args.in_flight {
                tell(&format!("round {round} of {}, {in_flight} in flight", args.rounds));
                take_turns(args, &lab, &mut peers, &mut figures, *in_flight as usize).await?;
            }
        }
        kills(args, &mut lab, &mut peers, &mut gaps).await?;
        lab.cluster.kill_all();
    }
    if !args.one_group {
        many_groups(args, &env, &mut figures).await?;
    }
    let report = Report::new(args, &programs, &env, figures, gaps);
    report.print(args.output)?;
    if let Some(file) = &args.report {
        std::fs::write(file, markdown::text(&report))?;
        tell(&format!("written to {}", file.display()));
    }
    match report.rejected() {
        0 => Ok(()),
        rejected => Err(Exit::error(exit::FAILED, format!("{rejected} points were rejected; the reasons are above"))),
    }
}

/// Each system once, for links and for reads, one after the other.
async fn take_turns(
    args: &Args,
    lab: &Lab<'_>,
    peers: &mut Peers,
    figures: &mut Figures,
    in_flight: usize,
) -> anyhow::Result<()> {
    let span = Duration::from_secs(u64::from(args.seconds));
    let pace = Pace::Closed(in_flight);
    let popularity = Popularity { zipf: 0.0, seed: u64::from(args.rounds) };
    for work in [Work::Link, Work::LinkShard, Work::Read, Work::ReadStream] {
        let before = lab.level().await?;
        let measured = match work {
            Work::LinkShard => lab.links_at_shard(lab.round, &pace).await?,
            Work::Read => lab.validations(Level::Linearizable, span, &pace, popularity).await?,
            Work::ReadStream => lab.streamed(span, &pace, popularity).await?,
            _ => lab.links(Opened::AtHome, lab.round, &pace).await?,
        };
        let check = lab.all_took_part(&before, work).await;
        note(figures, Point { work, in_flight, system: System::Kindred }, &measured, &check);
        if !matches!(work, Work::LinkShard | Work::ReadStream) {
            peers.take_turns(figures, work, in_flight, span).await?;
        }
    }
    Ok(())
}

fn note(figures: &mut Figures, point: Point, measured: &Measured, check: &anyhow::Result<()>) {
    let sample = Sample::new(measured, check);
    let name = point.system.name();
    let rejected = sample.rejected.as_ref().map_or_else(String::new, |why| format!(", REJECTED: {why}"));
    tell(&format!(
        "  {name:<10} {:<45} {:>7.0}/s, p99 {:>6.1} ms{rejected}",
        point.work.name(point.system),
        sample.per_second,
        sample.p99_ms
    ));
    figures.add(point, sample);
}

/// Kills of the leader, ours and etcd's in turn.
async fn kills(args: &Args, lab: &mut Lab<'_>, peers: &mut Peers, gaps: &mut Gaps) -> anyhow::Result<()> {
    let Some(etcd) = &mut peers.etcd else { return Ok(()) };
    let writes = args.kill_writes as usize;
    let Gaps { ours_ms, etcd_ms, rejected } = gaps;
    for number in 1..=args.kills {
        Gaps::keep(ours_ms, rejected, failover::kill_ours(lab, writes).await);
        Gaps::keep(etcd_ms, rejected, failover::kill_etcd(etcd, writes).await);
        let last = |gaps: &[f64]| gaps.last().copied().unwrap_or(f64::NAN);
        let (ours, theirs) = (last(ours_ms), last(etcd_ms));
        tell(&format!("kill {number} of {}: gap {ours:.0} ms, etcd {theirs:.0} ms", args.kills));
    }
    Ok(())
}

/// The same links on a cluster of 16 groups, when nothing else runs.
async fn many_groups(args: &Args, env: &Env, figures: &mut Figures) -> anyhow::Result<()> {
    tell("16 groups");
    let mut lab = Lab::start(env, &args.local, "many-groups", 3, MANY_SHARDS_PER_REGION).await?;
    let pace = Pace::Closed(GROUPS_IN_FLIGHT);
    for _ in 0..args.rounds {
        for work in [Work::LinkManyGroups, Work::LinkShardManyGroups] {
            let before = lab.level().await?;
            let round = args.local.round;
            let measured = if work == Work::LinkManyGroups {
                lab.links(Opened::AtHome, round as usize, &pace).await?
            } else {
                lab.round = (MANY_GROUPS_ROUND * round) as usize;
                lab.links_at_shard(lab.round, &pace).await?
            };
            let check = lab.all_took_part(&before, work).await;
            note(figures, Point { work, in_flight: GROUPS_IN_FLIGHT, system: System::Kindred }, &measured, &check);
        }
    }
    lab.cluster.kill_all();
    Ok(())
}

impl Lab<'_> {
    /// Fails unless all nodes run and every replica did the same work. Reads alone write nothing but ticks.
    async fn all_took_part(&self, before: &crate::points::Replicas, work: Work) -> anyhow::Result<()> {
        match work {
            Work::Read | Work::ReadStream => self.level().await.map(drop),
            _ => self.all_applied(before).await.map(drop),
        }
    }
}

impl Programs {
    /// Finds what is asked for, or says what to install.
    fn find(peers: &[Other]) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        let mut wanted = |other: Other, name: &'static str, package: &'static str, more: &[PathBuf]| {
            let found = peers.contains(&other).then(|| process::find(name, more));
            if found == Some(None) {
                missing.push((name, package));
            }
            found.flatten()
        };
        let etcd = wanted(Other::Etcd, "etcd", "etcd-server", &[]);
        let postgres = wanted(Other::Postgres, "initdb", "postgresql", &postgres::directories());
        let redis = wanted(Other::Redis, "redis-server", "redis-server", &[]);
        // A link to it may stand alone in its directory, and PostgreSQL's programs are needed together.
        let postgres = postgres.map(|program| std::fs::canonicalize(&program).unwrap_or(program));
        if missing.is_empty() { Ok(Self { etcd, postgres, redis }) } else { Err(process::missing(&missing)) }
    }
}

impl Peers {
    /// Starts and loads what was found, etcd last of all restarted.
    async fn start(programs: &Programs, dir: &Path, connections: usize) -> anyhow::Result<Self> {
        let mut peers = Self { etcd: None, postgres: None, redis: None };
        if let Some(program) = &programs.etcd {
            tell("starting etcd");
            let etcd = Etcd::start(program, &dir.join("etcd"), 3 * connections).await?;
            let mut peer = Peer::load(etcd).await?;
            peer.store.restart().await?;
            peers.etcd = Some(peer);
        }
        if let Some(bin) = programs.postgres.as_ref().and_then(|program| program.parent()) {
            tell("starting PostgreSQL");
            let postgres = Postgres::start(bin, &dir.join("postgres"), postgres::user()?).await?;
            peers.postgres = Some(Peer::load(postgres).await?);
        }
        if let Some(program) = &programs.redis {
            tell("starting Redis");
            peers.redis = Some(Peer::load(Redis::start(program, &dir.join("redis")).await?).await?);
        }
        Ok(peers)
    }

    /// Each of them once.
    async fn take_turns(
        &mut self,
        figures: &mut Figures,
        work: Work,
        in_flight: usize,
        span: Duration,
    ) -> anyhow::Result<()> {
        let at = |system| Point { work, in_flight, system };
        turn(&mut self.etcd, figures, at(System::Etcd), span).await?;
        turn(&mut self.postgres, figures, at(System::Postgres), span).await?;
        turn(&mut self.redis, figures, at(System::Redis), span).await
    }
}

/// One system once. One that is broken afterwards is left out from then on; its point is rejected, and stays so.
async fn turn(
    peer: &mut Option<Peer<impl Store>>,
    figures: &mut Figures,
    point: Point,
    span: Duration,
) -> anyhow::Result<()> {
    let Some(running) = peer else { return Ok(()) };
    let measured = match point.work {
        Work::Read => running.reads(point.in_flight, span).await?,
        _ => running.links(point.in_flight, span).await?,
    };
    let check = running.store.check().await;
    note(figures, point, &measured, &check);
    if check.is_err() {
        *peer = None;
    }
    Ok(())
}
