//! Why a replica or a node cannot go on.

use kindred_store::engine;

/// Failure of the replica layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A record is damaged, or of a version that this program does not know.
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
        Self::Record(error.to_string())
    }
}

impl From<crate::codec::Malformed> for Error {
    fn from(error: crate::codec::Malformed) -> Self {
        Self::Record(error.to_string())
    }
}

/// In openraft's words. Damage keeps its kind, so that the supervisor can tell it from a full disk.
pub fn io(error: impl Into<Error>) -> std::io::Error {
    let error = error.into();
    let kind = match &error {
        Error::Record(_) | Error::Engine(engine::Error::Corrupt(_)) => std::io::ErrorKind::InvalidData,
        Error::Engine(engine::Error::Full) => std::io::ErrorKind::StorageFull,
        _ => std::io::ErrorKind::Other,
    };
    std::io::Error::new(kind, error)
}
