//! Linking by a typed code: the companion names the account, the phone types, both compare a number.

use kindred_client::{Approve, Device, Member, Qr, request_id};
use kindred_core::code::{ALPHABET, CODE_LEN, Code, MatchNumber};
use kindred_core::id::{DeviceKey, TicketId};
use kindred_core::model::{Receipt, Requester};
use kindred_witness::{Asked, Shown};

use super::household::{Household, about};
use super::linking::{Signed, Way};
use super::people::{Actor, Route, Told};

/// A code on a companion's screen.
pub struct CodeShown {
    /// Name of the companion in the history.
    pub name: String,
    /// Its key.
    pub device: Device,
    /// The ticket behind it.
    pub ticket: TicketId,
    /// The code.
    pub code: Code,
}

impl Household {
    /// Links a companion by a code, after so many wrong ones; five of them lock the ticket.
    pub async fn link_by_code(&self, who: &Actor, wrong_tries: usize, way: &Way) -> Option<Receipt> {
        let shown = self.open_code(way.companion_at).await?;
        for place in 0..wrong_tries {
            let wrong = wrong(&shown.code, place % CODE_LEN);
            self.type_code(who, (&wrong, true), way.phone_at).await;
        }
        let (by, device_key) = self.type_code(who, (&shown.code, false), way.phone_at).await?;
        let signed = self.sign_with_number(shown, by, (device_key, way));
        self.finish(who, &signed, way).await
    }

    /// A new companion opens a ticket for this account, and shows its code.
    pub async fn open_code(&self, at: usize) -> Option<CodeShown> {
        let (people, name, device) = (&self.people, self.next_companion(), self.people.device());
        let requester = Requester { device: about("desktop", &name), location: "somewhere".into() };
        let (request, who) = (request_id(&people.env), Actor::new(&name));
        let told = people.insist(&who, Route::write(at), async |ask| {
            ask.open_code(&device, (&self.account, &requester), request).await
        });
        let reply = told.await.ok()?;
        let (ticket, code) = (TicketId::from_slice(&reply.ticket)?, Code::parse(&reply.code)?);
        Some(CodeShown { name, device, ticket, code })
    }

    /// The phone types a code: who it is then, and the companion's key as the cluster has it.
    pub async fn type_code(
        &self,
        who: &Actor,
        (code, is_wrong): (&Code, bool),
        first: usize,
    ) -> Option<(Member, DeviceKey)> {
        let (phone, request) = (self.phone(), request_id(&self.people.env));
        let told = self
            .people
            .insist(who, Route::write(first), async |ask| ask.scan_code(&phone, (code, is_wrong), request).await);
        match told.await {
            Told::Ok((member, reply)) => {
                self.know_epoch(member.auth_epoch);
                Some((member, DeviceKey::from_slice(&reply.device_key)?))
            }
            Told::Refused(refused) => {
                self.heed(&refused);
                None
            }
            Told::Nothing => None,
        }
    }

    /// The owner has compared the number on both screens and approves.
    pub fn sign_with_number(&self, shown: CodeShown, by: Member, (device_key, way): (DeviceKey, &Way)) -> Signed {
        let CodeShown { name, device, ticket, .. } = shown;
        let (request, replaces) = (request_id(&self.people.env), way.replaces);
        let approve = Approve { ticket, device_key, replaces, envelope: b"opaque to the cluster".to_vec() };
        let number = MatchNumber::of(&device_key, &ticket);
        let message = self.people.client(way.phone_at).approval_with_number(&by, &approve, number, request);
        let asked = Asked { account: self.account.clone(), ticket, device_key, request, replaces, message };
        let qr = Qr { reference: Vec::new(), device_key, region: String::new() };
        Signed { shown: Shown { name, device, ticket, qr }, asked, by }
    }
}

/// A code that differs in one letter.
pub fn wrong(code: &Code, place: usize) -> Code {
    let mut letters: [u8; CODE_LEN] = *code.letters();
    letters[place] = if letters[place] == ALPHABET[0] { ALPHABET[1] } else { ALPHABET[0] };
    Code::from_letters(&letters).unwrap_or_else(|| code.clone())
}
