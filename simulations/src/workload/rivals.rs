//! What two sides ask for at once, or one side twice, so that somebody has to decide.

use std::time::Duration;

use kindred_client::request_id;
use kindred_witness::Shown;

use super::household::Household;
use super::linking::Way;
use super::people::{Actor, Route};

impl Household {
    /// The companion gives up, so long after its owner has begun to approve. What became of the ticket is decided once: the
    /// approval, the companion's watch and its cancellation must be told the same.
    pub async fn cancel_late(&self, who: &Actor, way: &Way, after: Duration) {
        let Some(shown) = self.open(way.companion_at).await else { return };
        let (name, device, ticket) = (shown.name.clone(), shown.device.clone(), shown.ticket);
        let Some(signed) = self.sign(who, shown, way).await else { return };
        let cancelling = async {
            tokio::time::sleep(after).await;
            let (companion, request) = (Actor::new(format!("{name} gives up")), request_id(&self.people.env));
            let route = Route::write(way.companion_at);
            let told = self.people.insist(&companion, route, async |ask| ask.cancel(&device, &ticket, request).await);
            told.await.ok();
        };
        tokio::join!(self.finish(who, &signed, way), cancelling);
    }

    /// The phone scans a ticket, ends all others, and then approves as if nothing had been: that voids what it signed.
    pub async fn approve_late(&self, who: &Actor, way: &Way) {
        let Some(shown) = self.open(way.companion_at).await else { return };
        let Some(signed) = self.sign(who, shown, way).await else { return };
        self.unlink_others(who, Route::write(way.phone_at)).await;
        self.finish(who, &signed, way).await;
    }

    /// A device that was linked before is linked again, under the key that it had: a new session if the old one is over,
    /// refused if it is not.
    pub async fn link_again(&self, who: &Actor, before: &Shown, way: &Way) {
        let Some(shown) = self.open_as(before.device.clone(), way.companion_at).await else { return };
        let Some(signed) = self.sign(who, shown, way).await else { return };
        self.finish(who, &signed, way).await;
    }
}
