//! Names of this crate's metrics.

/// Snapshots received and installed.
pub const SNAPSHOTS_INSTALLED: &str = "kindred_replica_snapshots_installed_total";
/// Commands per proposed entry.
pub const ENTRY_COMMANDS: &str = "kindred_replica_entry_commands";
/// Time from proposal to answer, in ms.
pub const PROPOSAL_MS: &str = "kindred_replica_proposal_ms";
/// Proposals refused because the queue was full.
pub const PROPOSALS_SHED: &str = "kindred_replica_proposals_shed_total";
/// Replicas rebuilt from their peers because a record was damaged.
pub const REPLICAS_REBUILT: &str = "kindred_replica_rebuilt_total";

/// Says what the metrics mean.
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_histogram};
    describe_counter!(SNAPSHOTS_INSTALLED, Unit::Count, "Snapshots received and installed");
    describe_histogram!(ENTRY_COMMANDS, Unit::Count, "Commands per proposed entry");
    describe_histogram!(PROPOSAL_MS, Unit::Milliseconds, "Time from proposal to answer");
    describe_counter!(PROPOSALS_SHED, Unit::Count, "Proposals refused because the queue was full");
    describe_counter!(REPLICAS_REBUILT, Unit::Count, "Replicas rebuilt from their peers after damage");
}
