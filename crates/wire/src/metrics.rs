//! Names and help texts of this crate's metrics.

use metrics::{Unit, describe_counter};

/// Looks at the files of certificate, key and trust that found them changed, by what became of it.
pub const TLS_RELOADS: &str = "kindred_wire_tls_reloads_total";

/// Every metric of this crate: name, type, labels, help.
pub const ALL: &[(&str, &str, &str, &str)] = &[(
    TLS_RELOADS,
    "counter",
    "outcome: taken, refused",
    "Changed certificate, key or trust files, by whether the new ones were taken or refused",
)];

/// Registers the help texts.
pub fn describe() {
    for (name, _, _, help) in ALL {
        describe_counter!(*name, Unit::Count, *help);
    }
}
