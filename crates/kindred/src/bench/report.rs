//! The figures, for people and for programs.

use serde_json::{Value, json};

use super::args::{Args, Mix, Operation};
use super::drive::Pace;
use super::lab::Measured;
use super::load::{Load, QUANTILES};
use crate::cluster::REGIONS;
use crate::output::table;

/// One operation at one point of the sweep.
pub(super) struct Point {
    pub(super) operation: Operation,
    pub(super) pace: Pace,
    pub(super) measured: Measured,
}

/// What shows that the cluster was well while it was measured.
#[derive(Clone, Copy)]
pub(super) struct Proof {
    /// Entries that every replica applied, on each node.
    pub(super) entries: u64,
    /// Terms that began meanwhile; 0 if no leader lost its place.
    pub(super) terms_begun: u64,
}

impl Point {
    /// `64` in flight, or `500/s` in an open loop.
    pub(super) fn pace(&self) -> String {
        match (&self.pace, self.operation) {
            (_, Operation::Watch) => "-".to_owned(),
            (Pace::Closed(in_flight), _) => in_flight.to_string(),
            (Pace::Open(schedule), _) => format!("{:.0}/s", schedule.per_second()),
        }
    }

    /// In one line, as it goes by.
    pub(super) fn line(&self) -> String {
        let load = &self.measured.load;
        format!(
            "{} at {}: {:.0} per second, p50 {:.1} ms, p99 {:.1} ms, {} errors",
            self.operation,
            self.pace(),
            load.per_second(),
            load.quantile_ms(0.5),
            load.quantile_ms(0.99),
            load.failed()
        )
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let Measured { load, cpu } = &self.measured;
        let mut rows = vec![row(&self.operation.to_string(), &self.pace(), load)];
        let generator = format!("{:.2} + {:.2}", cpu.server_cores(), cpu.generator_cores());
        rows[0].push(generator);
        for (kind, histogram) in &load.kinds {
            rows.push(row(&format!("  {kind}"), "", &load.of_kind(histogram)));
        }
        rows
    }

    fn to_json(&self) -> Value {
        let Measured { load, cpu } = &self.measured;
        let mut value = load.to_json();
        value["name"] = json!(self.operation.to_string());
        match &self.pace {
            _ if self.operation == Operation::Watch => {}
            Pace::Closed(in_flight) => value["in_flight"] = json!(in_flight),
            Pace::Open(schedule) => value["asked_per_second"] = json!(schedule.per_second()),
        }
        value["cpu"] = json!({
            "wall_s": cpu.wall.as_secs_f64(),
            "servers_s": cpu.servers_s,
            "generator_s": cpu.generator_s,
        });
        let kinds = load.kinds.iter().map(|(kind, histogram)| ((*kind).to_owned(), load.of_kind(histogram).to_json()));
        value["kinds"] = Value::Object(kinds.collect());
        value
    }
}

fn row(name: &str, pace: &str, load: &Load) -> Vec<String> {
    let mut row = vec![
        name.to_owned(),
        pace.to_owned(),
        format!("{:.0}", load.per_second()),
        load.answered().to_string(),
        load.failed().to_string(),
    ];
    row.extend(QUANTILES.iter().map(|(_, quantile)| format!("{:.1}", load.quantile_ms(*quantile))));
    row
}

/// For people, on standard output.
pub(super) fn print(args: &Args, points: &[Point], proof: Proof) {
    let mut header = vec!["", "at", "per second", "answered", "errors"];
    let names: Vec<_> = QUANTILES.iter().map(|(name, _)| format!("{name} ms")).collect();
    header.extend(names.iter().map(String::as_str));
    header.push("cores");
    let mut shown = table(&header);
    for row in points.iter().flat_map(Point::rows) {
        shown.add_row(row);
    }
    for column in shown.column_iter_mut().skip(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    println!("{shown}");
    let Mix { validate, link, list } = args.mix;
    println!(
        "at: calls in flight, or calls per second of an open loop, over {} connections; the first tenth is not measured;\n\
             \x20   an open loop lasts until its last answer, and its latencies count from the intended starts\n\
         cores: those of the three nodes, and of the generator, which has one thread\n\
         mixed: {validate} % validate (linearizable), {link} % link, {list} % list sessions; Zipf exponent {}\n\
         watch: until the last of {} watches on an account told a link or unlink; {} accounts at the same time\n\
         every replica of every shard applied every entry: {} on each node; elections and hand-overs meanwhile: {}",
        args.local.connections as usize * REGIONS.len(),
        args.zipf,
        args.watchers,
        args.watched,
        proof.entries,
        proof.terms_begun,
    );
    for point in points {
        for (error, count) in &point.measured.load.errors {
            println!("{} at {}: {count} × {error}", point.operation, point.pace());
        }
    }
}

/// For programs.
pub(super) fn to_json(args: &Args, points: &[Point], proof: Proof) -> Value {
    json!({
        "nodes": REGIONS.len(),
        "connections_per_node": args.local.connections,
        "shards_per_region": args.shards,
        "homes": args.homes,
        "zipf": args.zipf,
        "mix_percent": { "validate": args.mix.validate, "link": args.mix.link, "list": args.mix.list },
        "watchers": args.watchers,
        "watched_accounts": args.watched,
        "operations": points.iter().map(Point::to_json).collect::<Vec<_>>(),
        "entries_applied_by_every_replica": proof.entries,
        "terms_begun": proof.terms_begun,
    })
}
