//! Who may call what: the table is complete, and nothing passes that it does not allow.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kindred_core::id::RegionIndex;
use kindred_frontend::access::{METHODS, guarded, row};
use kindred_wire::caller::{Caller, Role};
use kindred_wire::reason::Reason;
use kindred_wire::status::metadata;
use support::{Cluster, Groups, MemoryShards, Seen};
use tonic::{Code, Status};
use tower::ServiceExt as _;

/// Services of others that are served as well.
const FOREIGN: [&str; 2] = ["grpc.health.v1.", "grpc.reflection.v1."];

/// Every method that is declared in proto/, as `package.Service/Method`.
fn declared() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut files = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                files.push(path);
            }
        }
    }
    let set = protox::compile(&files, [root]).unwrap();
    let mut methods = BTreeSet::new();
    for file in set.file {
        for service in &file.service {
            for method in &service.method {
                methods.insert(format!("{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(methods.len() >= 18, "proto/ was not found");
    methods
}

#[test]
fn the_table_names_every_method_there_is_and_no_other() {
    let ours = METHODS.iter().map(|row| row.0).filter(|name| !FOREIGN.iter().any(|prefix| name.starts_with(prefix)));
    let listed: BTreeSet<_> = ours.map(str::to_owned).collect();
    let declared = declared();
    let (missing, unknown): (Vec<_>, Vec<_>) =
        (declared.difference(&listed).collect(), listed.difference(&declared).collect());
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
}

#[test]
fn the_table_is_in_order_so_that_every_row_is_found() {
    assert!(METHODS.windows(2).all(|two| two[0].0 < two[1].0));
    assert!(METHODS.iter().all(|listed| row(listed.0).is_some() && !listed.1.is_empty()));
}

#[test]
fn what_goes_on_between_nodes_is_for_nodes_alone() {
    for listed in METHODS {
        let is_internal = ["kindred.raft.", "kindred.shard."].iter().any(|prefix| listed.0.starts_with(prefix));
        if is_internal {
            assert_eq!(listed.1, [Role::Node], "{}", listed.0);
        } else if listed.0.starts_with("kindred.") {
            assert!(!listed.1.contains(&Role::Node), "{}", listed.0);
        }
    }
}

/// What an empty message is answered; OK if the answer is not a refusal at once.
async fn status(path: &str, caller: Option<Caller>) -> Status {
    let cluster = Cluster::start().await;
    let shards = Arc::new(MemoryShards::at(Groups::new(), RegionIndex(0)));
    let routes = kindred_frontend::services(shards, Arc::new(Seen::default()), cluster.env.clone());
    let routes = guarded(routes, cluster.env.clone());
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").body("\0\0\0\0\0".to_owned()).unwrap();
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let response = routes.oneshot(request).await.unwrap();
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::new(Code::Ok, ""))
}

#[tokio::test]
async fn every_method_times_every_role_is_as_the_table_says() {
    for listed in METHODS {
        for role in Role::ALL {
            let status = status(&format!("/{}", listed.0), Some(Caller::unproven(role))).await;
            // A service refuses who is no operator and brings no device's proof; only the table names the role.
            let is_forbidden =
                Reason::of(&status) == Some(Reason::CallerNotAllowed) && metadata(&status).contains_key("role");
            assert_eq!(is_forbidden, !listed.1.contains(&role), "{} by {role:?}: {status:?}", listed.0);
            if is_forbidden {
                assert_eq!(status.code(), Code::PermissionDenied);
                assert_eq!(metadata(&status).get("role").map(String::as_str), Some(role.name()));
            }
        }
    }
}

#[tokio::test]
async fn nobody_in_particular_may_call_nothing() {
    for path in ["/grpc.health.v1.Health/Check", "/kindred.session.v1.Session/Validate", "/no.such.Service/Method"] {
        let status = status(path, None).await;
        assert_eq!((status.code(), Reason::of(&status)), (Code::PermissionDenied, Some(Reason::CallerNotAllowed)));
    }
}

#[tokio::test]
async fn a_method_that_is_not_in_the_table_does_not_exist() {
    for path in
        ["/kindred.session.v1.Session/Steal", "/no.such.Service/Method", "/", "//", "/kindred.session.v1.Session/"]
    {
        let status = status(path, Some(Caller::unproven(Role::Operator))).await;
        assert_eq!((status.code(), Reason::of(&status)), (Code::Unimplemented, Some(Reason::InvalidRequest)), "{path}");
    }
}
