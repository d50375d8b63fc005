//! What a run prints: every event of the nodes and of the simulated network, with virtual time and no other.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Whether anything is to be printed: a program that reads the outcome wants nothing else on standard output.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Prints events that pass `filter` to standard output, for the whole process.
pub fn init(filter: &str) {
    IS_ON.store(true, Ordering::Relaxed);
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_timer(VirtualTime)
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stdout)
        .init();
}

/// Prints one line of the run's own, with virtual time, if there is a trace at all.
pub fn line(text: impl fmt::Display) {
    let elapsed = crate::world::now();
    bare(format_args!("{:>9.3} {text}", elapsed.as_secs_f64()));
}

/// [`line`] without a time of its own.
pub fn bare(text: impl fmt::Display) {
    if IS_ON.load(Ordering::Relaxed) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}
