//! What a run needs of the world that it is played in.

use std::time::Duration;

use futures::future::LocalBoxFuture;
use kindred_check::Note;
use kindred_core::id::{Digest, ShardId};

use super::Doors;
use crate::faults::{Counts, Injection, Refused};
use crate::pairing::Failed;

/// How clients find their way to the nodes, once they are on a host of the world.
pub type Way = Box<dyn FnOnce() -> Result<Doors, kindred_client::Error>>;

/// A world with nodes in it.
pub trait Ground {
    /// Names of the nodes, by index.
    fn nodes(&self) -> Vec<String>;
    /// The clients' way in.
    fn way(&self) -> Way;
    /// Puts the clients on a host of their own.
    fn settle(&mut self, clients: LocalBoxFuture<'static, Result<(), Failed>>);
    /// Lets a little time pass.
    fn step(&mut self) -> Result<(), Failed>;
    /// Simulated time so far.
    fn elapsed(&self) -> Duration;
    /// Does something to the world.
    fn inject(&mut self, injection: &Injection) -> Result<(), Refused>;
    /// Nothing is broken from here on, and everybody is up.
    fn heal(&mut self);
    /// What happened since this was asked last.
    fn notes(&mut self) -> Vec<Note>;
    /// What each node that is up has as the state of each shard.
    fn states(&self) -> Vec<(usize, ShardId, Digest)>;
    /// Faults that were done to it.
    fn counts(&self) -> Counts;
    /// What went on in it.
    fn figures(&self) -> Figures;
    /// Over all that went over the network and all that lies on the disks.
    fn digest(&self) -> Digest;
}

/// What went on in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Changes of a shard's leader, the first one not counted.
    pub leader_changes: u64,
    /// Snapshots that replicas installed.
    pub snapshots_installed: u64,
    /// Starts of nodes after the first.
    pub restarts: u64,
    /// Log entries that replicas applied.
    pub entries_applied: u64,
}
