//! Logs, to standard error.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Starts logging as configured.
pub fn init(config: &crate::config::Telemetry) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).context("telemetry.log is not a filter")?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let started = if config.log_format == "json" { logs.json().try_init() } else { logs.try_init() };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))
}
