//! A cluster in memory with people in every situation that a bad request needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kindred_client::{Approve, Client, Device, Member, Patience};
use kindred_core::canonical::TicketKey;
use kindred_core::command::{Aggregate, Committed, Query, Submission};
use kindred_core::id::{AccountId, ClusterId, RegionIndex, ShardId, TicketId};
use kindred_core::map::ShardMap;
use kindred_core::model::{Device as About, Requester};
use kindred_core::state::{Key, Record};
use kindred_frontend::access::{guarded, row};
use kindred_frontend::{IMPORT_BYTES_MAX, REQUEST_BYTES_MAX, services};
use kindred_wire::caller::{Caller, Role};
use kindred_wire::pb::error::v1::{Reason, Refusal};
use kindred_wire::pb::{FILE_DESCRIPTOR_SET, account as account_pb, admin, pairing, session};
use kindred_wire::shards::{BoxFuture, Consistency, Observed, ShardError, Shards};
use prost::Message;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use tonic::Status;
use tonic::service::Routes;

use crate::calls::call;
use crate::support::{Cluster, MemoryShards, Seen, Strike};
use crate::table::Case;
use crate::{account, admin as admin_calls, pairing as pairing_calls, session as session_calls};

/// Everything that the shards hold but their clocks.
pub type Held = BTreeMap<(ShardId, Key), Record>;

pub struct World {
    pub cluster: Cluster,
    pub client: Client,
    pub routes: Routes,
    silent: Routes,
    /// Ann's phone; ann lives in the west.
    pub phone: Member,
    /// A companion of hers.
    pub companion: Member,
    /// A companion that was unlinked.
    pub gone: Member,
    /// Another account's phone; bob lives in the east.
    pub bob: Member,
    /// A ticket that ann's phone has scanned, and its device.
    pub scanned: (Device, Approve),
    /// The ref that the phone has scanned.
    pub reference: Vec<u8>,
    /// A device that has opened a ticket before.
    pub opener: Device,
    /// A key that is nobody's, and holds nonces for ann's account and for cleo, who is not registered yet, in the west.
    pub newcomer: Device,
    /// The same for cleo in the east.
    pub wanderer: Device,
    /// A key that is nobody's.
    pub stranger: Device,
}

impl World {
    pub async fn new() -> Self {
        let cluster = Cluster::start().await;
        let client = cluster.client(&["north"]);
        let mut phone = cluster.register("ann", "west").await;
        let (companion, _) = cluster.linked("north", &mut phone).await;
        let (gone, _) = cluster.linked("north", &mut phone).await;
        client.unlink(&phone, &gone.session, cluster.request()).await.unwrap();
        client.set_limit(&phone, 6, cluster.request()).await.unwrap();
        let bob = cluster.register("bob", "east").await;
        let scanned = cluster.scanned("north", &mut phone).await;
        let opener = cluster.device();
        client.open(&opener, &Requester::default(), cluster.request()).await.unwrap();
        // Refused, and it leaves them a nonce to sign the calls by hand with.
        client.unlink(&gone, &phone.session, cluster.request()).await.unwrap_err();
        let (newcomer, wanderer) = (cluster.device(), cluster.device());
        client.rotate_key(&gone, &newcomer, cluster.request()).await.map(drop).unwrap_err();
        let once = cluster.client(&["north"]).with_patience(Patience { attempts: 1, ..Patience::default() });
        let (cleo, about) = (AccountId::new(b"cleo").unwrap(), About::default());
        for (device, home) in [(&newcomer, "west"), (&wanderer, "east")] {
            // The directory does not answer, so nothing is claimed.
            let unavailable = (Strike::Before, ShardError::Unavailable { retry_after_ms: 9 });
            cluster.groups.fail_submits(ShardId(1), &[unavailable]);
            once.register(device, &cleo, &about, home, cluster.request()).await.map(drop).unwrap_err();
        }
        let stranger = cluster.device();
        let shards = Arc::new(MemoryShards::at(cluster.groups.clone(), RegionIndex(0)));
        let served =
            |shards| guarded(services(shards, Arc::new(Seen::default()), cluster.env.clone()), cluster.env.clone());
        let routes = served(shards.clone() as Arc<dyn Shards>);
        let silent = served(Arc::new(Silent(shards)));
        // The north's ticket key in these tests.
        let reference = TicketKey([0; 32]).reference(&scanned.1.ticket, 0);
        Self {
            cluster,
            client,
            routes,
            silent,
            phone,
            companion,
            gone,
            bob,
            scanned,
            reference,
            opener,
            newcomer,
            wanderer,
            stranger,
        }
    }

    /// The bytes of a request to `method` that is bad as `case` says, and good in everything else.
    pub fn request(&self, method: &str, case: Case) -> Vec<u8> {
        match case {
            Case::Empty => return Vec::new(),
            // A field of bytes that is longer than what comes after it.
            Case::Malformed => return vec![0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1, 2, 3],
            Case::TooLarge => return padded(self.good(method), bytes_max(method) + 1),
            _ => {}
        }
        let (service, name) = method.rsplit_once('/').unwrap();
        match service {
            "kindred.account.v1.Account" => account::request(self, name, case),
            "kindred.admin.v1.Admin" => admin_calls::request(self, name, case),
            "kindred.pairing.v1.Pairing" => pairing_calls::request(self, name, case),
            "kindred.session.v1.Session" => session_calls::request(self, name, case),
            _ => panic!("{method}: nobody makes its requests"),
        }
    }

    /// A request to `method` that is good in everything.
    pub fn good(&self, method: &str) -> Vec<u8> {
        self.request(method, Case::Replayed)
    }

    /// Sends it, by every role for which this case is one.
    pub async fn send(&self, method: &'static str, case: Case, body: Vec<u8>) -> Vec<Result<Bytes, Status>> {
        let allowed = roles(method);
        if case == Case::WrongRole {
            let mut answers = Vec::new();
            for role in Role::ALL.into_iter().filter(|role| !allowed.contains(role)) {
                answers.push(call(&self.routes, Caller::unproven(role), method, body.clone(), None).await);
            }
            return answers;
        }
        let caller = Caller::unproven(allowed[0]);
        let answer = match case {
            Case::Deadline => call(&self.silent, caller, method, body, Some(Duration::from_millis(1))).await,
            _ => call(&self.routes, caller, method, body, None).await,
        };
        vec![answer]
    }

    /// Sends it as somebody of this role.
    pub async fn send_as(&self, role: Role, method: &str, body: Vec<u8>) -> Result<Bytes, Status> {
        call(&self.routes, Caller::unproven(role), method, body, None).await
    }

    pub fn held(&self) -> Held {
        let all =
            self.cluster.groups.picture().into_iter().flat_map(|(shard, memory)| {
                memory.records.into_iter().map(move |(key, record)| ((shard, key), record))
            });
        all.filter(|((_, key), _)| *key != Key::Shard).collect()
    }

    /// What is not as it was. A refusal by a shard is itself a result that is kept for its request id, so new replies and
    /// the timers that remove them are no change.
    pub fn changed_since(&self, before: &Held) -> Option<String> {
        let now = self.held();
        let lost = before.iter().find(|(key, record)| now.get(*key) != Some(*record));
        let made = now.keys().find(|key| {
            let (_, of) = key;
            let is_kept_reply = match of {
                Key::AccountReply(..) | Key::TicketReply(..) => true,
                Key::Timer(_, timer) => timer.is_removal(),
                _ => false,
            };
            !is_kept_reply && !before.contains_key(*key)
        });
        lost.map(|(key, _)| format!("{key:?}")).or(made.map(|key| format!("{key:?}, which is new")))
    }

    /// `member` with another key.
    pub fn impostor(&self, member: &Member) -> Member {
        Member { device: self.stranger.clone(), ..member.clone() }
    }

    /// Bob's session, said to be of ann's account.
    pub fn intruder(&self) -> Member {
        Member { account: self.phone.account.clone(), ..self.bob.clone() }
    }

    /// The scanned ticket.
    pub fn ticket(&self) -> TicketId {
        self.scanned.1.ticket
    }
}

/// The ticket id, or what begins with one, moved to another region.
pub fn moved(bytes: &[u8], region: u16) -> Vec<u8> {
    [&region.to_be_bytes(), &bytes[2..]].concat()
}

/// The request with another signature by the new key that it brings in.
pub fn dispossessed(method: &str, good: &[u8]) -> Vec<u8> {
    let forged = |proof: &mut Option<session::v1::DeviceProof>| proof.as_mut().unwrap().signature = vec![9; 64].into();
    if method.ends_with("/RotateDeviceKey") {
        let mut request = session::v1::RotateDeviceKeyRequest::decode(good).unwrap();
        forged(&mut request.possession);
        return request.encode_to_vec();
    }
    let mut request = account_pb::v1::ReplacePrimaryRequest::decode(good).unwrap();
    forged(&mut request.possession);
    request.encode_to_vec()
}

/// Enlarges a message by a field that nobody knows.
pub fn padded(mut body: Vec<u8>, bytes: usize) -> Vec<u8> {
    // Field 2047, length-delimited.
    prost::encoding::encode_key(2_047, prost::encoding::WireType::LengthDelimited, &mut body);
    prost::encode_length_delimiter(bytes, &mut body).unwrap();
    body.resize(body.len() + bytes, 7);
    body
}

fn bytes_max(method: &str) -> usize {
    if method.starts_with("kindred.admin.") { IMPORT_BYTES_MAX } else { REQUEST_BYTES_MAX }
}

/// Who may call it.
pub fn roles(method: &str) -> &'static [Role] {
    row(method).unwrap().1
}

/// The reason that an answer carries as data, and the field in its metadata.
pub fn told(method: &str, reply: &Bytes) -> Option<(Reason, String)> {
    let refusal = |refusal: &Refusal| (refusal.reason(), refusal.metadata.get("field").cloned().unwrap_or_default());
    match method.rsplit_once('/')?.1 {
        "ImportAccounts" => {
            let results = admin::v1::ImportAccountsReply::decode(reply.clone()).ok()?.results;
            match results.first()?.result.as_ref()? {
                admin::v1::import_result::Result::Refused(refused) => Some(refusal(refused)),
                _ => None,
            }
        }
        "CancelTicket" => match pairing::v1::CancelTicketReply::decode(reply.clone()).ok()?.outcome? {
            pairing::v1::cancel_ticket_reply::Outcome::Refused(refused) => Some(refusal(&refused)),
            _ => None,
        },
        "WatchTicket" => match pairing::v1::WatchTicketReply::decode(reply.clone()).ok()?.event? {
            pairing::v1::watch_ticket_reply::Event::Refused(refused) => Some(refusal(&refused)),
            _ => None,
        },
        "Validate" => verdict(session::v1::ValidateReply::decode(reply.clone()).ok()?),
        "ValidateStream" => {
            let replies = session::v1::ValidateStreamReply::decode(reply.clone()).ok()?.replies;
            verdict(replies.into_iter().next()?)
        }
        _ => None,
    }
}

fn verdict(reply: session::v1::ValidateReply) -> Option<(Reason, String)> {
    match reply.verdict? {
        session::v1::validate_reply::Verdict::SignedOut(_) => Some((Reason::SignedOut, String::new())),
        session::v1::validate_reply::Verdict::Undetermined(doubt) => Some((doubt.reason(), String::new())),
        _ => None,
    }
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// Every rpc of the services that gateways and operators may call, with the type of its request.
fn rpcs() -> BTreeMap<String, String> {
    let mut rpcs = BTreeMap::new();
    for file in descriptors().file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                rpcs.insert(name, method.input_type().to_owned());
            }
        }
    }
    rpcs
}

/// The names of [`rpcs`] but for those that only tests have.
pub fn public_methods() -> BTreeSet<String> {
    rpcs().into_keys().filter(|name| !name.starts_with("kindred.testing.")).collect()
}

/// True if an enum is in its request, however deep.
pub fn has_enum(method: &str) -> bool {
    let messages: BTreeMap<_, _> = descriptors()
        .file
        .into_iter()
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.message_type.into_iter().map(move |message| (format!(".{package}.{}", message.name()), message))
        })
        .collect();
    let mut open = vec![rpcs()[method].clone()];
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        for field in messages.get(&name).into_iter().flat_map(|message| &message.field) {
            match field.r#type() {
                Type::Enum => return true,
                Type::Message if seen.insert(field.type_name().to_owned()) => open.push(field.type_name().to_owned()),
                _ => {}
            }
        }
    }
    false
}

/// Shards that never answer.
struct Silent(Arc<MemoryShards>);

impl Shards for Silent {
    fn cluster(&self) -> Option<ClusterId> {
        self.0.cluster()
    }
    fn map(&self) -> Arc<ShardMap> {
        self.0.map()
    }
    fn region(&self) -> RegionIndex {
        self.0.region()
    }
    fn submit(&self, _: ShardId, _: Submission) -> BoxFuture<'_, Result<Committed, ShardError>> {
        Box::pin(std::future::pending())
    }
    fn query(&self, _: ShardId, _: Query, _: Consistency) -> BoxFuture<'_, Result<Observed, ShardError>> {
        Box::pin(std::future::pending())
    }
    fn changed(&self, _: ShardId, _: Aggregate, _: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}
