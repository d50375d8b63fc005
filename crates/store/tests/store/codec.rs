use std::fmt::Debug;

use bytes::Bytes;
use kindred_core::command::{Command, Committed, Decision, Proven};
use kindred_core::model::Rejection;
use kindred_core::state::{Key, Record};
use kindred_store::codec::{self, Kind, Malformed, Observed};

use crate::samples::{self, Random};

/// Everything that a codec promises of one value: it comes back, any prefix and any mutation of it is a value or
/// malformed, and whatever was read is written and read as itself.
fn holds<T: PartialEq + Debug>(
    seed: u64,
    value: &T,
    encode: impl Fn(&T) -> Bytes,
    decode: impl Fn(&Bytes) -> Result<T, Malformed>,
) {
    let bytes = encode(value);
    assert_eq!(decode(&bytes).as_ref(), Ok(value));
    for end in 0..bytes.len() {
        let _ = decode(&bytes.slice(..end));
    }
    let mut random = Random(seed);
    for _ in 0..200 {
        let mut mutated = bytes.to_vec();
        for _ in 0..1 + random.below(3) {
            match (mutated.len(), random.below(3)) {
                (0, _) | (_, 0) => mutated.push(u8::try_from(random.below(256)).unwrap()),
                (len, 1) => mutated[random.below(len)] ^= 1 << random.below(8),
                (len, _) => drop(mutated.drain(..random.below(len))),
            }
        }
        if let Ok(read) = decode(&mutated.into()) {
            assert_eq!(decode(&encode(&read)), Ok(read));
        }
    }
}

#[test]
fn records_of_every_arm_come_back() {
    for (n, (key, record)) in (0..).zip(samples::records()) {
        holds(n, &record, codec::encode_record, |bytes| codec::decode_record(&key, bytes));
    }
}

#[test]
fn entries_with_every_command_come_back() {
    for (n, entry) in (0..).zip(samples::entries()) {
        holds(n, &entry, codec::encode_entry, codec::decode_entry);
    }
}

#[test]
fn submissions_and_their_answers_come_back() {
    for (n, submission) in (0..).zip(samples::submissions()) {
        holds(n, &submission, codec::encode_submission, codec::decode_submission);
    }
    for (n, reply) in (0..).zip(samples::replies().into_iter().chain(samples::later_replies())) {
        let committed = Committed { reply, log_index: n, shard_time_ms: 2, nonce: vec![3; 24] };
        holds(n, &committed, codec::encode_committed, codec::decode_committed);
    }
}

#[test]
fn queries_and_their_answers_come_back() {
    for (n, query) in (0..).zip(samples::queries()) {
        holds(n, &query, codec::encode_query, codec::decode_query);
    }
    for (n, answer) in (0..).zip(samples::answers()) {
        holds(n, &answer, codec::encode_answer, codec::decode_answer);
        let observed = Observed { answer, age_ms: n, shard_time_ms: 2, applied_index: 3 };
        holds(n, &observed, codec::encode_observed, codec::decode_observed);
    }
}

#[test]
fn the_name_of_a_bad_field_survives_if_this_version_knows_it() {
    let fields = [
        "app_version",
        "code",
        "command",
        "display_name",
        "envelope",
        "home",
        "limit",
        "location",
        "platform",
        "ref",
        "ticket",
    ];
    for (field, read) in fields.into_iter().map(|field| (field, field)).chain([("of a later version", "request")]) {
        let reply = Err(Rejection::InvalidRequest(field));
        let committed = Committed { reply, log_index: 1, shard_time_ms: 2, nonce: vec![] };
        let bytes = codec::encode_committed(&committed);
        assert_eq!(codec::decode_committed(&bytes).unwrap().reply, Err(Rejection::InvalidRequest(read)));
    }
}

#[test]
fn a_sealed_record_notices_every_flipped_bit_and_every_cut() {
    let sealed = codec::seal(Kind::Vote, b"some payload");
    assert_eq!(codec::open(Kind::Vote, &sealed).unwrap(), &b"some payload"[..]);
    for bit in 0..sealed.len() * 8 {
        let mut bytes = sealed.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(codec::open(Kind::Vote, &bytes.into()), Err(Malformed("checksum of a record")));
    }
    for end in 0..sealed.len() {
        assert!(codec::open(Kind::Vote, &sealed.slice(..end)).is_err());
    }
}

#[test]
fn a_sealed_record_of_another_kind_or_version_is_refused() {
    let sealed = codec::seal(Kind::Vote, b"");
    assert_eq!(codec::open(Kind::Purged, &sealed), Err(Malformed("kind of a record")));
    let mut later = sealed[..2].to_vec();
    later[0] += 1;
    let sum = crc32c::crc32c(&later);
    later.extend_from_slice(&sum.to_be_bytes());
    assert_eq!(codec::open(Kind::Vote, &later.into()), Err(Malformed("format version of a record")));
}

#[test]
fn opening_copies_nothing() {
    let sealed = codec::seal(Kind::Entry, b"payload");
    let payload = codec::open(Kind::Entry, &sealed).unwrap();
    assert_eq!(payload.as_ptr(), sealed[2..].as_ptr());
}

#[test]
fn a_record_under_the_key_of_another_arm_is_refused() {
    let all = samples::records();
    for (_, record) in &all {
        let sealed = codec::encode_record(record);
        for (key, other) in &all {
            let fits = std::mem::discriminant(other) == std::mem::discriminant(record);
            assert_eq!(codec::decode_record(key, &sealed).is_ok(), fits, "{record:?} under {key:?}");
        }
    }
}

/// Replaces the only occurrence of `from`.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Bytes {
    let hits: Vec<_> = bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    let [at] = hits[..] else { panic!("{from:?} occurs {} times", hits.len()) };
    [&bytes[..at], to, &bytes[at + from.len()..]].concat().into()
}

#[test]
fn an_enum_value_of_a_later_version_is_malformed() {
    let key = Key::Account(samples::account_id());
    let account = kindred_core::model::Account { sessions: vec![samples::primary()], ..samples::account() };
    let sealed = codec::encode_record(&Record::Account(account));
    let payload = codec::open(Kind::Account, &sealed).unwrap();
    for role in [0, 7] {
        // Field 4, a varint, within the session, before field 5 of three parts.
        let changed = codec::seal(Kind::Account, &patched(&payload, &[0x20, 1, 0x2A], &[0x20, role, 0x2A]));
        assert_eq!(codec::decode_record(&key, &changed), Err(Malformed("role of a session")));
    }
    let decide = Command::DecideTicket {
        account: samples::account_id(),
        ticket: kindred_core::id::TicketId([0xEE; 16]),
        decision: Decision::Expired,
    };
    let bytes = codec::encode_entry(&samples::entry(vec![samples::envelope(Proven::Cluster, decide)]));
    let changed = patched(&bytes, &[0xEE, 0x18, 2], &[0xEE, 0x18, 3]);
    assert_eq!(codec::decode_entry(&changed), Err(Malformed("decision of a DecideTicket")));
}

#[test]
fn a_command_of_a_later_version_is_malformed() {
    let bytes = codec::encode_entry(&samples::entry(vec![samples::envelope(Proven::Cluster, Command::Tick)]));
    // Tick is field 16; 39 is nobody's yet.
    let changed = patched(&bytes, &[0x82, 0x01, 0], &[0xBA, 0x02, 0]);
    assert_eq!(codec::decode_entry(&changed), Err(Malformed("arm of a command")));
}

#[test]
fn noise_is_malformed_or_a_value_but_never_a_panic() {
    let mut random = Random(6);
    for _ in 0..20_000 {
        let noise: Bytes = (0..random.below(64)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        let _ = codec::decode_entry(&noise);
        let _ = codec::decode_submission(&noise);
        let _ = codec::decode_committed(&noise);
        let _ = codec::decode_query(&noise);
        let _ = codec::decode_answer(&noise);
        let _ = codec::decode_observed(&noise);
        assert!(codec::open(Kind::Entry, &noise).is_err());
    }
}
