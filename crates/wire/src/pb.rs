//! Generated from proto/; the documentation is there.
#![allow(missing_docs, clippy::all, rustdoc::all)]

/// Package `kindred.account`.
pub mod account {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kindred.account.v1");
    }
}

/// Package `kindred.admin`.
pub mod admin {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kindred.admin.v1");
    }
}

/// Package `kindred.error`.
pub mod error {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kindred.error.v1");
    }
}

/// Package `kindred.pairing`.
pub mod pairing {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kindred.pairing.v1");
    }
}

/// Package `kindred.session`.
pub mod session {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kindred.session.v1");
    }
}

/// All descriptors, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("kindred_descriptor");
