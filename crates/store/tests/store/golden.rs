//! Bytes that this version writes, word for word. A line that changes is a change of format: every cluster that exists
//! must still be read. New arms add lines.

use std::fmt::Write as _;

use kindred_core::id::hex;
use kindred_store::codec::{self, Kind};
use kindred_store::keys::{self, MetaKey};

use crate::samples;

const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn bytes_on_disk_are_what_they_always_were() {
    let mut now = String::new();
    let mut line = |name: String, bytes: &[u8]| writeln!(now, "{name} {}", hex(bytes)).unwrap();
    for (n, (key, record)) in samples::records().into_iter().enumerate() {
        let shard = kindred_core::id::ShardId(258);
        line(format!("key.{n}.{}", name(&key)), &keys::state(shard, 1, &key));
        line(format!("record.{n}.{}", name(&key)), &codec::encode_record(&record));
    }
    for (n, entry) in samples::entries().into_iter().take(samples::commands().len()).enumerate() {
        line(format!("entry.{n}.{}", name(&entry.commands[0].command)), &codec::encode_entry(&entry));
    }
    for key in MetaKey::ALL {
        line(format!("key.meta.{key:?}"), &keys::meta(kindred_core::id::ShardId(258), key));
        line(format!("sealed.{key:?}"), &codec::seal(key.kind(), b"payload"));
    }
    for kind in [Kind::Entry, Kind::NodeIdentity, Kind::Chunk, Kind::KeyIndex] {
        line(format!("sealed.{kind:?}"), &codec::seal(kind, b"payload"));
    }
    line("key.node_identity".into(), &keys::node_identity());
    for (now, golden) in now.lines().zip(GOLDEN.lines()) {
        assert_eq!(now, golden, "the format has changed");
    }
    assert_eq!(now.lines().count(), GOLDEN.lines().count(), "golden.txt lacks lines, or has too many:\n{now}");
}

/// The arm of a value, as its Debug begins.
fn name(value: &(impl std::fmt::Debug + ?Sized)) -> String {
    let text = format!("{value:?}");
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
}

#[test]
fn golden_records_can_still_be_read() {
    let lines: std::collections::BTreeMap<_, _> = GOLDEN.lines().filter_map(|line| line.split_once(' ')).collect();
    for (n, (key, record)) in samples::records().into_iter().enumerate() {
        let stored = lines[format!("record.{n}.{}", name(&key)).as_str()];
        let bytes = kindred_core::id::unhex(stored).unwrap().into();
        assert_eq!(codec::decode_record(&key, &bytes), Ok(record));
    }
}
