//! Logs, to standard error; metrics, for the operations port.

use std::sync::Arc;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Upper bounds of histograms in seconds: half a millisecond to half a minute.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds of histograms of commands.
const COMMANDS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Starts logging as configured.
pub fn init(config: &crate::config::Telemetry) -> anyhow::Result<()> {
    let logs = tracing_subscriber::fmt().with_env_filter(filter(&config.log)?);
    let logs = logs.with_writer(std::io::stderr).with_ansi(false);
    let started = if config.log_format == "json" { logs.json().try_init() } else { logs.try_init() };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))
}

/// Reads `telemetry.log`.
pub fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(text)
        .with_context(|| format!("telemetry.log `{text}` is no filter; write, say, `info,kindred_replica=debug`"))
}

/// Starts counting. Simulations do not, and there the facade costs nothing.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_commands".into()), &COMMANDS)?
        .build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).map_err(|error| anyhow::anyhow!("metrics: {error}"))?;
    kindred_wire::metrics::describe();
    Ok(handle)
}

/// What /metrics answers.
pub fn render(handle: PrometheusHandle) -> kindred_node::operations::Render {
    Arc::new(move || handle.render())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    type Row = (&'static str, &'static str, &'static str, &'static str);

    fn all() -> impl Iterator<Item = &'static Row> {
        let crates = [
            kindred_wire::metrics::ALL,
            kindred_replica::metrics::ALL,
            kindred_frontend::metrics::ALL,
            kindred_node::metrics::ALL,
        ];
        crates.into_iter().flatten()
    }

    #[test]
    fn every_metric_is_documented_and_nothing_else_is() {
        let text = include_str!("../../../docs/metrics.md");
        let rows = text.lines().filter(|line| line.starts_with("| `kindred_"));
        let written: BTreeSet<_> = rows.map(str::to_owned).collect();
        let meant: BTreeSet<_> = all()
            .map(|(name, kind, labels, help)| {
                format!("| `{name}` | {kind} | {labels} | {help} |").replace("|  |", "| |")
            })
            .collect();
        let (missing, unknown): (Vec<_>, Vec<_>) =
            (meant.difference(&written).collect(), written.difference(&meant).collect());
        assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:#?}, unknown {unknown:#?}");
    }

    #[test]
    fn names_follow_the_house_rule() {
        let mut problems = Vec::new();
        for (name, kind, _, help) in all() {
            let words: Vec<_> = name.split('_').collect();
            let is_of_a_crate = matches!(words[..2], ["kindred", "wire" | "replica" | "frontend" | "node"]);
            let has_ending = (*kind == "counter") == name.ends_with("_total");
            if !is_of_a_crate || !has_ending || help.is_empty() || name.ends_with("_ms") {
                problems.push(name);
            }
        }
        assert!(problems.is_empty(), "{problems:?}");
        assert!(all().count() >= 12);
    }
}
