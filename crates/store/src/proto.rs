//! Generated messages, in modules as their packages name one another. Private: outside there are only domain types and
//! bytes.

pub(crate) mod storage {
    pub(crate) mod v1 {
        #![allow(clippy::all, clippy::unwrap_used, clippy::expect_used)] // generated
        include!(concat!(env!("OUT_DIR"), "/kindred.storage.v1.rs"));
    }
}

pub(crate) mod shard {
    pub(crate) mod v1 {
        #![allow(clippy::all, clippy::unwrap_used, clippy::expect_used)] // generated
        include!(concat!(env!("OUT_DIR"), "/kindred.shard.v1.rs"));
    }
}
