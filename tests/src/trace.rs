//! The system calls of a node, as strace saw them: what was written into which file, and when it was on the disk.
//!
//! A node runs as strace's child, which needs no privilege (Yama lets nobody attach to a stranger). A call is written
//! down before its thread may go on, so whatever caused an answer is in the trace when the answer arrives.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use kindred_core::id::ShardId;

/// Prefix of the trace files in a node's directory, one file per thread.
const PREFIX: &str = "strace";

/// One completed system call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// The file behind its first argument.
    pub path: String,
    /// What it wrote.
    pub bytes: Vec<u8>,
    /// True unless it failed.
    pub is_done: bool,
    /// When it began, microseconds since the Unix epoch.
    pub began_us: u64,
    /// When it had returned, or a little later.
    pub ended_us: u64,
}

/// When an entry was on a node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Its bytes were with the kernel.
    pub written_us: u64,
    /// A sync of that file began after that.
    pub sync_began_us: u64,
    /// That sync had returned.
    pub synced_us: u64,
}

/// Fails, in a line that says what to do, unless strace works here.
pub fn check() -> anyhow::Result<()> {
    match Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output() {
        Ok(ran) if ran.status.success() => Ok(()),
        Ok(ran) => bail!(
            "strace cannot trace here (ptrace is forbidden, in a sandbox or by seccomp; allow it, docker run \
             --cap-add SYS_PTRACE, say): {}",
            String::from_utf8_lossy(&ran.stderr).trim()
        ),
        Err(_) => {
            bail!("strace is missing; install it (Debian, Ubuntu: apt-get install strace; Fedora: dnf install strace)")
        }
    }
}

/// The same command, with its writes and syncs traced into files under `dir`.
pub(crate) fn under_strace(command: &Command, dir: &Path) -> Command {
    let mut traced = Command::new("strace");
    // One file per thread, so that no call is cut in two by another; wall clock and duration in microseconds; paths
    // beside descriptors; all bytes, in hexadecimal. With seccomp-bpf only these calls stop their thread.
    traced.args(["-ff", "--seccomp-bpf", "-ttt", "-T", "-y", "-xx", "-s", "1048576"]);
    traced.args(["-e", "trace=write,pwrite64,writev,fdatasync,fsync", "-e", "signal=none"]);
    traced.arg("-o").arg(dir.join(PREFIX)).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

/// Every completed call in the trace files under `dir`.
pub(crate) fn read(dir: &Path) -> anyhow::Result<Vec<Call>> {
    let mut calls = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            calls.extend(text.lines().filter_map(parse));
        }
    }
    Ok(calls)
}

/// `1764280000.123456 write(12<…>, "\x01\x02", 2) = 2 <0.000034>`, the path in hexadecimal too; none for anything else.
fn parse(line: &str) -> Option<Call> {
    let (began, rest) = line.split_once(' ')?;
    let began_us = micros(began)?;
    let (name, rest) = rest.split_once('(')?;
    let (path, rest) = rest.split_once('<')?.1.split_once('>')?;
    let (arguments, result) = rest.rsplit_once(") = ")?;
    let (result, took) = result.rsplit_once(" <")?;
    let took_us = micros(took.strip_suffix('>')?)?;
    Some(Call {
        name: name.to_owned(),
        path: String::from_utf8_lossy(&unescape(path)).into_owned(),
        bytes: strings(arguments),
        is_done: !result.starts_with('-'),
        began_us,
        ended_us: began_us + took_us,
    })
}

/// All quoted bytes, one after the other (writev has several).
fn strings(arguments: &str) -> Vec<u8> {
    arguments.split('"').skip(1).step_by(2).flat_map(unescape).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).filter_map(|hex| u8::from_str_radix(hex, 16).ok()).collect()
}

fn micros(seconds: &str) -> Option<u64> {
    let (whole, fraction) = seconds.split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 1_000_000 + format!("{fraction:0<6}").get(..6)?.parse::<u64>().ok()?)
}

/// When the log entry of this shard and index was on the disk: written into a log file, which was synced from then on.
pub fn synced(calls: &[Call], shard: ShardId, index: u64) -> Option<Synced> {
    // RocksDB's log holds keys as they are, with their length before them; the key of an entry is shard ‖ index,
    // big-endian (crates/store/src/keys.rs; numbers on disk are for ever).
    let mut key = vec![12];
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    let is_write = |call: &&Call| call.name.contains("write") && call.path.ends_with(".log") && call.is_done;
    let holds_key = |call: &&Call| call.bytes.windows(key.len()).any(|bytes| bytes == key);
    let written = calls.iter().filter(is_write).filter(holds_key).min_by_key(|call| call.began_us)?;
    let is_sync = |call: &&Call| call.name.ends_with("sync") && call.path == written.path && call.is_done;
    let after = calls.iter().filter(is_sync).filter(|call| call.began_us >= written.ended_us);
    let sync = after.min_by_key(|call| call.ended_us)?;
    Some(Synced { written_us: written.ended_us, sync_began_us: sync.began_us, synced_us: sync.ended_us })
}

/// The wall clock of this machine, microseconds since the Unix epoch: the clock of strace's `-ttt`.
#[expect(clippy::disallowed_methods, reason = "compared with strace's wall clock, on the same machine")]
pub fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r"\x0c\x00\x00\x00\x64\x00\x00\x00\x00\x00\x00\x00\x07";

    fn synced_in(lines: &[String]) -> Option<Synced> {
        let calls: Vec<_> = lines.iter().map(|line| parse(line).unwrap()).collect();
        synced(&calls, ShardId(100), 7)
    }

    fn escape(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    fn write(at: &str) -> String {
        format!(r#"{at} write(9<{}>, "\xaa{KEY}\xbb", 15) = 15 <0.000010>"#, escape("/d/000004.log"))
    }

    fn sync(at: &str, file: &str, result: &str) -> String {
        format!("{at} fdatasync(9<{}>) = {result} <0.000200>", escape(&format!("/d/{file}")))
    }

    #[test]
    fn an_entry_is_synced_by_the_first_sync_of_its_file_that_began_after_it_was_written() {
        let good = sync("5.000020", "000004.log", "0");
        let found = synced_in(&[write("5.000000"), good.clone()]).unwrap();
        assert_eq!(found, Synced { written_us: 5_000_010, sync_began_us: 5_000_020, synced_us: 5_000_220 });
        let early = sync("5.000005", "000004.log", "0");
        assert_eq!(synced_in(&[write("5.000000"), early.clone()]), None, "began before the write had ended");
        assert_eq!(synced_in(&[early, write("5.000000"), good]), Some(found));
    }

    #[test]
    fn a_failed_sync_another_file_and_another_entry_are_no_evidence() {
        assert_eq!(synced_in(&[write("5.000000"), sync("5.000020", "000004.log", "-1 EIO (x)")]), None);
        assert_eq!(synced_in(&[write("5.000000"), sync("5.000020", "000005.log", "0")]), None);
        let other = write("5.000000").replace(r"\x07", r"\x08");
        assert_eq!(synced_in(&[other, sync("5.000020", "000004.log", "0")]), None);
    }

    #[test]
    fn lines_that_are_no_calls_are_passed_over() {
        for line in ["", "5.1 +++ exited with 0 +++", "5.1 write(9</d/000004.log>, \"\\x01\" <unfinished ...>"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
