//! What nodes went through, as spans of time: down, paused, leading, under a fault. Follows from the notes of the history.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::story::{Kind, Row, Story};

/// A stretch of time; without `to_us` it lasts for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// From when, µs.
    pub from_us: u64,
    /// Until when, µs.
    pub to_us: Option<u64>,
    /// What it is: `down`, `paused`, a kind of fault, or a shard's number.
    pub is: String,
    /// More, for people.
    pub detail: String,
    /// Id of the note that began it.
    pub event: u64,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// When it was down or paused.
    pub status: Vec<Span>,
    /// Which shards it led; `is` is the shard.
    pub leads: Vec<Span>,
    /// Faults that struck it. A fault that is no state has the same end as beginning.
    pub faults: Vec<Span>,
    /// Snapshots that it installed; `is` is the shard.
    pub installed: Vec<Span>,
}

/// All nodes, by name, and the faults of the whole world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lanes {
    /// By name.
    pub nodes: Vec<Node>,
    /// Faults that strike no single node.
    pub world: Vec<Span>,
}

impl Lanes {
    /// Reads the notes.
    pub fn new(story: &Story) -> Self {
        let names: BTreeSet<&str> =
            notes(story).flat_map(|row| [text(row, "node"), text(row, "peer")]).flatten().collect();
        let mut building = Building {
            nodes: names
                .into_iter()
                .map(|name| (name.to_owned(), Node { name: name.to_owned(), ..Node::default() }))
                .collect(),
            ..Building::default()
        };
        for row in notes(story) {
            building.note(row);
        }
        building.end()
    }
}

fn notes(story: &Story) -> impl Iterator<Item = &Row> {
    story.rows.iter().filter(|row| !matches!(row.kind, Kind::Operation | Kind::Step))
}

fn text<'r>(row: &'r Row, field: &str) -> Option<&'r str> {
    row.call.get(field).and_then(Value::as_str)
}

fn number(row: &Row, field: &str) -> Option<u64> {
    row.call.get(field).and_then(Value::as_u64)
}

#[derive(Default)]
struct Building {
    nodes: BTreeMap<String, Node>,
    world: Vec<Span>,
    /// Who leads a shard: the node, and the place of its span.
    leaders: BTreeMap<u64, (String, usize)>,
    /// Faults that may still be healed: (fault, node, peer), and the place of the span.
    open: BTreeMap<(String, String, String), usize>,
}

impl Building {
    fn note(&mut self, row: &Row) {
        let at = row.at_us;
        let node = text(row, "node").unwrap_or_default().to_owned();
        match text(row, "note").unwrap_or_default() {
            "kill" => self.status(&node, at, Some("down"), row),
            "freeze" => self.status(&node, at, Some("paused"), row),
            "thaw" | "restart" => self.status(&node, at, None, row),
            "leader" => self.leader(&node, row),
            "installed" => {
                let shard = number(row, "shard").map_or_else(|| "?".to_owned(), |shard| shard.to_string());
                let span = Span { to_us: Some(at), ..span(row, &shard) };
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.installed.push(span);
                }
            }
            "fault" => self.fault(&node, row),
            "healed" => self.healed(&node, row),
            _ => {}
        }
    }

    /// Ends what a node was and begins what it is from now on: `down`, `paused`, or up.
    fn status(&mut self, name: &str, at_us: u64, is: Option<&str>, row: &Row) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        if let Some(last) = node.status.last_mut().filter(|span| span.to_us.is_none()) {
            if Some(last.is.as_str()) == is {
                return;
            }
            last.to_us = Some(at_us);
        }
        let Some(is) = is else { return };
        node.status.push(span(row, is));
        if is == "down" {
            for lead in node.leads.iter_mut().filter(|lead| lead.to_us.is_none()) {
                lead.to_us = Some(at_us);
            }
        }
    }

    fn leader(&mut self, name: &str, row: &Row) {
        let Some(shard) = number(row, "shard") else { return };
        if let Some((old, at)) = self.leaders.get(&shard)
            && let Some(lead) = self.nodes.get_mut(old).and_then(|node| node.leads.get_mut(*at))
        {
            lead.to_us.get_or_insert(row.at_us);
        }
        let Some(node) = self.nodes.get_mut(name) else { return };
        self.leaders.insert(shard, (name.to_owned(), node.leads.len()));
        node.leads.push(span(row, &shard.to_string()));
    }

    fn fault(&mut self, name: &str, row: &Row) {
        let kind = text(row, "fault").unwrap_or_default().to_owned();
        let spans = match self.nodes.get_mut(name) {
            Some(node) => &mut node.faults,
            None => &mut self.world,
        };
        let key = (kind.clone(), name.to_owned(), text(row, "peer").unwrap_or_default().to_owned());
        self.open.insert(key, spans.len());
        spans.push(span(row, &kind));
    }

    fn healed(&mut self, name: &str, row: &Row) {
        let kind = text(row, "fault").unwrap_or_default();
        let peer = text(row, "peer").unwrap_or_default();
        // Healed for all is healed for each.
        let is_healed = |key: &(String, String, String)| {
            key.0 == kind && (name.is_empty() || (key.1 == name && (peer.is_empty() || key.2 == peer)))
        };
        let healed: Vec<_> = self.open.keys().filter(|key| is_healed(key)).cloned().collect();
        for key in healed {
            let Some(at) = self.open.remove(&key) else { continue };
            let spans = match self.nodes.get_mut(&key.1) {
                Some(node) => &mut node.faults,
                None => &mut self.world,
            };
            if let Some(span) = spans.get_mut(at) {
                span.to_us = Some(row.at_us);
            }
        }
    }

    /// What nobody healed was a blow, not a state.
    fn end(mut self) -> Lanes {
        let blows = self.nodes.values_mut().flat_map(|node| &mut node.faults).chain(&mut self.world);
        for span in blows.filter(|span| span.to_us.is_none()) {
            span.to_us = Some(span.from_us);
        }
        Lanes { nodes: self.nodes.into_values().collect(), world: self.world }
    }
}

fn span(row: &Row, is: &str) -> Span {
    Span { from_us: row.at_us, to_us: None, is: is.to_owned(), detail: row.about.clone(), event: row.id }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kindred_check::Event;

    use super::*;

    fn lanes(notes: &[&str]) -> Lanes {
        let event = |(index, note): (usize, &&str)| {
            let line = format!(r#"{{"id":{index},"client":"world","at_us":{index},"kind":"note",{note}}}"#);
            serde_json::from_str::<Event>(&line).unwrap()
        };
        let events: Vec<_> = notes.iter().enumerate().map(event).collect();
        Lanes::new(&Story::new(Default::default(), &events).unwrap())
    }

    fn told(spans: &[Span]) -> Vec<(&str, u64, Option<u64>)> {
        spans.iter().map(|span| (&*span.is, span.from_us, span.to_us)).collect()
    }

    #[test]
    fn a_killed_node_is_down_until_its_restart_and_leads_no_longer() {
        let lanes = lanes(&[
            r#""note":"leader","shard":1,"node":"a","term":1"#,
            r#""note":"kill","node":"a","point":"leader""#,
            r#""note":"leader","shard":1,"node":"b","term":2"#,
            r#""note":"restart","node":"a""#,
            r#""note":"leader","shard":1,"node":"a","term":3"#,
        ]);
        assert_eq!(told(&lanes.nodes[0].status), [("down", 1, Some(3))]);
        assert_eq!(told(&lanes.nodes[0].leads), [("1", 0, Some(1)), ("1", 4, None)]);
        assert_eq!(told(&lanes.nodes[1].leads), [("1", 2, Some(4))]);
    }

    #[test]
    fn a_fault_lasts_until_it_is_healed_and_one_that_nobody_heals_is_a_blow() {
        let lanes = lanes(&[
            r#""note":"fault","fault":"partition","node":"a","peer":"b""#,
            r#""note":"fault","fault":"clock_jump","node":"b""#,
            r#""note":"fault","fault":"message_loss""#,
            r#""note":"healed","fault":"partition","node":"a","peer":"b""#,
            r#""note":"healed","fault":"message_loss""#,
        ]);
        assert_eq!(told(&lanes.nodes[0].faults), [("partition", 0, Some(3))]);
        assert_eq!(told(&lanes.nodes[1].faults), [("clock_jump", 1, Some(1))]);
        assert_eq!(told(&lanes.world), [("message_loss", 2, Some(4))]);
    }

    #[test]
    fn a_frozen_node_is_paused_until_it_thaws_or_is_killed() {
        let lanes = lanes(&[
            r#""note":"freeze","node":"a""#,
            r#""note":"thaw","node":"a""#,
            r#""note":"freeze","node":"a""#,
            r#""note":"kill","node":"a","point":"power_loss""#,
        ]);
        assert_eq!(told(&lanes.nodes[0].status), [("paused", 0, Some(1)), ("paused", 2, Some(3)), ("down", 3, None)]);
    }
}
