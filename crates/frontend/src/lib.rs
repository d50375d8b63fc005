//! The gRPC services that gateways and devices call. Stateless but for a cache of homes: any node answers any call.
//!
//! ```text
//!   request ─decode─► command or query ─route─► Shards ─► answer ─encode─► reply
//!                                                 │
//!   ApproveTicket:  ticket's shard: Approve ──► account's shard: Link ──► receipt     (its outbox settles the ticket)
//! ```
//!
//! Owns: routing by account and ticket, the pairing saga, watches, mandatory status details, who may call what. Must not
//! know: Raft, disks, how a shard is reached. **Invariant:** nothing here decides about a session; it asks the shards and repeats what they
//! said. **Invariant:** a shard that gives no answer never becomes a statement about a session.
//!
//! Reading order: [`front`], [`by`], [`approve`], [`watch_ticket`], [`session`], [`validate`], [`details`], [`access`].

pub mod access;
mod account;
mod admin;
mod approve;
mod by;
mod deadline;
pub mod details;
mod front;
mod homes;
mod life;
pub mod metrics;
mod pairing;
mod reconcile;
pub mod seldom;
mod session;
mod shown;
mod validate;
mod watch_account;
mod watch_requests;
mod watch_ticket;

use std::sync::Arc;

use kindred_core::env::Env;
use kindred_wire::pb::account::v1::account_server::AccountServer;
use kindred_wire::pb::admin::v1::admin_server::AdminServer;
use kindred_wire::pb::pairing::v1::pairing_server::PairingServer;
use kindred_wire::pb::session::v1::session_server::SessionServer;
use kindred_wire::shards::{Points, Shards};
use tonic::service::Routes;

/// Largest request: a full envelope and what goes with it.
pub const REQUEST_BYTES_MAX: usize = 128 * 1024;

/// Largest import request; only operators send them.
pub const IMPORT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bounds of the public services.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Largest request, bytes; at least [`REQUEST_BYTES_MAX`], or full envelopes do not fit.
    pub request_bytes_max: usize,
    /// Longest work on one call; that of a stream ends where it begins.
    pub call_within: std::time::Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { request_bytes_max: REQUEST_BYTES_MAX, call_within: std::time::Duration::from_secs(30) }
    }
}

const _: () = assert!(kindred_core::limits::ENVELOPE_BYTES_MAX < REQUEST_BYTES_MAX);

/// Mounts the public services and reflection, all with mandatory details. Health is the node's to add, for only the node
/// knows how it is; so are [`access::guarded`] around all of it and the bounds on connections and streams.
pub fn services(shards: Arc<dyn Shards>, points: Arc<dyn Points>, env: Env) -> Routes {
    services_within(shards, points, env, Bounds::default())
}

/// [`services`] within these bounds.
pub fn services_within(shards: Arc<dyn Shards>, points: Arc<dyn Points>, env: Env, bounds: Bounds) -> Routes {
    metrics::describe();
    let front = front::Front::new(shards, points, env);
    let mut routes = Routes::default()
        .add_service(AdminServer::new(front.clone()).max_decoding_message_size(IMPORT_BYTES_MAX))
        .add_service(AccountServer::new(front.clone()).max_decoding_message_size(bounds.request_bytes_max))
        .add_service(PairingServer::new(front.clone()).max_decoding_message_size(bounds.request_bytes_max))
        .add_service(SessionServer::new(front).max_decoding_message_size(bounds.request_bytes_max));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(kindred_wire::pb::FILE_DESCRIPTOR_SET);
    match reflection.build_v1() {
        Ok(service) => routes = routes.add_service(service),
        Err(error) => tracing::error!(%error, "reflection is off: the descriptors cannot be read"),
    }
    details::mandatory(deadline::bounded(routes, bounds.call_within))
}
