//! Judges Kindred from outside: what clients asked, what they were told, and whether both can be true at once.
//!
//! ```text
//!   phones, companions ──calls and answers──► Recorder ──JSON lines──► read ──► Timeline ──► checkers/* ──► Report
//! ```
//!
//! ```text
//!   disks of replicas ──every entry as applied──► log::LogCheck ──► violations
//!                     ──logs, at one moment────► raft::check   ──► violations
//! ```
//!
//! Owns: the history format (docs/history.md) and one checker per promise. Must not know: how Kindred works. It links
//! no other crate of the workspace, so that it cannot share a mistake with what it judges; ids are plain text here.
//!
//! **Invariant:** a write whose answer was not seen is *unknown*, never absent: it may have happened at any time since
//! its call, or never. **Invariant:** no clock is taken here; the recorder is given one.
//!
//! Reading order: [`history`], [`operation`], [`note`], [`recorder`], [`mod@read`], [`timeline`], [`checkers`], [`report`];
//! then [`mod@log`], [`raft`] and [`mod@search`], which stand by themselves.

pub mod checkers;
mod commands;
#[cfg(test)]
mod fuzz;
pub mod history;
pub mod log;
pub mod note;
pub mod operation;
pub mod raft;
#[cfg(test)]
mod random;
pub mod read;
pub mod recorder;
pub mod report;
pub mod search;
#[cfg(test)]
mod story;
pub mod timeline;
pub mod views;

pub use history::{Answer, Body, Event, Member, Outcome, Refusal, Told, Tombstone, Verdict};
pub use note::{Held, Note, TicketState};
pub use operation::{Level, Operation};
pub use read::{read, read_file};
pub use recorder::{Pending, Recorder};
pub use report::{Report, Violation, judge, judge_file};

/// What can go wrong with a history itself, as opposed to with what it tells.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("history {path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not an event.
    #[error("history line {line}: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// An event cannot follow those before it.
    #[error("event {position} (id {id}): {what}")]
    Order {
        /// Position in the history, counted from 0.
        position: usize,
        /// The event's id.
        id: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// More events than a history may hold.
    #[error("more than {max} events")]
    TooLong {
        /// The limit.
        max: usize,
    },
}
