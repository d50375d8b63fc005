//! Requests to kindred.pairing.v1.Pairing.

use kindred_client::{Device, Member};
use kindred_core::arguments;
use kindred_core::limits::ENVELOPE_BYTES_MAX;
use kindred_core::model::Requester;
use kindred_wire::convert::{self, raw};
use kindred_wire::pb::pairing::v1 as pb;
use kindred_wire::pb::pairing::v1::watch_ticket_request::Access;
use prost::Message;

use crate::table::Case;
use crate::world::{World, moved};

/// Longer than any ticket lives, in ms.
const OVER_MS: u64 = 200_000;

pub fn request(world: &World, name: &str, case: Case) -> Vec<u8> {
    let body = match name {
        "OpenTicket" => open(world, case).encode_to_vec(),
        "WatchTicket" => watch(world, case).encode_to_vec(),
        "ScanTicket" => scan(world, case).encode_to_vec(),
        "ApproveTicket" => approve(world, case).encode_to_vec(),
        "DenyTicket" => deny(world, case).encode_to_vec(),
        "CancelTicket" => cancel(world, case).encode_to_vec(),
        _ => panic!("{name}: nobody makes its requests"),
    };
    if case == Case::Expired && name != "OpenTicket" {
        world.cluster.advance(OVER_MS);
    }
    body
}

/// The bytes of a ticket id or ref, in the region that the case wants.
fn placed(bytes: &[u8], case: Case) -> Vec<u8> {
    let mut bytes = match case {
        Case::WrongRegion => moved(bytes, 1),
        Case::UnknownRegion => moved(bytes, u16::MAX),
        _ => bytes.to_vec(),
    };
    if case == Case::WrongLength {
        bytes.pop();
    }
    bytes
}

/// Whoever acts for the phone.
fn phone(world: &World, case: Case) -> Member {
    match case {
        Case::WrongKey => world.impostor(&world.phone),
        _ => world.phone.clone(),
    }
}

fn device(world: &World, case: Case) -> Device {
    if case == Case::WrongKey { world.stranger.clone() } else { world.scanned.0.clone() }
}

fn open(world: &World, case: Case) -> pb::OpenTicketRequest {
    let device = &world.opener;
    let location = "l".repeat(if case == Case::Oversized { 65 } else { 4 });
    let requester = Requester { location, ..Requester::default() };
    let mut proof = device.sign_open(world.cluster.request(), &requester);
    match case {
        Case::WrongKey => proof.signature = world.stranger.sign_open(world.cluster.request(), &requester).signature,
        Case::Transplanted => proof.signature = device.sign_cancel(world.cluster.request(), &world.ticket()).signature,
        Case::ForeignAccount => proof.account = raw(world.phone.account.as_bytes()),
        _ => {}
    }
    let mut device_key = device.key().as_bytes().to_vec();
    if case == Case::WrongLength {
        device_key.push(0);
    }
    pb::OpenTicketRequest {
        proof: Some(proof),
        device_key: raw(&device_key),
        requester: Some(convert::requester(&requester)),
        method: if case == Case::UnknownEnum { 99 } else { 0 },
        ..Default::default()
    }
}

fn watch(world: &World, case: Case) -> pb::WatchTicketRequest {
    let (ticket, request) = (world.ticket(), world.cluster.request());
    let device = device(world, case);
    let mut proof = match case {
        Case::Transplanted => device.sign_cancel(request, &ticket),
        _ => device.sign_watch(request, &ticket),
    };
    if case == Case::ForeignAccount {
        proof.account = raw(world.phone.account.as_bytes());
    }
    let access = match case {
        Case::Oversized => Access::WatchSecret(raw(&[7; 4_096])),
        _ => Access::Proof(proof),
    };
    pb::WatchTicketRequest { ticket: raw(&placed(ticket.as_bytes(), case)), access: Some(access) }
}

fn scan(world: &World, case: Case) -> pb::ScanTicketRequest {
    let reference = placed(&world.reference, case);
    let member = match case {
        Case::ForeignAccount => world.intruder(),
        _ => phone(world, case),
    };
    let request = world.cluster.request();
    let mut request = pb::ScanTicketRequest {
        proof: Some(match case {
            Case::Transplanted => member.sign(arguments::METHOD_DENY, request, &arguments::scan(&reference)),
            _ => member.sign_scan(request, &reference),
        }),
        reference: raw(&reference),
        ..Default::default()
    };
    if case == Case::Oversized {
        (request.reference, request.code) = (raw(&[]), "B".repeat(4_096));
    }
    request
}

fn approve(world: &World, case: Case) -> pb::ApproveTicketRequest {
    let mut what = world.scanned.1.clone();
    what.ticket.0 = placed(&what.ticket.0, case).try_into().unwrap_or(what.ticket.0);
    if case == Case::Oversized {
        what.envelope = vec![7; ENVELOPE_BYTES_MAX + 1];
    }
    let member = match case {
        Case::ForeignAccount => world.bob.clone(),
        _ => phone(world, case),
    };
    let mut request = world.client.approval(&member, &what, world.cluster.request());
    match case {
        Case::Transplanted => {
            let hash = arguments::deny(&what.ticket);
            request.proof = Some(member.sign(arguments::METHOD_DENY, world.cluster.request(), &hash));
        }
        Case::WrongLength => request.approval.as_mut().unwrap().device_key_hash = raw(&[1; 31]),
        _ => {}
    }
    request
}

fn deny(world: &World, case: Case) -> pb::DenyTicketRequest {
    let member = match case {
        Case::ForeignAccount => world.bob.clone(),
        _ => phone(world, case),
    };
    let request = world.cluster.request();
    let mut proof = match case {
        Case::Transplanted => member.sign(arguments::METHOD_CANCEL, request, &arguments::deny(&world.ticket())),
        _ => member.sign_deny(request, &world.ticket()),
    };
    if case == Case::Oversized {
        proof.account = raw(&[b'a'; 65]);
    }
    pb::DenyTicketRequest { proof: Some(proof), ticket: raw(&placed(world.ticket().as_bytes(), case)) }
}

fn cancel(world: &World, case: Case) -> pb::CancelTicketRequest {
    let (device, request) = (device(world, case), world.cluster.request());
    let mut proof = match case {
        Case::Transplanted => device.sign_watch(request, &world.ticket()),
        _ => device.sign_cancel(request, &world.ticket()),
    };
    match case {
        Case::Oversized => proof.account = raw(&[b'a'; 65]),
        Case::ForeignAccount => proof.account = raw(world.phone.account.as_bytes()),
        _ => {}
    }
    pb::CancelTicketRequest { proof: Some(proof), ticket: raw(&placed(world.ticket().as_bytes(), case)) }
}

/// An approval that was good for a second, two seconds after the scan.
pub fn lapsed(world: &World) -> Vec<u8> {
    let mut request = approve(world, Case::Replayed);
    let mut approval = convert::approval_in(request.approval.take()).unwrap();
    approval.lifetime_ms = 1_000;
    let approval = world.phone.sign_approval(approval);
    request.proof = Some(world.phone.sign_approve(world.cluster.request(), &approval));
    request.approval = Some(convert::approval(&approval));
    world.cluster.advance(2_000);
    request.encode_to_vec()
}
