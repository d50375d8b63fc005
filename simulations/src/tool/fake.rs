//! For the tests: a program that stands in for `sim run` and fails as the scenario's name says.

use std::path::PathBuf;

use clap::Parser;

/// The stand-in; see the file for what its scenarios do.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fake-sim")
}

/// Arguments of a command, as typed.
pub fn parse<A: clap::Args>(line: &str) -> A {
    #[derive(Parser)]
    struct Typed<A: clap::Args> {
        #[command(flatten)]
        args: A,
    }
    let typed = Typed::<A>::try_parse_from(std::iter::once("test").chain(line.split_whitespace()));
    typed.unwrap_or_else(|error| panic!("{line}: {error}")).args
}
