//! CPU time of processes, from /proc: what a figure cost, and how much of it the generator took for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// What a stretch of time cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cpu {
    /// Time that passed.
    pub(super) wall: Duration,
    /// CPU seconds of the servers that were measured, with all their child processes.
    pub(super) servers_s: f64,
    /// CPU seconds of this process.
    pub(super) generator_s: f64,
}

impl Cpu {
    /// Another stretch as well.
    pub(super) fn add(&mut self, other: Self) {
        self.wall += other.wall;
        self.servers_s += other.servers_s;
        self.generator_s += other.generator_s;
    }

    /// Cores that the servers kept busy, on average.
    pub(super) fn server_cores(&self) -> f64 {
        self.servers_s / self.wall.as_secs_f64().max(f64::EPSILON)
    }

    /// Cores that this process kept busy, on average; it has one thread that works, so 1.0 means that it was the limit.
    pub(super) fn generator_cores(&self) -> f64 {
        self.generator_s / self.wall.as_secs_f64().max(f64::EPSILON)
    }
}

/// Measures a stretch of time.
pub(super) struct Stopwatch {
    pids: Vec<u32>,
    started: Instant,
    before: (f64, f64),
}

impl Stopwatch {
    /// Starts now; `pids` are the servers.
    pub(super) fn start(pids: Vec<u32>) -> Self {
        let before = (servers_s(&pids), own_s());
        Self { pids, started: Instant::now(), before }
    }

    /// What it cost until now.
    pub(super) fn stop(self) -> Cpu {
        Cpu {
            wall: self.started.elapsed(),
            servers_s: (servers_s(&self.pids) - self.before.0).max(0.0),
            generator_s: (own_s() - self.before.1).max(0.0),
        }
    }
}

/// One process in /proc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Its own clock ticks.
    own: u64,
    /// Ticks of its children that have ended.
    reaped: u64,
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)). The name in parentheses may hold anything, so fields count from its end.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, own: ticks(11)? + ticks(12)?, reaped: ticks(13)? + ticks(14)? })
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn own_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").ok().and_then(|text| parse(&text));
    stat.map_or(0.0, |stat| seconds(stat.own))
}

fn servers_s(pids: &[u32]) -> f64 {
    let all = processes();
    pids.iter().map(|pid| tree(&all, *pid, &|pid, stat| seconds(stat.own).max(scheduled_s(pid)))).sum()
}

/// CPU seconds of a process's threads that are alive, from schedstat. Exact where clock ticks are not: hundreds of
/// processes that each ran for less than a tick have used nothing by their ticks.
fn scheduled_s(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let ns = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(ns).sum()).as_secs_f64()
}

fn processes() -> BTreeMap<u32, Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, parse(&std::fs::read_to_string(entry.path().join("stat")).ok()?)?))
    };
    entries.filter_map(read).collect()
}

/// CPU seconds of a process and all that descend from it, the ended ones included; `own` tells those of one process.
fn tree(all: &BTreeMap<u32, Stat>, pid: u32, own: &dyn Fn(u32, &Stat) -> f64) -> f64 {
    let Some(stat) = all.get(&pid) else { return 0.0 };
    let children = all.iter().filter(|(child, stat)| stat.parent == pid && **child != pid);
    own(pid, stat) + seconds(stat.reaped) + children.map(|(child, _)| tree(all, *child, own)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_moves_no_field() {
        let text = "7 (a (b) c) S 3 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 500 1000 10 1844";
        assert_eq!(parse(text), Some(Stat { parent: 3, own: 33, reaped: 77 }));
        assert_eq!(parse("7 (short) S 3"), None);
    }

    #[test]
    fn a_server_pays_for_its_children() {
        let stat = |parent, own, reaped| Stat { parent, own, reaped };
        let all =
            BTreeMap::from([(1, stat(0, 5, 0)), (2, stat(1, 10, 1)), (3, stat(2, 100, 0)), (4, stat(1, 1000, 0))]);
        let own = |_: u32, stat: &Stat| seconds(stat.own);
        assert!((tree(&all, 2, &own) - seconds(111)).abs() < 1e-9);
        assert_eq!(tree(&all, 9, &own), 0.0);
    }

    #[test]
    fn this_process_is_found_and_has_used_something() {
        assert!(processes().contains_key(&std::process::id()));
        assert!(servers_s(&[std::process::id()]) > 0.0);
    }
}
