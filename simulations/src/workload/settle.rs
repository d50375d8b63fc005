//! After the storm: everybody learns what became of what was asked for, links once more, and every session that was ever
//! acknowledged is asked about.

use std::time::Duration;

use kindred_check::{Level, Note};
use kindred_client::request_id;
use kindred_core::limits::COMPANION_LIMIT_DEFAULT;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_witness::Ask;
use tokio::time::Instant;

use super::household::{Abandoned, Household, about};
use super::linking::Way;
use super::people::{Actor, Known, People, Route, Told};
use super::stage::Violation;

/// Questions under way at once.
const LANES: usize = 8;
/// After the storm a link takes no longer than this, and an answer neither; simulated time.
const SERVES_WITHIN: Duration = Duration::from_secs(30);
/// Between two questions about one session.
const PAUSE: Duration = Duration::from_millis(200);
/// Every ticket is over after so long: 180 s of shard time, which may be slower than the world's.
const TICKETS_END_WITHIN: Duration = Duration::from_secs(240);
/// What a household tries before it gives its phone up.
const TRIES: usize = 3;

/// Everybody finds out where they stand, once nothing is broken any more: whose phone is the phone, whether the account is
/// locked, and whether there is room for one more companion.
pub async fn find_out(people: &People) {
    let households = people.households();
    for_each(&households, |household| async move {
        let who = household.actor("phone after");
        for _ in 0..TRIES {
            if household.resolve(&who, Route::write(household.home)).await {
                break;
            }
        }
        if household.is_locked() {
            household.unlock(&who, household.home).await;
        }
        household.recover_phone().await;
        household.make_room().await;
    })
    .await;
}

/// Everybody links once more, within bounded time.
pub async fn serve(people: &People) {
    let began = Instant::now();
    let households = people.households();
    for_each(&households, |household| async move {
        let who = household.actor("phone at last");
        let way = Way { companion_at: household.home + 1, phone_at: household.home, ..Way::default() };
        let linked = tokio::time::timeout(SERVES_WITHIN, household.link(&who, &way)).await;
        if !matches!(linked, Ok(Some(_))) {
            let text = format!("no link within {} s after everything healed", SERVES_WITHIN.as_secs());
            people
                .stage
                .violates(Violation { account: Some(household.name.clone()), ..Violation::new("liveness", text) });
        }
    })
    .await;
    step(people, "served", began);
}

/// Every account is listed and every session that anybody was told of is validated, linearizably.
pub async fn scan(people: &People) {
    let began = Instant::now();
    let households = people.households();
    for_each(&households, |household| async move {
        let who = household.actor("auditor");
        if !household.list(&who, household.home).await {
            let text = "nobody lists its sessions after everything healed";
            people
                .stage
                .violates(Violation { account: Some(household.name.clone()), ..Violation::new("liveness", text) });
        }
    })
    .await;
    let known = people.known();
    let lanes: Vec<_> = (0..LANES).collect();
    for_each(&lanes, |lane| {
        let known = &known;
        async move {
            for (number, known) in known.iter().enumerate().skip(*lane).step_by(LANES) {
                verdict(people, *lane, number, known).await;
            }
        }
    })
    .await;
    step(people, "scanned", began);
}

/// Tickets that were left must end by themselves.
pub async fn wait_for_tickets(people: &People) {
    let abandoned: Vec<Abandoned> = people.households().iter().flat_map(|household| household.abandoned()).collect();
    for_each(&abandoned, |left| async move {
        let deadline = Instant::now() + TICKETS_END_WITHIN;
        let who = format!("{} comes back", left.name);
        for node in 0.. {
            let ask = people.ask(node, &who);
            let (of, request) = ((&left.device, &left.ticket), request_id(&people.env));
            match ask.watch_linked(of, request, Duration::from_secs(30)).await {
                Err(error) if error.reason().map(kindred_wire::reason::Reason::name) == Some("TICKET_EXPIRED") => {
                    return;
                }
                // Locked, denied or forgotten: over, in another way than by its time.
                Err(error) if kindred_witness::refusal(&error).is_some() => return,
                Ok(_) => return,
                Err(_) if Instant::now() >= deadline => break,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        let text = format!("ticket {} of {} is not over long after its time", left.ticket, left.name);
        people.stage.violates(Violation::new("tickets", text));
    })
    .await;
}

impl Household {
    /// A phone that was signed out by a change of which nobody heard is replaced, as an operator would do for its owner.
    async fn recover_phone(&self) {
        let (phone, who) = (self.phone(), self.actor("operator"));
        let told = self.people.insist(&who, Route::read(self.home), async |ask| {
            ask.validate((&self.account, phone.session), Level::Linearizable).await
        });
        let Told::Ok(reply) = told.await else { return };
        if !matches!(reply.verdict, Some(Verdict::SignedOut(_))) {
            return;
        }
        let (device, request, about) = (self.people.device(), request_id(&self.people.env), about("phone", &self.name));
        let told = self.people.insist(&who, Route::write(self.home), async |ask| {
            ask.give_primary(&self.account, &device, (&about, true), request).await
        });
        if let Told::Ok((member, _)) = told.await {
            self.take_phone(member);
        }
    }

    /// One companion must fit: as many as it takes are signed out, the oldest first.
    async fn make_room(&self) {
        let who = self.actor("phone makes room");
        let told = self.people.insist(&who, Route::read(self.home), async |ask| ask.list(&self.account).await).await;
        let Told::Ok(reply) = told else { return };
        self.know_epoch(reply.auth_epoch);
        let phone = self.phone();
        let others = reply.sessions.iter().filter_map(|s| kindred_core::id::SessionId::from_slice(&s.session));
        let others: Vec<_> = others.filter(|session| *session != phone.session).collect();
        let surplus = (others.len() + 1).saturating_sub(COMPANION_LIMIT_DEFAULT as usize);
        for target in others.into_iter().take(surplus) {
            self.unlink(&who, &phone, target, Route::write(self.home)).await;
        }
    }
}

async fn verdict(people: &People, lane: usize, first: usize, known: &Known) {
    let (deadline, who) = (Instant::now() + SERVES_WITHIN, format!("auditor {lane}"));
    for node in first.. {
        let told = people.ask(node, &who).validate((&known.account, known.session), Level::Linearizable).await;
        match told.ok().and_then(|reply| reply.verdict) {
            Some(Verdict::Valid(_)) => return,
            Some(Verdict::SignedOut(_)) => {
                let who = Actor::new(who);
                let why = async |ask: Ask<'_>| ask.why(&known.account, known.session).await;
                people.insist(&who, Route::read(node), why).await.ok();
                return;
            }
            _ if Instant::now() >= deadline => break,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
    people.stage.violates(Violation {
        account: Some(known.account.to_string()),
        session: Some(known.session.to_string()),
        ..Violation::new("liveness", "nobody can say whether this session is valid after everything healed")
    });
}

fn step(people: &People, name: &str, began: Instant) {
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    people.stage.recorder.note("world", Note::Step { name: name.into(), ms });
}

async fn for_each<'a, T, F: Future<Output = ()> + 'a>(all: &'a [T], act: impl Fn(&'a T) -> F) {
    use futures::StreamExt as _;
    let mut under_way: futures::stream::FuturesUnordered<F> = all.iter().map(act).collect();
    while under_way.next().await.is_some() {}
}
