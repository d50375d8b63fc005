//! The part of WatchAccount that tells of requests to be linked by code: a notice, which changes no session. It is told as
//! the nearest replica knows it, and a replica that cannot say is not asked twice; the account's changes go first.

use kindred_core::code::Standing;
use kindred_core::command::{Answer, CodeAnswer, Query};
use kindred_core::id::{AccountId, ShardId, TicketId};
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::watch_account_reply::Event;
use kindred_wire::shards::Consistency;

use crate::front::Front;

/// What one watch has told of an account's requests.
pub(crate) struct Requests {
    front: Front,
    account: AccountId,
    shard: ShardId,
    told: Option<TicketId>,
}

impl Requests {
    pub(crate) fn new(front: Front, account: AccountId, shard: ShardId) -> Self {
        Self { front, account, shard, told: None }
    }

    /// What the watcher does not know yet. A newer request is told after the older one is said to be over.
    pub(crate) async fn news(&mut self) -> Option<Event> {
        // Whoever watches was woken by this very replica, so it has what there is to tell.
        let query = Query::Code(self.account.clone());
        let code = match self.front.query(self.shard, query, Consistency::Local).await {
            Ok(observed) => match observed.answer {
                Answer::Code(code) => code.filter(|code| code.standing != Standing::Over),
                _ => return None,
            },
            Err(_) => return None,
        };
        let now = code.as_ref().map(|code| code.ticket);
        if self.told == now {
            return None;
        }
        if let Some(ticket) = self.told.take() {
            let ticket = convert::raw(ticket.as_bytes());
            return Some(Event::LinkRequestOver(pb::LinkRequestOver { ticket }));
        }
        self.told = now;
        code.map(|code| Event::LinkRequested(requested(&code)))
    }
}

fn requested(code: &CodeAnswer) -> pb::LinkRequested {
    pb::LinkRequested {
        ticket: convert::raw(code.ticket.as_bytes()),
        device: Some(convert::device(&code.requester.device)),
        location: code.requester.location.clone(),
        age_ms: code.age_ms,
        ttl_ms: code.ttl_ms,
    }
}
