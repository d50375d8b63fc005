//! Compiles what the benchmark speaks besides the public rpcs: the protocol between nodes, and the part of etcd's that it
//! compares with. Clients only.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    for (file, root) in [("kindred/raft/v1/peer.proto", "../../proto"), ("etcd.proto", "proto")] {
        println!("cargo:rerun-if-changed={root}/{file}");
        let descriptors = protox::compile([file], [root])?;
        tonic_prost_build::configure().build_server(false).bytes(".").compile_fds(descriptors)?;
    }
    // Figures say how the program that made them was compiled.
    println!("cargo:rustc-env=BUILT_WITH_OPT_LEVEL={}", std::env::var("OPT_LEVEL")?);
    Ok(())
}
