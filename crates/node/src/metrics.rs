//! Names and help texts of this crate's metrics.

use metrics::{Unit, describe_counter, describe_gauge};

/// Open connections, by listener.
pub const CONNECTIONS: &str = "kindred_node_connections";
/// Connections that came to nothing, by listener and why.
pub const CONNECTIONS_REFUSED: &str = "kindred_node_connections_refused_total";
/// Connections that were told to go away because of their age, by listener.
pub const CONNECTIONS_AGED: &str = "kindred_node_connections_aged_total";
/// 1 while the node is ready.
pub const READY: &str = "kindred_node_ready";
/// Synced writes of the log writer.
pub const LOG_SYNCS: &str = "kindred_node_log_syncs_total";
/// Batches of all shards in them.
pub const LOG_BATCHES: &str = "kindred_node_log_batches_total";
/// Bytes in them.
pub const LOG_BYTES: &str = "kindred_node_log_bytes_total";

const LISTENERS: &str = "listener: gateway, node";

/// Every metric of this crate: name, type, labels, help.
pub const ALL: &[(&str, &str, &str, &str)] = &[
    (CONNECTIONS, "gauge", LISTENERS, "Open connections"),
    (
        CONNECTIONS_REFUSED,
        "counter",
        "listener: gateway, node; why: full, handshake, late",
        "Connections refused: too many, a handshake that failed, a handshake that took too long",
    ),
    (CONNECTIONS_AGED, "counter", LISTENERS, "Connections told to go away because of their age"),
    (READY, "gauge", "", "1 while the node is ready"),
    (LOG_SYNCS, "counter", "", "Synced writes of the log writer"),
    (LOG_BATCHES, "counter", "", "Batches of all shards in the synced writes"),
    (LOG_BYTES, "counter", "", "Bytes of keys and values in the synced writes"),
];

/// Registers the help texts.
pub fn describe() {
    for (name, kind, labels, help) in ALL {
        let unit = if *name == LOG_BYTES { Unit::Bytes } else { Unit::Count };
        match *kind {
            "counter" => describe_counter!(*name, unit, *help),
            _ => describe_gauge!(*name, unit, *help),
        }
        // Whoever alarms on a rise needs the zero before it.
        if *kind == "counter" && labels.is_empty() {
            ::metrics::counter!(*name).increment(0);
        }
    }
}
