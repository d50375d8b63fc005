//! Whom commands name: the sessions that they may end (docs/history.md, "What is concluded").

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Operation;
use crate::timeline::{Birth, Op};

/// What answers tell of the commands that name many sessions, by request id.
///
/// One request is one command: what one answer tells of it holds for every attempt, the unanswered ones too.
#[derive(Debug, Default)]
pub(crate) struct Commands<'a>(BTreeMap<&'a str, Known<'a>>);

#[derive(Debug)]
struct Known<'a> {
    /// The version whose sessions it named: the one before that which it made.
    about: Option<u64>,
    /// Those whom it ended, all of them.
    ended: Option<BTreeSet<&'a str>>,
}

impl<'a> Commands<'a> {
    pub(crate) fn new(operations: &[Op<'a>]) -> Self {
        let mut known = BTreeMap::new();
        for op in operations {
            let (Some(answer), Some(request)) = (op.answer(), op.op.request()) else { continue };
            let ends_nobody = answer.tombstones.is_empty();
            let about = match op.op {
                // A command that ended nobody made no version.
                Operation::UnlinkOthers { .. } if ends_nobody => answer.set_version,
                Operation::UnlinkOthers { .. } | Operation::ReplacePrimary { .. } | Operation::Delete { .. } => {
                    answer.set_version.map(|version| version.saturating_sub(1))
                }
                _ => continue,
            };
            // The others always end somebody: without tombstones the answer does not say whom.
            let is_told = !ends_nobody || matches!(op.op, Operation::UnlinkOthers { .. });
            let ended = is_told.then(|| answer.tombstones.iter().map(|t| t.session.as_str()).collect());
            known.insert(request, Known { about, ended });
        }
        Self(known)
    }

    /// Whether `op`, which was not refused, names `session` of that birth.
    pub(crate) fn names(&self, op: &Op<'_>, session: &str, birth: Option<&Birth<'_>>) -> bool {
        match op.op {
            Operation::Unlink { session: named, .. } => named == session,
            Operation::Approve { replaces: Some(named), .. } => named == session,
            Operation::UnlinkOthers { account, keep, set_version, request } => {
                keep != session && self.is_among(request, *set_version, account, (session, birth))
            }
            Operation::ReplacePrimary { ends: Some(named), .. } => named.iter().any(|named| named == session),
            Operation::ReplacePrimary { account, keep_companions, request, .. } => {
                let goes = !keep_companions || birth.is_none_or(|birth| birth.is_primary);
                goes && self.is_among(request, None, account, (session, birth))
            }
            Operation::Delete { account, request } => self.is_among(request, None, account, (session, birth)),
            _ => false,
        }
    }

    /// Whether the session was in the set that the command is about, as far as anybody was told.
    fn is_among(
        &self,
        request: &str,
        set_version: Option<u64>,
        account: &str,
        (session, birth): (&str, Option<&Birth<'_>>),
    ) -> bool {
        let known = self.0.get(request);
        if let Some(ended) = known.and_then(|known| known.ended.as_ref()) {
            return ended.contains(session);
        }
        let about = set_version.or_else(|| known.and_then(|known| known.about));
        let Some(birth) = birth else { return true };
        // Born under a later version than the one that the command is about: not among those named.
        birth.account == account && !matches!((about, birth.version), (Some(of), Some(born)) if born > of)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::history::{Answer, Operation};
    use crate::story::Story;
    use crate::timeline::Timeline;

    fn replace_primary(keep_companions: bool, ends: Option<Vec<String>>) -> Operation {
        let (account, device_key, request) = ("a".into(), "k9".into(), "r9".into());
        Operation::ReplacePrimary { account, device_key, keep_companions, request, ends }
    }

    #[track_caller]
    fn named(story: &Story) -> Vec<&'static str> {
        let timeline = Timeline::new(&story.events).unwrap();
        let last = timeline.operations.last().unwrap();
        ["s1", "s2", "s3"].into_iter().filter(|session| timeline.names(last, session)).collect()
    }

    #[test]
    fn another_phone_names_the_primary_and_companions_only_if_they_are_not_kept() {
        let called = |op| {
            let mut story = Story::family();
            story.call("operator", op);
            story
        };
        assert_eq!(named(&called(replace_primary(true, None))), ["s1"]);
        assert_eq!(named(&called(replace_primary(false, None))), ["s1", "s2", "s3"]);
        assert_eq!(named(&called(replace_primary(false, Some(vec!["s1".into(), "s3".into()])))), ["s1", "s3"]);
    }

    #[test]
    fn what_the_answer_says_is_exact() {
        let mut story = Story::family();
        let answer = Answer { session: Some("s4".into()), ..Story::ended(&[("s1", "r9", 4), ("s2", "r9", 4)]) };
        story.ok("operator", replace_primary(false, None), answer);
        assert_eq!(named(&story), ["s1", "s2"]);
    }

    #[test]
    fn a_deletion_names_everybody() {
        let mut story = Story::family();
        story.call("operator", Operation::Delete { account: "a".into(), request: "r9".into() });
        assert_eq!(named(&story), ["s1", "s2", "s3"]);
        story.call("operator", Operation::Delete { account: "b".into(), request: "r9".into() });
        assert_eq!(named(&story), Vec::<&str>::new());
    }

    #[test]
    fn a_lock_and_a_new_key_name_nobody() {
        let mut story = Story::family();
        story.call("operator", Operation::Lock { account: "a".into(), request: "r9".into() });
        assert_eq!(named(&story), Vec::<&str>::new());
        let (account, session) = ("a".into(), "s2".into());
        story.call("web2", Operation::RotateKey { account, session, device_key: "k9".into(), request: "r8".into() });
        assert_eq!(named(&story), Vec::<&str>::new());
    }
}
