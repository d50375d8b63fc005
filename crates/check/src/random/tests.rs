//! The checkers against themselves: no alarm on good histories, an alarm on every bad one, and two makes of one check that
//! agree.
use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::changes;
use super::good::{history, without_versions};
use crate::checkers::{durable, linearizable, siblings, versions};
use crate::history::Operation;
use crate::report::judge;
use crate::search::{Found, search};
use crate::timeline::Timeline;

const ACCOUNTS: [&str; 2] = ["a", "b"];

#[test]
fn a_good_history_raises_no_alarm() {
    for seed in 0..250 {
        let events = history(seed, 700, &ACCOUNTS);
        let report = judge(&events);
        assert_eq!(report.violations, [], "seed {seed}");
        assert_eq!(report.not_judged, Vec::<String>::new(), "seed {seed}");
        assert_eq!(judge(&without_versions(&events)).violations, [], "seed {seed}, without versions");
    }
}

#[test]
fn good_histories_are_no_empty_ones() {
    let (mut links, mut refused, mut unknown) = (0, 0, 0);
    for seed in 0..100 {
        let report = judge(&history(seed, 700, &ACCOUNTS));
        links += report.links_completed;
        refused += report.refused;
        unknown += report.unknown;
    }
    assert!(links > 200 && refused > 200 && unknown > 200, "{links} links, {refused} refused, {unknown} unknown");
}

#[test]
fn every_single_change_is_found() {
    let mut table: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for seed in 0..150 {
        let events = history(seed, 700, &ACCOUNTS);
        let mut chance = StdRng::seed_from_u64(seed);
        let of_notes = ["a ticket is lost", "tickets that nobody opened", "two leaders of one term"];
        let by_note = of_notes.into_iter().enumerate().map(|(which, name)| (name, changes::of_notes(&events, which)));
        let by_outcome = changes::ALL.iter().map(|change| (change.name, change.apply(&events, &mut chance)));
        for (name, changed) in by_outcome.chain(by_note) {
            let Some(changed) = changed else { continue };
            let (made, found, bare) = table.entry(name).or_default();
            *made += 1;
            *found += u64::from(!judge(&changed).is_clean());
            *bare += u64::from(!judge(&without_versions(&changed)).is_clean());
        }
    }
    let (mut all, mut bare) = (0, 0);
    println!("{:<46} {:>6} {:>6} {:>17}", "change", "made", "found", "without versions");
    for (name, (made, found, without)) in &table {
        println!("{name:<46} {made:>6} {found:>6} {without:>17}");
        (all, bare) = (all + made, bare + without);
    }
    println!("without versions {bare} of {all} are found");
    for (name, (made, found, _)) in &table {
        assert!(*made >= 20, "{name}: only {made} were made");
        assert_eq!(made, found, "{name}");
    }
    assert_eq!(table.len(), changes::ALL.len() + 3);
}

#[test]
fn the_sweep_by_version_and_the_search_agree() {
    // Kinds of change that both can see: they are about sets, verdicts and the order of versions.
    let both = [
        "a list drops a sibling",
        "a list brings back who was unlinked",
        "a read goes back by one version",
        "a read is far ahead",
        "SIGNED_OUT becomes VALID",
        "two links swap their versions",
        "a receipt drops a sibling",
    ];
    let mut decided = (0, 0);
    for seed in 0..200 {
        let good = history(seed, 140, &["a"]);
        let mut chance = StdRng::seed_from_u64(seed);
        let kinds = changes::ALL.iter().filter(|change| both.contains(&change.name));
        let mut cases: Vec<_> =
            kinds.filter_map(|change| Some((change.name, change.apply(&good, &mut chance)?))).collect();
        cases.push(("nothing", good));
        for (name, events) in cases {
            let timeline = Timeline::new(&events).unwrap();
            let checks = [linearizable::check, versions::check, siblings::check, durable::check];
            let swept: Vec<_> = checks.iter().flat_map(|check| check(&timeline)).collect();
            let found = search(&timeline, "a", true);
            if found == Found::Undecided {
                continue;
            }
            // Of a session of whose link nobody was told the search knows nothing, and the sweep what sets and tombstones show.
            let may_miss = !swept.is_empty() && has_untold(&timeline);
            if (found == Found::Order) != swept.is_empty() && !(found == Found::Order && may_miss) {
                let line = |event| serde_json::to_string(event).unwrap() + "\n";
                let lines = events.iter().map(line).collect::<String>();
                panic!("seed {seed}, {name}: the search says {found:?}, the sweep {swept:?} of\n{lines}");
            }
            match found {
                Found::Order => decided.0 += u64::from(!may_miss),
                _ => decided.1 += 1,
            }
        }
    }
    println!("{} orders and {} without one, the same by sweep and by search", decided.0, decided.1);
    assert!(decided.0 >= 150 && decided.1 >= 300, "{decided:?} were decided");
}

fn has_untold(timeline: &Timeline<'_>) -> bool {
    let asked = timeline.operations.iter().filter_map(|op| match op.op {
        Operation::Validate { session, .. } | Operation::Unlink { session, .. } => Some(session.as_str()),
        _ => None,
    });
    let shown = timeline.sets("a").flat_map(|set| set.sessions.iter().map(|member| member.id.as_str()));
    asked.chain(shown).any(|session| !timeline.births.contains_key(session))
}
