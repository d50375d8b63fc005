//! Looks on while a world applies entries, and once more at its disks when it is over: the log check.

use kindred_check::Tombstone;
use kindred_check::log::{Applied, Live, LogCheck, ReplicaState};

use super::drive::Witness as Looks;
use super::stage::{Stage, Violation};
use crate::world::World;
use crate::world::applied::Applied as Seen;
use crate::world::rest::Rest;

/// Whoever looks on.
pub struct Witness {
    check: LogCheck,
}

impl Witness {
    /// From here on.
    pub fn new(world: &mut World) -> Self {
        world.tap();
        Self { check: LogCheck::new() }
    }

    /// Over: what lies on the disks is compared, and goes into the history as far as tickets are concerned.
    pub fn finish(mut self, world: &mut World, stage: &Stage) {
        self.look(world, stage);
        for note in world.tickets() {
            stage.recorder.note("world", note);
        }
        let replicas: Vec<_> = {
            let rests = world.rests();
            let sound = rests.iter().filter(|rest| !world.is_rotten(rest.node, rest.shard));
            sound.map(|rest| replica(world, rest)).collect()
        };
        for found in self.check.finish(&replicas) {
            stage.violates(told(&found));
        }
    }
}

impl Looks for Witness {
    fn look(&mut self, world: &mut World, _: &Stage) {
        for seen in world.applied() {
            // All that it finds is told at the end.
            let _ = self.check.applied(&plain(&seen));
        }
    }
}

fn plain(seen: &Seen) -> Applied {
    let live = seen.sessions.iter();
    let ended = seen.ended.iter();
    Applied {
        node: seen.node.clone(),
        replica: seen.replica,
        shard: seen.shard,
        log_index: seen.log_index,
        term: seen.term,
        at_us: seen.at_us,
        account: seen.account.clone(),
        set_version: seen.set_version,
        sessions: live.map(|s| Live { id: s.id.clone(), seq: s.seq, digest: s.digest.clone() }).collect(),
        tombstones: ended
            .map(|ended| Tombstone {
                session: ended.session.clone(),
                reason: ended.reason.clone(),
                command: ended.command.clone().unwrap_or_default(),
                log_index: ended.log_index,
                set_version: ended.set_version.unwrap_or_default(),
            })
            .collect(),
        digest: seen.digest.clone(),
        linked: seen.linked.clone(),
        named: seen.named.clone(),
        touched: seen.touched.clone(),
        is_blind: !seen.commands_known,
    }
}

fn replica(world: &World, rest: &Rest) -> ReplicaState {
    ReplicaState {
        node: world.setup().name(rest.node),
        replica: rest.replica,
        shard: rest.shard.0,
        log_index: rest.log_index,
        digest: rest.digest.to_string(),
        accounts: rest.accounts.iter().map(|account| (account.account.clone(), account.digest.clone())).collect(),
    }
}

fn told(found: &kindred_check::Violation) -> Violation {
    let subject = Some(found.subject.clone()).filter(|subject| !subject.is_empty());
    Violation { account: subject, ..Violation::new(&found.checker, found.text.clone()) }
}
