//! What a device reads off a screen, and what it is told by a cluster that it does not trust.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use kindred_client::{Qr, View};
use kindred_core::id::{Digest, RequestId, SessionId};
use kindred_core::model::SetChange;
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;
use prost::Message;

#[path = "../../../tests/support/allocation.rs"]
mod allocation;
#[path = "../../../tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../store/tests/store/samples.rs"]
#[allow(dead_code)]
mod samples;

use allocation::bounded;

const ROUNDS: usize = 3_000;

#[test]
fn a_qr_payload_has_a_ref_and_a_key_of_their_lengths_or_is_none() {
    let payload = format!("kindred://link/1?r={}&k={}&g=north", "A".repeat(46), "A".repeat(43));
    assert!(Qr::parse(&payload).is_some());
    fuzz::run_text(1, &[&payload, "kindred://link/1?&&==&r=&k"], ROUNDS, |text| {
        if let Some(qr) = bounded(text.as_bytes(), || Qr::parse(text)) {
            assert_eq!(qr.reference.len(), 34);
            assert!(qr.ticket().is_some());
        }
    });
}

#[test]
fn a_view_goes_on_only_by_what_follows_from_it() {
    let change = SetChange {
        version: 1,
        digest: Digest([0; 32]),
        added: vec![samples::session(3)],
        ended: vec![],
        command: RequestId([2; 16]),
        log_index: 6,
        wall_ms: 7,
    };
    let mut first = convert::change(&change);
    let start = View::empty(&samples::account_id());
    first.digest = convert::raw(kindred_client::chain::follows(start.digest(), &first).unwrap().as_bytes());
    assert!(start.clone().advance(std::slice::from_ref(&first)).is_ok());
    fuzz::run(2, vec![first.encode_to_vec()], ROUNDS, |bytes| {
        let Ok(change) = pb::SetChange::decode(bytes) else { return };
        let mut view = start.clone();
        if bounded(bytes, || view.advance(std::slice::from_ref(&change))).is_ok() {
            // The digest covers who is in it, so whatever else was mangled, this was not.
            let sessions: Vec<_> = view.sessions().iter().map(|(id, seq)| (*id, *seq)).collect();
            assert_eq!((view.version(), sessions), (1, vec![(SessionId([3; 16]), 3)]));
        } else {
            assert_eq!(view.version(), 0, "a refused change moved the view");
        }
    });
}

#[test]
fn snapshots_and_answers_are_taken_whole_or_not_at_all() {
    let record = convert::session(&samples::session(3));
    let snapshot = pb::Snapshot { sessions: vec![record], set_version: 4, set_digest: convert::raw(&[7; 32]) };
    let behind = pb::Behind { snapshot: Some(snapshot.clone()), ..pb::Behind::default() };
    let reply = pb::ReconcileReply {
        result: Some(pb::reconcile_reply::Result::Behind(behind)),
        set_version: 4,
        set_digest: convert::raw(&[7; 32]),
    };
    let start = View::empty(&samples::account_id());
    fuzz::run(3, vec![snapshot.encode_to_vec(), reply.encode_to_vec()], ROUNDS, |bytes| {
        let mut view = start.clone();
        if let Ok(snapshot) = pb::Snapshot::decode(bytes)
            && bounded(bytes, || view.replace(&snapshot)).is_err()
        {
            assert_eq!(view.version(), 0);
        }
        let mut view = start.clone();
        if let Ok(reply) = pb::ReconcileReply::decode(bytes)
            && bounded(bytes, || view.reconciled(&reply)).is_err()
        {
            assert_eq!(view.version(), 0);
        }
    });
}
