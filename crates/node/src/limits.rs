//! Bounds of the listeners (architecture.md §10). The defaults here are the defaults of the configuration.

use std::time::Duration;

/// What a node takes from whoever connects.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections of gateways and operators; the next one is closed unheard.
    pub connections_max: usize,
    /// Connections of other nodes.
    pub node_connections_max: usize,
    /// Calls under way on one connection.
    pub streams_per_connection_max: u32,
    /// Names and values of the headers of one call, bytes.
    pub header_bytes_max: u32,
    /// One request of the public services, bytes.
    pub request_bytes_max: usize,
    /// From the connection to the end of its handshake, and from there to its first request's connection preface.
    pub handshake_within: Duration,
    /// Work on one call; a stream counts until it begins.
    pub call_within: Duration,
    /// A connection on which nothing was heard for so long is asked whether it lives.
    pub keepalive_interval: Duration,
    /// That long it has to answer.
    pub keepalive_within: Duration,
    /// A gateway's connection takes no new calls after this time, give or take a tenth: its client connects anew.
    pub connection_age: Duration,
    /// The same for the connection of a node, whose one stream is cut.
    pub node_connection_age: Duration,
    /// What is under way on a connection that is too old may take that long.
    pub connection_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            node_connections_max: 256,
            streams_per_connection_max: 1_024,
            header_bytes_max: 16 * 1024,
            request_bytes_max: kindred_frontend::REQUEST_BYTES_MAX,
            handshake_within: Duration::from_secs(5),
            call_within: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(20),
            keepalive_within: Duration::from_secs(10),
            connection_age: Duration::from_secs(30 * 60),
            node_connection_age: Duration::from_secs(24 * 60 * 60),
            connection_grace: Duration::from_secs(30),
        }
    }
}
