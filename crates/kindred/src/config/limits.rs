//! `[limits]`: what the listeners take from whoever connects.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::bail;
use serde::{Deserialize, Serialize};

use super::whole;

/// The section; defaults and meanings are those of [`kindred_node::Limits`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    #[serde(deserialize_with = "whole")]
    pub connections_max: u64,
    #[serde(deserialize_with = "whole")]
    pub node_connections_max: u64,
    #[serde(deserialize_with = "whole")]
    pub streams_per_connection_max: u64,
    #[serde(deserialize_with = "whole")]
    pub header_bytes_max: u64,
    #[serde(deserialize_with = "whole")]
    pub request_bytes_max: u64,
    #[serde(deserialize_with = "whole")]
    pub handshake_ms: u64,
    #[serde(deserialize_with = "whole")]
    pub call_ms: u64,
    #[serde(deserialize_with = "whole")]
    pub keepalive_interval_ms: u64,
    #[serde(deserialize_with = "whole")]
    pub keepalive_timeout_ms: u64,
    #[serde(deserialize_with = "whole")]
    pub connection_age_ms: u64,
    #[serde(deserialize_with = "whole")]
    pub node_connection_age_ms: u64,
    #[serde(deserialize_with = "whole")]
    pub connection_grace_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = kindred_node::Limits::default();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            connections_max: limits.connections_max as u64,
            node_connections_max: limits.node_connections_max as u64,
            streams_per_connection_max: limits.streams_per_connection_max.into(),
            header_bytes_max: limits.header_bytes_max.into(),
            request_bytes_max: limits.request_bytes_max as u64,
            handshake_ms: ms(limits.handshake_within),
            call_ms: ms(limits.call_within),
            keepalive_interval_ms: ms(limits.keepalive_interval),
            keepalive_timeout_ms: ms(limits.keepalive_within),
            connection_age_ms: ms(limits.connection_age),
            node_connection_age_ms: ms(limits.node_connection_age),
            connection_grace_ms: ms(limits.connection_grace),
        }
    }
}

impl Limits {
    /// Every limit: its key, its value and its bounds.
    pub fn bounds(&self) -> [(&'static str, u64, RangeInclusive<u64>); 12] {
        [
            ("connections_max", self.connections_max, 1..=1_000_000),
            ("node_connections_max", self.node_connections_max, 8..=10_000),
            ("streams_per_connection_max", self.streams_per_connection_max, 1..=65_536),
            ("header_bytes_max", self.header_bytes_max, 4_096..=1_048_576),
            ("request_bytes_max", self.request_bytes_max, 131_072..=4_194_304),
            ("handshake_ms", self.handshake_ms, 100..=60_000),
            ("call_ms", self.call_ms, 1_000..=600_000),
            ("keepalive_interval_ms", self.keepalive_interval_ms, 1_000..=3_600_000),
            ("keepalive_timeout_ms", self.keepalive_timeout_ms, 1_000..=60_000),
            ("connection_age_ms", self.connection_age_ms, 1_000..=604_800_000),
            ("node_connection_age_ms", self.node_connection_age_ms, 60_000..=604_800_000),
            ("connection_grace_ms", self.connection_grace_ms, 100..=3_600_000),
        ]
    }

    /// Names the first limit that is out of its bounds.
    pub fn check(&self) -> anyhow::Result<()> {
        for (key, value, bounds) in self.bounds() {
            if !bounds.contains(&value) {
                bail!("limits.{key} is {value}, and must be {} to {}", bounds.start(), bounds.end());
            }
        }
        Ok(())
    }

    /// As the node takes them. Within the bounds nothing is cut off.
    pub fn for_node(&self) -> kindred_node::Limits {
        let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        kindred_node::Limits {
            connections_max: count(self.connections_max),
            node_connections_max: count(self.node_connections_max),
            streams_per_connection_max: small(self.streams_per_connection_max),
            header_bytes_max: small(self.header_bytes_max),
            request_bytes_max: count(self.request_bytes_max),
            handshake_within: Duration::from_millis(self.handshake_ms),
            call_within: Duration::from_millis(self.call_ms),
            keepalive_interval: Duration::from_millis(self.keepalive_interval_ms),
            keepalive_within: Duration::from_millis(self.keepalive_timeout_ms),
            connection_age: Duration::from_millis(self.connection_age_ms),
            node_connection_age: Duration::from_millis(self.node_connection_age_ms),
            connection_grace: Duration::from_millis(self.connection_grace_ms),
        }
    }
}
