//! `kindred bench`: what a local cluster of three processes does per second, and how long it takes. `bench compare` puts
//! etcd, PostgreSQL and Redis beside it.
//!
//! ```text
//!   args ─► lab (cluster, connections) ─► link · validate · people · watch ─► drive (closed or open loop) ─► report
//!                                          prepared and encoded beforehand    load, cpu
//! ```
//!
//! Nothing is tried twice: in a measurement a failure is a figure. No figure counts unless every replica of every shard
//! applied every entry.

mod args;
mod compare;
mod cpu;
mod drive;
mod lab;
mod link;
mod load;
mod people;
mod prepare;
mod raw;
mod replicas;
mod report;
mod schedule;
mod shard;
mod streamed;
mod validate;
mod watch;

use kindred_wire::pb::session::v1::Level;

use self::args::{Operation, What};
use self::drive::Pace;
use self::lab::{Lab, Measured, tell, terms_begun};
use self::prepare::Opened;
use self::report::{Point, Proof};
use self::validate::Popularity;
use self::watch::FanOut;
use crate::output::{self, Exit, Output, exit};

pub use self::args::Args;

/// Runs it on a cluster of its own.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let work = async {
        match &args.what {
            None => bench(&args).await,
            Some(What::Compare(compare)) => compare::run(compare).await,
        }
    };
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Exit::error(exit::FAILED, "interrupted; what was started is stopped")),
        done = work => done,
    }
}

async fn bench(args: &Args) -> anyhow::Result<()> {
    let env = crate::env::real();
    let mut lab = Lab::start(&env, &args.local, "kindred", args.homes, args.shards).await?;
    let (before, terms) = (lab.level().await?, lab.terms().await);
    let mut points = Vec::new();
    for operation in &args.operations {
        for pace in args.paces() {
            let measured = operate(args, &lab, *operation, &pace).await?;
            let point = Point { operation: *operation, pace, measured };
            tell(&point.line());
            points.push(point);
            if *operation == Operation::Watch {
                // Its pace is that of its changes.
                break;
            }
        }
    }
    let entries = lab.all_applied(&before).await?;
    let proof = Proof { entries, terms_begun: terms_begun(&terms, &lab.terms().await) };
    lab.cluster.kill_all();
    match args.output {
        Output::Json => output::json(&report::to_json(args, &points, proof))?,
        Output::Table => report::print(args, &points, proof),
    }
    match points.iter().map(|point| point.measured.load.failed()).sum() {
        0_u64 => Ok(()),
        failed => Err(Exit::error(exit::FAILED, format!("{failed} calls got no good answer; the errors are above"))),
    }
}

async fn operate(args: &Args, lab: &Lab<'_>, operation: Operation, pace: &Pace) -> anyhow::Result<Measured> {
    let (links, span) = (args.links as usize, args.span());
    let popularity = Popularity { zipf: args.zipf, seed: args.seed };
    use Operation::{Mixed, Validate, ValidateLocal, ValidateStream};
    if matches!(operation, Validate | ValidateStream | ValidateLocal | Mixed) {
        lab.populate().await?;
    }
    match operation {
        Operation::Link => lab.links(Opened::AtHome, links, pace).await,
        Operation::LinkAbroad => lab.links(Opened::Elsewhere, links, pace).await,
        Operation::LinkShard => lab.links_at_shard(links, pace).await,
        Operation::Validate => lab.validations(Level::Linearizable, span, pace, popularity).await,
        Operation::ValidateStream => lab.streamed(span, pace, popularity).await,
        Operation::ValidateLocal => lab.validations(Level::Local, span, pace, popularity).await,
        Operation::Mixed => lab.mixed(args.mix, span, pace, popularity).await,
        Operation::Pairing => lab.pairings(links / 4, pace).await,
        Operation::Watch => {
            let (watchers, accounts) = (args.watchers as usize, args.watched as usize);
            lab.fan_out(FanOut { watchers, accounts, changes: args.changes as usize }).await
        }
    }
}

impl Lab<'_> {
    /// Makes sure that there are sessions to validate, companions among them.
    async fn populate(&self) -> anyhow::Result<()> {
        if self.live.borrow().len() < self.round {
            self.links(Opened::AtHome, self.round, &Pace::Closed(64)).await?;
        }
        Ok(())
    }
}
