//! Generates the testing service from its protobuf.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let files = protox::compile(["kindred/testing/v1/points.proto"], [root])?;
    tonic_prost_build::configure().btree_map(".").bytes(".").compile_fds(files)?;
    Ok(())
}
