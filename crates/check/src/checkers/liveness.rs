//! After the storm everything heals, converges and serves (L1, L2).
//!
//! A note `step` named `serve` says that everything that was broken is whole again. From there on, until the next fault,
//! whoever asks for something and asks again is answered: of each question of each client at least one attempt has an
//! answer or a refusal, and UNDETERMINED is none. One attempt that is not repeated says nothing: a leader may change at any
//! time. A client that got no answer may go on under another name: what stands
//! behind a `~` in it does not count.

use std::collections::BTreeMap;

use crate::history::{Note, Operation, Outcome, Verdict};
use crate::report::Violation;
use crate::timeline::{Position, Timeline};

/// The name under which violations are counted.
pub const NAME: &str = "not_served";

/// Name of the step from which on everything must be answered.
pub const SERVE: &str = "serve";

/// A question: the calm in which it was asked, by whom, its name, and all of it.
type Question<'t> = (Position, &'t str, &'t str, String);

/// How often a question was asked, whether it was answered, and the operation that asked first.
#[derive(Default)]
struct Attempts {
    made: u64,
    is_answered: bool,
    first: u64,
}

/// Runs the check; without a step `serve` there is nothing to say.
pub fn check(timeline: &Timeline<'_>) -> Vec<Violation> {
    let calm = calm(timeline);
    let mut asked: BTreeMap<Question<'_>, Attempts> = BTreeMap::new();
    for op in &timeline.operations {
        // Watches wait for what may never come.
        if matches!(op.op, Operation::Watch { .. } | Operation::WatchLinked { .. }) {
            continue;
        }
        let Some((from, until)) = calm.iter().find(|(from, until)| (*from..*until).contains(&op.call)) else {
            continue;
        };
        let is_answered = match op.outcome {
            Outcome::Ok(answer) => answer.verdict != Some(Verdict::Undetermined),
            Outcome::Refused(_) => true,
            // The next storm may have swallowed it.
            Outcome::Unknown => *until < Position::MAX && op.done.is_none_or(|done| done > *until),
        };
        let client = op.client.split('~').next().unwrap_or_default();
        let question = (*from, client, op.op.name(), format!("{:?}", op.op));
        let attempts = asked.entry(question).or_insert_with(|| Attempts { first: op.id, ..Attempts::default() });
        attempts.made += 1;
        attempts.is_answered |= is_answered;
    }
    let unanswered = asked.into_iter().filter(|(_, attempts)| attempts.made > 1 && !attempts.is_answered);
    unanswered
        .map(|((_, client, name, _), Attempts { first: id, .. })| {
            let text = format!("{name} by {client} was never answered, though everything had healed");
            Violation::new(NAME, client, text, [id])
        })
        .collect()
}

/// Whether the history has a part in which everything must be answered.
pub fn is_judged(timeline: &Timeline<'_>) -> bool {
    !calm(timeline).is_empty()
}

/// The parts of the history in which nothing is broken: from a step `serve` to the next fault.
fn calm(timeline: &Timeline<'_>) -> Vec<(Position, Position)> {
    let mut calm: Vec<(Position, Position)> = Vec::new();
    for (_, position, note) in &timeline.notes {
        let open = calm.last_mut().filter(|(_, until)| *until == Position::MAX);
        match (note, open) {
            (Note::Step { name, .. }, None) if name == SERVE => calm.push((*position, Position::MAX)),
            (Note::Fault { .. } | Note::Kill { .. } | Note::Freeze { .. }, Some((_, until))) => *until = *position,
            _ => {}
        }
    }
    calm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{found, passes_good};
    use crate::history::Level;
    use crate::story::Story;

    fn serve(story: &mut Story) {
        story.note(Note::Step { name: SERVE.into(), ms: 1 });
    }

    fn list() -> Operation {
        Operation::List { account: "a".into(), level: Level::Linearizable }
    }

    #[test]
    fn a_good_history_passes() {
        passes_good(check);
    }

    #[test]
    fn after_the_storm_whoever_asks_again_is_answered() {
        let mut story = Story::family();
        story.call("reader", list());
        serve(&mut story);
        let lost = story.call("reader", list());
        story.ret(lost, Outcome::Unknown);
        assert_eq!(found(check, &story), Vec::<String>::new(), "it may ask again");
        let lost = story.call("reader~1", list());
        story.ret(lost, Outcome::Unknown);
        assert_eq!(found(check, &story), ["not_served reader"]);
        story.ok("reader~2", list(), Story::linked("s3", 3, &["s1", "s2", "s3"]));
        assert_eq!(found(check, &story), Vec::<String>::new());
    }

    #[test]
    fn undetermined_is_no_answer() {
        let mut story = Story::family();
        serve(&mut story);
        story.validate("s2", Verdict::Undetermined, 3, None);
        story.validate("s2", Verdict::Undetermined, 3, None);
        assert_eq!(found(check, &story), ["not_served gateway"]);
    }

    #[test]
    fn the_next_storm_ends_the_calm() {
        let mut story = Story::family();
        serve(&mut story);
        story.call("reader", list());
        story.note(Note::Kill { node: "n1".into(), shard: None, point: "leader".into(), log_index: None });
        story.call("reader", list());
        assert_eq!(found(check, &story), Vec::<String>::new());
    }
}
