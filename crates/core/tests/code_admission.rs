//! The leader's part of a typed code, with real keys: it alone can compare, and what the caller claims counts for nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ed25519_dalek::{Signer as _, SigningKey};
use kindred_core::admit::{Gate, admit};
use kindred_core::arguments;
use kindred_core::canonical::{DeviceProof, TicketKey, approval_bytes, proof_bytes, sha256};
use kindred_core::code::{Code, MatchNumber};
use kindred_core::command::{Command, Committed, Envelope, Proven, Submission};
use kindred_core::id::{AccountId, ClusterId, DeviceKey, Digest, ShardId, Signature, Slot, TicketId};
use kindred_core::limits::NONCE_TTL_MS;
use kindred_core::model::{Approval, ApprovalKind, Method, Rejection, Requester, Scan, Session};
use kindred_core::nonce::{NONCE_LEN, nonce};
use support::{ENVELOPE, REGION, Shard, account, envelope, key, request};

const CLUSTER: ClusterId = ClusterId([0xC1; 16]);
const TICKET_KEY: TicketKey = TicketKey([0x44; 32]);
const SHARD: ShardId = ShardId(100);

fn gate(now_ms: u64) -> Gate<'static> {
    Gate { cluster: &CLUSTER, shard: SHARD, ticket_key: Some(&TICKET_KEY), now_ms }
}

fn signing(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(n: u8) -> DeviceKey {
    DeviceKey(signing(n).verifying_key().to_bytes())
}

fn letters(code: &Code) -> Vec<u8> {
    code.letters().to_vec()
}

/// Phone = key 1; the CODE ticket of companion 2 is open for its account.
struct Stage {
    shard: Shard,
    phone: Session,
    ticket: TicketId,
}

impl Stage {
    fn new() -> Self {
        let mut shard = Shard::default();
        shard.ask(Proven::Key(public(1)), support::register(&account(1), public(1))).unwrap();
        let phone = shard.account(&account(1)).sessions[0].clone();
        let ticket = TicketId::compose(support::ABROAD, Slot::of(public(2).as_bytes()), &public(2), &request(1));
        let method = Method::Code { account: account(1), wrong_tries: 0 };
        let open = Command::Open { ticket, device_key: public(2), method, requester: Requester::default() };
        shard.run(envelope(request(1), Proven::Key(public(2)), open)).unwrap();
        Self { shard, phone, ticket }
    }

    fn code(&self) -> Code {
        TICKET_KEY.code(&self.ticket)
    }

    /// Of another ticket, so not this one's.
    fn wrong(&self) -> Code {
        TICKET_KEY.code(&TicketId([9; 16]))
    }

    fn signed(&self, by: u8, number: u64, of: &AccountId, command: Command, typed: Option<Vec<u8>>) -> Submission {
        let (method, hash) = arguments::of_command(&command, typed.as_deref()).unwrap();
        let (account, session) = (Some(of.clone()), Some(self.phone.id));
        let (request, nonce) = (request(number), nonce(&TICKET_KEY, SHARD, 0).to_vec());
        let signature = Signature([0; 64]);
        let mut proof = DeviceProof { account, session, request, auth_epoch: 1, nonce, signature };
        proof.signature = Signature(signing(by).sign(&proof_bytes(&CLUSTER, method, &proof, &hash)).to_bytes());
        let envelope = envelope(request, Proven::Key(key(0xAB)), command);
        Submission { envelope, proof: Some(proof), possession: None, reference: typed, propose_within_ms: 5_000 }
    }

    /// A try, with the caller's own word on how it went.
    fn typed(&self, by: u8, number: u64, code: &Code, claimed: bool) -> Submission {
        let scan = Scan {
            account: account(1),
            home: REGION,
            approver: self.phone.id,
            approver_key: self.phone.device_key,
            auth_epoch: 1,
            scanned_at_ms: 0,
        };
        let command = Command::ScanCode { ticket: self.ticket, scan, tried: Digest([7; 32]), right: claimed };
        self.signed(by, number, &account(1), command, Some(letters(code)))
    }

    fn admit(&self, submission: &Submission) -> Result<Envelope, Box<Committed>> {
        admit(&self.shard.memory, &gate(self.shard.now()), submission).unwrap().map_err(Box::new)
    }

    fn refusal(&self, submission: &Submission) -> Rejection {
        self.admit(submission).unwrap_err().reply.unwrap_err()
    }
}

fn verdict(envelope: &Envelope) -> bool {
    match envelope.command {
        Command::ScanCode { right, tried, .. } => {
            assert_ne!(tried, Digest([7; 32]), "the caller's word");
            right
        }
        _ => panic!("{envelope:?}"),
    }
}

#[test]
fn the_leader_finds_out_whether_a_code_is_right_whatever_the_caller_claims() {
    let stage = Stage::new();
    for claimed in [true, false] {
        assert!(verdict(&stage.admit(&stage.typed(1, 5, &stage.code(), claimed)).unwrap()));
        assert!(!verdict(&stage.admit(&stage.typed(1, 5, &stage.wrong(), claimed)).unwrap()));
    }
}

#[test]
fn the_log_tells_two_codes_apart_and_names_neither() {
    let stage = Stage::new();
    let admitted = |code: &Code| format!("{:?}", stage.admit(&stage.typed(1, 5, code, false)).unwrap());
    let (right, wrong) = (admitted(&stage.code()), admitted(&stage.wrong()));
    assert_ne!(right, wrong);
    for (text, code) in [(&right, stage.code()), (&wrong, stage.wrong())] {
        let hex = kindred_core::id::hex(code.letters());
        let plain = String::from_utf8(letters(&code)).unwrap();
        let hashed = sha256(&[code.letters()]).to_string();
        for secret in [hex, plain, hashed] {
            assert!(!text.contains(&secret), "{secret} in {text}");
        }
    }
}

#[test]
fn a_try_without_a_proof_is_refused_before_it_is_counted() {
    let stage = Stage::new();
    assert_eq!(stage.refusal(&stage.typed(3, 5, &stage.wrong(), false)), Rejection::ProofInvalid);
    assert_eq!(stage.refusal(&stage.typed(3, 5, &stage.code(), true)), Rejection::ProofInvalid);
    // A proof over another code than the one that comes with it.
    let swapped = Submission { reference: Some(letters(&stage.wrong())), ..stage.typed(1, 5, &stage.code(), false) };
    assert_eq!(stage.refusal(&swapped), Rejection::ProofInvalid);
    let command = stage.typed(1, 5, &stage.code(), false).envelope.command;
    let elsewhere = stage.signed(1, 5, &account(2), command, Some(letters(&stage.code())));
    assert_eq!(stage.refusal(&elsewhere), Rejection::ProofInvalid);
    for typed in [None, Some(b"BCDFGHJ".to_vec()), Some(b"bcdfghjk".to_vec())] {
        let broken = Submission { reference: typed, ..stage.typed(1, 5, &stage.code(), false) };
        assert_eq!(stage.refusal(&broken), Rejection::InvalidRequest("code"));
    }
}

#[test]
fn a_try_with_an_old_nonce_is_refused_before_it_is_counted() {
    let stage = Stage::new();
    for code in [stage.code(), stage.wrong()] {
        let typed = stage.typed(1, 5, &code, true);
        assert!(admit(&stage.shard.memory, &gate(NONCE_TTL_MS), &typed).unwrap().is_ok());
        let late = admit(&stage.shard.memory, &gate(NONCE_TTL_MS + 1), &typed).unwrap().unwrap_err();
        assert!(matches!(&late.reply, Err(Rejection::NonceStale { nonce }) if nonce.len() == NONCE_LEN), "{late:?}");
        assert_eq!(late.log_index, 0);
    }
}

#[test]
fn a_repeated_try_gets_its_answer_and_another_code_under_its_id_does_not() {
    let mut stage = Stage::new();
    let wrong = stage.typed(1, 5, &stage.wrong(), false);
    let envelope = stage.admit(&wrong).unwrap();
    assert_eq!(stage.shard.run(envelope), Err(Rejection::CodeMismatch { left: 4 }));
    assert_eq!(stage.refusal(&wrong), Rejection::CodeMismatch { left: 4 });
    assert_eq!(stage.refusal(&stage.typed(1, 5, &stage.code(), false)), Rejection::RequestIdReused);
}

#[test]
fn a_replica_without_the_regions_key_counts_nothing() {
    let stage = Stage::new();
    let typed = stage.typed(1, 5, &stage.code(), true);
    let refused = admit(&stage.shard.memory, &Gate { ticket_key: None, ..gate(0) }, &typed).unwrap().unwrap_err();
    assert_eq!((refused.reply, refused.log_index), (Err(Rejection::TicketNotFound), 0));
}

#[test]
fn the_ref_of_a_code_ticket_is_none_even_if_somebody_makes_it() {
    let stage = Stage::new();
    let Command::ScanCode { ticket, scan, .. } = stage.typed(1, 5, &stage.code(), true).envelope.command else {
        panic!()
    };
    let reference = TICKET_KEY.reference(&ticket, 0);
    let by_ref = stage.signed(1, 6, &account(1), Command::Scan { ticket, scan }, Some(reference));
    assert_eq!(stage.refusal(&by_ref), Rejection::TicketNotFound);
}

#[test]
fn the_proof_of_an_approval_covers_its_number() {
    let mut stage = Stage::new();
    let scan = stage.admit(&stage.typed(1, 5, &stage.code(), true)).unwrap();
    stage.shard.run(scan).unwrap();
    let mut approval = Approval {
        kind: ApprovalKind::Link,
        account: account(1),
        auth_epoch: 1,
        ticket: stage.ticket,
        device_key_hash: sha256(&[public(2).as_bytes()]),
        approver: stage.phone.id,
        envelope_hash: sha256(&[ENVELOPE]),
        lifetime_ms: 180_000,
        signature: Signature([0; 64]),
    };
    approval.signature = Signature(signing(1).sign(&approval_bytes(&CLUSTER, &approval)).to_bytes());
    let number = MatchNumber::of(&public(2), &stage.ticket);
    let approve = |number| {
        let (ticket, approval) = (stage.ticket, approval.clone());
        Command::Approve { ticket, approval, envelope: ENVELOPE.to_vec(), number }
    };
    let honest = stage.signed(1, 8, &account(1), approve(Some(number)), None);
    assert!(stage.admit(&honest).is_ok());
    for other in [None, MatchNumber::new((number.number() + 1) % 10_000)] {
        let mut changed = honest.clone();
        changed.envelope.command = approve(other);
        assert_eq!(stage.refusal(&changed), Rejection::ProofInvalid);
    }
}
