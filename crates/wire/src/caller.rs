//! Who is behind a connection: the role and the name that its certificate proves.

use std::sync::Arc;

/// What a caller may do is a matter of its role; the table of methods and roles is the frontend's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A server process of the cluster.
    Node,
    /// The operator's edge process that calls for devices.
    Gateway,
    /// A person or program that runs the service.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Node, Self::Gateway, Self::Operator];

    /// As it stands in identities and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The authenticated caller of a request; travels in the request's extensions. A request without one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its role.
    pub role: Role,
    /// Its name within the role, for audit; at most 64 bytes. Empty where nobody proves who they are, because the
    /// configuration asked for plaintext and grants the role to whoever connects.
    pub name: Arc<str>,
}

impl Caller {
    /// Whoever connects to a plaintext listener that grants this role.
    pub fn unproven(role: Role) -> Self {
        Self { role, name: Arc::from("") }
    }

    /// False if it has proved to be somebody else.
    pub fn may_be(&self, name: &str) -> bool {
        self.name.is_empty() || *self.name == *name
    }
}
