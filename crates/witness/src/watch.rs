//! An account's watch in the history: each step is an operation that waits for it.

use kindred_check::{Answer, Member, Operation, Outcome, Recorder, Told};
use kindred_client::watch::AccountWatch;
use kindred_client::{Client, Error};
use kindred_core::id::{AccountId, hex};
use kindred_wire::pb::session::v1 as session;
use kindred_wire::pb::session::v1::watch_account_reply::Event;

use crate::{record, refusal};

/// Somebody who follows an account.
pub struct Watcher<'a> {
    recorder: &'a Recorder,
    who: &'a str,
    of: &'a AccountId,
    watch: AccountWatch,
    version: u64,
}

impl<'a> Watcher<'a> {
    /// Follows `of` after this version, through `client`.
    pub fn new(
        recorder: &'a Recorder,
        who: &'a str,
        of: &'a AccountId,
        (client, from_version): (&Client, u64),
    ) -> Self {
        let watch = client.watch_account(of, from_version, "");
        Self { recorder, who, of, watch, version: from_version }
    }

    /// The version that was told last, from which another watch resumes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Waits for the next step. The text tells of a gap: a change that is not the next one.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        let op = Operation::Watch { account: self.of.to_string(), from: self.version };
        let pending = self.recorder.call(self.who, op);
        let told = loop {
            match self.watch.next().await {
                // Not about the set; it waits on.
                Ok(Event::LinkRequested(_) | Event::LinkRequestOver(_)) => {}
                Ok(event) => break told(event),
                Err(error) => {
                    let outcome = refusal(&error).map_or(Outcome::Unknown, Outcome::Refused);
                    self.recorder.done(pending, outcome);
                    return Err(error);
                }
            }
        };
        let Some(told) = told else {
            self.recorder.unknown(pending);
            return Ok(None);
        };
        let before = std::mem::replace(&mut self.version, told.set_version());
        let gap = match &told {
            Told::Change { set_version, .. } if *set_version != before + 1 => {
                Some(format!("{}: version {set_version} was told after version {before}", self.who))
            }
            _ => None,
        };
        let set_version = Some(told.set_version());
        self.recorder.ok(pending, Answer { set_version, told: vec![told], ..Answer::default() });
        Ok(gap)
    }
}

fn told(event: Event) -> Option<Told> {
    Some(match event {
        Event::Snapshot(snapshot) => {
            let sessions = snapshot.sessions.iter().map(member).collect();
            Told::Snapshot { set_version: snapshot.set_version, sessions }
        }
        Event::Change(change) => Told::Change {
            set_version: change.version,
            added: change.added.iter().map(member).collect(),
            ended: change.ended.iter().map(record::tombstone).collect(),
        },
        Event::Heartbeat(beat) => Told::Same { set_version: beat.set_version },
        Event::Records(records) => Told::Same { set_version: records.set_version },
        Event::Deleted(deleted) => Told::Deleted { set_version: deleted.set_version },
        Event::LinkRequested(_) | Event::LinkRequestOver(_) => return None,
    })
}

fn member(session: &session::SessionRecord) -> Member {
    Member { id: hex(&session.session), seq: Some(session.seq) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_with_who_came_and_who_left_and_a_heartbeat_with_its_version_only() {
        let record = |id: u8, seq| session::SessionRecord { session: vec![id].into(), seq, ..Default::default() };
        let ended = session::Tombstone { session: Some(record(2, 2)), ..Default::default() };
        let change =
            session::SetChange { version: 4, added: vec![record(3, 3)], ended: vec![ended], ..Default::default() };
        let Some(Told::Change { set_version: 4, added, ended }) = told(Event::Change(change)) else {
            panic!("a change is a change")
        };
        assert_eq!(added, [Member { id: "03".into(), seq: Some(3) }]);
        assert_eq!(ended[0].session, "02");
        let beat = session::Heartbeat { set_version: 4, ..Default::default() };
        assert_eq!(told(Event::Heartbeat(beat)), Some(Told::Same { set_version: 4 }));
    }
}
