//! Pairing by a typed code while the shard that counts the tries loses its leader.

use kindred_client::watch::AccountWatch;
use kindred_client::{Approve, Client, Device, Error, request_id};
use kindred_core::code::{ALPHABET, CODE_LEN, Code, MatchNumber};
use kindred_core::env::Env;
use kindred_core::id::{AccountId, DeviceKey, RequestId, SessionId, TicketId};
use kindred_core::model::Requester;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event;
use kindred_wire::pb::session::v1::watch_account_reply::Event as AccountEvent;
use kindred_wire::reason::Reason;

use super::{CLIENT, DURATION, Stage, check, owner, print_disks, stop};
use crate::cluster::{Cluster, host, sim};
use crate::pairing::{Failed, Owner};
use crate::trace::line;
use crate::world::env;

/// The tickets' region: its node leads the shard that counts.
const TICKETS: usize = 0;

/// Two wrong codes, the leader that counted them dies, three more: they lock the ticket, and the right code comes too
/// late. The next code links, with its number only. An account that nobody has gets a code as well.
pub fn code(seed: u64) -> Result<(), Failed> {
    let (cluster, mut sim) = (Cluster::new(seed), sim(seed, DURATION));
    cluster.hosts(&mut sim);
    let stage = Stage::default();
    let devices = stage.clone();
    sim.client("devices", async move {
        let mut owner = owner(seed).await?;
        // No stream of random numbers is used twice.
        let env = env(seed, CLIENT + 1);
        let phone = Cluster::client(&[1, 2, 0])?;
        let mut notices = phone.watch_account(&owner.phone.account, 1, "");

        let locked = Companion::open(&env, &owner).await?;
        let told = announced(&mut notices).await?;
        same(&told, &locked.ticket, "announced ticket")?;
        let first = request_id(&env);
        wrong(&phone, &mut owner, &locked.wrong(0), first, 4).await?;
        wrong(&phone, &mut owner, &locked.wrong(1), request_id(&env), 3).await?;
        devices.reach(1);
        devices.wait(2).await;
        // The answer of before, not another try.
        wrong(&phone, &mut owner, &locked.wrong(0), first, 4).await?;
        for left in [2, 1, 0] {
            wrong(&phone, &mut owner, &locked.wrong(2), request_id(&env), left).await?;
        }
        let late = phone.scan_code(&mut owner.phone, &locked.code, request_id(&env)).await;
        refused(late, Reason::TicketLocked)?;
        locked.ends_with(&env, "TICKET_LOCKED").await?;
        line("locked after five wrong codes");
        devices.reach(3);
        devices.wait(4).await;

        let linked = Companion::open(&env, &owner).await?;
        while announced(&mut notices).await? != linked.ticket {}
        let scanned = phone.scan_code(&mut owner.phone, &linked.code, request_id(&env)).await?;
        let key = DeviceKey::from_slice(&scanned.device_key).ok_or("the scan names no key")?;
        let what = Approve { ticket: linked.ticket, device_key: key, replaces: None, envelope: b"for you".to_vec() };
        refused(phone.approve(&owner.phone, &what, request_id(&env)).await, Reason::StepUpRequired)?;
        let number = MatchNumber::of(&key, &linked.ticket);
        let receipt = phone.approve_with_number(&owner.phone, &what, number, request_id(&env)).await?;
        linked.ends_with(&env, &receipt.session.to_string()).await?;
        line(format_args!("linked {} at index {}", receipt.session, receipt.log_index));
        owner.sessions.push(receipt.session);

        let nobody = AccountId::new(b"nobody").ok_or("account id")?;
        Companion::open_for(&env, &owner, &nobody).await?;
        check(&owner).await
    });
    while !sim.step()? {
        match stage.at() {
            1 => {
                stop(&mut sim, &cluster, TICKETS);
                stage.reach(2);
            }
            3 => {
                sim.bounce(host(TICKETS));
                stage.reach(4);
            }
            _ => {}
        }
    }
    drop(sim);
    print_disks(&cluster);
    Ok(())
}

struct Companion {
    device: Device,
    ticket: TicketId,
    code: Code,
}

impl Companion {
    async fn open(env: &Env, owner: &Owner) -> Result<Self, Failed> {
        Self::open_for(env, owner, &owner.phone.account).await
    }

    /// Opened in the tickets' region, patiently: its node may just be starting.
    async fn open_for(env: &Env, owner: &Owner, account: &AccountId) -> Result<Self, Failed> {
        let device = Device::new(&env.random(), owner.phone.device.cluster());
        let client = Cluster::client(&[TICKETS])?;
        let opened = client.open_code(&device, &Requester::default(), account, request_id(env)).await?;
        let ticket = TicketId::from_slice(&opened.ticket).ok_or("ticket")?;
        let code = Code::parse(&opened.code).filter(|code| code.shown() == opened.code).ok_or("code")?;
        same(&opened.ticket_ttl_ms.div_ceil(1_000), &180, "seconds to type it")?;
        line(format_args!("ticket {ticket} for {account}"));
        Ok(Self { device, ticket, code })
    }

    /// A code that differs in one letter.
    fn wrong(&self, place: usize) -> Code {
        let mut letters: [u8; CODE_LEN] = *self.code.letters();
        letters[place] = if letters[place] == ALPHABET[0] { ALPHABET[1] } else { ALPHABET[0] };
        Code::from_letters(&letters).unwrap_or_else(|| self.code.clone())
    }

    /// The companion is told of its session, or of the reason why there is none.
    async fn ends_with(&self, env: &Env, expected: &str) -> Result<(), Failed> {
        let client = Cluster::client(&[2, 1, TICKETS])?;
        let mut watch = client.watch_ticket_as(&self.device, &self.ticket, request_id(env));
        while let Some(reply) = watch.next().await? {
            let end = match reply.event {
                Some(Event::Linked(linked)) => {
                    SessionId::from_slice(&linked.session).map(|id| id.to_string()).unwrap_or_default()
                }
                Some(Event::Refused(refusal)) => refusal.reason().as_str_name().to_owned(),
                _ => continue,
            };
            return same(&end.as_str(), &expected, "the companion's end");
        }
        Err("the companion was told nothing".into())
    }
}

async fn wrong(phone: &Client, owner: &mut Owner, code: &Code, request: RequestId, left: u64) -> Result<(), Failed> {
    let error = phone.scan_code(&mut owner.phone, code, request).await.err().ok_or("a wrong code was taken")?;
    same(&error.reason(), &Some(Reason::CodeMismatch), "refusal")?;
    same(&error.number("left"), &Some(left), "tries left")?;
    line(format_args!("a wrong code, {left} tries left"));
    Ok(())
}

async fn announced(notices: &mut AccountWatch) -> Result<TicketId, Failed> {
    loop {
        if let AccountEvent::LinkRequested(request) = notices.next().await? {
            return TicketId::from_slice(&request.ticket).ok_or_else(|| "announced ticket".into());
        }
    }
}

fn refused<T>(answer: Result<T, Error>, expected: Reason) -> Result<(), Failed> {
    let error = answer.err().ok_or("it was not refused")?;
    same(&error.reason(), &Some(expected), "refusal")
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T, what: &str) -> Result<(), Failed> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}").into()) }
}
