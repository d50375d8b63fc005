//! Generates clients and servers from proto/, without protoc, and keeps the descriptors for reflection.

use std::path::PathBuf;

const FILES: [&str; 6] = [
    "kindred/error/v1/error.proto",
    "kindred/session/v1/model.proto",
    "kindred/session/v1/session.proto",
    "kindred/account/v1/account.proto",
    "kindred/pairing/v1/pairing.proto",
    "kindred/admin/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    for file in FILES {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("kindred_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .btree_map(".")
        .bytes(".")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
