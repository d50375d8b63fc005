//! An account, its phone and its companions: who they are, and what its people know of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kindred_client::{Device, Error, Member, request_id};
use kindred_core::id::{AccountId, RequestId, SessionId, TicketId};
use kindred_core::model::Device as About;
use kindred_wire::reason::Reason;
use kindred_witness::{Asked, Shown};
use tokio::time::Instant;

use super::people::{Actor, People, Route, Told};
use super::plan::Trouble;

/// Old approvals and unlinks that a household keeps, to send them again.
const KEPT: usize = 16;

/// A phone insists so often on its account.
const REGISTERS: usize = 5;

/// Everybody of one account.
pub struct Household {
    /// The way to the cluster.
    pub people: Arc<People>,
    /// The account's id too.
    pub name: String,
    /// The account.
    pub account: AccountId,
    /// Index of its home region.
    pub home: usize,
    /// Its place among the households.
    pub index: usize,
    made: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    phone: Member,
    epoch: u64,
    companions: Vec<Member>,
    ended: Vec<SessionId>,
    pending: Option<Pending>,
    is_locked: bool,
    asked: VecDeque<Asked>,
    unlinked: VecDeque<(Member, SessionId, RequestId)>,
    shown: VecDeque<Shown>,
    abandoned: Vec<Abandoned>,
    hot_until: Option<(Instant, u64)>,
}

/// A ticket to which nobody comes back before it is over.
#[derive(Clone)]
pub struct Abandoned {
    /// Name of its companion in the history.
    pub name: String,
    /// The companion's key.
    pub device: Device,
    /// The ticket.
    pub ticket: TicketId,
}

/// A change of the phone itself of which nobody knows whether it happened; nothing can be signed before that is known.
#[derive(Clone)]
pub enum Pending {
    /// Another phone in its place.
    Replace {
        /// The new one.
        device: Device,
        /// Whether the companions stay.
        keep: bool,
        /// Request id.
        request: RequestId,
    },
    /// Another key for it.
    Rotate {
        /// The new one.
        device: Device,
        /// Request id.
        request: RequestId,
    },
}

impl Pending {
    /// Under which request id it was asked for.
    pub fn request(&self) -> RequestId {
        match self {
            Self::Replace { request, .. } | Self::Rotate { request, .. } => *request,
        }
    }
}

impl Household {
    /// A phone makes an account at home in the region of this index; none if nobody answers.
    pub async fn register(people: &Arc<People>, name: &str, home: usize, index: usize) -> Option<Arc<Self>> {
        let device = people.device();
        let account = AccountId::new(name.as_bytes())?;
        let region = people.regions.get(home % people.regions.len())?;
        let (request, about, who) =
            (request_id(&people.env), about("phone", name), Actor::new(format!("{name}/phone")));
        let mut told = Told::Nothing;
        // Under the same request id throughout: what was claimed once is claimed.
        for _ in 0..REGISTERS {
            told = people
                .insist(&who, Route::write(home), async |ask| {
                    ask.register(&device, &account, (&about, region), request).await
                })
                .await;
            if !matches!(told, Told::Nothing) {
                break;
            }
        }
        let (phone, _) = told.ok()?;
        people.learn(&account, phone.session);
        let epoch = phone.auth_epoch;
        let inner = Inner {
            phone,
            epoch,
            companions: Vec::new(),
            ended: Vec::new(),
            pending: None,
            is_locked: false,
            asked: VecDeque::new(),
            unlinked: VecDeque::new(),
            shown: VecDeque::new(),
            abandoned: Vec::new(),
            hot_until: None,
        };
        let (people, name) = (people.clone(), name.to_owned());
        let (made, inner) = (AtomicU64::new(0), Mutex::new(inner));
        Some(Arc::new(Self { people, name, account, home, index, made, inner }))
    }

    /// The phone, ready to sign.
    pub fn phone(&self) -> Member {
        let inner = self.lock();
        Member { auth_epoch: inner.epoch, ..inner.phone.clone() }
    }

    /// A companion or the phone, under the auth_epoch that is known now.
    pub fn present(&self, member: &Member) -> Member {
        Member { auth_epoch: self.lock().epoch, ..member.clone() }
    }

    /// The companions that are linked as far as anybody here knows, oldest first.
    pub fn companions(&self) -> Vec<Member> {
        self.lock().companions.clone()
    }

    /// Sessions that were ended, or may have been.
    pub fn ended(&self) -> Vec<SessionId> {
        self.lock().ended.clone()
    }

    /// Somebody who acts for this account.
    pub fn actor(&self, part: &str) -> Actor {
        Actor::new(format!("{}/{part}", self.name))
    }

    /// A name for the next companion.
    pub fn next_companion(&self) -> String {
        format!("{}/web {}", self.name, self.made.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A companion was told, or its phone was, that it is linked.
    pub fn add(&self, companion: Member) {
        self.people.learn(&self.account, companion.session);
        let mut inner = self.lock();
        let is_known = inner.companions.iter().any(|c| c.session == companion.session);
        if !is_known && !inner.ended.contains(&companion.session) {
            inner.companions.push(companion);
        }
    }

    /// These sessions are over, or may be.
    pub fn remove(&self, sessions: &[SessionId]) {
        let mut inner = self.lock();
        inner.companions.retain(|companion| !sessions.contains(&companion.session));
        inner.ended.extend_from_slice(sessions);
    }

    /// Nobody can sign for this companion any more, as far as anybody knows; its session stays.
    pub fn forget(&self, session: &SessionId) {
        self.lock().companions.retain(|companion| companion.session != *session);
    }

    /// A companion has another key.
    pub fn rekey(&self, companion: &Member) {
        for known in self.lock().companions.iter_mut().filter(|c| c.session == companion.session) {
            known.device = companion.device.clone();
        }
    }

    /// The phone is another one, or has another key.
    pub fn take_phone(&self, phone: Member) {
        self.people.learn(&self.account, phone.session);
        let mut inner = self.lock();
        inner.epoch = inner.epoch.max(phone.auth_epoch);
        inner.phone = phone;
        inner.pending = None;
    }

    /// What is not known of the phone itself.
    pub fn pending(&self) -> Option<Pending> {
        self.lock().pending.clone()
    }

    /// From here on, until it is answered, nobody knows who the phone is.
    pub fn set_pending(&self, pending: Option<Pending>) {
        self.lock().pending = pending;
    }

    /// Whether an operator has locked it, or may have.
    pub fn is_locked(&self) -> bool {
        self.lock().is_locked
    }

    /// It was locked, or unlocked.
    pub fn set_locked(&self, is_locked: bool) {
        self.lock().is_locked = is_locked;
    }

    /// The account is at a later epoch than was known.
    pub fn know_epoch(&self, epoch: u64) {
        let mut inner = self.lock();
        inner.epoch = inner.epoch.max(epoch);
    }

    /// Takes what a refusal says of the account.
    pub fn heed(&self, refused: &Error) {
        if refused.reason() == Some(Reason::EpochChanged)
            && let Some(epoch) = refused.number("auth_epoch")
        {
            self.know_epoch(epoch);
        }
    }

    /// An approval that was sent; it may be sent again, much later.
    pub fn keep_asked(&self, asked: &Asked) {
        keep(&mut self.lock().asked, asked.clone());
    }

    /// Old approvals.
    pub fn old_asked(&self) -> Vec<Asked> {
        self.lock().asked.iter().cloned().collect()
    }

    /// An unlink that was asked for.
    pub fn keep_unlinked(&self, by: &Member, target: SessionId, request: RequestId) {
        keep(&mut self.lock().unlinked, (by.clone(), target, request));
    }

    /// Old unlinks: who asked, whom it named, its request id.
    pub fn old_unlinked(&self) -> Vec<(Member, SessionId, RequestId)> {
        self.lock().unlinked.iter().cloned().collect()
    }

    /// A code that was on a screen.
    pub fn keep_shown(&self, shown: &Shown) {
        keep(&mut self.lock().shown, shown.clone());
    }

    /// Old codes.
    pub fn old_shown(&self) -> Vec<Shown> {
        self.lock().shown.iter().cloned().collect()
    }

    /// A ticket is left to itself.
    pub fn keep_abandoned(&self, name: String, device: Device, ticket: TicketId) {
        self.lock().abandoned.push(Abandoned { name, device, ticket });
    }

    /// Tickets that were left.
    pub fn abandoned(&self) -> Vec<Abandoned> {
        self.lock().abandoned.clone()
    }

    /// It is so many times busier for a while, from now on.
    pub fn heat_up(&self, trouble: Trouble) {
        self.lock().hot_until = Some((Instant::now() + Duration::from_millis(trouble.for_ms), trouble.amount));
    }

    /// How many times busier it is just now.
    pub fn heat(&self) -> u64 {
        self.lock().hot_until.filter(|(until, _)| Instant::now() < *until).map_or(1, |(_, times)| times)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() >= KEPT {
        all.pop_front();
    }
    all.push_back(one);
}

/// What a device says of itself.
pub fn about(platform: &str, name: &str) -> About {
    About {
        platform: platform.to_owned(),
        app_version: env!("CARGO_PKG_VERSION").to_owned(),
        display_name: name.as_bytes().to_vec(),
    }
}
