//! Devices in a simulation: a phone and companions that pair through the public rpcs.

use kindred_client::{Approve, Client, Device, Member, Qr, request_id};
use kindred_core::env::Env;
use kindred_core::id::{AccountId, SessionId};
use kindred_core::model::{Device as About, Receipt, Requester};
use kindred_wire::convert;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event;
use kindred_wire::pb::session::v1 as pb;

/// Whatever ends a simulated client early.
pub type Failed = Box<dyn std::error::Error>;

/// One person with a phone.
pub struct Owner {
    /// The phone's session.
    pub phone: Member,
    /// Every session that the account was given.
    pub sessions: Vec<SessionId>,
    env: Env,
}

impl Owner {
    /// Registers an account.
    pub async fn register(client: &Client, env: Env, name: &str, home: &str) -> Result<Self, Failed> {
        let (cluster, _) = client.cluster().await?;
        let device = Device::new(&env.random(), cluster);
        let account = AccountId::new(name.as_bytes()).ok_or("account id")?;
        let about = About { platform: "android".into(), ..About::default() };
        let (phone, _) = client.register(&device, &account, &about, home, request_id(&env)).await?;
        Ok(Self { sessions: vec![phone.session], phone, env })
    }

    /// Links one companion: opened through `companion`, scanned and approved through `phone`.
    pub async fn link(&mut self, companion: &Client, phone: &Client) -> Result<Receipt, Failed> {
        let device = Device::new(&self.env.random(), self.phone.device.cluster());
        let opened = companion.open(&device, &Requester::default(), request_id(&self.env)).await?;
        let qr = Qr::parse(&opened.qr_payload).ok_or("QR payload")?;
        let ticket = qr.ticket().ok_or("ticket")?;
        phone.scan(&mut self.phone, &qr.reference, request_id(&self.env)).await?;
        let what = Approve { ticket, device_key: qr.device_key, replaces: None, envelope: b"for you".to_vec() };
        let receipt = phone.approve(&self.phone, &what, request_id(&self.env)).await?;
        self.sessions.push(receipt.session);
        let mut watch = companion.watch_ticket_as(&device, &ticket, request_id(&self.env));
        while let Some(reply) = watch.next().await? {
            if let Some(Event::Linked(linked)) = reply.event {
                if linked.session != convert::raw(receipt.session.as_bytes()) {
                    return Err("phone and companion were told different sessions".into());
                }
                return Ok(receipt);
            }
        }
        Err("the companion was not linked".into())
    }

    /// Validates one session linearizably; the verdict as printed by Debug.
    pub async fn verdict(&self, client: &Client, session: SessionId) -> Result<String, Failed> {
        let request = pb::ValidateRequest {
            account: convert::raw(self.phone.account.as_bytes()),
            session: convert::raw(session.as_bytes()),
            level: pb::Level::Linearizable.into(),
            min_set_version: 0,
            home_region: self.phone.home_region.clone(),
        };
        Ok(format!("{:?}", client.validate(request).await?.verdict))
    }
}
