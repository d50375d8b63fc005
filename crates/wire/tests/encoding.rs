//! docs/encoding.md tells a stranger how to sign. Its test vectors are what this code makes; if one changes, every device
//! out there breaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;

use ed25519_dalek::{Signer as _, SigningKey};
use kindred_core::arguments;
use kindred_core::canonical::{DeviceProof, TicketKey, approval_bytes, proof_bytes, sha256, verify};
use kindred_core::code::MatchNumber;
use kindred_core::digest;
use kindred_core::id::{
    AccountId, ClusterId, DeviceKey, Digest, RegionIndex, RequestId, SessionId, ShardId, Signature, Slot, TicketId, hex,
};
use kindred_core::model::{Approval, ApprovalKind, Device, Requester};
use kindred_core::nonce::nonce;
use kindred_core::reconcile::{Believed, Set};
use kindred_wire::convert;

const CLUSTER: ClusterId = ClusterId([0xC1; 16]);
const REQUEST: RequestId = RequestId([0x22; 16]);
const SESSION: SessionId = SessionId([0x33; 16]);

fn account() -> AccountId {
    AccountId::new(b"ann").unwrap()
}

fn phone() -> SigningKey {
    SigningKey::from_bytes(&[0x01; 32])
}

fn companion() -> DeviceKey {
    DeviceKey(SigningKey::from_bytes(&[0x02; 32]).verifying_key().to_bytes())
}

fn ticket() -> TicketId {
    TicketId::compose(RegionIndex(1), Slot::of(companion().as_bytes()), &companion(), &REQUEST)
}

fn device() -> Device {
    Device { platform: "web".into(), app_version: "1.2.3".into(), display_name: b"Ann's laptop".to_vec() }
}

fn approval(kind: ApprovalKind) -> Approval {
    let mut approval = Approval {
        kind,
        account: account(),
        auth_epoch: 1,
        ticket: ticket(),
        device_key_hash: sha256(&[companion().as_bytes()]),
        approver: SESSION,
        envelope_hash: sha256(&[b"hello"]),
        lifetime_ms: 160_000,
        signature: Signature([0; 64]),
    };
    approval.signature = Signature(phone().sign(&approval_bytes(&CLUSTER, &approval)).to_bytes());
    approval
}

fn proof(method: &str, arguments: &Digest) -> DeviceProof {
    let mut proof = DeviceProof {
        account: Some(account()),
        session: Some(SESSION),
        request: REQUEST,
        auth_epoch: 1,
        nonce: Vec::new(),
        signature: Signature([0; 64]),
    };
    proof.signature = Signature(phone().sign(&proof_bytes(&CLUSTER, method, &proof, arguments)).to_bytes());
    proof
}

fn vectors() -> String {
    let mut text = String::new();
    let mut line = |name: &str, bytes: &[u8]| writeln!(text, "{name:<32} {}", hex(bytes)).unwrap();
    let key = TicketKey([0x44; 32]);
    let reference = key.reference(&ticket(), 3);
    let requester = Requester { device: device(), location: "Lyon".into() };
    let phone_key = DeviceKey(phone().verifying_key().to_bytes());
    let link = approval(ApprovalKind::Link);
    let replacing = approval(ApprovalKind::LinkReplacing(SessionId([0x55; 16])));
    let unlink = arguments::unlink(&account(), &SessionId([0x55; 16]));
    let proof = proof(arguments::METHOD_UNLINK, &unlink);

    line("phone public key", phone_key.as_bytes());
    line("companion public key", companion().as_bytes());
    line("slot", &Slot::of(companion().as_bytes()).0.to_be_bytes());
    line("ticket id", ticket().as_bytes());
    line("ref, window 3", &reference);
    line("watch secret", key.watch_secret(&ticket()).as_bytes());
    line("arguments Register", arguments::register(&account(), &phone_key, &device()).as_bytes());
    line("arguments SetLimit 5", arguments::set_limit(&account(), 5).as_bytes());
    line("arguments OpenTicket", arguments::open(&companion(), &requester).as_bytes());
    line("arguments WatchTicket", arguments::watch(&ticket()).as_bytes());
    line("arguments ScanTicket", arguments::scan(&reference).as_bytes());
    line("arguments ApproveTicket", arguments::approve(&link).as_bytes());
    line("arguments DenyTicket", arguments::deny(&ticket()).as_bytes());
    line("arguments CancelTicket", arguments::cancel(&ticket()).as_bytes());
    line("arguments Unlink", unlink.as_bytes());
    line("arguments UnlinkOthers", arguments::unlink_others(&account(), &SESSION).as_bytes());
    line("approval bytes", &approval_bytes(&CLUSTER, &link));
    line("approval signature", link.signature.as_bytes());
    line("approval bytes, replacing", &approval_bytes(&CLUSTER, &replacing));
    line("approval signature, replacing", replacing.signature.as_bytes());
    line("proof bytes, Unlink", &proof_bytes(&CLUSTER, arguments::METHOD_UNLINK, &proof, &unlink));
    line("proof signature, Unlink", proof.signature.as_bytes());
    text + &later_vectors()
}

/// What came with nonces and the life of an account; none of those before may change.
fn later_vectors() -> String {
    let mut text = String::new();
    let mut line = |name: &str, bytes: &[u8]| writeln!(text, "{name:<32} {}", hex(bytes)).unwrap();
    let (ann, new, victim) = (account(), companion(), SessionId([0x55; 16]));
    let nonce = nonce(&TicketKey([0x44; 32]), ShardId(100), 60_000);
    let (unlink, rotate) = (arguments::unlink(&ann, &victim), arguments::rotate(&ann, &SESSION, &new));
    let renewed = proof_by(&phone(), Some(SESSION), 1, &nonce, arguments::METHOD_UNLINK, &unlink);
    let seed = SigningKey::from_bytes(&[0x02; 32]);
    let possession = proof_by(&seed, None, 0, &nonce, arguments::METHOD_ROTATE, &rotate);

    line("nonce, shard 100, 60 s", &nonce);
    line("arguments ReplacePrimary, keep", arguments::replace_primary(&ann, &new, &device(), true).as_bytes());
    line("arguments ReplacePrimary, end", arguments::replace_primary(&ann, &new, &device(), false).as_bytes());
    line("arguments Delete", arguments::delete(&ann).as_bytes());
    line("arguments Pin", arguments::pin(&ann, &victim, true).as_bytes());
    line("arguments Pin, let go", arguments::pin(&ann, &victim, false).as_bytes());
    line("arguments RotateDeviceKey", rotate.as_bytes());
    line("proof bytes, Unlink, nonce", &proof_bytes(&CLUSTER, arguments::METHOD_UNLINK, &renewed, &unlink));
    line("proof signature, Unlink, nonce", renewed.signature.as_bytes());
    line("possession bytes, Rotate", &proof_bytes(&CLUSTER, arguments::METHOD_ROTATE, &possession, &rotate));
    line("possession signature, Rotate", possession.signature.as_bytes());
    text
}

fn proof_by(
    key: &SigningKey,
    session: Option<SessionId>,
    auth_epoch: u64,
    nonce: &[u8],
    method: &str,
    arguments: &Digest,
) -> DeviceProof {
    let (account, signature) = (Some(account()), Signature([0; 64]));
    let mut proof = DeviceProof { account, session, request: REQUEST, auth_epoch, nonce: nonce.to_vec(), signature };
    proof.signature = Signature(key.sign(&proof_bytes(&CLUSTER, method, &proof, arguments)).to_bytes());
    proof
}

/// Pairing by code: the same people and the same ticket.
fn code_vectors() -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<32} {value}").unwrap();
    let requester = Requester { device: device(), location: "Lyon".into() };
    let code = TicketKey([0x44; 32]).code(&ticket());
    let number = MatchNumber::of(&companion(), &ticket());
    let link = approval(ApprovalKind::Link);
    line("code", &code.shown());
    line("number to match", &number.to_string());
    line("arguments OpenTicket, code", &arguments::open_code(&companion(), &requester, &account()).to_string());
    line("arguments ScanTicket, code", &arguments::scan_code(&code).to_string());
    line("arguments ApproveTicket, number", &arguments::approve_with(&link, Some(number)).to_string());
    text
}

/// A set that three changes make: the phone registers, the companion is linked, the companion is unlinked by the phone.
fn chain_vectors() -> String {
    let mut text = String::new();
    let mut line = |name: &str, bytes: &[u8]| writeln!(text, "{name:<32} {}", hex(bytes)).unwrap();
    let phone_key = DeviceKey(phone().verifying_key().to_bytes());
    let (primary, linked) = (SESSION, SessionId([0x55; 16]));
    let start = digest::empty(&account());
    let first = digest::next_of(&start, 1, [(primary, 1, phone_key)], []);
    let second = digest::next_of(&first, 2, [(linked, 2, companion())], []);
    let replaced = SessionId([0x66; 16]);
    let third = digest::next_of(&second, 3, [(replaced, 3, phone_key)], [(linked, 2, 5)]);
    let fourth = digest::next_of(&third, 4, [], [(replaced, 3, 1)]);
    line("digest, set_version 0", start.as_bytes());
    line("digest, set_version 1", first.as_bytes());
    line("bytes of change 2", &digest::chained(&first, 2, [(linked, 2, companion())], []).finish());
    line("digest, set_version 2", second.as_bytes());
    line("bytes of change 3", &digest::chained(&second, 3, [(replaced, 3, phone_key)], [(linked, 2, 5)]).finish());
    line("digest, set_version 3", third.as_bytes());
    line("bytes of change 4", &digest::chained(&third, 4, [], [(replaced, 3, 1)]).finish());
    line("digest, set_version 4", fourth.as_bytes());

    let view = |set| Believed { set_version: 2, set };
    let by_digest = arguments::reconcile(&account(), &view(Set::Digest(second)));
    let by_list = arguments::reconcile(&account(), &view(Set::Sessions(vec![(primary, 1), (linked, 2)])));
    let proof = proof(arguments::METHOD_RECONCILE, &by_list);
    line("arguments Reconcile, digest", by_digest.as_bytes());
    line("arguments Reconcile, list", by_list.as_bytes());
    line("proof bytes, Reconcile, list", &proof_bytes(&CLUSTER, arguments::METHOD_RECONCILE, &proof, &by_list));
    line("proof signature, Reconcile, list", proof.signature.as_bytes());
    text
}

#[test]
fn the_document_has_the_vectors_of_the_code() {
    let document = include_str!("../../../docs/encoding.md");
    for vectors in [vectors(), code_vectors(), chain_vectors()] {
        assert!(document.contains(&vectors), "docs/encoding.md must contain exactly:\n{vectors}");
    }
    for method in [
        arguments::METHOD_REGISTER,
        arguments::METHOD_SET_LIMIT,
        arguments::METHOD_OPEN,
        arguments::METHOD_WATCH,
        arguments::METHOD_SCAN,
        arguments::METHOD_APPROVE,
        arguments::METHOD_DENY,
        arguments::METHOD_CANCEL,
        arguments::METHOD_UNLINK,
        arguments::METHOD_UNLINK_OTHERS,
        arguments::METHOD_RECONCILE,
        arguments::METHOD_REPLACE_PRIMARY,
        arguments::METHOD_DELETE,
        arguments::METHOD_PIN,
        arguments::METHOD_ROTATE,
    ] {
        assert!(document.contains(method), "{method} is not documented");
    }
}

#[test]
fn what_is_signed_verifies_and_survives_the_wire() {
    let key = DeviceKey(phone().verifying_key().to_bytes());
    let hash = arguments::unlink(&account(), &SESSION);
    let proof = proof(arguments::METHOD_UNLINK, &hash);
    let (again, by) = convert::proof_in(Some(convert::proof(&proof, &key))).unwrap();
    assert_eq!((&again, by), (&proof, key));
    assert!(verify(&key, &proof_bytes(&CLUSTER, arguments::METHOD_UNLINK, &again, &hash), &again.signature));
    assert!(!verify(&key, &proof_bytes(&CLUSTER, arguments::METHOD_DENY, &again, &hash), &again.signature));
    assert!(!verify(
        &key,
        &proof_bytes(&ClusterId([0; 16]), arguments::METHOD_UNLINK, &again, &hash),
        &again.signature
    ));
    for kind in [ApprovalKind::Link, ApprovalKind::LinkReplacing(SESSION)] {
        let approval = approval(kind);
        assert_eq!(convert::approval_in(Some(convert::approval(&approval))).unwrap(), approval);
    }
}

#[test]
fn every_bound_is_checked_and_named() {
    let key = DeviceKey([9; 32]);
    let good = convert::proof(&proof(arguments::METHOD_DENY, &Digest([0; 32])), &key);
    type Spoil = fn(&mut kindred_wire::pb::session::v1::DeviceProof);
    let spoils: [(&str, Spoil); 6] = [
        ("proof.account", |p| p.account = vec![0; 65].into()),
        ("proof.session", |p| p.session = vec![0; 15].into()),
        ("proof.request_id", |p| p.request_id = vec![].into()),
        ("proof.nonce", |p| p.nonce = vec![0; 65].into()),
        ("proof.signature", |p| p.signature = vec![0; 63].into()),
        ("proof.device_key", |p| p.device_key = vec![0; 33].into()),
    ];
    for (field, spoil) in spoils {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert_eq!(convert::proof_in(Some(bad)).unwrap_err(), convert::Invalid(field));
    }
    let long = kindred_wire::pb::session::v1::Device { display_name: vec![0; 129].into(), ..Default::default() };
    assert_eq!(convert::device_in(Some(long)).unwrap_err().0, "device.display_name");
    assert!(convert::approval_in(None).is_err() && convert::receipt_in(None).is_err());
    for number in ["1", "12345", "abcd", "+123"] {
        assert_eq!(convert::number_in(number), Err(convert::Invalid("number")), "{number}");
    }
    for (method, account, field) in
        [(0, &b"ann"[..], "account"), (1, b"ann", "account"), (2, b"", "account"), (3, b"", "method")]
    {
        assert_eq!(convert::method_in(method, account), Err(convert::Invalid(field)), "{method}");
    }
    assert!(convert::code_in("BCDF-GHJ").is_err());
}
