//! Records, entries and messages of typed codes: they come back, and their bytes are what they always were.

use std::fmt::Write as _;

use kindred_core::code::{AttachedCode, Codes, MatchNumber, Standing};
use kindred_core::command::{Answer, CodeAnswer, Command, Committed, Effect, OutboxItem, Proven, Query, Submission};
use kindred_core::id::{Digest, RequestId, ShardId, TicketId, hex, unhex};
use kindred_core::model::{ApprovalKind, Method, Rejection, Ticket, TicketState};
use kindred_core::state::{Key, Record, Timer};
use kindred_store::codec;
use kindred_store::keys;

use crate::samples;

const GOLDEN: &str = include_str!("golden_codes.txt");

fn method(wrong_tries: u8) -> Method {
    Method::Code { account: samples::account_id(), wrong_tries }
}

fn codes(standing: Option<Standing>) -> Codes {
    let requester = samples::ticket(TicketState::Open).requester;
    let attached = |standing| AttachedCode {
        ticket: TicketId([3; 16]),
        requester: requester.clone(),
        attached_at_ms: 4,
        standing,
    };
    Codes { attached: standing.map(attached), over: vec![TicketId([5; 16]), TicketId([6; 16])], until_ms: 7 }
}

fn effects() -> Vec<Effect> {
    let (account, ticket) = (samples::account_id(), TicketId([1; 16]));
    let requester = samples::ticket(TicketState::Open).requester;
    vec![
        Effect::AttachCode { account: account.clone(), ticket, requester },
        Effect::HoldCode { account: account.clone(), ticket },
        Effect::DetachCode { account, ticket },
    ]
}

fn rejections() -> Vec<Rejection> {
    vec![Rejection::TicketLocked, Rejection::CodeMismatch { left: 4 }, Rejection::StepUpRequired]
}

fn records() -> Vec<(Key, Record)> {
    let ticket = |method, contested, state| Ticket { method, contested, ..samples::ticket(state) };
    let tickets = [
        ticket(method(0), false, TicketState::Open),
        ticket(method(4), false, TicketState::Scanned(samples::scan())),
        ticket(method(5), false, TicketState::Locked),
        ticket(Method::Qr, true, TicketState::Scanned(samples::scan())),
    ];
    let mut all: Vec<_> = tickets.into_iter().map(|t| (Key::Ticket(t.id), Record::Ticket(t))).collect();
    for standing in [Some(Standing::Waiting), Some(Standing::Held), Some(Standing::Over), None] {
        all.push((Key::Codes(samples::account_id()), Record::Codes(codes(standing))));
    }
    all.push((Key::Timer(77, Timer::CodesRemoval(samples::account_id())), Record::Timer));
    for (id, effect) in (9..).zip(effects()) {
        all.push((Key::Outbox(id), Record::Outbox(OutboxItem { id, due_ms: 10, effect })));
    }
    for reason in rejections() {
        let reply =
            kindred_core::command::KeptReply { command_hash: Digest([1; 32]), log_index: 2, reply: Err(reason) };
        all.push((Key::TicketReply(TicketId([1; 16]), RequestId([1; 16])), Record::Reply(reply)));
    }
    all
}

fn commands() -> Vec<Command> {
    let (account, ticket) = (samples::account_id(), TicketId([1; 16]));
    let requester = samples::ticket(TicketState::Open).requester;
    let approval = samples::approval(ApprovalKind::Link);
    vec![
        Command::Open { ticket, device_key: approved_key(), method: method(0), requester: requester.clone() },
        Command::ScanCode { ticket, scan: samples::scan(), tried: Digest([2; 32]), right: true },
        Command::ScanCode { ticket, scan: samples::scan(), tried: Digest([3; 32]), right: false },
        Command::Approve { ticket, approval, envelope: vec![1, 2], number: MatchNumber::new(42) },
        Command::AttachCode { account: account.clone(), ticket, requester },
        Command::HoldCode { account: account.clone(), ticket },
        Command::DetachCode { account, ticket },
    ]
}

fn approved_key() -> kindred_core::id::DeviceKey {
    kindred_core::id::DeviceKey([3; 32])
}

#[test]
fn records_commands_and_messages_of_codes_come_back() {
    for (key, record) in records() {
        assert_eq!(codec::decode_record(&key, &codec::encode_record(&record)), Ok(record));
        let bytes = keys::state(ShardId(7), 3, &key);
        assert_eq!(keys::parse_state(&bytes), Ok((ShardId(7), 3, key)));
    }
    for command in commands() {
        let entry = samples::entry(vec![samples::envelope(Proven::Cluster, command.clone())]);
        assert_eq!(codec::decode_entry(&codec::encode_entry(&entry)), Ok(entry));
        let envelope = samples::envelope(Proven::Cluster, command);
        let typed = Some(b"BCDFGHJK".to_vec());
        let submission = Submission { envelope, proof: None, possession: None, reference: typed, propose_within_ms: 5 };
        assert_eq!(codec::decode_submission(&codec::encode_submission(&submission)), Ok(submission));
    }
    for rejection in rejections() {
        let committed = Committed { reply: Err(rejection), log_index: 1, shard_time_ms: 2, nonce: Vec::new() };
        assert_eq!(codec::decode_committed(&codec::encode_committed(&committed)), Ok(committed));
    }
    let query = Query::Code(samples::account_id());
    assert_eq!(codec::decode_query(&codec::encode_query(&query)), Ok(query));
    let requester = samples::ticket(TicketState::Open).requester;
    let code = CodeAnswer { ticket: TicketId([1; 16]), requester, age_ms: 2, ttl_ms: 3, standing: Standing::Held };
    for answer in [Answer::Code(None), Answer::Code(Some(Box::new(code)))] {
        assert_eq!(codec::decode_answer(&codec::encode_answer(&answer)), Ok(answer));
    }
}

#[test]
fn the_records_of_codes_lie_behind_all_others_of_core() {
    let mut keys: Vec<Key> = samples::records().into_iter().chain(records()).map(|(key, _)| key).collect();
    keys.sort();
    let bytes: Vec<_> = keys.iter().map(|key| keys::state(ShardId(7), 3, key)).collect();
    for (keys, bytes) in keys.windows(2).zip(bytes.windows(2)) {
        assert_eq!(keys[0].cmp(&keys[1]), bytes[0].cmp(&bytes[1]), "{keys:?}");
    }
}

#[test]
fn bytes_of_codes_on_disk_are_what_they_always_were() {
    let mut now = String::new();
    for (n, (key, record)) in records().into_iter().enumerate() {
        writeln!(now, "key.{n} {}", hex(&keys::state(ShardId(258), 1, &key))).unwrap();
        writeln!(now, "record.{n} {}", hex(&codec::encode_record(&record))).unwrap();
    }
    for (n, command) in commands().into_iter().enumerate() {
        let entry = samples::entry(vec![samples::envelope(Proven::Cluster, command)]);
        writeln!(now, "entry.{n} {}", hex(&codec::encode_entry(&entry))).unwrap();
    }
    assert_eq!(now, GOLDEN, "the format has changed:\n{now}");
    let lines: std::collections::BTreeMap<_, _> = GOLDEN.lines().filter_map(|line| line.split_once(' ')).collect();
    for (n, (key, record)) in records().into_iter().enumerate() {
        let bytes = unhex(lines[format!("record.{n}").as_str()]).unwrap().into();
        assert_eq!(codec::decode_record(&key, &bytes), Ok(record));
    }
}
