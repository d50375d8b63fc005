//! A step of a story, as a scenario file spells it.

use serde::Deserialize;

use super::plan::Event;
use crate::faults::Injection;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// A phone makes the account, at home in `home`.
    Register,
    /// A companion is linked: opened, scanned, approved, and told so.
    Link,
    /// The same by a typed code, after `times` wrong ones.
    LinkByCode,
    /// A companion opens a ticket and shows it.
    Open,
    /// The shown ticket is scanned.
    Scan,
    /// The scanned ticket is approved.
    Approve,
    /// The approval is sent once more, as it was.
    ApproveAgain,
    /// The scanned ticket is denied.
    Deny,
    /// The companion gives its ticket up.
    Cancel,
    /// The companion waits for the end of its ticket.
    Watch,
    /// A session is ended.
    Unlink,
    /// The same request again, as it was.
    UnlinkAgain,
    /// All others are ended.
    UnlinkOthers,
    /// A session is asked about.
    Validate,
    /// The sessions are counted.
    List,
    /// Why has a session ended?
    Why,
    /// A session takes another key.
    RotateKey,
    /// Another phone takes the phone's place; companions stay unless `keep` is false.
    ReplacePrimary,
    /// An operator locks the account.
    Lock,
    /// An operator unlocks it.
    Unlock,
    /// The phone signs a list of the account's sessions that lacks this one.
    SignListWithout,
    /// Something goes wrong.
    Fault,
    /// Everything is whole again.
    Heal,
    /// Some time passes.
    Wait,
}

/// One step. What it must come to stands in `expect`: `ok`, a reason, a verdict, the reason of a sign-out, or a number of
/// sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub verb: Verb,
    /// In which account.
    pub account: String,
    /// Whose session or ticket it is about: a companion by its name in the story, or `phone`.
    pub companion: String,
    /// Who does it; the phone, unless another is named.
    pub by: Option<String>,
    /// The session that a link is to replace.
    pub replaces: Option<String>,
    /// Name of the home region, of a registration.
    pub home: Option<String>,
    /// Index of the node through which the companion's side asks.
    pub at: usize,
    /// Index of the node through which the phone's side asks first.
    pub through: usize,
    /// How often.
    pub times: usize,
    /// Whether companions stay.
    pub keep: bool,
    /// How long, simulated ms.
    pub for_ms: u64,
    /// What goes wrong.
    pub event: Option<Event>,
    /// What it must come to; any of these.
    pub expect: Vec<String>,
}

impl Step {
    /// What is to be done to the world, if that is what the step is for.
    pub fn injection(&self) -> Option<&Injection> {
        match &self.event {
            Some(Event::World(injection)) => Some(injection),
            _ => None,
        }
    }
}
