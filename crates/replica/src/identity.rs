//! Who a node is: a random id and the cluster's id, kept in the data directory, never derived from its name.
//!
//! **Invariant:** a directory that was wiped makes a new node id; the old one is never used again.

use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use kindred_core::env::Env;
use kindred_core::id::ClusterId;
use kindred_store::codec;
use kindred_store::engine::{Column, Durability, Engine, Write};
use kindred_store::keys;
use tokio::sync::watch;

use crate::codec::{Compact, Malformed, take_option};
use crate::error::Error;
use crate::frames::Hello;

/// This node.
pub struct Identity {
    /// Random, made once per data directory.
    pub node_id: u64,
    /// Its configured name.
    pub name: String,
    belonging: watch::Sender<Belonging>,
    changing: Mutex<()>,
}

/// Which cluster the directory belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belonging {
    /// None while the node is empty.
    pub cluster: Option<ClusterId>,
    /// This node is founding that cluster and has not finished.
    pub founding: bool,
}

pub(crate) struct Stored {
    pub(crate) node_id: u64,
    pub(crate) name: String,
    pub(crate) belonging: Belonging,
}

impl Compact for Stored {
    fn put(&self, out: &mut BytesMut) {
        self.node_id.put(out);
        self.name.put(out);
        self.belonging.cluster.put(out);
        self.belonging.founding.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let (node_id, name) = (u64::take(input)?, String::take(input)?);
        let belonging = Belonging { cluster: take_option(input)?, founding: bool::take(input)? };
        Ok(Self { node_id, name, belonging })
    }
}

impl Identity {
    /// Reads the directory's identity, or gives an empty directory one.
    pub fn load(engine: &dyn Engine, name: &str, env: &Env) -> Result<Self, Error> {
        let stored = match engine.get(Column::Meta, &keys::node_identity())? {
            Some(record) => Stored::decode(codec::open(codec::Kind::NodeIdentity, &record)?)?,
            None => {
                let belonging = Belonging { cluster: None, founding: false };
                let stored = Stored { node_id: random_id(env), name: name.to_owned(), belonging };
                stored.save(engine)?;
                stored
            }
        };
        if stored.name != name {
            return Err(Error::ForeignDirectory { directory: stored.name, name: name.to_owned() });
        }
        Ok(Self {
            node_id: stored.node_id,
            name: stored.name,
            belonging: watch::Sender::new(stored.belonging),
            changing: Mutex::default(),
        })
    }

    /// Which cluster this node belongs to.
    pub fn belonging(&self) -> Belonging {
        *self.belonging.borrow()
    }

    /// Follows [`Self::belonging`].
    pub fn watch(&self) -> watch::Receiver<Belonging> {
        self.belonging.subscribe()
    }

    /// The cluster's id; none while the node is empty.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.belonging().cluster
    }

    /// Writes, durably, which cluster this node belongs to. A directory never changes its cluster.
    pub fn belong(&self, engine: &dyn Engine, to: Belonging) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.belonging();
        if now.cluster.is_some() && now.cluster != to.cluster {
            return Err(Error::ForeignCluster);
        }
        if now != to {
            Stored { node_id: self.node_id, name: self.name.clone(), belonging: to }.save(engine)?;
            self.belonging.send_replace(to);
        }
        Ok(())
    }

    /// How this node introduces itself.
    pub fn hello(&self) -> Hello {
        Hello { cluster: self.cluster(), node_id: self.node_id, name: self.name.clone() }
    }

    /// True unless both belong to clusters that differ.
    pub fn compatible(&self, hello: &Hello) -> bool {
        match (self.cluster(), hello.cluster) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        }
    }
}

impl Stored {
    fn save(&self, engine: &dyn Engine) -> Result<(), Error> {
        let record = codec::seal(codec::Kind::NodeIdentity, &self.encode());
        let write = Write::Put(Column::Meta, keys::node_identity(), record);
        Ok(engine.commit(vec![write], Durability::Synced)?)
    }
}

/// A random id that is not 0, which means "none" on the wire.
pub fn random_id(env: &Env) -> u64 {
    loop {
        let id = u64::from_be_bytes(env.random());
        if id != 0 {
            return id;
        }
    }
}
