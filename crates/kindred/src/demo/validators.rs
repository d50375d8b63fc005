//! Gateways in the background: each asks one node about every session that anybody was told of, again and again,
//! while nodes are killed and restarted.

use std::time::Duration;

use kindred_check::Level;

use super::lab::Lab;

/// Between two questions of one gateway. Three of them ask about fifty a second: enough to fall into every gap, and
/// little enough to leave the machine to what is shown.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs until the lab is over.
pub(super) async fn run(lab: &Lab) {
    futures::future::join_all((0..lab.node_count()).map(|node| gateway(lab, node))).await;
}

async fn gateway(lab: &Lab, node: usize) {
    let who = format!("gateway {}", node + 1);
    for turn in 0_usize.. {
        if lab.is_over() {
            return;
        }
        let known = lab.known();
        if let Some(session) = known.get(turn % known.len().max(1))
            && lab.is_up(node)
        {
            // Two rounds of three are confirmed by the leader; the third is whatever this replica has.
            let level = if turn / known.len() % 3 == 2 { Level::Local } else { Level::Linearizable };
            // An answer that did not come is in the history as unknown; there is nothing to do about it here.
            let _ = lab.validate(session, &who, node, level).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
