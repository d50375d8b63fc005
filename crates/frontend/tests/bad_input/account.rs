//! Requests to kindred.account.v1.Account.

use kindred_core::arguments;
use kindred_core::id::AccountId;
use kindred_core::model::Requester;
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
    pb::GetAccountRequest { account: asked_about(world, case), home_region: hint(case), ..Default::default() }
}

fn register(world: &World, case: Case) -> pb::RegisterRequest {
    let device = world.cluster.device();
    let account = match case {
        Case::ForeignAccount => world.phone.account.clone(),
        _ => AccountId::new(b"cleo").unwrap(),
    };
    let platform = "p".repeat(if case == Case::Oversized { 65 } else { 8 });
    let about = kindred_core::model::Device { platform, ..Default::default() };
    let mut proof = device.sign_register(world.cluster.request(), &account, &about);
    match case {
        Case::WrongKey => {
            let theirs = world.stranger.sign_register(world.cluster.request(), &account, &about);
            proof.signature = theirs.signature;
        }
        Case::Transplanted => {
            proof.signature = device.sign_open(world.cluster.request(), &Requester::default()).signature
        }
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
        ..Default::default()
    }
}

fn set_limit(world: &World, case: Case) -> pb::SetLimitRequest {
    let limit = if case == Case::Oversized { 65 } else { 5 };
    let member = match case {
        Case::WrongKey => world.impostor(&world.phone),
        Case::Expired => world.gone.clone(),
        Case::ForeignAccount => world.intruder(),
        _ => world.phone.clone(),
    };
    let method = if case == Case::Transplanted { arguments::METHOD_UNLINK } else { arguments::METHOD_SET_LIMIT };
    let hash = arguments::set_limit(&member.account, limit);
    let mut proof = member.sign(method, world.cluster.request(), &hash);
    if case == Case::WrongLength {
        proof.request_id = raw(&[1; 15]);
    }
    pb::SetLimitRequest { proof: Some(proof), limit, home_region: hint(case), ..Default::default() }
}
