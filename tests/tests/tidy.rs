//! Style is a test: what the house rules ask for and no compiler sees. Reads sources and `cargo metadata`, nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE_LINES_MAX: usize = 600;
const TEST_LINES_MAX: usize = 1500;

/// Arrows between crates (ARCHITECTURE.md, "Layout"): each may use those named and no others.
const ARROWS: &[(&str, &[&str])] = &[
    ("kindred-core", &[]),
    ("kindred-wire", &["kindred-core"]),
    ("kindred-store", &["kindred-core"]),
    ("kindred-rocks", &["kindred-store"]),
    ("kindred-replica", &["kindred-core", "kindred-wire", "kindred-store"]),
    ("kindred-frontend", &["kindred-core", "kindred-wire"]),
    ("kindred-node", &["kindred-core", "kindred-wire", "kindred-store", "kindred-replica", "kindred-frontend"]),
    ("kindred-client", &["kindred-core", "kindred-wire"]),
    ("kindred-check", &["kindred-core", "kindred-wire"]),
    ("kindred-witness", &["kindred-core", "kindred-wire", "kindred-check", "kindred-client"]),
    (
        "kindred",
        &[
            "kindred-core",
            "kindred-wire",
            "kindred-store",
            "kindred-rocks",
            "kindred-replica",
            "kindred-frontend",
            "kindred-node",
            "kindred-check",
            "kindred-client",
            "kindred-witness",
        ],
    ),
    // They run the binary; they do not link what it is made of.
    ("kindred-tests", &["kindred-client", "kindred-check", "kindred-wire", "kindred-core"]),
    (
        "kindred-simulations",
        &[
            "kindred-core",
            "kindred-wire",
            "kindred-store",
            "kindred-replica",
            "kindred-frontend",
            "kindred-node",
            "kindred-check",
            "kindred-client",
            "kindred-witness",
        ],
    ),
];

/// Nothing stands on these, not even a test.
const TOPS: [&str; 3] = ["kindred", "kindred-tests", "kindred-simulations"];

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut problems = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = arrows.get(name) else {
            problems.push(format!("{name}: not in the table of arrows (tests/tests/tidy.rs, ARCHITECTURE.md)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if !arrows.contains_key(on) {
                continue;
            }
            // What only a crate's tests use may cross the arrows (frontend's tests run on the replica).
            let is_for_tests = dependency["kind"] == "dev" && name != "kindred-tests";
            if TOPS.contains(&on) || (!is_for_tests && !allowed.contains(&on)) {
                problems.push(format!("{name} -> {on}: no such arrow"));
            }
        }
    }
    verdict(problems);
}

#[test]
fn only_rocks_links_rocksdb() {
    let mut problems = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if on.contains("rocksdb") && name != "kindred-rocks" {
                problems.push(format!("{name} -> {on}: RocksDB is behind kindred-rocks"));
            }
        }
    }
    verdict(problems);
}

#[test]
fn files_are_short_enough_to_read() {
    let long = sources().into_iter().filter_map(|(path, text)| {
        let max = if is_test(&path) { TEST_LINES_MAX } else { SOURCE_LINES_MAX };
        let lines = text.lines().count();
        (lines > max).then(|| format!("{}: {lines} lines, at most {max}", path.display()))
    });
    verdict(long.collect());
}

#[test]
fn nothing_is_left_for_later() {
    // Written in halves, so that this file does not find itself.
    let banned = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore"), concat!("FIX", "ME")];
    verdict(lines_with(&sources(), &banned, |line| line.to_owned()));
}

#[test]
fn core_is_pure() {
    let banned = [
        "SystemTime",
        "Instant",
        "HashMap",
        "HashSet",
        "RandomState",
        "rand::",
        "getrandom",
        "thread_rng",
        "tokio",
        "std::fs",
        "std::net",
        "std::thread",
        "std::env",
        "async fn",
        ".await",
    ];
    let core: Vec<_> = sources().into_iter().filter(|(path, _)| path.starts_with("crates/core/src")).collect();
    assert!(!core.is_empty(), "crates/core/src was not found");
    verdict(lines_with(&core, &banned, without_comment));
}

#[test]
fn sockets_come_through_the_seam() {
    let behind = ["core", "store", "rocks", "replica", "frontend", "node", "client", "check", "witness"];
    let banned = ["TcpListener::bind", "TcpStream::connect", "UdpSocket::bind", "UnixListener::bind"];
    let files: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| behind.iter().any(|name| path.starts_with(format!("crates/{name}/src"))))
        .collect();
    verdict(lines_with(&files, &banned, without_comment));
}

#[test]
fn every_rpc_and_every_field_is_documented() {
    let protos = files("proto", "proto");
    assert!(!protos.is_empty(), "proto/ holds no .proto file");
    verdict(protos.iter().flat_map(|(path, text)| undocumented(path, text)).collect());
}

#[test]
fn the_tidy_rules_for_protobuf_see_what_they_should() {
    let text = "service S {\n  // Does it.\n  rpc Do(A) returns (B);\n  rpc Bare(A)\n      returns (B);\n}\n\
                message A {\n  // One.\n  string one = 1;\n  map<string, bytes> two = 2;\n  reserved 9;\n  oneof kind {\n    B b = 3;\n  }\n\
                \n  enum E { E_UNSPECIFIED = 0; }\n  enum F {\n    F_A = 0;\n  }\n  B after = 4;  // Trails.\n}\n";
    let found = undocumented(Path::new("x.proto"), text);
    let names: Vec<_> = found.iter().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(names, ["rpc Bare(A)", "map<string, bytes> two = 2;", "B b = 3;", "B after = 4;"]);
}

#[test]
fn the_readme_and_ci_name_the_commands() {
    let mut problems = Vec::new();
    for (path, needle) in [("README.md", "make demo"), ("README.md", "make test"), (".ci/run", "make test")] {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        if !text.contains(needle) {
            problems.push(format!("{path} does not name `{needle}`"));
        }
    }
    verdict(problems);
}

#[track_caller]
fn verdict(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    match metadata["packages"].take() {
        serde_json::Value::Array(packages) if !packages.is_empty() => packages,
        other => panic!("cargo metadata names no packages: {other}"),
    }
}

/// Every Rust file of the workspace, with its path from the root, in order.
fn sources() -> Vec<(PathBuf, String)> {
    let all: Vec<_> = ["crates", "tests", "simulations"].iter().flat_map(|dir| files(dir, "rs")).collect();
    assert!(all.len() > 20, "the sources were not found");
    all
}

fn files(dir: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    name == "tests" || name.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "tests")
}

fn lines_with(files: &[(PathBuf, String)], banned: &[&str], code: impl Fn(&str) -> String) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            let code = code(line);
            for word in banned.iter().filter(|word| code.contains(**word)) {
                found.push(format!("{}:{}: `{word}`", path.display(), index + 1));
            }
        }
    }
    found
}

fn without_comment(line: &str) -> String {
    line.split("//").next().unwrap_or_default().to_owned()
}

/// Declarations of rpcs and message fields that have no comment of their own on the line above.
fn undocumented(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut blocks: Vec<&str> = Vec::new();
    let (mut after_comment, mut at_start) = (false, true);
    for (index, line) in text.lines().enumerate() {
        let code = without_comment(line).trim().to_owned();
        if code.is_empty() {
            // A blank line parts a comment from what follows.
            after_comment = line.trim_start().starts_with("//");
            continue;
        }
        let word = code.split([' ', '<']).next().unwrap_or_default();
        let block = blocks.last().copied().unwrap_or_default();
        let is_rpc = block == "service" && word == "rpc";
        let keywords = ["message", "enum", "oneof", "reserved", "option", "extensions"];
        let is_field = matches!(block, "message" | "oneof") && !keywords.contains(&word) && !code.starts_with('}');
        if at_start && (is_rpc || is_field) && !after_comment {
            found.push(format!("{}:{}: {code}: no comment above it", path.display(), index + 1));
        }
        for mark in code.chars().filter(|c| matches!(c, '{' | '}')) {
            if mark == '}' {
                blocks.pop();
            } else {
                let opened = ["message", "enum", "oneof", "service", "rpc"].into_iter().find(|k| *k == word);
                blocks.push(opened.unwrap_or("other"));
            }
        }
        at_start = code.ends_with([';', '{', '}']);
        after_comment = false;
    }
    found
}
