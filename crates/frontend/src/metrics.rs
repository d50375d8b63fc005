//! Names and help texts of this crate's metrics.

use metrics::{Unit, describe_counter, describe_histogram};

/// From the arrival of ApproveTicket to its receipt, ms.
pub const LINK_MS: &str = "kindred_frontend_link_ms";
/// Statuses other than OK, by reason.
pub const REFUSALS: &str = "kindred_frontend_refusals_total";

/// Registers the help texts.
pub fn describe() {
    describe_histogram!(LINK_MS, Unit::Milliseconds, "From the arrival of ApproveTicket to its receipt");
    describe_counter!(REFUSALS, "Statuses other than OK, by reason");
}
