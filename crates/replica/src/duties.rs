//! What only a leader does, unasked: move shard time, fire deadlines, finish sagas that a frontend left, perform effects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kindred_core::apply::link_of;
use kindred_core::command::{Command, Decision, Effect, Envelope, OutboxItem, Outcome, Proven, Submission};
use kindred_core::id::{RequestId, ShardId, TicketId};
use kindred_core::limits::{ACK_EFFECTS_MAX, EXPIRE_TICKETS_MAX, TICK_INTERVAL_MS, TIMERS_SEEN_MAX};
use kindred_core::model::{Ticket, TicketState};
use kindred_core::state::{Key, ReadError, Record, Timer, View, due};
use kindred_wire::shards::Shards;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::link::Links;
use crate::replica::Replica;

/// Effects looked at together; more than are performed, so that one deaf shard does not hide the others' effects.
const EFFECTS_SEEN_MAX: usize = 1_024;
/// One effect, or one step of a saga, may take this long.
pub(crate) const PERFORM_WITHIN: Duration = Duration::from_secs(3);
/// Effects that come within this time are performed together.
const GATHER: Duration = Duration::from_millis(8);
/// A shard that took no effect is left alone for this long.
const DEAF_FOR: Duration = Duration::from_millis(500);
/// Sagas driven at once for one shard.
const SAGAS_MAX: usize = 64;
/// The cluster's own commands wait this long to be proposed.
const PROPOSE_WITHIN_MS: u64 = 2_000;

/// Runs the duties of one replica, whenever it leads, until aborted.
pub async fn run(replica: Arc<Replica>, shards: Arc<dyn Shards>, links: Arc<Links>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_time(replica.clone(), shards.clone(), links));
    tasks.spawn(perform_effects(replica, shards));
    // Both run for ever; dropping the set ends them.
    while tasks.join_next().await.is_some() {}
}

/// A command of the cluster's own. Its request id is kept nowhere.
pub(crate) fn by_cluster(command: Command) -> Envelope {
    Envelope { request: RequestId([0; 16]), policy_version: 0, proven: Proven::Cluster, command }
}

pub(crate) fn submission(envelope: Envelope) -> Submission {
    Submission { envelope, proof: None, possession: None, reference: None, propose_within_ms: PROPOSE_WITHIN_MS }
}

async fn propose(replica: &Replica, command: Command) -> bool {
    let deadline = Instant::now() + Duration::from_millis(PROPOSE_WITHIN_MS);
    replica.propose(by_cluster(command), deadline).await.is_ok()
}

/// Ticks, and fires the deadlines that a tick made due.
async fn keep_time(replica: Arc<Replica>, shards: Arc<dyn Shards>, links: Arc<Links>) {
    let mut tick = tokio::time::interval(Duration::from_millis(TICK_INTERVAL_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sagas = JoinSet::new();
    let mut driven = BTreeSet::new();
    loop {
        tick.tick().await;
        while sagas.try_join_next().is_some() {}
        if sagas.is_empty() {
            // Only now does anybody get a second turn, so those whose home is deaf do not hide the others.
            driven.clear();
        }
        if !replica.leads() || !propose(&replica, Command::Tick).await {
            continue;
        }
        let Some(Due { expired, approved }) = replica.noted(look(&replica, &driven)) else { continue };
        for ticket in approved.into_iter().take(SAGAS_MAX.saturating_sub(sagas.len())) {
            driven.insert(ticket);
            let (replica, shards) = (replica.clone(), shards.clone());
            sagas.spawn(async move {
                let _ = timeout(PERFORM_WITHIN, drive(&replica, shards.as_ref(), ticket)).await;
            });
        }
        for tickets in expired.chunks(EXPIRE_TICKETS_MAX) {
            propose(&replica, Command::Expire { tickets: tickets.to_vec() }).await;
        }
        replica.prefer_home(&links).await;
    }
}

/// Tickets whose time is over, and approved ones that nobody has finished.
struct Due {
    expired: Vec<TicketId>,
    approved: Vec<TicketId>,
}

/// Each kind for itself, so that neither hides the other. `driven` had their turn lately.
fn look(replica: &Replica, driven: &BTreeSet<TicketId>) -> Result<Due, ReadError> {
    replica.state.read(|view, live| {
        let find = |wanted: &dyn Fn(&Timer) -> bool| due(view, live.time_ms, TIMERS_SEEN_MAX, |_, timer| wanted(timer));
        let ids = |timers: Vec<(u64, Timer)>| timers.into_iter().filter_map(|(_, timer)| ticket_of(&timer)).collect();
        let expired = ids(find(&|timer| matches!(timer, Timer::TicketDeadline(_)))?);
        let approved = ids(find(&|timer| matches!(timer, Timer::Saga(ticket) if !driven.contains(ticket)))?);
        Ok(Due { expired, approved })
    })
}

fn ticket_of(timer: &Timer) -> Option<TicketId> {
    match timer {
        Timer::TicketDeadline(ticket) | Timer::Saga(ticket) => Some(*ticket),
        _ => None,
    }
}

/// Has an approved ticket decided at the account's shard, and writes the decision here. Every step may be repeated.
async fn drive(replica: &Replica, shards: &dyn Shards, id: TicketId) {
    let read = replica.state.read(|view, live| (view.get(&Key::Ticket(id)), live.time_ms));
    let (Ok(Some(Record::Ticket(ticket))), now_ms) = read else { return };
    let Some((shard, envelope)) = decision(shards, &ticket, now_ms) else { return };
    tracing::info!(shard = replica.shard().0, ticket = %id, "finishing a link that its frontend left");
    let Ok(committed) = shards.submit(shard, submission(envelope)).await else { return };
    if let Ok(Outcome::Decided(outcome)) = committed.reply {
        propose(replica, Command::Settle { ticket: id, outcome }).await;
    }
}

/// Who decides the ticket, and what is asked of it: a link, or, once its time is over, that there will be none.
fn decision(shards: &dyn Shards, ticket: &Ticket, now_ms: u64) -> Option<(ShardId, Envelope)> {
    let TicketState::Approved { scan, .. } = &ticket.state else { return None };
    let shard = shards.map().account(scan.home, &scan.account)?;
    let is_in_time = now_ms < ticket.deadline_ms;
    #[cfg(kindred_mutants)]
    let is_in_time = is_in_time && !kindred_core::mutants::is("sweep-unchecked");
    let envelope = if is_in_time {
        link_of(ticket)?
    } else {
        let account = scan.account.clone();
        by_cluster(Command::DecideTicket { account, ticket: ticket.id, decision: Decision::Expired })
    };
    Some((shard, envelope))
}

/// Performs what the outbox holds, then has it acknowledged. An effect may be performed twice; all are idempotent.
async fn perform_effects(replica: Arc<Replica>, shards: Arc<dyn Shards>) {
    let mut news = replica.state.watch_effects();
    let mut retry = tokio::time::interval(DEAF_FOR);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deaf = BTreeMap::new();
    let mut first = 0;
    loop {
        tokio::select! {
            biased;
            changed = news.changed() => {
                if changed.is_err() {
                    return;
                }
                // Nobody waits for an effect as for an answer; together they cost one entry here and one there.
                tokio::time::sleep(GATHER).await;
            }
            _ = retry.tick() => {}
        }
        while replica.leads() {
            let now = Instant::now();
            deaf.retain(|_, until| *until > now);
            if perform_some(&replica, &shards, &mut deaf, &mut first).await == 0 {
                break;
            }
        }
    }
}

/// One round; how many effects were performed.
async fn perform_some(
    replica: &Replica,
    shards: &Arc<dyn Shards>,
    deaf: &mut BTreeMap<ShardId, Instant>,
    first: &mut u64,
) -> usize {
    let Some(items) = replica.noted(replica.state.read(|view, _| outbox(view, first))) else { return 0 };
    let now_ms = replica.state.read(|_, live| live.time_ms);
    let addressed = items.into_iter().filter_map(|item| {
        let (target, command) = addressed(shards.as_ref(), &item)?;
        let is_stale = crate::homing::is_stale(&command, item.due_ms, now_ms);
        (!deaf.contains_key(&target)).then_some((item.id, target, command, is_stale))
    });
    // Notices last: those for a home that is down must not stand in front of what has to be told.
    let (notices, others): (Vec<_>, Vec<_>) =
        addressed.partition(|(_, _, command, _)| crate::homing::for_home(command).is_some());
    let known_deaf: BTreeSet<_> = deaf.keys().copied().collect();
    let mut performing: FuturesUnordered<_> = others
        .into_iter()
        .chain(notices)
        .take(ACK_EFFECTS_MAX)
        .map(|(id, target, command, is_stale)| {
            let known_deaf = &known_deaf;
            async move { (id, is_stale, crate::homing::perform(shards.as_ref(), target, command, known_deaf).await) }
        })
        .collect();
    let mut effects = Vec::new();
    while let Some((id, is_stale, performed)) = performing.next().await {
        if let Err(silent) = performed {
            // One that was deaf before was not asked: it is not to stay deaf for that.
            deaf.entry(silent).or_insert(Instant::now() + DEAF_FOR);
        }
        if performed.is_ok() || is_stale {
            effects.push(id);
        }
    }
    effects.sort_unstable();
    let count = effects.len();
    if count > 0 && !propose(replica, Command::AckEffects { effects }).await {
        return 0;
    }
    count
}

/// What waits in the outbox. `first` follows its lowest number, which never falls, so that no look passes over the graves
/// of all effects that ever were.
fn outbox(view: &dyn View, first: &mut u64) -> Result<Vec<OutboxItem>, ReadError> {
    let next = match view.get(&Key::Shard)? {
        Some(Record::Shard(shard)) => shard.next_effect,
        _ => 0,
    };
    let items = view.outbox(*first, EFFECTS_SEEN_MAX)?;
    *first = items.first().map_or(next, |item| item.id);
    Ok(items)
}

/// Who hears of it first. What is for an account's home is sent by way of the directory ([`crate::homing`]).
fn addressed(shards: &dyn Shards, item: &OutboxItem) -> Option<(ShardId, Command)> {
    let map = shards.map();
    Some(match &item.effect {
        Effect::Settle { ticket, outcome } => {
            (map.ticket(ticket)?, Command::Settle { ticket: *ticket, outcome: outcome.clone() })
        }
        Effect::ConfirmClaim { account, claim, home_epoch } => {
            let (account, claim, home_epoch) = (account.clone(), *claim, *home_epoch);
            (map.directory(&account)?, Command::ConfirmClaim { account, claim, home_epoch })
        }
        Effect::MarkDeleted { account, claim } => {
            let (account, claim) = (account.clone(), *claim);
            (map.directory(&account)?, Command::MarkDeleted { account, claim })
        }
        Effect::AttachCode { account, ticket, requester } => {
            let (account, ticket, requester) = (account.clone(), *ticket, requester.clone());
            (map.directory(&account)?, Command::AttachCode { account, ticket, requester })
        }
        Effect::HoldCode { account, ticket } => {
            let (account, ticket) = (account.clone(), *ticket);
            (map.directory(&account)?, Command::HoldCode { account, ticket })
        }
        Effect::DetachCode { account, ticket } => {
            let (account, ticket) = (account.clone(), *ticket);
            (map.directory(&account)?, Command::DetachCode { account, ticket })
        }
    })
}
