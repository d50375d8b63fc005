//! Mangled bytes to everything that reads a disk or another node: malformed, or a value that is written and read as
//! itself; and memory in proportion.

use std::fmt::Debug;

use bytes::Bytes;
use kindred_core::command::Committed;
use kindred_core::id::ShardId;
use kindred_store::codec::{self, Kind, Malformed, Observed};
use kindred_store::keys;

use crate::samples;

#[path = "../../../../tests/support/allocation.rs"]
mod allocation;
#[path = "../../../../tests/support/fuzz.rs"]
mod mangled;

use allocation::bounded;

const ROUNDS: usize = 3_000;

/// Mangles what `encode` makes of all values.
fn holds<T: PartialEq + Debug>(
    seed: u64,
    values: &[T],
    encode: impl Fn(&T) -> Bytes,
    decode: impl Fn(&Bytes) -> Result<T, Malformed>,
) {
    let samples = values.iter().map(|value| encode(value).to_vec()).collect();
    mangled::run(seed, samples, ROUNDS, |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        if let Ok(read) = bounded(bytes, || decode(&shared)) {
            assert_eq!(decode(&encode(&read)), Ok(read));
        }
    });
}

#[test]
fn mangled_records_of_every_kind_are_malformed_or_values() {
    let records = samples::records();
    let payloads: Vec<_> = records
        .iter()
        .map(|(_, record)| codec::encode_record(record))
        .map(|sealed| sealed[2..sealed.len() - 4].to_vec())
        .collect();
    let kinds: Vec<_> = records.iter().map(|(_, record)| codec::encode_record(record)[1]).collect();
    for ((seed, (key, _)), kind) in (0..).zip(&records).zip(kinds) {
        // The checksum is made good again, or it would shield everything behind it.
        mangled::run(seed, payloads.clone(), ROUNDS / 10, |payload| {
            let sealed = resealed(kind, payload);
            if let Ok(read) = bounded(&sealed, || codec::decode_record(key, &sealed)) {
                assert_eq!(codec::decode_record(key, &codec::encode_record(&read)), Ok(read));
            }
        });
    }
}

/// [`codec::seal`] for a kind that is a number.
fn resealed(kind: u8, payload: &[u8]) -> Bytes {
    let mut body = [&[codec::FORMAT, kind], payload].concat();
    body.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    body.into()
}

#[test]
fn mangled_seals_do_not_open() {
    let sealed = codec::seal(Kind::Chunk, b"a chunk of a snapshot");
    mangled::run(40, vec![sealed.to_vec()], ROUNDS, |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        assert_eq!(bounded(bytes, || codec::open(Kind::Chunk, &shared)).is_ok(), sealed == bytes);
    });
}

#[test]
fn mangled_entries_and_submissions_are_malformed_or_values() {
    holds(41, &samples::entries(), codec::encode_entry, codec::decode_entry);
    holds(42, &samples::submissions(), codec::encode_submission, codec::decode_submission);
    let committed = |reply| Committed { reply, log_index: 1, shard_time_ms: 2, nonce: vec![3; 24] };
    let committed: Vec<_> = samples::replies().into_iter().map(committed).collect();
    holds(43, &committed, codec::encode_committed, codec::decode_committed);
}

#[test]
fn mangled_queries_and_answers_are_malformed_or_values() {
    holds(44, &samples::queries(), codec::encode_query, codec::decode_query);
    holds(45, &samples::answers(), codec::encode_answer, codec::decode_answer);
    let observed = |answer| Observed { answer, age_ms: 1, shard_time_ms: 2, applied_index: 3 };
    let observed: Vec<_> = samples::answers().into_iter().map(observed).collect();
    holds(46, &observed, codec::encode_observed, codec::decode_observed);
}

#[test]
fn mangled_keys_are_malformed_or_exactly_what_is_written() {
    let shard = ShardId(258);
    let mut samples: Vec<_> = samples::records().iter().map(|(key, _)| keys::state(shard, 1, key)).collect();
    samples.push(keys::log(shard, 7));
    mangled::run(47, samples, 3 * ROUNDS, |bytes| {
        if let Ok((shard, generation, key)) = bounded(bytes, || keys::parse_state(bytes)) {
            assert_eq!(keys::state(shard, generation, &key), bytes);
        }
        if let Ok((shard, index)) = keys::parse_log(bytes) {
            assert_eq!(keys::log(shard, index), bytes);
        }
    });
}

#[test]
fn lists_of_nothing_take_memory_in_proportion() {
    // Of every record and message, each field that may be a list of empty messages, 4,000 times.
    for tag in 1..64_u8 {
        let list = [tag << 3 | 2, 0].repeat(4_000);
        let shared = Bytes::from(list.clone());
        let _ = bounded(&list, || codec::decode_entry(&shared));
        let _ = bounded(&list, || codec::decode_submission(&shared));
        let _ = bounded(&list, || codec::decode_answer(&shared));
        for (key, record) in samples::records() {
            let sealed = resealed(codec::encode_record(&record)[1], &list);
            let _ = bounded(&sealed, || codec::decode_record(&key, &sealed));
        }
    }
}

#[test]
#[should_panic(expected = "were taken to decode")]
fn memory_out_of_proportion_would_be_noticed() {
    bounded(&[0], || vec![0_u8; 1 << 20]);
}
