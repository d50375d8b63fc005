//! Requests to kindred.admin.v1.Admin.

use kindred_core::bundle::Bundle;
use kindred_core::digest;
use kindred_core::id::{AccountId, ClaimId, DeviceKey, RegionIndex, SessionId};
use kindred_core::model::{Account, Device, Role, Session};
use kindred_wire::bundle::bundle;
use kindred_wire::convert::raw;
use kindred_wire::pb::admin::v1 as pb;
use prost::Message;

use crate::table::Case;
use crate::world::World;

pub fn request(world: &World, name: &str, case: Case) -> Vec<u8> {
    match name {
        "ExportAccounts" => export(world, case).encode_to_vec(),
        "ImportAccounts" => import(world, case).encode_to_vec(),
        _ => panic!("{name}: nobody makes its requests"),
    }
}

fn export(world: &World, case: Case) -> pb::ExportAccountsRequest {
    let shard = match case {
        Case::WrongRegion => world.cluster.groups.account_shard("east", &world.phone.account).0,
        Case::UnknownRegion => u32::MAX,
        _ => world.cluster.groups.account_shard("west", &world.phone.account).0,
    };
    let account = match case {
        Case::Oversized => raw(&[b'a'; 65]),
        Case::ForeignAccount => raw(b"nobody"),
        _ => raw(b"a"),
    };
    pb::ExportAccountsRequest { after: Some(pb::Cursor { shard, account }) }
}

fn import(world: &World, case: Case) -> pb::ImportAccountsRequest {
    let id = match case {
        Case::ForeignAccount => world.phone.account.clone(),
        _ => AccountId::new(b"dora").unwrap(),
    };
    let mut account = bundle(&moving(id), "west".into());
    if case == Case::UnknownEnum {
        account.sessions[0].role = 99;
    }
    let item = pb::ImportItem {
        request_id: raw(&[3; 16][usize::from(case == Case::WrongLength)..]),
        account: Some(account),
        home_region: match case {
            Case::WrongRegion => "east".into(),
            Case::UnknownRegion => "atlantis".into(),
            _ => "west".into(),
        },
    };
    pb::ImportAccountsRequest { items: vec![item; if case == Case::Oversized { 257 } else { 1 }] }
}

/// An account of another cluster with one phone.
fn moving(id: AccountId) -> Bundle {
    let phone = Session {
        id: SessionId([1; 16]),
        seq: 1,
        device_key: DeviceKey([2; 32]),
        role: Role::Primary,
        device: Device::default(),
        linked_at_ms: 1,
        linked_wall_ms: 2,
        linked_by: None,
        ticket: None,
        policy_version: 0,
        key_generation: 1,
        record_version: 1,
        quarantine_until_ms: 0,
        pinned: false,
    };
    let account = Account {
        set_digest: digest::empty(&id),
        id,
        home: RegionIndex(2),
        home_epoch: 1,
        auth_epoch: 1,
        set_version: 1,
        next_session_seq: 2,
        companion_limit: 4,
        claim: ClaimId([4; 16]),
        registered_at_ms: 1,
        sessions: vec![phone],
        locked_at_ms: None,
        record_version: 1,
    };
    Bundle { account, tombstones: Vec::new(), stubs: Vec::new(), linked: Vec::new(), time_ms: 5 }
}
