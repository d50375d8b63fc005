//! `kindred sim` becomes the simulator that lies beside it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program in a directory of its own, and beside it, as the simulator, whatever is given.
fn installed(name: &str, simulator: Option<&str>) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::hard_link(env!("CARGO_BIN_EXE_kindred"), dir.join("kindred")).unwrap();
    if let Some(simulator) = simulator {
        std::os::unix::fs::symlink(simulator, dir.join("sim")).unwrap();
    }
    dir
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let ran = Command::new(dir.join("kindred")).arg("sim").args(arguments).output().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    ran
}

#[test]
fn the_simulator_gets_every_argument_and_its_exit_code_is_what_the_caller_sees() {
    let ran = run(&installed("there", Some("/bin/sh")), &["-c", "echo told $1 $2; exit 7", "sim", "--seed", "4"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "told --seed 4\n");
    assert_eq!(ran.status.code(), Some(7));
}

#[test]
fn without_a_simulator_the_message_says_how_to_get_one() {
    let ran = run(&installed("missing", None), &["run"]);
    let error = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{error}");
    assert!(error.contains("make build"), "{error}");
}
