//! Compiles the messages that are kept on disk and passed between nodes.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto";
    let files =
        ["kindred/storage/v1/storage.proto", "kindred/shard/v1/shard.proto"].map(|file| format!("{root}/{file}"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, [root])?;
    tonic_prost_build::configure().btree_map(".").bytes(".").compile_fds(descriptors)?;
    Ok(())
}
