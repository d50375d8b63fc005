//! The reference: what domain.md says, in sets and maps, written without looking at how apply does it.
//!
//! It answers with words. A refusal may name any rule that is broken: which one first, domain.md leaves open. So the model
//! is told what apply said, checks that it was entitled to say it, and goes on from there.

use std::collections::{BTreeMap, BTreeSet};

const HOUR_MS: u64 = 3_600_000;

/// Who asks: the session with this number and the key that it had when it asked, or perhaps another one, under this
/// auth_epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Who {
    pub seq: u64,
    pub key: u8,
    pub forged: bool,
    pub epoch: u64,
    pub operator: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tamper {
    Envelope,
    Key,
    Ticket,
    Account,
    Approver,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Approval {
    pub a: u8,
    pub seq: u64,
    /// The approver's, as scanned; no part of what it signs.
    pub key: u8,
    pub epoch: u64,
    pub victim: Option<u64>,
    pub lifetime_ms: u64,
    pub tamper: Option<Tamper>,
}

impl Approval {
    /// What is signed.
    fn signed(&self) -> Self {
        Self { key: 0, ..*self }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Claim { a: u8, claim: u8 },
    Confirm { a: u8, claim: u8 },
    Register { a: u8, claim: u8, key: u8, forged: bool },
    SetLimit { a: u8, who: Who, limit: u32 },
    Unlink { a: u8, who: Who, target: u64 },
    UnlinkOthers { a: u8, who: Who, keep: u64, version: u64 },
    Open { t: u8, forged: bool },
    Scan { t: u8, a: u8, who: Who },
    Approve { t: u8, who: Who, approval: Approval },
    Deny { t: u8, a: u8, who: Who },
    Cancel { t: u8, forged: bool },
    Expire { t: u8 },
    Settle { t: u8, a: u8, fate: String },
    Link { t: u8, approval: Approval },
    Decide { t: u8, a: u8, cancelled: bool },
    Lock { a: u8, who: Who, locked: bool },
    Pin { a: u8, who: Who, target: u64, pinned: bool },
    Rotate { a: u8, who: Who, key: u8 },
    Replace { a: u8, who: Who, key: u8, keep: bool, ends: Vec<u64> },
    Delete { a: u8, who: Who, version: u64 },
    Revoke { a: u8, who: Who, target: u64 },
    Mark { a: u8, claim: u8 },
    Tick,
}

impl Op {
    /// Where its request id counts, and what makes it the same request.
    fn idempotency(&self) -> Option<(String, String)> {
        let (scope, arguments) = match self {
            Self::Register { a, claim, key, .. } => (format!("account {a}"), format!("register {claim} {key}")),
            Self::SetLimit { a, limit, .. } => (format!("account {a}"), format!("limit {limit}")),
            Self::Unlink { a, target, .. } => (format!("account {a}"), format!("unlink {target}")),
            Self::UnlinkOthers { a, keep, .. } => (format!("account {a}"), format!("others {keep}")),
            Self::Open { t, .. } => (format!("ticket {t}"), "open".into()),
            Self::Scan { t, a, who } => (format!("ticket {t}"), format!("scan {a} {}", who.seq)),
            Self::Approve { t, approval, .. } => (format!("ticket {t}"), format!("{:?}", approval.signed())),
            Self::Lock { a, locked, .. } => (format!("account {a}"), format!("lock {locked}")),
            Self::Pin { a, target, pinned, .. } => (format!("account {a}"), format!("pin {target} {pinned}")),
            Self::Rotate { a, who, key } => (format!("account {a}"), format!("rotate {} {key}", who.seq)),
            Self::Replace { a, key, keep, .. } => (format!("account {a}"), format!("replace {key} {keep}")),
            Self::Delete { a, .. } => (format!("account {a}"), "delete".into()),
            Self::Revoke { a, target, .. } => (format!("account {a}"), format!("revoke {target}")),
            Self::Deny { t, .. } => (format!("ticket {t}"), "deny".into()),
            Self::Cancel { t, .. } => (format!("ticket {t}"), "cancel".into()),
            _ => return None,
        };
        Some((scope, arguments))
    }
}

/// Five keys for more tickets, so that a device comes back.
pub fn ticket_key(t: u8) -> u8 {
    100 + t % 5
}

#[derive(Clone, Debug)]
pub struct Member {
    pub key: u8,
    pub primary: bool,
    pub young_until: u64,
    pub pinned: bool,
    pub generation: u64,
    pub records: u64,
}

impl Member {
    pub fn new(key: u8, primary: bool, young_until: u64) -> Self {
        Self { key, primary, young_until, pinned: false, generation: 1, records: 1 }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Acc {
    pub epoch: u64,
    pub version: u64,
    pub limit: u32,
    pub given: u64,
    pub locked: bool,
    pub live: BTreeMap<u64, Member>,
    pub dead: BTreeMap<u64, (String, u8)>,
}

#[derive(Clone, Debug)]
pub enum St {
    Open,
    Scanned(u8, Who, u64),
    Approved(u8, Approval),
    Over(String),
}

#[derive(Clone, Debug)]
pub struct Tick {
    pub st: St,
    pub deadline: u64,
    over_at: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub now: u64,
    pub claims: BTreeMap<u8, (u8, bool)>,
    pub accounts: BTreeMap<u8, Acc>,
    pub tickets: BTreeMap<u8, Tick>,
    pub fates: BTreeMap<(u8, u8), String>,
    /// As they were when they ended.
    pub deleted: BTreeMap<u8, Acc>,
    pub marked: BTreeSet<u8>,
    answered: BTreeMap<(String, u64), (String, String, u64)>,
}

impl Model {
    /// Takes in one command and what apply said to it; an error says why it should not have.
    pub fn step(&mut self, request: u64, op: &Op, said: &str) -> Result<(), String> {
        let same = |expected: String| if said == expected { Ok(()) } else { Err(format!("should be: {expected}")) };
        let id = op.idempotency();
        if let Some((scope, arguments)) = &id
            && let Some((earlier, kept, _)) = self.answered.get(&(scope.clone(), request))
        {
            return same(if earlier != arguments { "no RequestIdReused".into() } else { self.again(op, kept) });
        }
        let wrong = self.wrong(op);
        match said.strip_prefix("no ") {
            Some(why) if wrong.contains(why) => {}
            Some(_) => return Err(format!("may refuse only for: {wrong:?}")),
            None if !wrong.is_empty() => return Err(format!("should be refused for one of: {wrong:?}")),
            None => {
                let expected = self.accept(op, said)?;
                same(expected)?;
            }
        }
        if let Some((scope, arguments)) = id {
            self.answered.insert((scope, request), (arguments, said.to_owned(), self.now));
        }
        Ok(())
    }

    /// A repeat: the same answer, with the ticket as it now is.
    fn again(&self, op: &Op, kept: &str) -> String {
        let (Op::Open { t, .. }
        | Op::Scan { t, .. }
        | Op::Approve { t, .. }
        | Op::Deny { t, .. }
        | Op::Cancel { t, .. }) = op
        else {
            return kept.to_owned();
        };
        match self.tickets.get(t).map(|ticket| &ticket.st) {
            _ if kept.starts_with("no ") => kept.to_owned(),
            None => "no TicketNotFound".into(),
            Some(St::Over(over)) if over.starts_with("refused ") && matches!(op, Op::Approve { .. }) => {
                over.replacen("refused", "no", 1)
            }
            Some(_) => self.ticket(*t),
        }
    }

    /// Every rule that the command breaks.
    fn wrong(&self, op: &Op) -> BTreeSet<String> {
        let mut wrong = BTreeSet::new();
        let mut no = |broken: bool, why: &str| _ = broken && wrong.insert(why.to_owned());
        match op {
            Op::Claim { a, claim } => {
                no(self.claims.get(a).is_some_and(|c| c.0 != *claim) || self.marked.contains(a), "AccountExists");
            }
            Op::Confirm { a, claim } => {
                no(!self.claims.contains_key(a), "AccountNotFound");
                no(self.claims.get(a).is_some_and(|c| c.0 != *claim), "AccountExists");
            }
            Op::Register { a, forged, .. } => {
                no(*forged, "ProofInvalid");
                no(self.accounts.contains_key(a) || self.deleted.contains_key(a), "AccountExists");
            }
            Op::SetLimit { a, who, limit } => {
                wrong.extend(self.wrong_owner(*a, who));
                let mut no = |broken: bool, why: &str| _ = broken && wrong.insert(why.to_owned());
                no(!(1..=64).contains(limit), "InvalidRequest limit");
            }
            Op::Unlink { a, who, target } => {
                wrong.extend(self.wrong_actor(*a, who));
                let Some(account) = self.accounts.get(a) else { return wrong };
                if let Some(named) = account.live.get(target) {
                    wrong.extend(self.wrong_end(*a, who, *target, named));
                    if account.locked && !who.operator && who.seq != *target {
                        wrong.insert("AccountLocked".into());
                    }
                } else if !account.dead.contains_key(target) {
                    wrong.insert("SessionUnknown".into());
                }
            }
            Op::UnlinkOthers { a, who, keep, version } => {
                wrong.extend(self.wrong_actor(*a, who));
                let Some(account) = self.accounts.get(a) else { return wrong };
                let mut no = |broken: bool, why: &str| _ = broken && wrong.insert(why.to_owned());
                no(!who.operator && account.locked, "AccountLocked");
                no(!who.operator && who.seq != *keep, "CallerNotAllowed");
                no(!account.live.contains_key(keep), "SessionUnknown");
                no(*version != account.version, &format!("SetVersionConflict {}", account.version));
                let young = self.member(*a, who).filter(|m| !m.primary && self.now < m.young_until);
                no(young.is_some(), &format!("QuarantinedActor {}", young.map_or(0, |m| m.young_until)));
            }
            Op::Open { forged, .. } => no(*forged, "ProofInvalid"),
            Op::Scan { .. } | Op::Approve { .. } | Op::Deny { .. } | Op::Cancel { .. } | Op::Settle { .. } => {
                return self.wrong_for_ticket(op);
            }
            Op::Expire { .. } | Op::Link { .. } | Op::Decide { .. } | Op::Tick => {}
            _ => return self.wrong_for_life(op),
        }
        wrong
    }

    pub(super) fn member(&self, a: u8, who: &Who) -> Option<&Member> {
        self.accounts.get(&a).filter(|_| !who.operator).and_then(|account| account.live.get(&who.seq))
    }

    pub(super) fn wrong_actor(&self, a: u8, who: &Who) -> Vec<String> {
        let Some(account) = self.accounts.get(&a) else { return vec!["AccountNotFound".into()] };
        match (account.live.get(&who.seq), account.dead.get(&who.seq)) {
            _ if who.operator => vec![],
            (None, Some((reason, key))) if !who.forged && who.key == *key => {
                vec![format!("SessionEnded {} {reason}", who.seq)]
            }
            (None, _) => vec!["ProofInvalid".into()],
            (Some(member), _) if who.forged || who.key != member.key => vec!["ProofInvalid".into()],
            (Some(_), _) if who.epoch != account.epoch => vec![format!("EpochChanged {}", account.epoch)],
            (Some(_), _) => vec![],
        }
    }

    /// A session ends itself; grown-up companions end companions; the primary ends companions; an operator, anybody.
    fn wrong_end(&self, a: u8, who: &Who, target: u64, named: &Member) -> Vec<String> {
        match self.member(a, who) {
            None => vec![],
            Some(_) if named.primary => vec!["CallerNotAllowed".into()],
            Some(actor) if !actor.primary && who.seq != target && named.pinned && self.now >= actor.young_until => {
                vec![format!("SessionPinned {target}")]
            }
            Some(actor) if !actor.primary && who.seq != target && self.now < actor.young_until => {
                vec![format!("QuarantinedActor {}", actor.young_until)]
            }
            Some(_) => vec![],
        }
    }

    fn wrong_for_ticket(&self, op: &Op) -> BTreeSet<String> {
        let (Op::Scan { t, .. }
        | Op::Approve { t, .. }
        | Op::Deny { t, .. }
        | Op::Cancel { t, .. }
        | Op::Settle { t, .. }) = op
        else {
            return BTreeSet::new();
        };
        let mut wrong = BTreeSet::new();
        if let Op::Scan { who, .. } = op
            && (who.forged || who.operator)
        {
            wrong.insert("ProofInvalid".to_owned());
        }
        let Some(ticket) = self.tickets.get(t) else {
            wrong.insert("TicketNotFound".to_owned());
            return wrong;
        };
        let late = self.now >= ticket.deadline;
        let over = match &ticket.st {
            St::Over(over) => match over.as_str() {
                "expired" => "TicketExpired",
                "denied" => "TicketDenied",
                "cancelled" => "TicketCancelled",
                over => over.strip_prefix("refused ").unwrap_or("TicketAlreadyUsed"),
            },
            St::Approved(..) => "TicketAlreadyUsed",
            _ => "",
        };
        let mut no = |broken: bool, why: &str| _ = broken && wrong.insert(why.to_owned());
        match (op, &ticket.st) {
            (Op::Cancel { forged, .. }, _) => no(*forged, "ProofInvalid"),
            (Op::Settle { .. }, _) => {}
            (Op::Scan { a, .. }, st) => {
                no(!over.is_empty(), over);
                no(over.is_empty() && late, "TicketExpired");
                no(matches!(st, St::Scanned(by, ..) if by != a), "TicketAlreadyUsed");
            }
            (Op::Deny { .. }, St::Over(over)) if over == "denied" => {}
            (Op::Approve { approval, .. }, St::Approved(_, standing)) if standing.signed() == approval.signed() => {}
            (Op::Approve { .. } | Op::Deny { .. }, St::Open) => no(true, "TicketNotReady"),
            (Op::Deny { a, who, .. }, St::Scanned(by, scan, _)) => {
                let same = (a, who.seq, who.key) == (by, scan.seq, scan.key);
                no(who.operator || who.forged || !same, "ProofInvalid");
            }
            (Op::Approve { who, approval, .. }, St::Scanned(by, scan, at)) => {
                let alike = approval.a == *by && approval.seq == scan.seq && approval.tamper.is_none();
                no(!alike, "ApprovalInvalid");
                no(who != scan || approval.a != *by, "ProofInvalid");
                no(approval.epoch != scan.epoch, &format!("EpochChanged {}", scan.epoch));
                no(late || self.now > at + approval.lifetime_ms, "TicketExpired");
            }
            _ => no(true, over),
        }
        wrong
    }

    /// Why the account's shard refuses the link.
    fn wrong_link(&self, t: u8, approval: &Approval) -> BTreeSet<String> {
        let mut wrong = BTreeSet::new();
        let Some(account) = self.accounts.get(&approval.a) else { return BTreeSet::from(["AccountNotFound".into()]) };
        let mut no = |broken: bool, why: &str| _ = broken && wrong.insert(why.to_owned());
        no(approval.epoch != account.epoch, &format!("EpochChanged {}", account.epoch));
        no(account.live.get(&approval.seq).is_none_or(|m| m.key != approval.key), "ApprovalInvalid");
        no(account.locked, "AccountLocked");
        let stays = |seq: &u64| Some(*seq) != approval.victim;
        let same = account.live.iter().find(|(seq, m)| stays(seq) && m.key == ticket_key(t));
        no(same.is_some(), &format!("DeviceKeyAlreadyLinked {}", same.map_or(0, |(seq, _)| *seq)));
        let companions = account.live.iter().filter(|(seq, m)| stays(seq) && !m.primary).count();
        let full = companions >= usize::try_from(account.limit).unwrap();
        no(full, &format!("CompanionLimitReached {companions}/{}", account.limit));
        if let Some(victim) = approval.victim {
            no(!account.live.contains_key(&victim), "SessionUnknown");
            let (seq, key, epoch) = (approval.seq, approval.key, approval.epoch);
            let who = Who { seq, key, forged: false, epoch, operator: false };
            wrong.extend(
                account.live.get(&victim).into_iter().flat_map(|m| self.wrong_end(approval.a, &who, victim, m)),
            );
        }
        wrong
    }

    /// Does it, and says what to expect.
    fn accept(&mut self, op: &Op, said: &str) -> Result<String, String> {
        let now = self.now;
        Ok(match op {
            Op::Claim { a, claim } => format!("claimed {}", self.claims.entry(*a).or_insert((*claim, false)).0),
            Op::Confirm { a, .. } => {
                self.claims.get_mut(a).unwrap().1 = true;
                "done".into()
            }
            Op::Register { a, key, .. } => {
                let account = Acc { epoch: 1, limit: 4, ..Acc::default() };
                self.accounts.insert(*a, account).map_or(Ok(()), |_| Err("registered twice"))?;
                format!("registered {} v1", self.join(*a, Member::new(*key, true, 0)))
            }
            Op::SetLimit { a, limit, .. } => {
                self.accounts.get_mut(a).unwrap().limit = *limit;
                "done".into()
            }
            Op::Unlink { a, who, target } => {
                let by_primary = self.member(*a, who).is_some_and(|m| m.primary);
                let reason = match who {
                    Who { operator: true, .. } => "AdminRevoked",
                    who if who.seq == *target => "SelfLogout",
                    _ if by_primary => "UserUnlinkedFromPrimary",
                    _ => "UserUnlinkedFromSibling",
                };
                if self.accounts[a].live.contains_key(target) {
                    self.leave(*a, &[*target], reason);
                }
                format!("ended {target} {}", self.accounts[a].dead[target].0)
            }
            Op::UnlinkOthers { a, who, keep, .. } => {
                let spared = self.member(*a, who).is_some_and(|m| !m.primary);
                let spared = |m: &Member| m.primary || (spared && m.pinned);
                let others = self.accounts[a].live.iter().filter(|(seq, m)| *seq != keep && !spared(m));
                let others: Vec<u64> = others.map(|(seq, _)| *seq).collect();
                self.leave(*a, &others, "LogoutOthers");
                let account = self.accounts.get_mut(a).unwrap();
                account.epoch += 1;
                format!("ended {others:?} v{} e{}", account.version, account.epoch)
            }
            Op::Open { .. }
            | Op::Scan { .. }
            | Op::Approve { .. }
            | Op::Deny { .. }
            | Op::Cancel { .. }
            | Op::Expire { .. }
            | Op::Settle { .. } => self.accept_for_ticket(op),
            Op::Link { t, approval } => match self.fates.get(&(approval.a, *t)) {
                Some(fate) => format!("decided {fate}"),
                None => self.link(*t, approval, said)?,
            },
            Op::Decide { t, a, cancelled } => {
                let fate = if *cancelled { "cancelled" } else { "expired" };
                format!("decided {}", self.fates.entry((*a, *t)).or_insert_with(|| fate.into()))
            }
            Op::Tick => {
                self.tickets.retain(|_, t| !matches!(t.st, St::Over(_)) || now < t.over_at + 24 * HOUR_MS);
                self.answered.retain(|_, (_, _, at)| now < *at + 24 * HOUR_MS);
                "done".into()
            }
            _ => self.accept_for_life(op),
        })
    }

    fn accept_for_ticket(&mut self, op: &Op) -> String {
        let now = self.now;
        match op {
            Op::Open { t, .. } => {
                let fresh = Tick { st: St::Open, deadline: now + 160_000, over_at: 0 };
                self.tickets.entry(*t).or_insert(fresh);
                self.ticket(*t)
            }
            Op::Scan { t, a, who } => self.becomes(*t, St::Scanned(*a, *who, now)),
            Op::Approve { t, approval, .. } => self.becomes(*t, St::Approved(approval.a, *approval)),
            Op::Deny { t, .. } => self.becomes(*t, St::Over("denied".into())),
            Op::Cancel { t, .. } => match self.tickets[t].st {
                St::Open | St::Scanned(..) => self.becomes(*t, St::Over("cancelled".into())),
                _ => self.ticket(*t),
            },
            Op::Expire { t } => {
                let due = self.tickets.get(t).filter(|ticket| now >= ticket.deadline);
                if due.is_some_and(|ticket| matches!(ticket.st, St::Open | St::Scanned(..))) {
                    self.becomes(*t, St::Over("expired".into()));
                }
                "done".into()
            }
            Op::Settle { t, fate, .. } => match self.tickets[t].st {
                St::Approved(..) => self.becomes(*t, St::Over(fate.clone())),
                _ => self.ticket(*t),
            },
            _ => String::new(),
        }
    }

    fn link(&mut self, t: u8, approval: &Approval, said: &str) -> Result<String, String> {
        let wrong = self.wrong_link(t, approval);
        let fate = if let Some(why) = said.strip_prefix("decided refused ") {
            wrong.contains(why).then_some(()).ok_or(format!("may refuse the link only for: {wrong:?}"))?;
            format!("refused {why}")
        } else if !wrong.is_empty() {
            return Err(format!("the link should be refused for one of: {wrong:?}"));
        } else {
            let version = self.accounts[&approval.a].version;
            if let Some(victim) = approval.victim {
                self.leave(approval.a, &[victim], "ReplacedByLink");
                self.accounts.get_mut(&approval.a).unwrap().version = version;
            }
            let member = Member::new(ticket_key(t), false, self.now + 24 * HOUR_MS);
            format!("linked {} v{version}-v{}", self.join(approval.a, member), version + 1)
        };
        self.fates.insert((approval.a, t), fate.clone());
        Ok(format!("decided {fate}"))
    }

    pub(super) fn join(&mut self, a: u8, member: Member) -> u64 {
        let account = self.accounts.get_mut(&a).unwrap();
        account.given += 1;
        account.version += 1;
        account.live.insert(account.given, member);
        account.given
    }

    pub(super) fn leave(&mut self, a: u8, named: &[u64], reason: &str) {
        let account = self.accounts.get_mut(&a).unwrap();
        for seq in named {
            let member = account.live.remove(seq).unwrap();
            account.dead.insert(*seq, (reason.to_owned(), member.key));
        }
        account.version += u64::from(!named.is_empty());
    }

    fn becomes(&mut self, t: u8, st: St) -> String {
        let ticket = self.tickets.get_mut(&t).unwrap();
        // What is over stays as it is; only a repeated Deny comes here.
        if !matches!(ticket.st, St::Over(_)) {
            ticket.st = st;
            ticket.over_at = self.now;
        }
        self.ticket(t)
    }

    fn ticket(&self, t: u8) -> String {
        match &self.tickets[&t].st {
            St::Open => "ticket open".into(),
            St::Scanned(a, who, _) => format!("ticket scanned {a}/{}", who.seq),
            St::Approved(a, _) => format!("ticket approved {a}"),
            St::Over(over) => format!("ticket {over}"),
        }
    }

    /// Everything that must be equal, in words.
    pub fn picture(&self) -> Vec<String> {
        let mut picture = Vec::new();
        for (a, (claim, home)) in &self.claims {
            let marked = self.marked.contains(a);
            picture.push(format!("claim {a}: {claim} home {} deleted {marked}", *home && !marked));
        }
        for (a, x) in &self.accounts {
            let live = x
                .live
                .iter()
                .map(|(seq, m)| (*seq, m.key, m.primary, m.young_until, (m.pinned, m.generation, m.records)));
            let live: Vec<_> = live.collect();
            let dead: Vec<_> = x.dead.iter().map(|(seq, (reason, key))| (*seq, *key, reason.clone())).collect();
            picture.push(format!(
                "account {a}: e{} v{} limit {} locked {} live {live:?} dead {dead:?}",
                x.epoch, x.version, x.limit, x.locked
            ));
        }
        for (a, x) in &self.deleted {
            let stubs: Vec<_> = x.dead.iter().map(|(seq, (reason, _))| (*seq, reason.clone())).collect();
            picture.push(format!("deleted {a}: v{} stubs {stubs:?}", x.version));
        }
        picture.extend(self.tickets.keys().map(|t| format!("{t}: {}", self.ticket(*t))));
        picture.extend(self.fates.iter().map(|((a, t), fate)| format!("{t} at {a}: {fate}")));
        picture
    }
}
