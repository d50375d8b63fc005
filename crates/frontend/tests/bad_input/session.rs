//! Requests to kindred.session.v1.Session.

use kindred_core::arguments;
use kindred_core::id::{Digest, SessionId};
use kindred_core::reconcile::{Believed, Set};
use kindred_wire::convert::raw;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;
use kindred_wire::reconcile::believed;
use prost::Message;

use crate::account::{actor, asked_about, hint};
use crate::table::Case;
use crate::world::World;

pub fn request(world: &World, name: &str, case: Case) -> Vec<u8> {
    match name {
        "Validate" => validate(world, case).encode_to_vec(),
        "ValidateStream" => validate_stream(world, case).encode_to_vec(),
        "ListSessions" => list(world, case).encode_to_vec(),
        "Unlink" => unlink(world, case).encode_to_vec(),
        "Pin" => pin(world, case).encode_to_vec(),
        "RotateDeviceKey" => rotate(world, case).encode_to_vec(),
        "UnlinkOthers" => unlink_others(world, case).encode_to_vec(),
        "WhySignedOut" => why(world, case).encode_to_vec(),
        "Reconcile" => reconcile(world, case).encode_to_vec(),
        "WatchAccount" => watch(world, case).encode_to_vec(),
        _ => panic!("{name}: nobody makes its requests"),
    }
}

/// The session asked about, and the account that it is said to be of.
fn named(world: &World, case: Case) -> (prost::bytes::Bytes, Vec<u8>) {
    let member = match case {
        Case::Expired => &world.gone,
        Case::ForeignAccount => &world.bob,
        _ => &world.companion,
    };
    let mut session = member.session.as_bytes().to_vec();
    if case == Case::WrongLength {
        session.pop();
    }
    let account = match case {
        Case::ForeignAccount => raw(world.phone.account.as_bytes()),
        _ => asked_about(world, case),
    };
    (account, session)
}

fn validate(world: &World, case: Case) -> pb::ValidateRequest {
    let (account, session) = named(world, case);
    let level = if case == Case::UnknownEnum { 99 } else { pb::Level::Linearizable.into() };
    pb::ValidateRequest { account, session: raw(&session), level, home_region: hint(case), ..Default::default() }
}

fn validate_stream(world: &World, case: Case) -> pb::ValidateStreamRequest {
    let (account, session) = named(world, case);
    let questions = match case {
        Case::Empty => 0,
        Case::Oversized => kindred_core::limits::SESSIONS_ASKED_MAX + 1,
        _ => 1,
    };
    let account = if case == Case::Oversized { raw(world.phone.account.as_bytes()) } else { account };
    let question = pb::Question { account, session: raw(&session), min_set_version: 0 };
    let level = if case == Case::UnknownEnum { 99 } else { pb::Level::Linearizable.into() };
    let questions = vec![question; questions];
    pb::ValidateStreamRequest { batch: 7, level, questions, home_region: hint(case) }
}

fn list(world: &World, case: Case) -> pb::ListSessionsRequest {
    pb::ListSessionsRequest { account: asked_about(world, case), home_region: hint(case) }
}

fn watch(world: &World, case: Case) -> pb::WatchAccountRequest {
    pb::WatchAccountRequest { account: asked_about(world, case), home_region: hint(case), ..Default::default() }
}

fn why(world: &World, case: Case) -> pb::WhySignedOutRequest {
    let (account, session) = named(world, case);
    let which = match case {
        Case::WrongKey => Which::DeviceKey(raw(&[7; 31])),
        _ => Which::Session(raw(&session)),
    };
    pb::WhySignedOutRequest { account, which: Some(which), home_region: hint(case) }
}

fn unlink(world: &World, case: Case) -> pb::UnlinkRequest {
    // The actor is good, and the target is bob's.
    let (actor, target) = match case {
        Case::ForeignAccount => (world.phone.clone(), world.bob.session),
        _ => (actor(world, case), world.companion.session),
    };
    let method = if case == Case::Transplanted { arguments::METHOD_UNLINK_OTHERS } else { arguments::METHOD_UNLINK };
    let mut proof = actor.sign(method, world.cluster.request(), &arguments::unlink(&actor.account, &target));
    if case == Case::Oversized {
        proof.account = raw(&[b'a'; 65]);
    }
    let mut session = target.as_bytes().to_vec();
    if case == Case::WrongLength {
        session.push(0);
    }
    pb::UnlinkRequest { proof: Some(proof), session: raw(&session), home_region: hint(case), ..Default::default() }
}

fn unlink_others(world: &World, case: Case) -> pb::UnlinkOthersRequest {
    let actor = actor(world, case);
    let method = if case == Case::Transplanted { arguments::METHOD_UNLINK } else { arguments::METHOD_UNLINK_OTHERS };
    let hash = arguments::unlink_others(&actor.account, &actor.session);
    let mut proof = actor.sign(method, world.cluster.request(), &hash);
    match case {
        Case::Oversized => proof.account = raw(&[b'a'; 65]),
        Case::WrongLength => proof.session = raw(&[1; 17]),
        _ => {}
    }
    pb::UnlinkOthersRequest { proof: Some(proof), home_region: hint(case), ..Default::default() }
}

fn pin(world: &World, case: Case) -> pb::PinRequest {
    let (actor, target) = (actor(world, case), world.companion.session);
    let method = if case == Case::Transplanted { arguments::METHOD_UNLINK } else { arguments::METHOD_PIN };
    let mut proof = actor.sign(method, world.cluster.request(), &arguments::pin(&actor.account, &target, true));
    if case == Case::Oversized {
        proof.account = raw(&[b'a'; 65]);
    }
    let session = raw(&target.as_bytes()[usize::from(case == Case::WrongLength)..]);
    pb::PinRequest { proof: Some(proof), session, pinned: true, home_region: hint(case), ..Default::default() }
}

fn rotate(world: &World, case: Case) -> pb::RotateDeviceKeyRequest {
    let (actor, device, request) = (actor(world, case), &world.newcomer, world.cluster.request());
    let hash = arguments::rotate(&actor.account, &actor.session, &device.key());
    let method = if case == Case::Transplanted { arguments::METHOD_PIN } else { arguments::METHOD_ROTATE };
    let mut proof = actor.sign(method, request, &hash);
    if case == Case::Oversized {
        proof.account = raw(&[b'a'; 65]);
    }
    pb::RotateDeviceKeyRequest {
        proof: Some(proof),
        possession: Some(device.sign_possession(arguments::METHOD_ROTATE, request, &actor.account, &hash)),
        device_key: raw(&device.key().as_bytes()[usize::from(case == Case::WrongLength)..]),
        home_region: hint(case),
    }
}

fn reconcile(world: &World, case: Case) -> pb::ReconcileRequest {
    let actor = actor(world, case);
    let set = match case {
        Case::Oversized => Set::Sessions((0..257_u64).map(numbered).collect()),
        _ => Set::Digest(Digest([7; 32])),
    };
    let belief = Believed { set_version: 1, set };
    let method = if case == Case::Transplanted { arguments::METHOD_UNLINK } else { arguments::METHOD_RECONCILE };
    let proof = actor.sign(method, world.cluster.request(), &arguments::reconcile(&world.phone.account, &belief));
    let mut request = pb::ReconcileRequest {
        account: raw(world.phone.account.as_bytes()),
        home_region: hint(case),
        set_version: belief.set_version,
        view: Some(believed(&belief)),
        proof: Some(proof),
    };
    if case == Case::WrongLength {
        request.view = Some(pb::reconcile_request::View::SetDigest(raw(&[7; 31])));
    }
    request
}

fn numbered(n: u64) -> (SessionId, u64) {
    let mut id = [0; SessionId::LEN];
    id[..8].copy_from_slice(&n.to_be_bytes());
    (SessionId(id), n)
}
