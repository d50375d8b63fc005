//! Why a replica or a node cannot go on.

use kindred_store::engine;

/// Failure of the replica layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A record's bytes are not what was written.
    #[error("a stored record is damaged: {0}")]
    Damaged(String),
    /// A whole record that this program does not know: a newer one may have written it. Nothing is thrown away for it.
    #[error("a stored record cannot be read: {0}")]
    Record(String),
    /// The data directory belongs to another node.
    #[error("the data directory belongs to node `{directory}`, not to `{name}`; give `{name}` a directory of its own")]
    ForeignDirectory {
        /// Whose it is.
        directory: String,
        /// The configured name.
        name: String,
    },
    /// The data directory belongs to another cluster.
    #[error("the data directory belongs to another cluster")]
    ForeignCluster,
    /// This node is not among the configured peers.
    #[error("node `{0}` is not in cluster.peers")]
    UnknownNode(String),
    /// openraft does not accept the timings.
    #[error("raft timings: {0}")]
    Timings(String),
    /// A replica stopped.
    #[error("raft: {0}")]
    Raft(String),
}

impl From<kindred_store::codec::Malformed> for Error {
    fn from(error: kindred_store::codec::Malformed) -> Self {
        if error.is_damage() { Self::Damaged(error.to_string()) } else { Self::Record(error.to_string()) }
    }
}

impl From<kindred_core::state::ReadError> for Error {
    fn from(error: kindred_core::state::ReadError) -> Self {
        if error.damaged { Self::Damaged(error.what) } else { Self::Record(error.what) }
    }
}

impl From<crate::codec::Malformed> for Error {
    fn from(error: crate::codec::Malformed) -> Self {
        Self::Record(error.to_string())
    }
}

impl Error {
    /// True if the replica's stored bytes are not what was written, so that only its peers have what it should hold.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Engine(engine::Error::Corrupt(_)))
    }
}

/// In openraft's words. Damage keeps its kind, so that the supervisor can tell it from a full disk.
pub fn io(error: impl Into<Error>) -> std::io::Error {
    let error = error.into();
    let kind = match &error {
        _ if error.is_damage() => std::io::ErrorKind::InvalidData,
        Error::Engine(engine::Error::Full) => std::io::ErrorKind::StorageFull,
        _ => std::io::ErrorKind::Other,
    };
    std::io::Error::new(kind, error)
}
