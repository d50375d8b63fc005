//! Names and help texts of this crate's metrics.

use metrics::{Unit, describe_counter, describe_histogram};

/// From the arrival of ApproveTicket to its receipt, in seconds.
pub const LINK_SECONDS: &str = "kindred_frontend_link_seconds";
/// From the arrival of a call to the beginning of its answer, in seconds, by method.
pub const CALL_SECONDS: &str = "kindred_frontend_call_seconds";
/// Statuses other than OK, by reason.
pub const REFUSALS: &str = "kindred_frontend_refusals_total";

/// Every metric of this crate: name, type, labels, help.
pub const ALL: &[(&str, &str, &str, &str)] = &[
    (LINK_SECONDS, "histogram", "", "From the arrival of ApproveTicket to its receipt"),
    (
        CALL_SECONDS,
        "histogram",
        "method: as in the method table, role: node, gateway, operator",
        "From the arrival of an allowed call to the beginning of its answer",
    ),
    (REFUSALS, "counter", "reason: as in kindred.error.v1, or none", "Statuses other than OK, by reason"),
];

/// Registers the help texts.
pub fn describe() {
    for (name, kind, labels, help) in ALL {
        match *kind {
            "counter" => describe_counter!(*name, Unit::Count, *help),
            _ => describe_histogram!(*name, Unit::Seconds, *help),
        }
        // Whoever alarms on a rise needs the zero before it.
        if *kind == "counter" && labels.is_empty() {
            ::metrics::counter!(*name).increment(0);
        }
    }
}

/// Milliseconds as histograms take them.
pub(crate) fn seconds(ms: u64) -> f64 {
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1_000.0
}
