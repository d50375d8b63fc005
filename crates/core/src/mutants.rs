//! Known bugs, seeded into the production crates to test the testers: compiled in only under `--cfg kindred_mutants`,
//! chosen at run time, one per process. What each breaks, and what finds it, is in `simulations/mutants/*.toml`.
//!
//! A call site is a handful of lines below `#[cfg(kindred_mutants)]`, at the place where somebody might have made that
//! very mistake. An ordinary build holds none of it: this module is not there, so a call site without the `cfg` does not
//! compile. `simulations/tests/mutants.rs` compares this list, the call sites and the files.

use std::sync::OnceLock;

/// A bug that can be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, unique, in kebab case.
    pub name: &'static str,
    /// What is wrong, in one line.
    pub bug: &'static str,
}

/// Why a mutant was not put in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none of that name.
    #[error("no mutant is called {0}")]
    Unknown(String),
    /// A process has one bug at a time, for its whole life.
    #[error("this process has the mutant {0} already")]
    Chosen(&'static str),
}

static CHOSEN: OnceLock<&'static str> = OnceLock::new();

/// Puts the bug of this name into this process. To be called before anything else is done.
///
/// # Errors
/// [`Error`], and then nothing has changed.
pub fn choose(name: &str) -> Result<(), Error> {
    let found = ALL.iter().find(|mutant| mutant.name == name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
    let chosen = *CHOSEN.get_or_init(|| found.name);
    if chosen == found.name { Ok(()) } else { Err(Error::Chosen(chosen)) }
}

/// Whether this process has that bug.
pub fn is(name: &str) -> bool {
    CHOSEN.get().is_some_and(|chosen| *chosen == name)
}

const fn mutant(name: &'static str, bug: &'static str) -> Mutant {
    Mutant { name, bug }
}

/// All of them, in the order of the crates that they are in.
#[rustfmt::skip]
pub const ALL: &[Mutant] = &[
    // core: how a set changes
    mutant("link-stale-set", "a command reads the set as it was before the entry, not as earlier commands of the entry left it"),
    mutant("limit-evicts-oldest", "a link at the limit makes room by ending the oldest companion"),
    mutant("relink-ends-platform", "a link ends the companions of the same platform, as if they were the same device"),
    mutant("link-twice", "a Link that is sent again links again"),
    mutant("link-outcome-lost", "what became of a linked ticket is not written down, so a Link that is sent again is refused"),
    mutant("link-ignores-epoch", "an approval counts whatever has raised auth_epoch since"),
    mutant("seq-from-live-set", "a session's number is one above the highest live one"),
    mutant("session-id-from-device", "a session's id follows from its device key"),
    mutant("replacing-bumps-twice", "a link that replaces raises set_version once for who goes and once for who comes"),
    mutant("replaced-without-tombstone", "who is replaced leaves without a tombstone"),
    mutant("change-without-ended", "the change that watches are told of a replacing link names only who came"),
    mutant("approval-key-unchecked", "an approval counts for whatever device key the ticket has"),
    mutant("unlink-others-unversioned", "UnlinkOthers ends whoever is there now, not whom it named"),
    mutant("replace-primary-unversioned", "ReplacePrimary ends whoever is there now, not whom it named"),
    mutant("unlink-follows-device", "an Unlink that comes late ends what its device has linked since"),
    mutant("unlink-wrong-index", "the place among the companions is taken for the place among all sessions"),
    mutant("refused-unlink-leaves-tombstone", "the tombstone is written before the table is asked"),
    mutant("rotate-reissues-session", "a session that rotates its key goes on under another id"),
    mutant("replies-not-kept", "answers are not kept, so a repeated request runs again"),
    mutant("cancel-beats-link", "Cancel ends an approved ticket without asking the account"),
    mutant("decide-overwrites-link", "DecideTicket writes over what was decided before"),
    mutant("ghost-link", "DecideTicket leaves nothing at the account, so a Link that comes later links"),
    mutant("apply-uncapped-wall", "shard time advances by the difference of wall clocks, whoever led before, without a cap"),
    // store
    mutant("tombstone-key-truncated", "tombstones are kept by the head of the session's id"),
    mutant("suspended-read-as-ended", "a status that an older version does not know is read as the end of the session"),
    mutant("ack-before-sync", "the log writer tells of a batch once it is written, not once it is synced"),
    // replica
    mutant("apply-local-clock", "each replica advances shard time by its own clock"),
    mutant("apply-local-entropy", "each replica makes the ids of new sessions from its own random bytes"),
    mutant("sweep-unchecked", "a leader's sweep ends approved tickets as expired, and the account does not look what became of them"),
    mutant("read-from-role", "who believes to lead answers linearizable reads without asking anybody"),
    mutant("read-index-reused", "a read index serves the reads of the next five seconds as well"),
    mutant("read-falls-back-to-local", "a linearizable read that reaches no leader is answered by the replica that is here"),
    mutant("forwarded-read-cached", "what a leader answered is put into the cache that the own state is read through"),
    mutant("vote-rides-on-append", "a vote is not synced before it is given; it is written with the next append"),
    mutant("vote-ignores-log", "a vote is given to candidates whose log is shorter"),
    mutant("applied-index-apart", "what an entry changes and that it is applied are written in two batches"),
    mutant("replica-id-reused", "a replica's id follows from node and shard, so a wiped one comes back as itself"),
    mutant("snapshot-without-tombstones", "snapshots leave tombstones out"),
    mutant("snapshot-without-replies", "snapshots leave kept answers out"),
    mutant("snapshot-label-late", "a snapshot is labelled with one entry more than it holds"),
    mutant("cache-outlives-install", "records stay in the cache when a snapshot has replaced the state"),
    // frontend
    mutant("unknown-is-signed-out", "Validate says SIGNED_OUT of a session that the replica does not know"),
    mutant("failure-is-signed-out", "Validate says SIGNED_OUT when the shard gives no answer"),
    mutant("account-reads-locally", "accounts are read at the nearest replica, for lists too"),
    mutant("reconcile-drops-missing", "Reconcile unlinks what the primary's signed list lacks"),
    mutant("watch-resumes-from-latest", "a resumed watch goes on from the latest version, not from the one it was at"),
    mutant("watch-out-of-order", "changes that wait to be told are told last first"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_mutant_that_is_listed_or_none() {
        assert_eq!(choose("no-such-bug"), Err(Error::Unknown("no-such-bug".into())));
        assert!(ALL.iter().all(|mutant| !is(mutant.name)));
        let (first, second) = (ALL[0].name, ALL[1].name);
        assert_eq!((choose(first), choose(first)), (Ok(()), Ok(())));
        assert_eq!(choose(second), Err(Error::Chosen(first)));
        assert!(is(first) && !is(second));
    }
}
