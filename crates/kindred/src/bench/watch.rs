//! Watch fan-out: from the start of a link or unlink until the last of many watches on the account has told it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kindred_client::request_id;
use kindred_client::watch::AccountWatch;
use kindred_wire::pb::session::v1::watch_account_reply::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lab::{Lab, Measured, busy, progress};
use super::link::encoded;
use super::load::Load;
use super::people::{Owner, name};
use super::prepare::Ready;

/// All watches have started, or have told a change, within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// How much is watched and changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct FanOut {
    /// Watches on each account.
    pub(super) watchers: usize,
    /// Accounts.
    pub(super) accounts: usize,
    /// Changes of each account: links and unlinks in turn.
    pub(super) changes: usize,
}

/// What the watches on one account have told.
struct Told {
    /// Watches that told a version, and when the last of them did.
    versions: RefCell<BTreeMap<u64, (usize, Instant)>>,
    progress: Notify,
}

impl Lab<'_> {
    /// Latency until the last watch on the account has told it. Nodes are watched through in turn.
    pub(super) async fn fan_out(&self, shape: FanOut) -> anyhow::Result<Measured> {
        let owners = self.owners(shape.accounts).await?;
        let told: Vec<_> =
            owners.iter().map(|_| Told { versions: RefCell::default(), progress: Notify::new() }).collect();
        let watches = owners.iter().zip(&told).flat_map(|(owner, told)| {
            (0..shape.watchers).map(move |number| {
                let client = &self.workshop.clients[number % self.workshop.clients.len()];
                let region = &self.workshop.regions[owner.home];
                told.follow(client.watch_account(&owner.phone.account, 0, region))
            })
        });
        let changes = async {
            let bar = busy("watches start");
            for told in &told {
                // Everybody is told of the registration first.
                told.wait_for(1, shape.watchers).await.context("not all watches started in time")?;
            }
            bar.finish_and_clear();
            let bar = progress(shape.accounts * shape.changes, "changes told");
            let load = RefCell::new(Load::new()?);
            let started = Instant::now();
            let all = owners.iter().zip(&told).map(async |(owner, told)| {
                for number in 0..shape.changes {
                    self.change(owner, told, shape.watchers, number % 2 == 0, &load).await?;
                    bar.inc(1);
                }
                Ok::<_, anyhow::Error>(())
            });
            futures::future::try_join_all(all).await?;
            bar.finish_and_clear();
            let mut load = load.into_inner();
            load.elapsed = started.elapsed();
            Ok(load)
        };
        let watching = async {
            let first_error = futures::future::select_all(watches.map(Box::pin)).await.0;
            Err(anyhow::anyhow!("a watch ended: {first_error}"))
        };
        self.measure(async {
            tokio::select! {
                biased;
                load = changes => load,
                error = watching => error,
            }
        })
        .await
    }

    /// One link (with a ticket that is prepared first) or the unlink of its session, told to all.
    async fn change(
        &self,
        owner: &Owner,
        told: &Told,
        watchers: usize,
        is_link: bool,
        load: &RefCell<Load>,
    ) -> anyhow::Result<()> {
        let (phone, home, workshop) = (&owner.phone, owner.home, &self.workshop);
        let version = told.last() + 1;
        let started = if is_link {
            let message = workshop.ticket(phone.clone(), home, home).await?;
            let item = encoded(Ready { home, account: phone.account.clone(), message });
            let started = Instant::now();
            if let Err(error) = self.approve(0, &item).await {
                load.borrow_mut().fail(error);
                return Ok(());
            }
            started
        } else {
            let sessions = workshop.clients[home].sessions(&phone.account, &workshop.regions[home]).await;
            let sessions = sessions.map_err(|error| anyhow::anyhow!("list sessions: {}", name(error)))?.sessions;
            let companion = sessions.iter().find(|s| s.session.as_ref() != phone.session.as_bytes());
            // The link before it failed, and was counted.
            let Some(companion) = companion else { return Ok(()) };
            let target = kindred_wire::convert::session_id(&companion.session, "session")?;
            let started = Instant::now();
            if let Err(error) = workshop.clients[home].unlink(phone, &target, request_id(workshop.env)).await {
                load.borrow_mut().fail(name(error));
                return Ok(());
            }
            started
        };
        let Some(last) = told.wait_for(version, watchers).await else {
            load.borrow_mut().fail("not told in time".to_owned());
            return Ok(());
        };
        load.borrow_mut().record(last.saturating_duration_since(started), None);
        ensure!(told.last() == version, "a watch told version {}, and {version} was the last", told.last());
        Ok(())
    }
}

impl Told {
    /// Follows one watch for ever; why it ended.
    async fn follow(&self, mut watch: AccountWatch) -> String {
        loop {
            let version = match watch.next().await {
                Ok(Event::Change(change)) => change.version,
                Ok(_) => continue,
                Err(error) => return name(error),
            };
            let now = Instant::now();
            self.versions.borrow_mut().entry(version).and_modify(|seen| *seen = (seen.0 + 1, now)).or_insert((1, now));
            self.progress.notify_waiters();
        }
    }

    /// When the last of so many watches told that version; none if one of them did not in time.
    async fn wait_for(&self, version: u64, watchers: usize) -> Option<Instant> {
        let all = async {
            loop {
                let progress = self.progress.notified();
                if let Some((count, last)) = self.versions.borrow().get(&version)
                    && *count >= watchers
                {
                    return *last;
                }
                progress.await;
            }
        };
        tokio::time::timeout(TOLD_WITHIN, all).await.ok()
    }

    /// The highest version of which all that are waited for were told.
    fn last(&self) -> u64 {
        self.versions.borrow().last_key_value().map_or(0, |(version, _)| *version)
    }
}
