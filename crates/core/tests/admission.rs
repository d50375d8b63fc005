//! The leader's check before it proposes, with real keys: the right signature passes, and with anything changed it does not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ed25519_dalek::{Signer as _, SigningKey};
use kindred_core::admit::{Gate, admit};
use kindred_core::arguments;
use kindred_core::canonical::{DeviceProof, TicketKey, approval_bytes, proof_bytes, sha256};
use kindred_core::command::{Command, Committed, Decision, Envelope, Outcome, Proven, Submission};
use kindred_core::id::{
    AccountId, ClusterId, DeviceKey, Digest, RequestId, SessionId, ShardId, Signature, Slot, TicketId,
};
use kindred_core::limits;
use kindred_core::model::{
    Approval, ApprovalKind, Device, Method, Rejection, Requester, Scan, Session, TicketOutcome, TicketState,
};
use kindred_core::nonce::{NONCE_LEN, nonce};
use kindred_core::query::window;
use kindred_core::rules::{self, Act};
use kindred_core::state::Key;
use support::{ENVELOPE, REGION, Shard, account, claim, envelope, nobody, request};

const CLUSTER: ClusterId = ClusterId([0xC1; 16]);
const TICKET_KEY: TicketKey = TicketKey([0x44; 32]);
const SHARD: ShardId = ShardId(100);
const OPENED_BY: u64 = 1;

fn gate(now_ms: u64) -> Gate<'static> {
    Gate { cluster: &CLUSTER, shard: SHARD, ticket_key: Some(&TICKET_KEY), now_ms }
}

fn signing(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(n: u8) -> DeviceKey {
    DeviceKey(signing(n).verifying_key().to_bytes())
}

/// Phone = key 1, companion = key 2; the ticket is open.
struct Stage {
    shard: Shard,
    id: AccountId,
    phone: Session,
    ticket: TicketId,
}

fn device() -> Device {
    Device { platform: "web".into(), app_version: "1.2".into(), display_name: b"desk".to_vec() }
}

fn requester() -> Requester {
    Requester { device: device(), location: "Lyon".into() }
}

fn register() -> Command {
    Command::Register { account: account(1), claim: claim(1), home: REGION, device_key: public(1), device: device() }
}

fn open_command() -> Command {
    let ticket = TicketId::compose(support::ABROAD, Slot::of(public(2).as_bytes()), &public(2), &request(OPENED_BY));
    Command::Open { ticket, device_key: public(2), method: Method::Qr, requester: requester() }
}

impl Stage {
    fn new() -> Self {
        let mut shard = Shard::default();
        shard.ask(Proven::Key(public(1)), register()).unwrap();
        let phone = shard.account(&account(1)).sessions[0].clone();
        shard.run(envelope(request(OPENED_BY), Proven::Key(public(2)), open_command())).unwrap();
        let Command::Open { ticket, .. } = open_command() else { panic!() };
        Self { shard, id: account(1), phone, ticket }
    }

    fn scanned() -> Self {
        let mut stage = Self::new();
        let submission = stage.scan();
        stage.through(&submission);
        assert!(matches!(stage.shard.ticket(&stage.ticket).state, TicketState::Scanned(_)));
        stage
    }

    fn admit(&self, submission: &Submission) -> Result<Envelope, Box<Committed>> {
        admit(&self.shard.memory, &gate(self.shard.now()), submission).unwrap().map_err(Box::new)
    }

    /// Admits and applies.
    fn through(&mut self, submission: &Submission) {
        let envelope = self.admit(submission).unwrap();
        self.shard.run(envelope).unwrap();
    }

    fn refusal(&self, submission: &Submission) -> Rejection {
        let committed = self.admit(submission).unwrap_err();
        assert_eq!(committed.log_index, 0, "refused here, not in the log");
        committed.reply.unwrap_err()
    }

    fn by_phone(&self, number: u64, command: Command) -> Submission {
        signed(1, Some((&self.id, self.phone.id)), request(number), command, None)
    }

    fn by_companion(&self, number: u64, command: Command) -> Submission {
        signed(2, None, request(number), command, None)
    }

    fn scan(&self) -> Submission {
        let window = window(&self.shard.ticket(&self.ticket), self.shard.now()).0;
        self.scan_with(TICKET_KEY.reference(&self.ticket, window))
    }

    fn scan_with(&self, reference: Vec<u8>) -> Submission {
        let scan = Scan {
            account: self.id.clone(),
            home: REGION,
            approver: self.phone.id,
            approver_key: self.phone.device_key,
            auth_epoch: 1,
            scanned_at_ms: 0,
        };
        let command = Command::Scan { ticket: self.ticket, scan };
        signed(1, Some((&self.id, self.phone.id)), request(10), command, Some(reference))
    }

    fn approval(&self, kind: ApprovalKind) -> Approval {
        let approval = Approval {
            kind,
            account: self.id.clone(),
            auth_epoch: 1,
            ticket: self.ticket,
            device_key_hash: sha256(&[public(2).as_bytes()]),
            approver: self.phone.id,
            envelope_hash: sha256(&[ENVELOPE]),
            lifetime_ms: 160_000,
            signature: Signature([0; 64]),
        };
        sign(approval, &CLUSTER, 1)
    }

    fn approve(&self, approval: Approval) -> Submission {
        self.by_phone(20, support::approve(self.ticket, approval))
    }

    fn unlink(&self) -> Submission {
        self.by_phone(30, Command::Unlink { account: self.id.clone(), session: nobody(5) })
    }
}

fn sign(mut approval: Approval, cluster: &ClusterId, by: u8) -> Approval {
    approval.signature = Signature(signing(by).sign(&approval_bytes(cluster, &approval)).to_bytes());
    approval
}

fn signed(
    by: u8,
    session: Option<(&AccountId, SessionId)>,
    request: RequestId,
    command: Command,
    reference: Option<Vec<u8>>,
) -> Submission {
    let (method, hash) = arguments::of_command(&command, reference.as_deref()).unwrap();
    let (account, session) = session.map_or((None, None), |(account, id)| (Some(account.clone()), Some(id)));
    let auth_epoch = u64::from(session.is_some());
    let nonce = nonce(&TICKET_KEY, SHARD, 0).to_vec();
    let proof = DeviceProof { account, session, request, auth_epoch, nonce, signature: Signature([0; 64]) };
    let proof = resigned(by, &CLUSTER, method, proof, &hash);
    // What the caller claims to have proven counts for nothing; so claim nonsense.
    let envelope = envelope(request, Proven::Key(DeviceKey([0xAB; 32])), command);
    Submission { envelope, proof: Some(proof), possession: None, reference, propose_within_ms: 5_000 }
}

/// With the proof by the key that the command brings in.
fn possessed(mut submission: Submission, by: u8) -> Submission {
    let (method, hash) = arguments::of_command(&submission.envelope.command, None).unwrap();
    let proof = DeviceProof { session: None, auth_epoch: 0, ..submission.proof.clone().unwrap() };
    submission.possession = Some(resigned(by, &CLUSTER, method, proof, &hash));
    submission
}

fn resigned(by: u8, cluster: &ClusterId, method: &str, proof: DeviceProof, hash: &Digest) -> DeviceProof {
    let signature = Signature(signing(by).sign(&proof_bytes(cluster, method, &proof, hash)).to_bytes());
    DeviceProof { signature, ..proof }
}

/// Every command that a device may ask for, properly signed, on a stage where it would be admitted.
fn honest() -> Vec<(&'static str, Stage, Submission)> {
    let mut all = Vec::new();
    let stage = Stage::new();
    let mut register = signed(1, None, request(40), register(), None);
    let proof = DeviceProof { account: Some(account(1)), ..register.proof.clone().unwrap() };
    let hash = arguments::register(&account(1), &public(1), &device());
    register.proof = Some(resigned(1, &CLUSTER, arguments::METHOD_REGISTER, proof, &hash));
    let fresh = Stage { shard: Shard::default(), ..stage };
    all.push(("register", fresh, register));
    let stage = Stage { shard: Shard::default(), ..Stage::new() };
    let open = stage.by_companion(OPENED_BY, open_command());
    all.push(("open", stage, open));
    let stage = Stage::new();
    let scan = stage.scan();
    all.push(("scan", stage, scan));
    let stage = Stage::scanned();
    let approve = stage.approve(stage.approval(ApprovalKind::Link));
    all.push(("approve", stage, approve));
    let stage = Stage::scanned();
    let replace = stage.approve(stage.approval(ApprovalKind::LinkReplacing(nobody(5))));
    all.push(("approve replacing", stage, replace));
    let stage = Stage::scanned();
    let deny = stage.by_phone(21, Command::Deny { ticket: stage.ticket });
    all.push(("deny", stage, deny));
    let stage = Stage::scanned();
    let cancel = stage.by_companion(22, Command::Cancel { ticket: stage.ticket });
    all.push(("cancel", stage, cancel));
    let stage = Stage::new();
    let unlink = stage.unlink();
    all.push(("unlink", stage, unlink));
    let stage = Stage::new();
    let others = Command::UnlinkOthers { account: stage.id.clone(), keep: stage.phone.id, set_version: 1 };
    let others = stage.by_phone(31, others);
    all.push(("unlink others", stage, others));
    let stage = Stage::new();
    let limit = stage.by_phone(32, Command::SetLimit { account: stage.id.clone(), limit: 5 });
    all.push(("set limit", stage, limit));
    all.extend(honest_lives());
    all
}

fn honest_lives() -> Vec<(&'static str, Stage, Submission)> {
    let (stage, id) = (Stage::new(), account(1));
    let pin = stage.by_phone(33, Command::Pin { account: id.clone(), session: nobody(5), pinned: true });
    let delete = Stage::new().by_phone(34, Command::Delete { account: id.clone(), set_version: 1 });
    let session = stage.phone.id;
    let rotate = Command::RotateDeviceKey { account: id.clone(), session, device_key: public(4) };
    let rotate = possessed(stage.by_phone(35, rotate), 4);
    let (device, ends) = (device(), vec![session]);
    let replace = Command::ReplacePrimary { account: id, device_key: public(4), device, keep_companions: true, ends };
    let replace = possessed(stage.by_phone(36, replace), 4);
    vec![
        ("pin", stage, pin),
        ("delete", Stage::new(), delete),
        ("rotate", Stage::new(), rotate),
        ("replace primary", Stage::new(), replace),
    ]
}

#[test]
fn what_is_properly_signed_is_admitted_as_proven_by_its_signer() {
    for (name, stage, submission) in honest() {
        let admitted = stage.admit(&submission).unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
        let expected = match name {
            "register" => Proven::Key(public(1)),
            "open" | "cancel" => Proven::Key(public(2)),
            _ => Proven::Session { session: stage.phone.id, key: public(1), auth_epoch: 1 },
        };
        assert_eq!(admitted.proven, expected, "{name}");
        assert_eq!(admitted.command, submission.envelope.command, "{name}");
    }
}

#[test]
fn a_proof_with_any_field_changed_is_invalid() {
    type Tamper = fn(&mut Submission);
    let tampers: [(&str, Tamper); 9] = [
        ("account", |s| proof(s).account = Some(account(7))),
        ("session", |s| proof(s).session = Some(nobody(7))),
        ("request", |s| proof(s).request = request(99)),
        ("request, everywhere", |s| {
            proof(s).request = request(99);
            s.envelope.request = request(99);
        }),
        ("epoch", |s| proof(s).auth_epoch += 1),
        ("nonce", |s| proof(s).nonce = vec![1]),
        ("signature", |s| proof(s).signature.0[3] ^= 1),
        ("no signature", |s| proof(s).signature = Signature([0; 64])),
        ("no proof", |s| s.proof = None),
    ];
    for (field, tamper) in tampers {
        for (name, stage, mut submission) in honest() {
            tamper(&mut submission);
            assert_eq!(stage.refusal(&submission), Rejection::ProofInvalid, "{name}, {field}");
        }
    }
}

fn proof(submission: &mut Submission) -> &mut DeviceProof {
    submission.proof.as_mut().unwrap()
}

#[test]
fn a_proof_by_another_key_for_another_cluster_or_method_is_invalid() {
    for (name, stage, submission) in honest() {
        let (method, hash) =
            arguments::of_command(&submission.envelope.command, submission.reference.as_deref()).unwrap();
        let proof = submission.proof.clone().unwrap();
        let own = if matches!(name, "open" | "cancel") { 2 } else { 1 };
        for (what, proof) in [
            ("key", resigned(3, &CLUSTER, method, proof.clone(), &hash)),
            ("cluster", resigned(own, &ClusterId([1; 16]), method, proof.clone(), &hash)),
            ("method", resigned(own, &CLUSTER, arguments::METHOD_WATCH, proof.clone(), &hash)),
            ("arguments", resigned(own, &CLUSTER, method, proof.clone(), &Digest([0; 32]))),
        ] {
            let submission = Submission { proof: Some(proof), ..submission.clone() };
            assert_eq!(stage.refusal(&submission), Rejection::ProofInvalid, "{name}, {what}");
        }
    }
}

#[test]
fn a_command_with_any_argument_changed_no_longer_fits_its_proof() {
    for (name, stage, submission) in honest() {
        for command in changed(&submission.envelope.command) {
            let mut submission = submission.clone();
            submission.envelope.command = command.clone();
            assert_eq!(stage.refusal(&submission), Rejection::ProofInvalid, "{name}: {command:?}");
        }
    }
}

/// The command with one argument that the device has signed changed, each in its turn.
fn changed(command: &Command) -> Vec<Command> {
    let other_device = |device: &Device| {
        let (platform, app_version, display_name) = ("x".to_owned(), "x".to_owned(), b"x".to_vec());
        [
            Device { platform, ..device.clone() },
            Device { app_version, ..device.clone() },
            Device { display_name, ..device.clone() },
        ]
    };
    match command.clone() {
        Command::Register { account, claim, home, device_key, device } => other_device(&device)
            .map(|device| Command::Register { account: account.clone(), claim, home, device_key, device })
            .into(),
        Command::Open { ticket, device_key, method, requester } => {
            let devices = other_device(&requester.device).map(|device| Requester { device, ..requester.clone() });
            let moved = Requester { location: "Nice".into(), ..requester };
            let open = |requester| Command::Open { ticket, device_key, method: method.clone(), requester };
            devices.into_iter().chain([moved]).map(open).collect()
        }
        Command::Unlink { account, .. } => vec![Command::Unlink { account, session: nobody(6) }],
        Command::UnlinkOthers { account, set_version, .. } => {
            vec![Command::UnlinkOthers { account, keep: nobody(6), set_version }]
        }
        Command::SetLimit { account, .. } => vec![Command::SetLimit { account, limit: 6 }],
        Command::Pin { account, session, pinned } => vec![
            Command::Pin { account: account.clone(), session, pinned: !pinned },
            Command::Pin { account, session: nobody(6), pinned },
        ],
        Command::RotateDeviceKey { account, device_key, session } => vec![
            Command::RotateDeviceKey { account: account.clone(), session: nobody(6), device_key },
            Command::RotateDeviceKey { account, session, device_key: public(5) },
        ],
        Command::ReplacePrimary { account, device_key, device, keep_companions, ends } => {
            let replace = |device_key, device, keep_companions| {
                let (account, ends) = (account.clone(), ends.clone());
                Command::ReplacePrimary { account, device_key, device, keep_companions, ends }
            };
            let named = other_device(&device).map(|other| replace(device_key, other, keep_companions));
            let rest = [replace(device_key, device.clone(), false), replace(public(5), device, keep_companions)];
            named.into_iter().chain(rest).collect()
        }
        Command::Approve { ticket, approval, envelope, number } => spoilt(&approval)
            .into_iter()
            .map(|(_, approval)| Command::Approve { ticket, approval, envelope: envelope.clone(), number })
            .collect(),
        _ => Vec::new(),
    }
}

/// The approval with one field changed, each in its turn.
fn spoilt(approval: &Approval) -> Vec<(&'static str, Approval)> {
    let a = || approval.clone();
    let kind = match approval.kind {
        ApprovalKind::Link => ApprovalKind::LinkReplacing(nobody(6)),
        ApprovalKind::LinkReplacing(_) => ApprovalKind::Link,
    };
    let mut signature = approval.signature;
    signature.0[5] ^= 1;
    vec![
        ("operation", Approval { kind, ..a() }),
        ("victim", Approval { kind: ApprovalKind::LinkReplacing(nobody(9)), ..a() }),
        ("account", Approval { account: account(7), ..a() }),
        ("epoch", Approval { auth_epoch: 2, ..a() }),
        ("ticket", Approval { ticket: TicketId([7; 16]), ..a() }),
        ("key", Approval { device_key_hash: Digest([7; 32]), ..a() }),
        ("approver", Approval { approver: nobody(7), ..a() }),
        ("envelope", Approval { envelope_hash: Digest([7; 32]), ..a() }),
        ("lifetime", Approval { lifetime_ms: 1, ..a() }),
        ("signature", Approval { signature, ..a() }),
    ]
}

#[test]
fn an_approval_with_any_field_changed_is_invalid_even_in_an_honest_proof() {
    for kind in [ApprovalKind::Link, ApprovalKind::LinkReplacing(nobody(5))] {
        let stage = Stage::scanned();
        for (field, approval) in spoilt(&stage.approval(kind)) {
            assert_eq!(stage.refusal(&stage.approve(approval)), Rejection::ApprovalInvalid, "{field}");
        }
        let other_cluster = sign(stage.approval(kind), &ClusterId([1; 16]), 1);
        assert_eq!(stage.refusal(&stage.approve(other_cluster)), Rejection::ApprovalInvalid);
        let other_key = sign(stage.approval(kind), &CLUSTER, 2);
        assert_eq!(stage.refusal(&stage.approve(other_key)), Rejection::ApprovalInvalid);
    }
}

#[test]
fn a_ref_is_accepted_in_its_window_and_the_one_after_and_in_no_other() {
    let stage = Stage::new();
    let shown = |window| stage.scan_with(TICKET_KEY.reference(&stage.ticket, window));
    for (age_ms, accepted) in [
        (0, [true, false, false, false]),
        (59_999, [true, false, false, false]),
        (60_000, [true, true, false, false]),
        (79_999, [true, true, false, false]),
        (80_000, [false, true, true, false]),
        (100_000, [false, false, true, true]),
    ] {
        let mut stage = Stage::new();
        stage.shard.sleep(age_ms);
        for (window, accepted) in (0u16..).zip(accepted) {
            let said = stage.admit(&shown(window)).map_err(|refused| refused.reply.unwrap_err());
            assert_eq!(said.is_ok(), accepted, "window {window} after {age_ms} ms");
            assert!(accepted || said == Err(Rejection::TicketNotFound));
        }
    }
}

#[test]
fn a_ref_that_was_never_on_a_screen_opens_nothing() {
    let stage = Stage::new();
    let real = TICKET_KEY.reference(&stage.ticket, 0);
    let mut forged = real.clone();
    forged[33] ^= 1;
    let other_region = TicketKey([1; 32]).reference(&stage.ticket, 0);
    let other_ticket = TICKET_KEY.reference(&TicketId([9; 16]), 0);
    for reference in [forged, other_region, other_ticket, real[..33].to_vec(), Vec::new()] {
        assert_eq!(stage.refusal(&stage.scan_with(reference)), Rejection::TicketNotFound);
    }
    let without = Submission { reference: None, ..stage.scan() };
    assert_eq!(stage.refusal(&without), Rejection::InvalidRequest("ref"));
    // A replica without the region's key cannot tell; it must not let it through.
    let keyless = admit(&stage.shard.memory, &Gate { ticket_key: None, ..gate(0) }, &stage.scan()).unwrap();
    assert!(keyless.is_err());
}

#[test]
fn a_ref_of_a_ticket_whose_time_is_over_is_told_so() {
    let mut stage = Stage::new();
    let early = stage.scan();
    stage.shard.sleep(limits::QR_TICKET_TTL_MS);
    assert_eq!(stage.refusal(&early), Rejection::TicketExpired);
}

#[test]
fn a_kept_answer_comes_before_proofs_and_epochs() {
    let mut stage = Stage::new();
    let limit = stage.by_phone(32, Command::SetLimit { account: stage.id.clone(), limit: 5 });
    stage.through(&limit);
    let decided_at = stage.shard.index;
    let others = Command::UnlinkOthers { account: stage.id.clone(), keep: stage.phone.id, set_version: 1 };
    let others = stage.by_phone(33, others);
    stage.through(&others);

    let again = stage.admit(&limit).unwrap_err();
    assert_eq!((again.reply, again.log_index), (Ok(Outcome::Done), decided_at), "its epoch is over");
    let mut garbled = limit.clone();
    proof(&mut garbled).signature = Signature([0; 64]);
    assert_eq!(stage.admit(&garbled).unwrap_err().reply, Ok(Outcome::Done), "a nonce would be over as well");
    let other = stage.by_phone(32, Command::SetLimit { account: stage.id.clone(), limit: 6 });
    let reused = stage.admit(&other).unwrap_err();
    assert_eq!((reused.reply, reused.log_index), (Err(Rejection::RequestIdReused), decided_at));

    // A fresh request under the old epoch is admitted; it is the log that refuses it.
    let fresh = stage.by_phone(34, Command::SetLimit { account: stage.id.clone(), limit: 7 });
    let envelope = stage.admit(&fresh).unwrap();
    assert_eq!(stage.shard.run(envelope), Err(Rejection::EpochChanged { auth_epoch: 2 }));
    assert!(matches!(stage.admit(&fresh).unwrap_err().reply, Err(Rejection::EpochChanged { .. })));
}

#[test]
fn an_ended_session_learns_of_its_end_by_its_own_key_only() {
    let mut stage = Stage::new();
    let (id, phone) = (stage.id.clone(), stage.phone.clone());
    stage.shard.ask(Proven::Operator("ops".into()), Command::Unlink { account: id, session: phone.id }).unwrap();
    let envelope = stage.admit(&stage.unlink()).unwrap();
    assert!(matches!(stage.shard.run(envelope), Err(Rejection::SessionEnded(_))));
    let command = Command::Unlink { account: stage.id.clone(), session: nobody(5) };
    let forged = signed(3, Some((&stage.id, phone.id)), request(50), command, None);
    assert_eq!(stage.refusal(&forged), Rejection::ProofInvalid);
}

#[test]
fn what_only_the_cluster_may_do_no_device_and_no_operator_can_ask_for() {
    let stage = Stage::scanned();
    let (ticket, account) = (stage.ticket, stage.id.clone());
    let commands = [
        Command::Claim { account: account.clone(), claim: claim(1), home: REGION },
        Command::ConfirmClaim { account: account.clone(), claim: claim(1), home_epoch: 1 },
        Command::Expire { tickets: vec![ticket] },
        Command::Settle { ticket, outcome: TicketOutcome::Cancelled },
        Command::Link {
            ticket,
            device_key: public(2),
            device: device(),
            approval: stage.approval(ApprovalKind::Link),
            approver_key: None,
        },
        Command::MarkDeleted { account: account.clone(), claim: claim(1) },
        Command::DecideTicket { account, ticket, decision: Decision::Cancelled },
        Command::Tick,
        Command::AckEffects { effects: vec![0] },
    ];
    for command in commands {
        let submission = |proven| Submission {
            envelope: envelope(request(60), proven, command.clone()),
            proof: stage.unlink().proof,
            possession: None,
            reference: None,
            propose_within_ms: 5_000,
        };
        let session = Proven::Session { session: stage.phone.id, key: public(1), auth_epoch: 1 };
        for proven in [Proven::Key(public(1)), session, Proven::Operator("ops".into())] {
            assert_eq!(stage.refusal(&submission(proven)), Rejection::CallerNotAllowed, "{command:?}");
        }
        assert_eq!(stage.admit(&submission(Proven::Cluster)).unwrap().proven, Proven::Cluster);
    }
}

#[test]
fn the_clusters_word_does_not_stand_in_for_a_devices_proof() {
    for (name, stage, mut submission) in honest() {
        submission.proof = None;
        submission.envelope.proven = Proven::Cluster;
        assert_eq!(stage.refusal(&submission), Rejection::ProofInvalid, "{name}");
    }
}

#[test]
fn steps_that_do_not_fit_the_ticket_are_refused_before_they_are_proposed() {
    let stage = Stage::new();
    assert_eq!(stage.refusal(&stage.approve(stage.approval(ApprovalKind::Link))), Rejection::TicketNotReady);
    let elsewhere = TicketId([9; 16]);
    let approval = sign(Approval { ticket: elsewhere, ..stage.approval(ApprovalKind::Link) }, &CLUSTER, 1);
    for submission in [
        stage.by_phone(20, support::approve(elsewhere, approval)),
        stage.by_phone(21, Command::Deny { ticket: elsewhere }),
        stage.by_companion(22, Command::Cancel { ticket: elsewhere }),
    ] {
        assert_eq!(stage.refusal(&submission), Rejection::TicketNotFound);
    }
    for (end, expected) in [
        (TicketOutcome::Cancelled, Rejection::TicketCancelled),
        (TicketOutcome::Expired, Rejection::TicketExpired),
        (TicketOutcome::Refused(Rejection::CallerNotAllowed), Rejection::CallerNotAllowed),
    ] {
        let mut stage = Stage::scanned();
        let approve = stage.approve(stage.approval(ApprovalKind::Link));
        stage.through(&approve);
        stage.shard.by_cluster(Command::Settle { ticket: stage.ticket, outcome: end }).unwrap();
        let late = stage.by_phone(25, Command::Deny { ticket: stage.ticket });
        assert_eq!(stage.refusal(&late), expected);
    }
    let mut stage = Stage::scanned();
    let deny = stage.by_phone(21, Command::Deny { ticket: stage.ticket });
    stage.through(&deny);
    assert_eq!(stage.refusal(&stage.approve(stage.approval(ApprovalKind::Link))), Rejection::TicketDenied);
}

#[test]
fn nobody_acts_for_an_account_that_is_not_here() {
    let stage = Stage::new();
    let elsewhere = account(9);
    let command = Command::Unlink { account: elsewhere.clone(), session: nobody(5) };
    let submission = signed(1, Some((&elsewhere, stage.phone.id)), request(30), command, None);
    assert_eq!(stage.refusal(&submission), Rejection::AccountNotFound);
}

/// The same request, signed anew with this nonce. `by` is the key that signed it.
fn with_nonce(submission: &Submission, by: u8, nonce: &[u8]) -> Submission {
    let mut again = submission.clone();
    let (method, hash) = arguments::of_command(&again.envelope.command, again.reference.as_deref()).unwrap();
    let renewed = |proof: &mut DeviceProof, by| {
        let bare = DeviceProof { nonce: nonce.to_vec(), ..proof.clone() };
        *proof = resigned(by, &CLUSTER, method, bare, &hash);
    };
    again.proof.as_mut().into_iter().for_each(|proof| renewed(proof, by));
    again.possession.as_mut().into_iter().for_each(|proof| renewed(proof, 4));
    again
}

fn signer(name: &str) -> u8 {
    if matches!(name, "open" | "cancel") { 2 } else { 1 }
}

#[test]
fn without_a_fresh_nonce_a_proof_brings_one_and_the_same_request_id_goes_with_it() {
    for (name, mut stage, submission) in honest() {
        let now_ms = stage.shard.now();
        let ahead = now_ms + limits::NONCE_AHEAD_MS_MAX + 1;
        for bad in [
            Vec::new(),
            vec![7; 5],
            vec![0; NONCE_LEN],
            nonce(&TICKET_KEY, ShardId(101), now_ms).to_vec(),
            nonce(&TicketKey([1; 32]), SHARD, now_ms).to_vec(),
            nonce(&TICKET_KEY, SHARD, ahead).to_vec(),
        ] {
            let Rejection::NonceStale { nonce: fresh } = stage.refusal(&with_nonce(&submission, signer(name), &bad))
            else {
                panic!("{name}: {bad:?} was taken");
            };
            assert_eq!(fresh, nonce(&TICKET_KEY, SHARD, now_ms), "{name}");
        }
        // Nothing was proposed and nothing kept: the very same id goes through with the nonce that came.
        let again = with_nonce(&submission, signer(name), &nonce(&TICKET_KEY, SHARD, now_ms));
        let envelope = stage.admit(&again).unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
        assert_eq!(envelope.request, submission.envelope.request);
        let _ = stage.shard.run(envelope);
        let answered = stage.admit(&with_nonce(&submission, signer(name), b"")).unwrap_err();
        assert!(answered.log_index > 0, "{name}: an honest retry gets its answer, whatever its nonce");
        assert_eq!(answered.nonce, nonce(&TICKET_KEY, SHARD, now_ms), "and the next nonce with it");
    }
}

#[test]
fn a_recorded_request_never_runs_a_second_time() {
    for (name, mut stage, submission) in honest() {
        let envelope = stage.admit(&submission).unwrap();
        let first = stage.shard.run(envelope);
        let kept = |stage: &Stage| stage.shard.count(|key| matches!(key, Key::AccountReply(..) | Key::TicketReply(..)));
        // Step by step through the life of the kept answer, and beyond.
        let mut left_ms = limits::RESULT_TTL_MS + support::HOUR_MS;
        while left_ms > 0 {
            let said = stage.admit(&submission).unwrap_err();
            // Answered as then, or refused; the nonce is the last to stand in its way, not the only one.
            assert!(said.log_index > 0 || said.reply.is_err(), "{name}: {said:?} after {first:?}");
            stage.shard.sleep(60_000);
            stage.shard.by_cluster(Command::Tick).unwrap();
            left_ms = left_ms.saturating_sub(60_000);
        }
        assert_eq!(kept(&stage), 0, "{name}: the answer is gone");
        let late = stage.admit(&submission).unwrap_err();
        assert_eq!(late.log_index, 0, "{name}");
    }
}

#[test]
fn a_new_key_must_prove_itself_whoever_brings_it_in() {
    for (name, stage, submission) in honest_lives().into_iter().filter(|(_, _, s)| s.possession.is_some()) {
        let (method, hash) = arguments::of_command(&submission.envelope.command, None).unwrap();
        let good = submission.possession.clone().unwrap();
        let other = |proof: DeviceProof| Some(resigned(4, &CLUSTER, method, proof, &hash));
        for possession in [
            None,
            Some(resigned(1, &CLUSTER, method, good.clone(), &hash)),
            Some(resigned(4, &CLUSTER, method, good.clone(), &Digest([1; 32]))),
            Some(resigned(4, &ClusterId([1; 16]), method, good.clone(), &hash)),
            Some(resigned(4, &CLUSTER, arguments::METHOD_REGISTER, good.clone(), &hash)),
            other(DeviceProof { account: Some(account(7)), ..good.clone() }),
            other(DeviceProof { session: Some(stage.phone.id), ..good.clone() }),
            other(DeviceProof { request: request(99), ..good.clone() }),
            submission.proof.clone(),
        ] {
            let forged = Submission { possession, ..submission.clone() };
            assert_eq!(stage.refusal(&forged), Rejection::ProofInvalid, "{name}");
        }
        let old = other(DeviceProof { nonce: Vec::new(), ..good.clone() });
        let stale = Submission { possession: old, ..submission.clone() };
        assert!(matches!(stage.refusal(&stale), Rejection::NonceStale { .. }), "{name}");
        // An operator's certificate stands in for the old phone, never for the new one.
        let mut by_operator = Submission { proof: None, ..submission.clone() };
        by_operator.envelope.proven = Proven::Operator("ops".into());
        if name == "replace primary" {
            assert_eq!(stage.admit(&by_operator).unwrap().proven, Proven::Operator("ops".into()));
            by_operator.possession = None;
            assert_eq!(stage.refusal(&by_operator), Rejection::ProofInvalid);
        } else {
            assert_eq!(stage.refusal(&by_operator), Rejection::CallerNotAllowed);
        }
    }
}

#[test]
fn an_operator_gets_in_with_what_the_table_has_for_operators_and_nothing_else() {
    let lock = Command::Lock { account: account(1), locked: true };
    let revoke = Command::Revoke { account: account(1), session: nobody(5) };
    let mut all = honest();
    all.push(("lock", Stage::new(), signed(1, None, request(70), register(), None)));
    all.last_mut().unwrap().2.envelope.command = lock;
    all.push(("revoke", Stage::new(), signed(1, None, request(71), register(), None)));
    all.last_mut().unwrap().2.envelope.command = revoke;
    for (name, stage, submission) in all {
        let act = Act::of(&submission.envelope.command);
        let mut by_operator = Submission { proof: None, ..submission.clone() };
        by_operator.envelope.proven = Proven::Operator("ops".into());
        match rules::is_for_operators(act) {
            true => assert!(stage.admit(&by_operator).is_ok(), "{name}"),
            false => assert_eq!(stage.refusal(&by_operator), Rejection::CallerNotAllowed, "{name}"),
        }
        // And no device with what is for operators only.
        if matches!(name, "lock" | "revoke") {
            assert_eq!(stage.refusal(&submission), Rejection::CallerNotAllowed, "{name}");
        }
    }
}
