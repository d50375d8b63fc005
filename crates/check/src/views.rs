//! What a watch told, folded: the set that follows from it, and where it left something out.

use std::collections::BTreeMap;

use crate::history::{Member, Operation, Told, Tombstone};
use crate::timeline::{Op, Position};

/// A set that follows from what a watch told.
#[derive(Debug)]
pub(crate) struct View {
    /// Index of the operation that told the last of it.
    pub(crate) op: usize,
    /// Where its answer stands.
    pub(crate) done: Position,
    /// Version of the set.
    pub(crate) version: u64,
    /// The set, by id.
    pub(crate) sessions: Vec<Member>,
}

/// A step of a watch that does not follow from those before it.
#[derive(Debug)]
pub struct Gap {
    /// Index of the operation that told it.
    pub op: usize,
    /// What does not fit, in words.
    pub text: String,
}

/// What a watcher has of an account.
#[derive(Default)]
struct Watcher {
    version: u64,
    /// None where the watch began in the middle.
    set: Option<BTreeMap<String, Member>>,
    is_over: bool,
}

/// Folds every watch of every client, in the order in which the steps were told.
pub(crate) fn follow<'a>(operations: &[Op<'a>]) -> (BTreeMap<&'a str, Vec<View>>, Vec<Gap>) {
    let mut views: BTreeMap<&str, Vec<View>> = BTreeMap::new();
    let mut gaps = Vec::new();
    let mut watchers: BTreeMap<(&str, &str), Watcher> = BTreeMap::new();
    let told = operations.iter().enumerate().filter_map(|(index, op)| match op.op {
        Operation::Watch { account, from } => Some((op.done?, index, account.as_str(), *from)),
        _ => None,
    });
    let mut told: Vec<_> = told.collect();
    told.sort_unstable();
    for (done, index, account, from) in told {
        let Some(answer) = operations[index].answer() else { continue };
        let held = watchers.entry((operations[index].client, account)).or_default();
        held.resume(from);
        for step in &answer.told {
            if let Err(text) = held.take(step) {
                gaps.push(Gap { op: index, text });
            }
            if let Some(set) = held.set.as_ref().filter(|_| !matches!(step, Told::Same { .. })) {
                let sessions = set.values().cloned().collect();
                views.entry(account).or_default().push(View { op: index, done, version: held.version, sessions });
            }
        }
    }
    (views, gaps)
}

impl Watcher {
    /// The watcher says what it has. What it has of another version than was told here is not known.
    fn resume(&mut self, from: u64) {
        if from == 0 {
            *self = Self { set: Some(BTreeMap::new()), ..Self::default() };
        } else if from != self.version {
            *self = Self { version: from, ..Self::default() };
        }
    }

    fn take(&mut self, step: &Told) -> Result<(), String> {
        let (had, version) = (self.version, step.set_version());
        // Whoever asks again is told again that it is over.
        if self.is_over && matches!(step, Told::Deleted { .. }) && version == had {
            return Ok(());
        }
        if self.is_over {
            return Err(format!("version {version} was told after the account was deleted"));
        }
        match step {
            Told::Snapshot { sessions, .. } => {
                self.version = version;
                self.set = Some(sessions.iter().map(|member| (member.id.clone(), member.clone())).collect());
            }
            Told::Change { added, ended, .. } => {
                self.version = version;
                if version != had.saturating_add(1) {
                    self.set = None;
                    return Err(format!("version {version} was told after version {had}"));
                }
                return self.fold(added, ended);
            }
            Told::Same { .. } if version != had => {
                return Err(format!("version {version} is said to be what was told, which was version {had}"));
            }
            Told::Same { .. } => {}
            Told::Deleted { .. } => {
                (self.version, self.set, self.is_over) = (version, Some(BTreeMap::new()), true);
            }
        }
        if version < had {
            return Err(format!("version {version} was told after version {had}"));
        }
        Ok(())
    }

    fn fold(&mut self, added: &[Member], ended: &[Tombstone]) -> Result<(), String> {
        let version = self.version;
        if let Some(other) = ended.iter().find(|t| t.set_version != version && !t.is_stub()) {
            return Err(format!(
                "the change to version {version} shows the tombstone of version {}",
                other.set_version
            ));
        }
        let Some(set) = &mut self.set else { return Ok(()) };
        for tombstone in ended {
            if set.remove(&tombstone.session).is_none() {
                return Err(format!("session {} left at version {version} and was not there", tombstone.session));
            }
        }
        for member in added {
            if set.insert(member.id.clone(), member.clone()).is_some() {
                return Err(format!("session {} came at version {version} and was there", member.id));
            }
        }
        if added.is_empty() && ended.is_empty() {
            return Err(format!("nobody came and nobody left at version {version}"));
        }
        Ok(())
    }
}
