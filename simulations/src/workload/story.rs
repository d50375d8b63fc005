//! Tells a story: one step after the other, each with what it must come to.

mod changes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kindred_check::Level;
use kindred_client::{Error, Member, request_id};
use kindred_core::id::{AccountId, RequestId, SessionId};
use kindred_core::model::Receipt;
use kindred_core::reconcile::Believed;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_wire::pb::session::v1::why_signed_out_reply::Answer as Why;
use kindred_wire::reason::Reason;
use kindred_witness::{Asked, Shown};

use super::codes::wrong;
use super::design::Design;
use super::household::{Household, about};
use super::linking::{Signed, Way};
use super::people::{Actor, People, Route, Told};
use super::stage::{Order, Violation};
use super::steps::{Step, Verb};

/// A companion waits so long for the end of its ticket.
const WATCH: Duration = Duration::from_secs(30);
/// A question is asked so often while the answer is a doubt.
const DOUBTS: usize = 100;

/// Whom and what the story has named so far.
struct Story<'a> {
    people: &'a Arc<People>,
    homes: BTreeMap<String, Arc<Household>>,
    /// By account and name.
    members: BTreeMap<(String, String), Member>,
    /// Sessions of all that were ever linked under a name; the latest.
    sessions: BTreeMap<(String, String), SessionId>,
    shown: BTreeMap<(String, String), Shown>,
    signed: BTreeMap<(String, String), (Asked, Member)>,
    unlinked: BTreeMap<(String, String), (Member, SessionId, RequestId)>,
}

/// From the first step to the last; a step that comes to something else is a violation, and the story breaks off.
pub async fn tell(people: &Arc<People>, design: &Design) {
    let mut story = Story {
        people,
        homes: BTreeMap::new(),
        members: BTreeMap::new(),
        sessions: BTreeMap::new(),
        shown: BTreeMap::new(),
        signed: BTreeMap::new(),
        unlinked: BTreeMap::new(),
    };
    for (number, step) in design.story.iter().enumerate() {
        let came = story.step(step).await;
        let (verb, of) = (step.verb, format!("{}/{}", step.account, step.companion));
        crate::trace::line(format_args!("step {}: {verb:?} {of}: {came}", number + 1));
        if !step.expect.contains(&came) {
            let text = format!("step {} ({verb:?} {of}) came to {came}, not {}", number + 1, step.expect.join(" or "));
            people
                .stage
                .violates(Violation { account: Some(step.account.clone()), ..Violation::new("scenario", text) });
            break;
        }
    }
    people.stage.story_is_over();
}

impl Story<'_> {
    async fn step(&mut self, step: &Step) -> String {
        match step.verb {
            Verb::Register => return self.register(step).await,
            Verb::Fault => {
                if let Some(injection) = step.injection() {
                    self.people.stage.order(Order::Inject(injection.clone())).await;
                }
                return "ok".into();
            }
            Verb::Heal => {
                self.people.stage.order(Order::Heal).await;
                return "ok".into();
            }
            Verb::Wait => {
                tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
                return "ok".into();
            }
            _ => {}
        }
        let Some(home) = self.homes.get(&step.account).cloned() else { return "NO_SUCH_ACCOUNT".into() };
        match step.verb {
            Verb::Link | Verb::LinkByCode | Verb::Open | Verb::Scan | Verb::Approve | Verb::ApproveAgain => {
                self.pair(&home, step).await
            }
            Verb::Deny | Verb::Cancel | Verb::Watch => self.ticket(&home, step).await,
            Verb::Validate | Verb::List | Verb::Why | Verb::SignListWithout => self.ask(&home, step).await,
            _ => self.change(&home, step).await,
        }
    }

    fn key(step: &Step) -> (String, String) {
        (step.account.clone(), step.companion.clone())
    }

    fn who(step: &Step) -> Actor {
        Actor::new(format!("{}/{}", step.account, step.by.as_deref().unwrap_or("phone")))
    }

    /// Whoever does it, ready to sign.
    fn by(&self, home: &Household, step: &Step) -> Member {
        let named = step.by.as_ref().and_then(|by| self.members.get(&(step.account.clone(), by.clone())));
        named.map_or_else(|| home.phone(), |member| home.present(member))
    }

    fn session(&self, home: &Household, step: &Step) -> SessionId {
        self.sessions.get(&Self::key(step)).copied().unwrap_or_else(|| home.phone().session)
    }

    fn way(&self, step: &Step) -> Way {
        let replaced = step.replaces.as_ref().and_then(|name| self.sessions.get(&(step.account.clone(), name.clone())));
        let by = step.by.as_ref().and_then(|by| self.members.get(&(step.account.clone(), by.clone())).cloned());
        Way { companion_at: step.at, phone_at: step.through, replaces: replaced.copied(), by, ..Way::default() }
    }

    async fn register(&mut self, step: &Step) -> String {
        if self.homes.contains_key(&step.account) {
            // Somebody else wants the account.
            let (who, device) = (Actor::new(format!("{}/another phone", step.account)), self.people.device());
            let Some(account) = AccountId::new(step.account.as_bytes()) else { return "INVALID_REQUEST".into() };
            let (request, about) = (request_id(&self.people.env), about("phone", "another"));
            let told = self.people.insist(&who, Route::write(step.through), async |ask| {
                ask.register(&device, &account, (&about, ""), request).await
            });
            return came(told.await, |_| "ok".into());
        }
        let regions = &self.people.regions;
        let at =
            step.home.as_ref().and_then(|home| regions.iter().position(|region| region == home)).unwrap_or_default();
        let index = self.people.households().len();
        let Some(household) = Household::register(self.people, &step.account, at, index).await else {
            return "NO_ANSWER".into();
        };
        self.people.moves_in(&household);
        self.sessions.insert((step.account.clone(), "phone".into()), household.phone().session);
        self.homes.insert(step.account.clone(), household);
        "ok".into()
    }

    async fn pair(&mut self, home: &Arc<Household>, step: &Step) -> String {
        let (key, who, way) = (Self::key(step), Self::who(step), self.way(step));
        match step.verb {
            Verb::Open => match home.open(step.at).await {
                Some(shown) => self.shown.insert(key, shown).map_or_else(|| "ok".into(), |_| "ok".into()),
                None => "NO_ANSWER".into(),
            },
            Verb::Link => {
                let Some(shown) = home.open(step.at).await else { return "NO_ANSWER".into() };
                self.shown.insert(key.clone(), shown);
                let scanned = self.scan(home, step, &who).await;
                if scanned != "ok" {
                    return scanned;
                }
                let approved = self.approve(home, step, (&who, &way)).await;
                if approved != "ok" {
                    return approved;
                }
                self.watch(home, step).await
            }
            Verb::LinkByCode => self.link_by_code(home, step, (&who, &way)).await,
            Verb::Scan => self.scan(home, step, &who).await,
            Verb::Approve => self.approve(home, step, (&who, &way)).await,
            _ => {
                let Some((asked, _)) = self.signed.get(&key).cloned() else { return "NOTHING_SIGNED".into() };
                let told = self.people.insist(&who, Route::write(step.through), async |ask| ask.approve(&asked).await);
                came(told.await, |_| "ok".into())
            }
        }
    }

    async fn scan(&mut self, home: &Household, step: &Step, who: &Actor) -> String {
        let key = Self::key(step);
        // Somebody else's ticket is named `account/companion`.
        let shown = match step.companion.split_once('/') {
            Some((account, companion)) => self.shown.get(&(account.to_owned(), companion.to_owned())),
            None => self.shown.get(&key),
        };
        let Some(shown) = shown.cloned() else { return "NO_SUCH_TICKET".into() };
        let (by, request) = (self.by(home, step), request_id(&self.people.env));
        let told = self.people.insist(who, Route::write(step.through), async |ask| {
            ask.scan(&by, (&shown.ticket, &shown.qr.reference), request).await
        });
        let told = told.await;
        if let Told::Ok((member, _)) = &told {
            home.know_epoch(member.auth_epoch);
            let asked = home.asked(member, (shown.ticket, shown.qr.device_key), &self.way(step));
            self.signed.insert(key, (asked, member.clone()));
        }
        came(told, |_| "ok".into())
    }

    async fn approve(&mut self, home: &Household, step: &Step, (who, way): (&Actor, &Way)) -> String {
        let key = Self::key(step);
        let (Some(shown), Some((_, by))) = (self.shown.get(&key).cloned(), self.signed.get(&key).cloned()) else {
            return "NOT_SCANNED".into();
        };
        let asked = home.asked(&by, (shown.ticket, shown.qr.device_key), way);
        self.signed.insert(key.clone(), (asked.clone(), by.clone()));
        let told = self.people.insist(who, Route::write(way.phone_at), async |ask| ask.approve(&asked).await).await;
        if let Told::Ok(receipt) = &told {
            self.linked(home, &key, (&Signed { shown, asked, by }, receipt));
        }
        came(told, |_| "ok".into())
    }

    fn linked(&mut self, home: &Household, key: &(String, String), (signed, receipt): (&Signed, &Receipt)) {
        home.linked(signed, receipt);
        let device = signed.shown.device.clone();
        let member = Member { device, session: receipt.session, ..signed.by.clone() };
        self.sessions.insert(key.clone(), receipt.session);
        self.members.insert(key.clone(), member);
    }

    async fn link_by_code(&mut self, home: &Household, step: &Step, (who, way): (&Actor, &Way)) -> String {
        let Some(shown) = home.open_code(step.at).await else { return "NO_ANSWER".into() };
        for place in 0..step.times {
            home.type_code(who, (&wrong(&shown.code, place % 8), true), step.through).await;
        }
        let Some((by, key)) = home.type_code(who, (&shown.code, false), step.through).await else {
            return "REFUSED".into();
        };
        let signed = home.sign_with_number(shown, by, (key, way));
        match home.finish(who, &signed, way).await {
            Some(receipt) => {
                self.linked(home, &Self::key(step), (&signed, &receipt));
                "ok".into()
            }
            None => "REFUSED".into(),
        }
    }

    async fn watch(&mut self, home: &Household, step: &Step) -> String {
        let Some(shown) = self.shown.get(&Self::key(step)).cloned() else { return "NO_SUCH_TICKET".into() };
        let who = Actor::new(format!("{} waits", shown.name));
        let told = self.people.insist(&who, Route::read(step.at), async |ask| {
            ask.watch_linked((&shown.device, &shown.ticket), request_id(&self.people.env), WATCH).await
        });
        let told = told.await;
        if let (Told::Ok((_, receipt)), Some((asked, by))) = (&told, self.signed.get(&Self::key(step)).cloned()) {
            self.linked(home, &Self::key(step), (&Signed { shown, asked, by }, receipt));
        }
        came(told, |_| "ok".into())
    }

    async fn ticket(&mut self, home: &Household, step: &Step) -> String {
        let Some(shown) = self.shown.get(&Self::key(step)).cloned() else { return "NO_SUCH_TICKET".into() };
        let request = request_id(&self.people.env);
        match step.verb {
            Verb::Deny => {
                let (by, who) = (self.by(home, step), Self::who(step));
                let told = self
                    .people
                    .insist(&who, Route::write(step.through), async |ask| ask.deny(&by, &shown.ticket, request).await);
                came(told.await, |_| "ok".into())
            }
            Verb::Cancel => {
                let who = Actor::new(&shown.name);
                let told = self.people.insist(&who, Route::write(step.at), async |ask| {
                    ask.cancel(&shown.device, &shown.ticket, request).await
                });
                came(told.await, |_| "ok".into())
            }
            _ => self.watch(home, step).await,
        }
    }

    async fn ask(&self, home: &Household, step: &Step) -> String {
        let (who, session, route) = (Self::who(step), self.session(home, step), Route::read(step.through));
        match step.verb {
            Verb::Validate => self.verdict(home, (&who, session), step).await,
            Verb::List => {
                let told = self.people.insist(&who, route, async |ask| ask.list(&home.account).await);
                came(told.await, |reply| reply.sessions.len().to_string())
            }
            Verb::Why => {
                let told = self.people.insist(&who, route, async |ask| ask.why(&home.account, session).await);
                came(told.await, |reply| match &reply.answer {
                    Some(Why::Ended(tombstone)) => tombstone.reason().as_str_name().to_owned(),
                    _ => "ACTIVE".into(),
                })
            }
            _ => {
                let others = home.people.ask(step.through, "list");
                let Ok(reply) = others.list(&home.account).await else { return "NO_ANSWER".into() };
                let all = reply.sessions.iter().filter_map(|s| Some((SessionId::from_slice(&s.session)?, s.seq)));
                let held = all.filter(|(id, _)| *id != session).collect();
                let view =
                    Believed { set_version: reply.set_version, set: kindred_core::reconcile::Set::Sessions(held) };
                let request = request_id(&self.people.env);
                // It changes nothing and ends nobody, so it is no operation of the history.
                let told = self
                    .people
                    .insist(&who, route, async |ask| ask.client.reconcile_signed(&home.phone(), &view, request).await);
                came(told.await, |_| "ok".into())
            }
        }
    }

    /// The verdict; a doubt is asked again, through the next node.
    async fn verdict(&self, home: &Household, (who, session): (&Actor, SessionId), step: &Step) -> String {
        let mut last = "NO_ANSWER".to_owned();
        for node in step.through..step.through + if step.times > 0 { step.times } else { DOUBTS } {
            let name = who.name();
            let asked = self.people.ask(node, &name).validate((&home.account, session), Level::Linearizable).await;
            last = match asked.ok().and_then(|reply| reply.verdict) {
                Some(Verdict::Valid(_)) => return "VALID".into(),
                Some(Verdict::SignedOut(_)) => return "SIGNED_OUT".into(),
                Some(Verdict::Suspended(_)) => return "SUSPENDED".into(),
                Some(_) => "UNDETERMINED".into(),
                None => "NO_ANSWER".into(),
            };
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        last
    }
}

/// In one word.
fn came<T>(told: Told<T>, ok: impl FnOnce(&T) -> String) -> String {
    match told {
        Told::Ok(value) => ok(&value),
        Told::Refused(refused) => reason(&refused),
        Told::Nothing => "NO_ANSWER".into(),
    }
}

fn reason(refused: &Error) -> String {
    refused.reason().map_or("NO_REASON", Reason::name).to_owned()
}
