//! What every compared system is asked to do: keep records of about 700 bytes and replace one if nobody else has.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::super::drive::{Pace, Span, drive};
use super::super::lab::{Measured, measure};

/// Size of a record: about that of a session set with a few companions.
pub(super) const RECORD_BYTES: usize = 700;
/// Records, one for an account.
pub(super) const ACCOUNTS: usize = 3_000;
/// Writes in flight while records are loaded.
const LOADING: usize = 64;

/// A system that keeps records.
pub(super) trait Store {
    /// Makes ready for so many calls at a time; not measured.
    async fn prepare(&mut self, in_flight: usize) -> anyhow::Result<()>;
    /// Writes the record of an account for the first time: its version is 1 from then on.
    async fn create(&self, worker: usize, account: usize) -> Result<(), String>;
    /// Replaces the record if its version is still `version`; it becomes one higher. Durable on a majority, or whatever
    /// comes nearest, once it returns.
    async fn link(&self, worker: usize, account: usize, version: u64) -> Result<(), String>;
    /// Reads the record, as strictly as the system can.
    async fn read(&self, worker: usize, account: usize) -> Result<(), String>;
    /// Fails unless all its processes run and have taken part in what was written.
    async fn check(&mut self) -> anyhow::Result<()>;
    /// Process ids of its servers.
    fn pids(&self) -> Vec<u32>;
}

/// A store with its records.
pub(super) struct Peer<S> {
    pub(super) store: S,
    /// Version of each account's record.
    pub(super) versions: Vec<Cell<u64>>,
}

impl<S: Store> Peer<S> {
    /// Writes all records once.
    pub(super) async fn load(mut store: S) -> anyhow::Result<Self> {
        store.prepare(LOADING).await?;
        let next = Cell::new(0);
        let accounts = || Some(next.replace(next.get() + 1)).filter(|account| *account < ACCOUNTS);
        let call = async |worker: usize, account: usize| store.create(worker, account).await.map(|()| None);
        let load = drive(&Pace::Closed(LOADING), Span::Calls(ACCOUNTS as u64), accounts, call).await?;
        anyhow::ensure!(load.failed() == 0, "loading records failed: {:?}", load.errors);
        store.check().await?;
        Ok(Self { store, versions: vec![Cell::new(1); ACCOUNTS] })
    }

    /// Compare-and-set links for so long. Each worker has accounts of its own, so none ever loses a race.
    pub(super) async fn links(&mut self, in_flight: usize, span: Duration) -> anyhow::Result<Measured> {
        self.store.prepare(in_flight).await?;
        let (store, versions) = (&self.store, &self.versions);
        let turns = RefCell::new(vec![0_usize; in_flight]);
        let call = async |worker: usize, (): ()| {
            let account = own_account(worker, in_flight, &mut turns.borrow_mut()[worker]);
            let version = versions[account].get();
            store.link(worker, account, version).await?;
            versions[account].set(version + 1);
            Ok(None)
        };
        measure(store.pids(), drive(&Pace::Closed(in_flight), Span::Time(span), || Some(()), call)).await
    }

    /// Reads for so long.
    pub(super) async fn reads(&mut self, in_flight: usize, span: Duration) -> anyhow::Result<Measured> {
        self.store.prepare(in_flight).await?;
        let store = &self.store;
        let next = Cell::new(0);
        let accounts = || Some(next.replace((next.get() + 1) % ACCOUNTS));
        let call = async |worker: usize, account: usize| store.read(worker, account).await.map(|()| None);
        measure(store.pids(), drive(&Pace::Closed(in_flight), Span::Time(span), accounts, call)).await
    }
}

/// The next account of a worker among those that are its own.
pub(super) fn own_account(worker: usize, workers: usize, turn: &mut usize) -> usize {
    let account = worker + *turn * workers;
    if account < ACCOUNTS {
        *turn += 1;
        return account;
    }
    *turn = 1;
    worker % ACCOUNTS
}

/// Key of an account's record.
pub(super) fn key(account: usize) -> String {
    format!("account/{account:08}")
}

/// A record.
pub(super) fn record() -> Vec<u8> {
    vec![b'r'; RECORD_BYTES]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_no_account_and_leave_none_out() {
        let mut seen = vec![0; ACCOUNTS];
        for worker in 0..7 {
            let mut turn = 0;
            for _ in 0..ACCOUNTS.div_ceil(7) - usize::from(worker >= ACCOUNTS % 7) {
                seen[own_account(worker, 7, &mut turn)] += 1;
            }
            assert_eq!(own_account(worker, 7, &mut turn), worker, "round again");
        }
        assert!(seen.iter().all(|count| *count == 1), "every account is some worker's");
    }
}
