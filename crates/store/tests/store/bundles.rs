//! Whole accounts and views of session sets: they come back, and their bytes are what they always were.

use std::fmt::Write as _;

use kindred_core::bundle::{Bundle, Page};
use kindred_core::command::{
    Answer, Command, Committed, Compared, Entry, Envelope, Outcome, Proven, Query, Submission,
};
use kindred_core::id::{AccountId, ClaimId, Digest, RegionIndex, RequestId, SessionId, TicketId, hex};
use kindred_core::model::{EndReason, SetChange, Stub};
use kindred_core::reconcile::{Believed, Differences, Set, Standing, Unexpected, Verdict};
use kindred_store::codec;

use crate::samples;

const GOLDEN: &str = include_str!("golden_bundles.txt");

fn bundle() -> Bundle {
    Bundle {
        account: samples::account(),
        tombstones: vec![samples::tombstone(4), samples::tombstone(5)],
        stubs: vec![],
        linked: vec![(TicketId([1; 16]), samples::receipt())],
        time_ms: 99,
    }
}

fn install() -> Command {
    Command::Install { bundle: Box::new(bundle()), claim: ClaimId([2; 16]), home: RegionIndex(3) }
}

fn outcomes() -> [Outcome; 2] {
    [false, true].map(|again| Outcome::Installed { set_version: 4, auth_epoch: 5, again })
}

fn queries() -> Vec<Query> {
    let ann = samples::account_id();
    let view = |set| Query::Reconcile(ann.clone(), Believed { set_version: 6, set });
    vec![
        Query::Export(None),
        Query::Export(Some(ann.clone())),
        view(Set::Digest(Digest([7; 32]))),
        view(Set::Sessions(vec![])),
        view(Set::Sessions(vec![(SessionId([8; 16]), 9), (SessionId([1; 16]), 0)])),
    ]
}

fn answers() -> Vec<Answer> {
    let verdict = |verdict| Answer::Reconcile(Some(Box::new(Compared { account: samples::account(), verdict })));
    let change = SetChange {
        version: 5,
        digest: Digest([1; 32]),
        added: vec![samples::session(3)],
        ended: vec![samples::tombstone(4)],
        command: kindred_core::id::RequestId([2; 16]),
        log_index: 6,
        wall_ms: 7,
    };
    let standings = [Standing::Ended(Box::new(samples::tombstone(4))), Standing::OtherSeq(0), Standing::Unknown];
    let unexpected = standings.into_iter().map(|standing| Unexpected { session: SessionId([2; 16]), seq: 3, standing });
    let differences = Differences {
        unexpected: unexpected.collect(),
        missing: vec![SessionId([4; 16])],
        digest: Some((5, Digest([6; 32]))),
    };
    let named = |id: &[u8]| AccountId::new(id).unwrap();
    vec![
        Answer::Export(Box::default()),
        Answer::Export(Box::new(Page {
            bundles: vec![bundle()],
            too_large: vec![named(b"bert")],
            last: Some(named(b"cleo")),
        })),
        Answer::Reconcile(None),
        verdict(Verdict::InSync),
        verdict(Verdict::Behind { changes: vec![change], ended: vec![samples::tombstone(4)], stubs: vec![] }),
        verdict(Verdict::Behind { changes: vec![], ended: vec![], stubs: vec![] }),
        verdict(Verdict::Diverged(differences)),
        verdict(Verdict::Diverged(Differences::default())),
    ]
}

#[test]
fn installs_exports_and_views_come_back() {
    let envelope = samples::envelope(Proven::Operator("ops".into()), install());
    let entry = samples::entry(vec![envelope.clone()]);
    assert_eq!(codec::decode_entry(&codec::encode_entry(&entry)), Ok(entry));
    let submission = Submission { envelope, proof: None, reference: None, possession: None, propose_within_ms: 5 };
    assert_eq!(codec::decode_submission(&codec::encode_submission(&submission)), Ok(submission));
    for outcome in outcomes() {
        let committed = Committed { reply: Ok(outcome), log_index: 1, shard_time_ms: 2, nonce: Vec::new() };
        assert_eq!(codec::decode_committed(&codec::encode_committed(&committed)), Ok(committed));
    }
    for query in queries() {
        assert_eq!(codec::decode_query(&codec::encode_query(&query)), Ok(query));
    }
    for answer in answers() {
        assert_eq!(codec::decode_answer(&codec::encode_answer(&answer)), Ok(answer));
    }
}

#[test]
fn no_part_of_an_answer_that_was_cut_short_is_taken_for_the_whole() {
    for answer in answers() {
        let bytes = codec::encode_answer(&answer);
        for len in 0..bytes.len() {
            // Cut between two fields it may decode, to less; never to the same.
            assert_ne!(codec::decode_answer(&bytes.slice(..len)), Ok(answer.clone()));
        }
    }
}

#[test]
fn bytes_of_installs_are_what_they_always_were() {
    let mut now = String::new();
    let entry = samples::entry(vec![samples::envelope(Proven::Operator("ops".into()), install())]);
    writeln!(now, "entry.install {}", hex(&codec::encode_entry(&entry))).unwrap();
    for (n, outcome) in outcomes().into_iter().enumerate() {
        let committed = Committed { reply: Ok(outcome), log_index: 1, shard_time_ms: 2, nonce: Vec::new() };
        writeln!(now, "committed.{n} {}", hex(&codec::encode_committed(&committed))).unwrap();
    }
    for (n, query) in queries().into_iter().enumerate() {
        writeln!(now, "query.{n} {}", hex(&codec::encode_query(&query))).unwrap();
    }
    for (n, answer) in answers().into_iter().enumerate() {
        writeln!(now, "answer.{n} {}", hex(&codec::encode_answer(&answer))).unwrap();
    }
    assert_eq!(now, GOLDEN, "the format has changed:\n{now}");
}

#[test]
fn sessions_that_ended_long_ago_come_along() {
    let stub = Stub { session: SessionId([6; 16]), seq: 7, reason: EndReason::SelfLogout, log_index: 8 };
    let account = samples::account_id();
    let command = Command::Install {
        bundle: Box::new(Bundle { stubs: vec![stub], ..bundle() }),
        claim: ClaimId([2; 16]),
        home: RegionIndex(3),
    };
    let envelope = Envelope { request: RequestId([1; 16]), policy_version: 0, proven: Proven::Cluster, command };
    let entry = Entry { elapsed_ms: 1, wall_ms: 2, entropy: [3; 32], commands: vec![envelope] };
    assert_eq!(codec::decode_entry(&codec::encode_entry(&entry)), Ok(entry));
    let before = Unexpected { session: stub.session, seq: stub.seq, standing: Standing::EndedBefore(stub) };
    for verdict in [
        Verdict::Behind { changes: vec![], ended: vec![], stubs: vec![stub] },
        Verdict::Diverged(Differences { unexpected: vec![before], ..Differences::default() }),
    ] {
        let answer = Answer::Reconcile(Some(Box::new(Compared { account: samples::account(), verdict })));
        assert_eq!(codec::decode_answer(&codec::encode_answer(&answer)), Ok(answer), "{account}");
    }
}
