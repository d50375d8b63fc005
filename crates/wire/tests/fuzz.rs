//! Mangled messages to everything that reads the public protocol, statuses and certificates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use kindred_core::bundle::Bundle;
use kindred_core::id::{DeviceKey, Digest, RegionIndex, SessionId, TicketId};
use kindred_core::model::{ApprovalKind, Requester};
use kindred_core::reconcile::{Believed, Set};
use kindred_wire::bundle::{bundle, bundle_in, cursor_in};
use kindred_wire::convert::{self, Decoded};
use kindred_wire::pb::{admin::v1 as admin, pairing::v1 as pairing, session::v1 as session};
use kindred_wire::reason::Reason;
use kindred_wire::reconcile::{believed, believed_in};
use kindred_wire::status::{Failure, metadata, retry_after, tombstone};
use kindred_wire::tls::{Identity, Tls};
use prost::Message;
use tonic::{Code, Status};

#[path = "../../../tests/support/allocation.rs"]
mod allocation;
#[path = "../../../tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../store/tests/store/samples.rs"]
#[allow(dead_code)]
mod samples;
mod support;

use allocation::{bounded, within};

const ROUNDS: usize = 3_000;

/// Mangled bytes of messages are no message, or a field that is named, or a value that is told and read as itself.
fn holds<M: Message + Default, T: PartialEq + std::fmt::Debug>(
    seed: u64,
    messages: &[M],
    read: impl Fn(M) -> Decoded<T>,
    tell: impl Fn(&T) -> M,
) {
    let samples = messages.iter().map(Message::encode_to_vec).collect();
    let whole = messages.iter().filter(|message| read(M::decode(message.encode_to_vec().as_slice()).unwrap()).is_ok());
    assert_eq!(whole.count(), messages.len(), "a sample is none");
    fuzz::run(seed, samples, ROUNDS, |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        let value = bounded(bytes, || M::decode(shared).ok().map(&read));
        match value {
            None => {}
            Some(Err(invalid)) => assert!(!invalid.0.is_empty()),
            Some(Ok(value)) => assert_eq!(read(tell(&value)), Ok(value)),
        }
    });
}

#[test]
fn proofs_and_devices() {
    let proof = |alone: bool| {
        let submission = samples::submissions().into_iter().find_map(|submission| submission.proof).unwrap();
        let account = submission.account.clone().filter(|_| !alone);
        convert::proof(&kindred_core::canonical::DeviceProof { account, ..submission }, &DeviceKey([3; 32]))
    };
    holds(1, &[proof(true), proof(false)], |p| convert::proof_in(Some(p)), |(p, key)| convert::proof(p, key));
    let device = samples::session(1).device;
    holds(2, &[convert::device(&device)], |d| convert::device_in(Some(d)), convert::device);
    let requester = Requester { device, location: "Lyon".into() };
    holds(3, &[convert::requester(&requester)], |r| convert::requester_in(Some(r)), convert::requester);
}

#[test]
fn approvals_and_receipts() {
    let kinds = [ApprovalKind::Link, ApprovalKind::LinkReplacing(SessionId([5; 16]))];
    let approvals = kinds.map(|kind| convert::approval(&samples::approval(kind)));
    holds(4, &approvals, |a| convert::approval_in(Some(a)), convert::approval);
    let receipts = [convert::receipt(&samples::receipt())];
    holds(5, &receipts, |r| convert::receipt_in(Some(r)), convert::receipt);
}

#[test]
fn views() {
    let list = Set::Sessions(vec![(SessionId([8; 16]), 9), (SessionId([1; 16]), 0)]);
    let told = |b: &Believed| session::ReconcileRequest {
        set_version: b.set_version,
        view: Some(believed(b)),
        ..session::ReconcileRequest::default()
    };
    let views = [Set::Digest(Digest([7; 32])), list].map(|set| told(&Believed { set_version: 6, set }));
    holds(6, &views, |r| believed_in(r.set_version, r.view), told);
}

#[test]
fn whole_accounts_and_cursors() {
    let whole = Bundle {
        account: samples::account(),
        tombstones: vec![samples::tombstone(4), samples::tombstone(5)],
        stubs: vec![(&samples::tombstone(6)).into()],
        linked: vec![(TicketId([1; 16]), samples::receipt())],
        time_ms: 99,
    };
    let tell = |b: &Bundle| bundle(b, "west".into());
    let read = |b: admin::AccountBundle| {
        let read = bundle_in(b, RegionIndex(2))?;
        // Whether it fits together: an answer, whatever it holds.
        let _ = read.check();
        let _ = read.weight();
        Ok(read)
    };
    holds(7, &[tell(&whole)], read, tell);
    let cursor = |(shard, account): &(u32, Option<kindred_core::id::AccountId>)| admin::Cursor {
        shard: *shard,
        account: account.as_ref().map(|id| convert::raw(id.as_bytes())).unwrap_or_default(),
    };
    holds(8, &[cursor(&(100, Some(samples::account_id())))], |c| cursor_in(Some(c)), cursor);
}

/// 128 KiB of a public request become 12 MiB at most; 4 MiB of an import, which only operators send, a gigabyte or more.
#[test]
fn requests_of_nothing_but_empty_lists_take_memory_in_proportion() {
    let within_message = |tag: u8, list: &[u8]| {
        let mut bytes = vec![tag << 3 | 2];
        prost::encode_length_delimiter(list.len(), &mut bytes).unwrap();
        [&bytes, list].concat()
    };
    for (outer, inner) in (1..16_u8).flat_map(|outer| (1..16).map(move |inner| (outer, inner))) {
        let list = [inner << 3 | 2, 0].repeat(4_000);
        let nested = within_message(outer, &list);
        for bytes in [&list, &nested, &within_message(1, &nested)] {
            let shared = Bytes::from(bytes.clone());
            let _ = within(96, bytes, || session::ReconcileRequest::decode(shared.clone()));
            let _ = within(96, bytes, || pairing::ApproveTicketRequest::decode(shared.clone()));
            let _ = within(96, bytes, || pairing::OpenTicketRequest::decode(shared.clone()));
            let _ = within(400, bytes, || admin::ImportAccountsRequest::decode(shared.clone()));
        }
    }
}

#[test]
fn codes_numbers_methods_and_ids() {
    fuzz::run_text(9, &["BCDF-GHJK", "0042", ""], ROUNDS, |text| {
        let _ = bounded(text.as_bytes(), || (convert::code_in(text), convert::number_in(text)));
        let (id, number) = (text.as_bytes(), i32::try_from(text.len()).unwrap());
        assert_eq!(convert::method_in(number + 3, id), Err(convert::Invalid("method")));
        assert_eq!(convert::session_id(id, "session").is_ok(), id.len() == 16);
        assert_eq!(convert::account_id(id, "account").is_ok(), (1..=64).contains(&id.len()));
    });
}

#[test]
fn details_of_statuses() {
    let failures = [
        Failure::new(Reason::InvalidRequest).with("field", "proof"),
        Failure::new(Reason::Overloaded).after(7),
        Failure::signed_out(convert::tombstone(&samples::tombstone(4))),
    ];
    let samples = failures.into_iter().map(|failure| Status::from(failure).details().to_vec()).collect();
    fuzz::run(10, samples, ROUNDS, |bytes| {
        let status = Status::with_details(Code::Unauthenticated, "", Bytes::copy_from_slice(bytes));
        let reason = bounded(bytes, || {
            let _ = (metadata(&status), retry_after(&status));
            Reason::of(&status)
        });
        // Whatever the bytes: signed out is nobody without a tombstone.
        assert!(reason != Some(Reason::SignedOut) || tombstone(&status).is_some());
    });
}

#[test]
fn names_in_certificates() {
    let uris = ["spiffe://kindred/dev/node/a", "spiffe://kindred/prod.example/operator/eu-0", "spiffe://kindred///"];
    fuzz::run_text(11, &uris, ROUNDS, |uri| {
        if let Ok(identity) = bounded(uri.as_bytes(), || Identity::parse(uri)) {
            assert_eq!(identity.to_string(), uri);
        }
    });
}

#[test]
fn certificates_and_their_files() {
    let authority = support::Authority::new("ca");
    let certified = authority.certify(&["spiffe://kindred/t/node/a"]);
    let der = pem_body(&certified.pem);
    assert!(Identity::of(&der.clone().into()).is_ok());
    fuzz::run(12, vec![der], ROUNDS, |bytes| {
        let _ = bounded(bytes, || Identity::of(&bytes.into()));
    });
    let place = support::Place::new(&certified, &authority.pem);
    let net = std::sync::Arc::new(kindred_wire::net::Tcp);
    let good = [("cert", &certified.pem), ("key", &certified.key), ("trust", &authority.pem)];
    for (seed, (name, text)) in (13..).zip(good) {
        fuzz::run(seed, vec![text.clone().into_bytes()], ROUNDS / 10, |bytes| {
            std::fs::write(place.path().join(name), bytes).unwrap();
            if let Err(error) = Tls::new(net.clone(), place.files()) {
                assert!(!error.to_string().is_empty());
            }
        });
        std::fs::write(place.path().join(name), text).unwrap();
    }
    assert!(Tls::new(net, place.files()).is_ok());
}

/// The bytes within the armour.
fn pem_body(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
