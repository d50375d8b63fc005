//! Validations in messages of many questions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_client::{Member, Operator};
use kindred_core::limits::SESSIONS_ASKED_MAX;
use kindred_wire::convert::raw;
use kindred_wire::pb::error::v1::Reason as PbReason;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_wire::pb::session::v1::{Level, Question, ValidateReply, ValidateRequest, ValidateStreamRequest};
use kindred_wire::reason::Reason;
use kindred_wire::shards::ShardError;
use support::Cluster;

fn question(member: &Member) -> Question {
    Question { account: raw(member.account.as_bytes()), session: raw(member.session.as_bytes()), min_set_version: 0 }
}

fn message(questions: Vec<Question>) -> ValidateStreamRequest {
    ValidateStreamRequest { batch: 9, level: Level::Linearizable.into(), questions, home_region: String::new() }
}

fn doubt(reply: &ValidateReply) -> PbReason {
    let Some(Verdict::Undetermined(doubt)) = &reply.verdict else { panic!("{reply:?}") };
    doubt.reason()
}

#[tokio::test]
async fn many_questions_are_answered_as_each_would_be_alone_and_in_their_order() {
    let cluster = Cluster::start().await;
    let mut ann = cluster.register("ann", "west").await;
    let bob = cluster.register("bob", "east").await;
    let (gone, _) = cluster.linked("north", &mut ann).await;
    let client = cluster.client(&["north"]);
    client.unlink(&ann, &gone.session, cluster.request()).await.unwrap();
    let unknown = Question { session: raw(&[7; 16]), ..question(&ann) };
    let nobody = Question { account: raw(b"nobody"), ..question(&ann) };
    let behind = Question { min_set_version: 99, ..question(&bob) };
    let questions = vec![question(&bob), question(&gone), unknown, question(&ann), nobody, behind];
    // The wrong hint, no hint, and the right one for some of them: homes are found either way.
    for home_region in ["", "west", "no such region"] {
        let asked = ValidateStreamRequest { home_region: home_region.into(), ..message(questions.clone()) };
        let answer = client.validate_many(asked).await.unwrap();
        assert_eq!((answer.batch, answer.replies.len()), (9, questions.len()));
        for (question, reply) in questions.iter().zip(&answer.replies) {
            let alone = ValidateRequest {
                account: question.account.clone(),
                session: question.session.clone(),
                level: Level::Linearizable.into(),
                min_set_version: question.min_set_version,
                home_region: String::new(),
            };
            let mut expected = client.validate(alone).await.unwrap();
            if let Some(Verdict::Valid(valid)) = &mut expected.verdict {
                assert!(valid.session.take().is_some(), "alone, it comes with its record");
            }
            assert_eq!((&reply.verdict, reply.set_version), (&expected.verdict, expected.set_version));
        }
        assert!(matches!(answer.replies[0].verdict, Some(Verdict::Valid(_))));
        assert!(matches!(&answer.replies[1].verdict, Some(Verdict::SignedOut(out)) if out.tombstone.is_some()));
    }
}

#[tokio::test]
async fn a_shard_that_does_not_answer_leaves_the_other_verdicts_alone() {
    let cluster = Cluster::start().await;
    let ann = cluster.register("ann", "west").await;
    let bob = cluster.register("bob", "east").await;
    let shard = cluster.groups.account_shard("west", &ann.account);
    cluster.groups.fail_queries(shard, Some(ShardError::Overloaded { retry_after_ms: 9 }));
    let answer = cluster.client(&["north"]).validate_many(message(vec![question(&ann), question(&bob)])).await.unwrap();
    assert_eq!(doubt(&answer.replies[0]), PbReason::Overloaded);
    assert!(matches!(answer.replies[1].verdict, Some(Verdict::Valid(_))));
}

#[tokio::test]
async fn a_locked_accounts_sessions_are_suspended_and_not_signed_out() {
    let cluster = Cluster::start().await;
    let ann = cluster.register("ann", "east").await;
    let client = cluster.client(&[support::OPS]);
    Operator { client: &client, account: &ann.account, request: cluster.request() }.lock().await.unwrap();
    let answer = cluster.client(&["north"]).validate_many(message(vec![question(&ann)])).await.unwrap();
    assert!(matches!(&answer.replies[0].verdict, Some(Verdict::Suspended(it)) if it.session.is_none()), "{answer:?}");
}

#[tokio::test]
async fn one_question_that_cannot_be_one_is_malformed_and_a_message_of_none_or_too_many_is_refused() {
    let cluster = Cluster::start().await;
    let ann = cluster.register("ann", "east").await;
    let client = cluster.client(&["north"]);
    let short = Question { session: raw(b"short"), ..question(&ann) };
    let long = Question { account: raw(&[1; 65]), ..question(&ann) };
    let answer = client.validate_many(message(vec![short, question(&ann), long])).await.unwrap();
    let is_malformed = |reply: &ValidateReply| matches!(reply.verdict, Some(Verdict::Malformed(_)));
    assert_eq!(answer.replies.iter().map(is_malformed).collect::<Vec<_>>(), [true, false, true]);
    assert!(matches!(answer.replies[1].verdict, Some(Verdict::Valid(_))));
    for wrong in [0, SESSIONS_ASKED_MAX + 1] {
        let error = client.validate_many(message(vec![question(&ann); wrong])).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::InvalidRequest));
    }
    let most = client.validate_many(message(vec![question(&ann); SESSIONS_ASKED_MAX])).await.unwrap();
    assert_eq!(most.replies.len(), SESSIONS_ASKED_MAX);
}
