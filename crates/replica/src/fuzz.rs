//! Mangled bytes to everything that reads another node or this node's own log: malformed, or a value that is written and
//! read as itself; and memory in proportion.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use kindred_core::id::ClusterId;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use prost::Message as _;

use crate::codec::{Compact, put_appended, put_transferred, take_appended, take_transferred};
use crate::forming::{Formed, Ids};
use crate::frames::{Failed, Failure, Frame, Frames, Hello, Kind};
use crate::identity::{Belonging, Stored};
use crate::network::take_append;
use crate::snapshot::{Answer, Chunk};
use crate::state::Applied;
use crate::types::{Data, LogEntry, Member, Membership, SnapshotMeta, StoredMembership, Types, Vote, log_id};

#[path = "../../../tests/support/allocation.rs"]
mod allocation;
#[path = "../../../tests/support/fuzz.rs"]
mod mangled;

use allocation::bounded;

const ROUNDS: usize = 3_000;

/// Whatever decodes encodes to something that decodes to something that encodes the same.
fn holds<T: Compact>(seed: u64, values: &[T]) {
    let samples: Vec<_> = values.iter().map(|value| value.encode().to_vec()).collect();
    for sample in &samples {
        assert_eq!(T::decode(Bytes::copy_from_slice(sample)).unwrap().encode(), sample, "a sample is none");
    }
    mangled::run(seed, samples, ROUNDS, |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        if let Ok(read) = bounded(bytes, || T::decode(shared)) {
            let written = read.encode();
            assert_eq!(T::decode(written.clone()).unwrap().encode(), written);
        }
    });
}

fn member(name: &str) -> Member {
    Member { node_id: 7, region: 2, name: name.into() }
}

fn membership() -> Membership {
    let nodes = BTreeMap::from([(1, member("a")), (2, member("b")), (u64::MAX, member("c"))]);
    Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, u64::MAX])], nodes).unwrap()
}

fn stored_membership() -> StoredMembership {
    StoredMembership::new(Some(log_id(3, 4)), membership())
}

fn meta() -> SnapshotMeta {
    SnapshotMeta { last_log_id: Some(log_id(5, 6)), last_membership: stored_membership() }
}

fn entries() -> Vec<LogEntry> {
    vec![
        LogEntry { log_id: log_id(3, 1), payload: EntryPayload::Blank },
        LogEntry { log_id: log_id(3, 2), payload: EntryPayload::Normal(Data(Bytes::from_static(b"entry"))) },
        LogEntry { log_id: log_id(4, 3), payload: EntryPayload::Membership(membership()) },
    ]
}

fn append() -> AppendEntriesRequest<Types> {
    AppendEntriesRequest {
        vote: Vote::new_committed(4, u64::MAX),
        prev_log_id: Some(log_id(2, 0)),
        entries: entries(),
        leader_commit: Some(log_id(4, 1)),
    }
}

#[test]
fn log_entries_and_memberships() {
    holds(1, &entries());
    holds(2, &[membership(), Membership::default()]);
    holds(3, &[stored_membership()]);
    holds(4, &[meta()]);
}

#[test]
fn what_candidates_and_leaders_ask() {
    holds(5, &[append()]);
    let mut request = VoteRequest::<Types>::new(Vote::new(5, 6), Some(log_id(1, 2)));
    request.leadership_transfer = true;
    holds(6, &[request, VoteRequest::new(Vote::new(5, 6), None)]);
    holds(7, &[VoteResponse::<Types>::new(Vote::new(1, 2), Some(log_id(1, 1)), true)]);
    holds(8, &[TransferLeaderRequest::<Types>::new(Vote::new_committed(1, 2), 3, Some(log_id(1, 1)))]);
    holds(9, &[Vote::new(1, 2), Vote::new_committed(3, 4)]);
}

#[test]
fn appends_with_their_age() {
    let mut whole = BytesMut::new();
    9_u32.put(&mut whole);
    append().put(&mut whole);
    assert_eq!(take_append(whole.clone().freeze()).unwrap().1, Some(9));
    mangled::run(10, vec![whole.to_vec()], ROUNDS, |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        let _ = bounded(bytes, || take_append(shared));
    });
}

#[test]
fn answers_of_followers() {
    let appended = [
        Ok(None),
        Ok(Some(log_id(1, 9))),
        Err(StreamAppendError::Conflict(log_id(1, 2))),
        Err(StreamAppendError::HigherVote(Vote::new(5, 6))),
    ];
    mangled::run(11, appended.iter().map(|result| put_appended(result).to_vec()).collect(), ROUNDS, |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        if let Ok(read) = bounded(bytes, || take_appended(shared)) {
            assert_eq!(take_appended(put_appended(&read)), Ok(read));
        }
    });
    let transferred = [
        Ok(()),
        Err(TransferLeaderError::VoteChanged { expected: Vote::new(1, 2), actual: Vote::new(3, 4) }),
        Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(1, 2)), actual: None }),
    ];
    mangled::run(12, transferred.iter().map(|result| put_transferred(result).to_vec()).collect(), ROUNDS, |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        if let Ok(read) = bounded(bytes, || take_transferred(shared)) {
            assert_eq!(take_transferred(put_transferred(&read)), Ok(read));
        }
    });
}

#[test]
fn chunks_of_snapshots_and_their_answers() {
    let pairs = vec![(Bytes::from_static(b"key"), Bytes::from_static(b"value")), (Bytes::new(), Bytes::new())];
    let chunk = Chunk { vote: Vote::new(1, 2), meta: meta(), snapshot: 3, sequence: 4, last: true, pairs };
    holds(13, &[chunk]);
    holds(14, &[Answer::Next(7), Answer::Vote(Vote::new(1, 2))]);
}

#[test]
fn introductions_and_what_forms_a_cluster() {
    let hello = |cluster| Hello { cluster, node_id: 7, name: "eu-0".into() };
    holds(15, &[hello(None), hello(Some(ClusterId([1; 16])))]);
    let ids = || Ids(BTreeMap::from([(1, 2), (100, u64::MAX)]));
    holds(16, &[ids()]);
    holds(17, &[Formed { member: member("a"), ids: ids() }]);
    holds(18, &[ClusterId([9; 16])]);
}

#[test]
fn what_a_node_keeps_of_itself() {
    let belonging = Belonging { cluster: Some(ClusterId([1; 16])), founding: true };
    holds(19, &[Stored { node_id: 7, name: "eu-0".into(), belonging }]);
    holds(20, &[Applied { generation: 1, applied: Some(log_id(1, 2)), membership: stored_membership() }]);
}

#[test]
fn frames() {
    let request = Frame::request(1, 2, Kind::Append, Bytes::from_static(b"payload"));
    let refused = request.answer(Err(Failed { failure: Failure::NotLeader, detail: Bytes::from_static(b"who") }));
    let frames = Frames { frames: vec![request, refused] };
    mangled::run(21, vec![frames.encode_to_vec()], ROUNDS, |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        if let Ok(read) = bounded(bytes, || Frames::decode(shared)) {
            assert_eq!(Frames::decode(read.encode_to_vec().as_slice()), Ok(read.clone()));
            for frame in read.frames {
                // Kinds and failures that nobody knows are among them.
                let _ = (Kind::try_from(frame.kind), frame.head(), frame.result());
            }
        }
    });
}

#[test]
fn counts_that_nothing_follows_take_no_memory() {
    // A vote, no previous log id, no commit, then four thousand million entries.
    let mut append = BytesMut::new();
    Vote::new(1, 2).put(&mut append);
    append.extend_from_slice(&[0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    let append = append.freeze();
    assert!(bounded(&append, || AppendEntriesRequest::<Types>::decode(append.clone())).is_err());
    let ids = Bytes::from_static(&[0xFF; 4]);
    assert!(bounded(&ids, || Ids::decode(ids.clone())).is_err());
    assert!(bounded(&ids, || Membership::decode(ids.clone())).is_err());
}
