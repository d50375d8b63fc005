//! The story as one HTML file: style, script and data are in it, so that it can be kept, mailed and opened offline.

use serde::Serialize;

use super::super::summary::{Planned, Violation};
use super::lanes::Lanes;
use super::story::{Row, Story};

const TEMPLATE: &str = include_str!("timeline/page.html");
const STYLE: &str = include_str!("timeline/style.css");
/// One script in four files: what stands where, how it is drawn, what is told beside it, what a person does.
const SCRIPT: &str = concat!(
    include_str!("timeline/lanes.js"),
    include_str!("timeline/draw.js"),
    include_str!("timeline/panels.js"),
    include_str!("timeline/acts.js")
);

#[derive(Serialize)]
struct Data<'a> {
    title: String,
    replay: String,
    end_us: u64,
    lanes: Lanes,
    rows: &'a [Row],
    violations: &'a [Violation],
    plan: &'a [Planned],
    facts: Vec<(&'static str, String)>,
}

/// The page.
pub fn html(story: &Story) -> anyhow::Result<String> {
    let summary = &story.summary;
    let total = summary.operations_total();
    let title = match summary.scenario.as_str() {
        "" => "history".to_owned(),
        scenario => format!("{scenario}, seed {}, {}", summary.seed, summary.network),
    };
    let mutant = summary.mutant.as_deref().map(|name| format!(" --mutant {name}")).unwrap_or_default();
    let replay = match summary.scenario.as_str() {
        "" => String::new(),
        scenario => format!("sim run {scenario} --seed {} --network {}{mutant}", summary.seed, summary.network),
    };
    let data = Data {
        title: title.clone(),
        replay,
        end_us: story.end_us.max(summary.simulated_ms * 1000),
        lanes: Lanes::new(story),
        rows: &story.rows,
        violations: &story.violations,
        plan: &summary.plan,
        facts: vec![
            ("operations", format!("{} ok, {} refused, {} unknown", total.ok, total.refused, total.unknown)),
            ("faults", summary.faults.values().sum::<u64>().to_string()),
            ("leader changes", summary.leader_changes.to_string()),
            ("snapshots", summary.snapshots_installed.to_string()),
            ("restarts", summary.restarts.to_string()),
        ],
    };
    // Nothing in the data may end the script element that holds it.
    let json = serde_json::to_string(&data)?.replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    let parts = [("{{title}}", title.as_str()), ("{{style}}", STYLE), ("{{script}}", SCRIPT), ("{{data}}", &json)];
    Ok(parts.iter().fold(TEMPLATE.to_owned(), |page, (place, text)| page.replacen(place, text, 1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kindred_check::Event;

    use super::*;

    fn page(client: &str) -> String {
        let line = format!(r#"{{"id":1,"client":"{client}","at_us":5,"kind":"call","op":"open","device_key":"k"}}"#);
        let events: Vec<Event> = vec![serde_json::from_str(&line).unwrap()];
        html(&Story::new(Default::default(), &events).unwrap()).unwrap()
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let page = page("phone");
        for word in ["http://", "https://", "src=", "@import", "url(", "{{"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains(r#""who":"phone""#));
    }

    #[test]
    fn data_cannot_end_the_script_that_holds_it() {
        let page = page("</script><script>alert(1)");
        assert!(!page.contains("alert(1)</script>") && !page.contains("<script>alert"));
    }
}
