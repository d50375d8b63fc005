//! Writes short histories by hand, for tests.

use crate::history::{Answer, Body, Event, Level, Member, Note, Operation, Outcome, Refusal, Tombstone, Verdict};

/// A history under construction. Unless said otherwise everything is about account `a`.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) events: Vec<Event>,
}

impl Story {
    /// Account `a` with primary `s1` (version 1) and companions `s2` (ticket `t2`, version 2) and `s3` (`t3`, 3).
    pub(crate) fn family() -> Self {
        let mut story = Self::default();
        let primary = Answer { session: Some("s1".into()), seq: Some(1), set_version: Some(1), ..Answer::default() };
        story.ok("phone", Operation::Register { account: "a".into(), device_key: "k1".into() }, primary);
        story.ok("phone", Self::approve("t2", "k2"), Self::linked("s2", 2, &["s1", "s2"]));
        story.ok("phone", Self::approve("t3", "k3"), Self::linked("s3", 3, &["s1", "s2", "s3"]));
        story
    }

    /// The family, with an unlink of `s2`, unknown answers and retries: everything as it should be.
    pub(crate) fn good() -> Self {
        let mut story = Self::family();
        story.list(3, &["s1", "s2", "s3"]);
        // A link whose answer is lost, told to the companion all the same, then repeated.
        let lost = story.call("phone", Self::approve("t4", "k4"));
        story.ret(lost, Outcome::Unknown);
        let watch = Operation::WatchLinked { ticket: "t4".into(), device_key: "k4".into() };
        story.ok("web4", watch, Answer { sessions: None, ..Self::linked("s4", 4, &[]) });
        story.ok("phone", Self::unlink("s2", "r2"), Self::ended(&[("s2", "r2", 5)]));
        story.ok("phone", Self::approve("t4", "k4"), Self::linked("s4", 4, &["s1", "s2", "s3", "s4"]));
        story.list(5, &["s1", "s3", "s4"]);
        story.validate("s2", Verdict::SignedOut, 5, Some("r2"));
        story.validate("s3", Verdict::Valid, 5, None);
        story.validate("s4", Verdict::Undetermined, 5, None);
        let refused = story.call("web2", Self::unlink("s3", "r7"));
        let tombstone = Some(Self::tombstone("s2", "r2", 5));
        story.ret(refused, Outcome::Refused(Refusal { reason: "SIGNED_OUT".into(), tombstone }));
        // A link that never answers: it may or may not be in later sets.
        story.call("phone", Self::approve("t5", "k5"));
        story.list(6, &["s1", "s3", "s4", "s5"]);
        story
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.push(self.events.len() as u64 + 1, "world", Body::Note(note));
    }

    pub(crate) fn call(&mut self, client: &str, op: Operation) -> u64 {
        let id = self.events.len() as u64 + 1;
        self.push(id, client, Body::Call(op));
        id
    }

    /// Panics if there is no such call; these stories are written by hand.
    pub(crate) fn ret(&mut self, id: u64, outcome: Outcome) {
        let called = self.events.iter().find(|event| event.id == id && matches!(event.body, Body::Call(_)));
        let Some(Event { client, body: Body::Call(op), .. }) = called else { panic!("no call {id}") };
        let (client, op) = (client.clone(), op.name().to_owned());
        self.push(id, &client, Body::Return { op, outcome });
    }

    pub(crate) fn ok(&mut self, client: &str, op: Operation, answer: Answer) -> u64 {
        let id = self.call(client, op);
        self.ret(id, Outcome::Ok(Box::new(answer)));
        id
    }

    pub(crate) fn list(&mut self, version: u64, sessions: &[&str]) -> u64 {
        let op = Operation::List { account: "a".into(), level: Level::Linearizable };
        self.ok("reader", op, Self::set(version, sessions))
    }

    pub(crate) fn validate(&mut self, session: &str, verdict: Verdict, version: u64, ended_by: Option<&str>) -> u64 {
        let op = Operation::Validate { account: "a".into(), session: session.into(), level: Level::Linearizable };
        let tombstones = ended_by.map(|command| Self::tombstone(session, command, version)).into_iter().collect();
        let answer = Answer { verdict: Some(verdict), set_version: Some(version), tombstones, ..Answer::default() };
        self.ok("gateway", op, answer)
    }

    pub(crate) fn approve(ticket: &str, key: &str) -> Operation {
        Operation::Approve {
            account: "a".into(),
            ticket: ticket.into(),
            device_key: key.into(),
            request: format!("approve-{ticket}"),
            replaces: None,
        }
    }

    pub(crate) fn replace(ticket: &str, key: &str, victim: &str) -> Operation {
        match Self::approve(ticket, key) {
            Operation::Approve { account, ticket, device_key, request, .. } => {
                Operation::Approve { account, ticket, device_key, request, replaces: Some(victim.into()) }
            }
            other => other,
        }
    }

    pub(crate) fn unlink(session: &str, request: &str) -> Operation {
        Operation::Unlink { account: "a".into(), session: session.into(), request: request.into() }
    }

    pub(crate) fn unlink_others(keep: &str, request: &str, set_version: Option<u64>) -> Operation {
        Operation::UnlinkOthers { account: "a".into(), keep: keep.into(), request: request.into(), set_version }
    }

    pub(crate) fn linked(session: &str, version: u64, after: &[&str]) -> Answer {
        Answer { session: Some(session.into()), seq: Some(version), ..Self::set(version, after) }
    }

    pub(crate) fn ended(ended: &[(&str, &str, u64)]) -> Answer {
        let tombstones: Vec<_> = ended.iter().map(|(s, command, v)| Self::tombstone(s, command, *v)).collect();
        Answer { set_version: tombstones.last().map(|t| t.set_version), tombstones, ..Answer::default() }
    }

    pub(crate) fn tombstone(session: &str, command: &str, version: u64) -> Tombstone {
        Tombstone {
            session: session.into(),
            reason: "USER_UNLINKED_FROM_PRIMARY".into(),
            command: command.into(),
            log_index: 100 + version,
            set_version: version,
        }
    }

    fn set(version: u64, sessions: &[&str]) -> Answer {
        let member = |id: &&str| Member { id: (*id).into(), seq: id[1..].parse().ok() };
        Answer {
            account: Some("a".into()),
            sessions: Some(sessions.iter().map(member).collect()),
            set_version: Some(version),
            ..Answer::default()
        }
    }

    fn push(&mut self, id: u64, client: &str, body: Body) {
        let at_us = self.events.len() as u64 * 10;
        self.events.push(Event { id, client: client.into(), at_us, body });
    }
}
