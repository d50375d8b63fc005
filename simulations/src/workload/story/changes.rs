//! Steps that change an account beside its links.

use kindred_client::request_id;

use super::{Story, came};
use crate::workload::household::{Household, about};
use crate::workload::people::{Route, Told};
use crate::workload::steps::{Step, Verb};

impl Story<'_> {
    pub(super) async fn change(&mut self, home: &Household, step: &Step) -> String {
        let (who, by, key) = (Self::who(step), self.by(home, step), Self::key(step));
        let (route, request) = (Route::write(step.through), request_id(&self.people.env));
        let people = self.people;
        match step.verb {
            Verb::Unlink => {
                let target = self.session(home, step);
                self.unlinked.insert(key, (by.clone(), target, request));
                let told = people.insist(&who, route, async |ask| ask.unlink(&by, &target, request).await).await;
                if matches!(told, Told::Ok(_)) {
                    home.remove(&[target]);
                }
                came(told, |_| "ok".into())
            }
            Verb::UnlinkAgain => {
                let Some((by, target, request)) = self.unlinked.get(&key).cloned() else { return "NOTHING".into() };
                came(people.insist(&who, route, async |ask| ask.unlink(&by, &target, request).await).await, |_| {
                    "ok".into()
                })
            }
            Verb::UnlinkOthers => {
                let told = people.insist(&who, route, async |ask| ask.unlink_others(&by, request).await).await;
                if let Told::Ok(reply) = &told {
                    home.know_epoch(reply.auth_epoch);
                }
                came(told, |_| "ok".into())
            }
            Verb::Lock => {
                home.set_locked(true);
                let told = people.insist(&who, route, async |ask| ask.lock(&home.account, request).await).await;
                came(told, |reply| {
                    home.know_epoch(reply.auth_epoch);
                    "ok".into()
                })
            }
            Verb::Unlock => {
                if home.unlock(&who, step.through).await {
                    "ok".into()
                } else {
                    "NO_ANSWER".into()
                }
            }
            _ => self.change_device(home, step).await,
        }
    }

    async fn change_device(&mut self, home: &Household, step: &Step) -> String {
        let (who, by, key) = (Self::who(step), self.by(home, step), Self::key(step));
        let (route, request, people) = (Route::write(step.through), request_id(&self.people.env), self.people);
        let device = people.device();
        if step.verb == Verb::RotateKey {
            let member = self.members.get(&key).map_or_else(|| home.phone(), |member| home.present(member));
            let told = people.insist(&who, route, async |ask| ask.rotate_key(&member, &device, request).await).await;
            if let Told::Ok((member, _)) = &told {
                match self.members.get_mut(&key) {
                    Some(known) => known.device = member.device.clone(),
                    None => home.take_phone(member.clone()),
                }
            }
            return came(told, |_| "ok".into());
        }
        let about = about("phone", &home.name);
        let told = people
            .insist(&who, route, async |ask| ask.replace_primary(&by, &device, (&about, step.keep), request).await);
        let told = told.await;
        if let Told::Ok((member, _)) = &told {
            home.take_phone(member.clone());
            self.sessions.insert((step.account.clone(), "phone".into()), member.session);
        }
        came(told, |_| "ok".into())
    }
}
