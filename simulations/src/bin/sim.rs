//! `sim`: see [`kindred_simulations::tool`].

use std::process::ExitCode;

fn main() -> ExitCode {
    kindred_simulations::tool::main()
}
