//! docs/performance.md, as `make bench-compare` writes it.

use super::figures::System;
use super::report::{CELLS, Report, Row, is_ours_alone, verdict};

const HEAD: &str = "# Performance

Written by `make bench-compare` (`kindred bench compare --report`), whole; what is said here by hand is lost with the next
run, so explanations belong in [figures.md](figures.md).

Everything runs on one machine: three processes of each system and the load generator. The systems take turns, so that what
else the machine does hits all of them; while one is measured the others run idle. Every write is synced before it is
acknowledged:

- **Kindred**: on a majority of three nodes, proofs verified; one region is home to all accounts, one shard (one Raft group).
- **etcd**: on a majority of three members; a transaction that compares the version and puts 700 bytes. Restarted after
  loading, and called through its leader. Reads are linearizable.
- **PostgreSQL**: on the primary and one of two standbys (`synchronous_standby_names = 'ANY 1 (*)'`, `synchronous_commit =
  on`); one UPDATE that compares the version, on one connection for each call in flight. Reads are at the primary.
- **Redis**: on the master's append-only file (`appendfsync always`), and received by one of two replicas (`WAIT 1`), which
  is less than synced there; a script that compares the version. Reads are at the master. One connection for each call.

A point with a single error, a dead process, or a replica that did not take part is rejected. The first tenth of every
measurement is warm-up. *per second* is the median of the rounds; *cores* are those of the servers + those of the generator.
";

/// The whole file.
pub(super) fn text(report: &Report) -> String {
    let mut text = HEAD.to_owned();
    text += "\n## Targets\n\n";
    text += &line(&["what", "ratio", "target", ""]);
    text += &line(&["---"; 4]);
    for judged in report.judged() {
        let (ratio, word) = verdict(&judged.verdict);
        text += &line(&[&judged.what, &ratio, &judged.target, &word]);
    }
    if let Some(gaps) = report.gap_line() {
        text += &format!("\nMeasured: {gaps}.\n");
    }
    let (ours, all): (Vec<_>, Vec<_>) = report.rows().into_iter().partition(|row| is_ours_alone(row.point.work));
    text += "\n## Compared\n\n";
    text += &points(&all);
    if !ours.is_empty() {
        text += "\n## Below the public rpc, and with many groups\n\n\
                 *Shard-level commit* is the command of a link submitted to the leader of its shard as a frontend does, \
                 without the public rpc.\nWith 16 groups (five shards in each of three regions, and the directory), four \
                 of five tickets lie in another shard than\ntheir account, so the public link is a saga over two shards; \
                 shard-level commits take only the fifth.\n\n";
        text += &points(&ours);
    }
    text += "\n## Where and when\n\n";
    text += &line(&["", ""]);
    text += &line(&["---"; 2]);
    for (name, value) in &report.facts {
        text += &line(&[name, value]);
    }
    text
}

fn points(rows: &[Row]) -> String {
    let header = [&["what", "system", "in flight"][..], &CELLS].concat();
    let mut text = line(&header) + &line(&vec!["---"; header.len()]);
    for Row { point, cells } in rows {
        let in_flight = point.in_flight.to_string();
        let bold = |name: &str| if point.system == System::Kindred { format!("**{name}**") } else { name.to_owned() };
        let mut row = vec![point.work.name(point.system).to_owned(), bold(point.system.name()), in_flight];
        match cells {
            Ok(cells) => row.extend(cells.iter().cloned()),
            Err(why) => row.push(format!("rejected: {why}")),
        }
        row.resize(header.len(), String::new());
        text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

fn line(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::super::failover::Gaps;
    use super::super::figures::tests::sample;
    use super::super::figures::{Figures, Point, Sample, Work};
    use super::*;

    #[test]
    fn the_file_shows_ratios_targets_and_why_a_point_was_rejected() {
        let mut figures = Figures::default();
        let at = |work, system| Point { work, in_flight: 64, system };
        figures.add(at(Work::Link, System::Kindred), sample(6_000.0, 10.0));
        figures.add(at(Work::Link, System::Etcd), sample(2_000.0, 100.0));
        let dead = Sample { rejected: Some("redis r1 is dead | see log".to_owned()), ..Sample::default() };
        figures.add(at(Work::Link, System::Redis), dead);
        let report = Report { figures, gaps: Gaps::default(), facts: vec![("machine", "two cores".to_owned())] };
        let text = text(&report);
        for wanted in [
            "| public link ÷ etcd compare-and-set, 64 in flight | 3.00 | ≥ 2.50 | PASS |\n",
            "| compare-and-set of a record | etcd | 64 | 2000 | 2000 to 2000 | 3.00 |",
            "| rejected: redis r1 is dead \\| see log |",
            "| machine | two cores |\n",
        ] {
            assert!(text.contains(wanted), "no `{wanted}` in\n{text}");
        }
        assert_eq!(report.rejected(), 1);
    }
}
