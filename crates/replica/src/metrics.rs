//! Names and help texts of this crate's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Snapshots received and installed.
pub const SNAPSHOTS_INSTALLED: &str = "kindred_replica_snapshots_installed_total";
/// Commands per proposed entry.
pub const ENTRY_COMMANDS: &str = "kindred_replica_entry_commands";
/// Time from proposal to answer, in seconds.
pub const PROPOSAL_SECONDS: &str = "kindred_replica_proposal_seconds";
/// Proposals refused because the queue was full.
pub const PROPOSALS_SHED: &str = "kindred_replica_proposals_shed_total";
/// Replicas rebuilt from their peers because a record was damaged.
pub const REPLICAS_REBUILT: &str = "kindred_replica_rebuilt_total";
/// Replicas that run on this node.
pub const SHARDS_HOSTED: &str = "kindred_replica_hosted_shards";
/// Shards that this node leads.
pub const SHARDS_LED: &str = "kindred_replica_led_shards";
/// Shards that keep this node from being ready.
pub const SHARDS_UNREADY: &str = "kindred_replica_unready_shards";

/// Every metric of this crate: name, type, labels, help.
pub const ALL: &[(&str, &str, &str, &str)] = &[
    (SNAPSHOTS_INSTALLED, "counter", "", "Snapshots received and installed"),
    (ENTRY_COMMANDS, "histogram", "", "Commands per proposed entry"),
    (PROPOSAL_SECONDS, "histogram", "", "Time from the proposal of an entry to its answer"),
    (PROPOSALS_SHED, "counter", "", "Proposals refused because the queue was full"),
    (REPLICAS_REBUILT, "counter", "", "Replicas rebuilt from their peers after damage"),
    (SHARDS_HOSTED, "gauge", "", "Replicas that run on this node"),
    (SHARDS_LED, "gauge", "", "Shards that this node leads"),
    (SHARDS_UNREADY, "gauge", "", "Shards that keep this node from being ready"),
];

/// Registers the help texts.
pub fn describe() {
    for (name, kind, labels, help) in ALL {
        match *kind {
            "counter" => describe_counter!(*name, Unit::Count, *help),
            "gauge" => describe_gauge!(*name, Unit::Count, *help),
            _ => describe_histogram!(*name, *help),
        }
        // Whoever alarms on a rise needs the zero before it.
        if *kind == "counter" && labels.is_empty() {
            ::metrics::counter!(*name).increment(0);
        }
    }
}
