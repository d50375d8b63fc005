//! Generates a client of the testing service: `kindred-tests` runs nodes and links none of what they are made of.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../proto";
    println!("cargo:rerun-if-changed={root}/kindred/testing/v1/points.proto");
    let files = protox::compile(["kindred/testing/v1/points.proto"], [root])?;
    tonic_prost_build::configure().build_server(false).btree_map(".").bytes(".").compile_fds(files)?;
    Ok(())
}
