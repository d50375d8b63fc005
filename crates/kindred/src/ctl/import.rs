//! `kindred ctl import`: the accounts of a file into a cluster that does not have them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use indicatif::ProgressBar;
use kindred_client::Client;
use kindred_core::id::hex;
use kindred_wire::bundle::import_request;
use kindred_wire::convert::raw;
use kindred_wire::pb::admin::v1 as pb;
use kindred_wire::pb::admin::v1::import_result::Result as Told;
use kindred_wire::pb::error::v1::Reason as PbReason;
use kindred_wire::reason::{Reason, Retry};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::export::{TOLD_EVERY, shown, unusable};
use super::file::{Error, Next, Reader};
use crate::connect::failed;
use crate::output::{self, Exit, Output, exit, fields};

/// An account that gets no answer is sent again so often, over about half a minute.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(750);
/// Refusals that are told one by one on a terminal.
const TOLD_MAX: u64 = 20;

/// Flags of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File that `kindred ctl export` has written. How far the import came is kept beside it, in FILE.import.
    file: PathBuf,
    /// Home region for all accounts; that of the same name as in the file if not given.
    #[arg(long, value_name = "REGION", default_value = "")]
    home: String,
    /// Pages of up to 64 accounts that are under way at the same time.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
}

/// How far an import into one cluster came. Whole pages only.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    export_id: String,
    cluster: String,
    /// Pages that are done.
    pages: u64,
    installed: u64,
    again: u64,
    /// By reason.
    refused: BTreeMap<String, u64>,
    #[serde(skip)]
    path: PathBuf,
}

/// Installs the accounts.
pub async fn run(client: &Client, args: &Args, output: Output) -> anyhow::Result<()> {
    let (cluster, _) = client.cluster().await.map_err(|error| failed("ask for the cluster", &error))?;
    let checked = Reader::open(&args.file).and_then(Reader::read_all).map_err(unusable)?;
    if !checked.is_complete {
        return Err(unusable(Error::Incomplete { path: args.file.clone() }));
    }
    let reader = Reader::open(&args.file).map_err(unusable)?;
    let mut progress = Progress::open(args, hex(&reader.header.export_id), cluster.to_string())?;
    let started = Instant::now();
    let before = progress.total();
    let bar = super::bar(checked.accounts, "accounts");
    bar.set_position(before);
    let result = send(client, args, reader, &mut progress, (&bar, output)).await;
    bar.finish_and_clear();
    told(&progress, before, checked.accounts, started.elapsed(), output)?;
    result?;
    match progress.refused.values().sum::<u64>() {
        0 => Ok(()),
        refused => Err(Exit::error(exit::REFUSED, format!("{refused} accounts were refused; all others are there"))),
    }
}

async fn send(
    client: &Client,
    args: &Args,
    mut reader: Reader,
    progress: &mut Progress,
    (bar, output): (&ProgressBar, Output),
) -> anyhow::Result<()> {
    let (export_id, done) = (reader.header.export_id.clone(), progress.pages);
    let pages = std::iter::from_fn(move || match reader.next() {
        Ok(Next::Accounts(page)) => Some(Ok(page.accounts)),
        Ok(Next::End) => None,
        Ok(Next::CutOff) => Some(Err(anyhow::anyhow!("the file has become shorter"))),
        Err(error) => Some(Err(error.into())),
    });
    let pages = pages.zip(0u64..).filter(|(_, number)| *number >= done).map(|(page, _)| page);
    let work = pages.map(|page| install(client, args, &export_id, page));
    let mut work = futures::stream::iter(work).buffered(args.jobs.into());
    let mut lines = Instant::now();
    while let Some(page) = work.next().await {
        for (account, told) in page? {
            progress.count(&account, &told, (bar, output))?;
        }
        progress.pages += 1;
        progress.save()?;
        bar.set_position(progress.total());
        if bar.is_hidden() && lines.elapsed() >= TOLD_EVERY {
            lines = Instant::now();
            let refused: u64 = progress.refused.values().sum();
            eprintln!("{} accounts done, {refused} of them refused", progress.total());
        }
    }
    Ok(())
}

type Answered = Vec<(bytes::Bytes, Told)>;

/// One page, until every account of it has an answer.
async fn install(
    client: &Client,
    args: &Args,
    export_id: &[u8],
    page: anyhow::Result<Vec<pb::AccountBundle>>,
) -> anyhow::Result<Answered> {
    let mut left: Vec<_> = page?
        .into_iter()
        .map(|account| pb::ImportItem {
            request_id: raw(import_request(export_id, &account.account).as_bytes()),
            home_region: args.home.clone(),
            account: Some(account),
        })
        .collect();
    let mut answered = Vec::with_capacity(left.len());
    for attempt in 1.. {
        let reply = client.import_accounts(left.clone()).await.map_err(|error| failed("import", &error))?;
        anyhow::ensure!(reply.results.len() == left.len(), "import: {} answers to {}", reply.results.len(), left.len());
        let mut again = Vec::new();
        for (item, result) in left.into_iter().zip(reply.results) {
            let told = result.result.context("import: an answer says nothing; is this node of another version?")?;
            if waits(&told) {
                again.push(item);
            } else {
                answered.push((item.account.unwrap_or_default().account, told));
            }
        }
        left = again;
        if left.is_empty() {
            break;
        }
        if attempt >= ATTEMPTS {
            let message = format!("import: {} accounts of a page got no answer; run it again", left.len());
            return Err(Exit::error(exit::UNAVAILABLE, message));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(answered)
}

/// True where the same request will be answered later.
fn waits(told: &Told) -> bool {
    let Told::Refused(refusal) = told else { return false };
    Reason::from_name(refusal.reason().as_str_name())
        .is_some_and(|reason| matches!(reason.retry(), Retry::After | Retry::SameRequestId))
}

impl Progress {
    fn open(args: &Args, export_id: String, cluster: String) -> anyhow::Result<Self> {
        let mut name = args.file.clone().into_os_string();
        name.push(".import");
        let path = PathBuf::from(name);
        let fresh = Self { export_id, cluster, path, ..Self::default() };
        let Ok(text) = std::fs::read_to_string(&fresh.path) else { return Ok(fresh) };
        let kept: Self = serde_json::from_str(&text).map_err(|error| {
            Exit::error(exit::USAGE, format!("{}: {error}; remove it to begin again", fresh.path.display()))
        })?;
        // Of another file or another cluster: it says nothing about this import.
        let same = (&kept.export_id, &kept.cluster) == (&fresh.export_id, &fresh.cluster);
        Ok(if same { Self { path: fresh.path, ..kept } } else { fresh })
    }

    fn save(&self) -> anyhow::Result<()> {
        let next = self.path.with_extension("import.new");
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&next, text).with_context(|| format!("write {}", next.display()))?;
        std::fs::rename(&next, &self.path).with_context(|| format!("write {}", self.path.display()))
    }

    fn total(&self) -> u64 {
        self.installed + self.again + self.refused.values().sum::<u64>()
    }

    fn count(&mut self, account: &[u8], told: &Told, (bar, output): (&ProgressBar, Output)) -> anyhow::Result<()> {
        let refusal = match told {
            Told::Installed(pb::Installed { again: false, .. }) => {
                self.installed += 1;
                return Ok(());
            }
            Told::Installed(_) => {
                self.again += 1;
                return Ok(());
            }
            Told::Refused(refusal) => refusal,
        };
        let reason = match refusal.reason() {
            PbReason::InvalidRequest => {
                let field = refusal.metadata.get("field").map_or("", String::as_str);
                format!("INVALID_REQUEST {field}")
            }
            reason => reason.as_str_name().to_owned(),
        };
        let number = self.refused.values().sum::<u64>();
        match output {
            Output::Json => output::json(&json!({ "account": shown(account), "refused": reason }))?,
            Output::Table if number < TOLD_MAX => bar.suspend(|| eprintln!("{}: {reason}", shown(account))),
            Output::Table => {}
        }
        *self.refused.entry(reason).or_default() += 1;
        Ok(())
    }
}

fn told(progress: &Progress, before: u64, all: u64, took: Duration, output: Output) -> anyhow::Result<()> {
    let per_s = (progress.total() - before) as f64 / took.as_secs_f64().max(0.001);
    if output == Output::Json {
        return output::json(&json!({
            "accounts": all,
            "done": progress.total(),
            "installed": progress.installed,
            "again": progress.again,
            "refused": progress.refused,
            "resumed_at": before,
            "seconds": took.as_secs_f64(),
            "accounts_per_s": per_s,
        }));
    }
    let mut rows = vec![
        ("accounts", format!("{} of {all} done", progress.total())),
        ("installed", progress.installed.to_string()),
        ("there by an earlier attempt", progress.again.to_string()),
    ];
    let refused = progress.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
    rows.push(("refused", if refused.is_empty() { "0".to_owned() } else { refused.join(", ") }));
    rows.push(("rate", format!("{per_s:.0} accounts/s")));
    print!("{}", fields(&rows));
    Ok(())
}
