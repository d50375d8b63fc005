//! The testing service of a node (proto/kindred/testing/v1): who leads which shard, and how far each replica is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kindred_wire::net::{Net, channel};

/// Generated code of kindred.testing.v1.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    tonic::include_proto!("kindred.testing.v1");
}

/// One answer may take this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What a node says of its replicas, by shard.
pub type Replicas = BTreeMap<u32, pb::ShardStatus>;

/// Asks the node behind this gateway address; the error says why there is no answer.
pub async fn status(net: Arc<dyn Net>, gateway: &str) -> Result<Replicas, String> {
    // A connection of its own, for an old one may lead to a process that is gone.
    let channel = channel(net, gateway).map_err(|error| error.to_string())?;
    let mut client = pb::points_client::PointsClient::new(channel);
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.status(pb::StatusRequest {})).await;
    let reply = answer.map_err(|_| format!("{gateway} does not answer"))?.map_err(|status| status.to_string())?;
    Ok(reply.into_inner().shards.into_iter().map(|shard| (shard.shard, shard)).collect())
}
