//! What a run prints: every event of the nodes and of the simulated network, with virtual time and no other.

use std::fmt;
use std::io::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

struct VirtualTime;

impl FormatTime for VirtualTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let elapsed = crate::world::now();
        write!(writer, "{:>9.3}", elapsed.as_secs_f64())
    }
}

/// Prints events that pass `filter` to standard output, for the whole process.
pub fn init(filter: &str) {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_timer(VirtualTime)
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stdout)
        .init();
}

/// Prints one line of the run's own.
pub fn line(text: impl fmt::Display) {
    let elapsed = crate::world::now();
    let _ = writeln!(std::io::stdout(), "{:>9.3} {text}", elapsed.as_secs_f64());
}
