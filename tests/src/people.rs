//! Phones and companions with real keys, who register, pair and ask.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use kindred_client::{Approve, Client, Device, Error, Member, Qr};
use kindred_core::canonical::sha256;
use kindred_core::id::{AccountId, ClusterId, RequestId, SessionId};
use kindred_core::model::{Device as About, Receipt, Requester};
use kindred_wire::convert::raw;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::pb::session::v1::validate_reply::Verdict;

pub use kindred_wire::pb::session::v1::Level;

/// Everybody who has to do with one cluster. Keys and request ids follow from a counter: they must differ within the
/// cluster, and here nobody guesses them.
pub struct People {
    cluster: ClusterId,
    made: AtomicU64,
}

/// A companion's open ticket, as it is on its screen.
pub struct Shown {
    /// The companion.
    pub device: Device,
    /// What its QR code says.
    pub qr: Qr,
}

/// A link, as both sides have it.
pub struct Linked {
    /// The phone's.
    pub receipt: Receipt,
    /// The companion, with its session.
    pub member: Member,
}

/// What somebody was told of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is live.
    Valid,
    /// It has ended, with a tombstone.
    SignedOut,
    /// Nobody can say just now; why.
    Undetermined(String),
    /// No verdict at all; why.
    Nothing(String),
}

impl People {
    /// Asks the cluster for its id.
    pub async fn new(client: &Client) -> anyhow::Result<Self> {
        let (cluster, _) = client.cluster().await.context("ask for the cluster")?;
        Ok(Self { cluster, made: AtomicU64::new(0) })
    }

    /// The cluster that everybody signs for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// A fresh request id.
    pub fn request(&self) -> RequestId {
        let bytes = self.fresh("request");
        let mut id = [0; RequestId::LEN];
        id.copy_from_slice(&bytes[..RequestId::LEN]);
        RequestId(id)
    }

    /// A device with a fresh key.
    pub fn device(&self) -> Device {
        Device::new(&self.fresh("device"), self.cluster)
    }

    fn fresh(&self, what: &str) -> [u8; 32] {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        sha256(&[what.as_bytes(), self.cluster.as_bytes(), &number.to_be_bytes()]).0
    }

    /// A phone with a new account at home in this region.
    pub async fn register(&self, client: &Client, account: &str, region: &str) -> anyhow::Result<Member> {
        let id = AccountId::new(account.as_bytes()).context("account id")?;
        let (member, _) = client
            .register(&self.device(), &id, &about("phone"), region, self.request())
            .await
            .with_context(|| format!("register {account} in {region}"))?;
        Ok(member)
    }

    /// A new companion opens a ticket in the region of the node that answers.
    pub async fn open(&self, client: &Client) -> Result<Shown, Error> {
        let device = self.device();
        let requester = Requester { device: about("web"), location: "test".into() };
        let reply = client.open(&device, &requester, self.request()).await?;
        let qr = Qr::parse(&reply.qr_payload).ok_or(kindred_wire::convert::Invalid("qr_payload"))?;
        Ok(Shown { device, qr })
    }

    /// Links a new companion: opened through one client; scanned and approved through another.
    pub async fn link(&self, phone: &mut Member, companion: &Client, through: &Client) -> anyhow::Result<Linked> {
        let shown = self.open(companion).await.context("open a ticket")?;
        through.scan(phone, &shown.qr.reference, self.request()).await.context("scan it")?;
        let receipt = through.approve(phone, &shown.approve()?, self.request()).await.context("approve it")?;
        let member = Member { device: shown.device, session: receipt.session, ..phone.clone() };
        Ok(Linked { receipt, member })
    }
}

impl Shown {
    /// What the phone says yes to after the scan.
    pub fn approve(&self) -> anyhow::Result<Approve> {
        let ticket = self.qr.ticket().context("the ref names no ticket")?;
        let envelope = b"opaque to the cluster".to_vec();
        Ok(Approve { ticket, device_key: self.qr.device_key, replaces: None, envelope })
    }
}

/// Asks about one session. Any status is [`Told::Nothing`].
pub async fn validate(client: &Client, account: &AccountId, session: &SessionId, level: Level) -> Told {
    let request = session::ValidateRequest {
        account: raw(account.as_bytes()),
        session: raw(session.as_bytes()),
        level: level.into(),
        min_set_version: 0,
        home_region: String::new(),
    };
    match client.validate(request).await {
        Ok(session::ValidateReply { verdict: Some(Verdict::Valid(_)), .. }) => Told::Valid,
        Ok(session::ValidateReply { verdict: Some(Verdict::SignedOut(_)), .. }) => Told::SignedOut,
        Ok(session::ValidateReply { verdict: Some(Verdict::Undetermined(doubt)), .. }) => {
            Told::Undetermined(doubt.reason().as_str_name().to_owned())
        }
        Ok(reply) => Told::Nothing(format!("{:?}", reply.verdict)),
        Err(error) => Told::Nothing(error.to_string()),
    }
}

/// What a device of a test says of itself.
pub fn about(platform: &str) -> About {
    About { platform: platform.to_owned(), app_version: "1.0".into(), display_name: platform.as_bytes().to_vec() }
}
