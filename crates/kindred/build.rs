//! Compiles what the benchmark speaks besides the public rpcs: the protocol between nodes, and the part of etcd's that it
//! compares with. Clients only.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    for (file, root) in [("kindred/raft/v1/peer.proto", "../../proto"), ("etcd.proto", "proto")] {
        println!("cargo:rerun-if-changed={root}/{file}");
        let descriptors = protox::compile([file], [root])?;
        tonic_prost_build::configure().build_server(false).bytes(".").compile_fds(descriptors)?;
    }
    Ok(())
}
