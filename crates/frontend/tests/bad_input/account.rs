//! Requests to kindred.account.v1.Account.

use kindred_client::Member;
use kindred_core::arguments;
use kindred_core::id::AccountId;
use kindred_core::model::{Device as About, Requester};
use kindred_wire::convert::{self, raw};
use kindred_wire::pb::account::v1 as pb;
use prost::Message;

use crate::table::Case;
use crate::world::World;

pub fn request(world: &World, name: &str, case: Case) -> Vec<u8> {
    match name {
        "GetCluster" => Vec::new(),
        "GetAccount" => get_account(world, case).encode_to_vec(),
        "Register" => register(world, case).encode_to_vec(),
        "SetLimit" => set_limit(world, case).encode_to_vec(),
        "ReplacePrimary" => replace_primary(world, case).encode_to_vec(),
        "Delete" => delete(world, case).encode_to_vec(),
        "Lock" => lock(world, case).encode_to_vec(),
        // The same message by another name.
        "Unlock" => lock(world, case).encode_to_vec(),
        _ => panic!("{name}: nobody makes its requests"),
    }
}

/// A hint that is wrong if the case is about that.
pub fn hint(case: Case) -> String {
    match case {
        Case::WrongRegion => "east".into(),
        Case::UnknownRegion => "atlantis".into(),
        _ => String::new(),
    }
}

/// The account asked about: ann's, unless the case is about that.
pub fn asked_about(world: &World, case: Case) -> prost::bytes::Bytes {
    match case {
        Case::Oversized => raw(&[b'a'; 65]),
        Case::ForeignAccount => raw(b"nobody"),
        _ => raw(world.phone.account.as_bytes()),
    }
}

fn get_account(world: &World, case: Case) -> pb::GetAccountRequest {
    pb::GetAccountRequest { account: asked_about(world, case), home_region: hint(case) }
}

fn register(world: &World, case: Case) -> pb::RegisterRequest {
    let device = if case == Case::WrongRegion { &world.wanderer } else { &world.newcomer };
    let account = match case {
        Case::ForeignAccount => world.phone.account.clone(),
        _ => AccountId::new(b"cleo").unwrap(),
    };
    let platform = "p".repeat(if case == Case::Oversized { 65 } else { 8 });
    let about = About { platform, ..Default::default() };
    let mut proof = device.sign_register(world.cluster.request(), &account, &about);
    let request = world.cluster.request();
    match case {
        Case::WrongKey => proof.signature = world.stranger.sign_register(request, &account, &about).signature,
        Case::Transplanted => proof.signature = device.sign_open(request, &Requester::default()).signature,
        _ => {}
    }
    let mut device_key = device.key().as_bytes().to_vec();
    device_key.truncate(if case == Case::WrongLength { 31 } else { 32 });
    let home_region = if hint(case).is_empty() { "west".into() } else { hint(case) };
    pb::RegisterRequest {
        proof: Some(proof),
        account: raw(account.as_bytes()),
        device_key: raw(&device_key),
        device: Some(convert::device(&about)),
        home_region,
    }
}

/// Whoever acts for the phone.
pub fn actor(world: &World, case: Case) -> Member {
    match case {
        Case::WrongKey => world.impostor(&world.phone),
        Case::Expired => world.gone.clone(),
        Case::ForeignAccount => world.intruder(),
        _ => world.phone.clone(),
    }
}

fn set_limit(world: &World, case: Case) -> pb::SetLimitRequest {
    let limit = if case == Case::Oversized { 65 } else { 5 };
    let actor = actor(world, case);
    let method = if case == Case::Transplanted { arguments::METHOD_UNLINK } else { arguments::METHOD_SET_LIMIT };
    let mut proof = actor.sign(method, world.cluster.request(), &arguments::set_limit(&actor.account, limit));
    if case == Case::WrongLength {
        proof.request_id = raw(&[1; 15]);
    }
    pb::SetLimitRequest { proof: Some(proof), limit, home_region: hint(case), ..Default::default() }
}

fn replace_primary(world: &World, case: Case) -> pb::ReplacePrimaryRequest {
    let (actor, device, request) = (actor(world, case), &world.newcomer, world.cluster.request());
    let platform = "p".repeat(if case == Case::Oversized { 65 } else { 8 });
    let about = About { platform, ..Default::default() };
    let hash = arguments::replace_primary(&actor.account, &device.key(), &about, true);
    let good = arguments::METHOD_REPLACE_PRIMARY;
    let method = if case == Case::Transplanted { arguments::METHOD_DELETE } else { good };
    let mut device_key = device.key().as_bytes().to_vec();
    device_key.truncate(if case == Case::WrongLength { 31 } else { 32 });
    pb::ReplacePrimaryRequest {
        proof: Some(actor.sign(method, request, &hash)),
        possession: Some(device.sign_possession(good, request, &actor.account, &hash)),
        device_key: raw(&device_key),
        device: Some(convert::device(&about)),
        keep_companions: Some(true),
        home_region: hint(case),
        ..Default::default()
    }
}

fn delete(world: &World, case: Case) -> pb::DeleteRequest {
    let actor = actor(world, case);
    let method = if case == Case::Transplanted { arguments::METHOD_SET_LIMIT } else { arguments::METHOD_DELETE };
    let mut proof = actor.sign(method, world.cluster.request(), &arguments::delete(&actor.account));
    match case {
        Case::Oversized => proof.account = raw(&[b'a'; 65]),
        Case::WrongLength => proof.request_id = raw(&[1; 17]),
        _ => {}
    }
    pb::DeleteRequest { proof: Some(proof), home_region: hint(case), ..Default::default() }
}

fn lock(world: &World, case: Case) -> pb::LockRequest {
    let request_id = raw(&[6; 16][usize::from(case == Case::WrongLength)..]);
    pb::LockRequest { account: asked_about(world, case), request_id, home_region: hint(case) }
}
