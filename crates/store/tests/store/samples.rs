//! One value of every arm, with all fields different from their defaults and from one another where that is possible.

use kindred_core::canonical::DeviceProof;
use kindred_core::command::*;
use kindred_core::id::*;
use kindred_core::model::*;
use kindred_core::state::{Key, Record, Shard, Timer};

/// splitmix64: a small generator, so that a failure repeats from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

pub fn account_id() -> AccountId {
    AccountId::new(b"anna").unwrap()
}

pub fn session(n: u8) -> Session {
    Session {
        id: SessionId([n; 16]),
        seq: n.into(),
        device_key: DeviceKey([n + 1; 32]),
        role: Role::Companion,
        device: Device { platform: "web".into(), app_version: "1.2".into(), display_name: vec![0xFF, n] },
        linked_at_ms: 1_000,
        linked_wall_ms: 1_700_000_000_000,
        linked_by: Some(SessionId([9; 16])),
        ticket: Some(TicketId([8; 16])),
        policy_version: 3,
        key_generation: 4,
        record_version: 5,
        quarantine_until_ms: 86_400_000,
        pinned: false,
    }
}

pub fn primary() -> Session {
    Session { role: Role::Primary, linked_by: None, ticket: None, quarantine_until_ms: 0, ..session(1) }
}

pub fn account() -> Account {
    Account {
        id: account_id(),
        home: RegionIndex(2),
        home_epoch: 3,
        auth_epoch: 4,
        set_version: 5,
        set_digest: Digest([6; 32]),
        next_session_seq: 7,
        companion_limit: 8,
        claim: ClaimId([9; 16]),
        registered_at_ms: 10,
        sessions: vec![primary(), session(2)],
        locked_at_ms: None,
        record_version: 0,
    }
}

pub fn tombstone(n: u8) -> Tombstone {
    Tombstone {
        session: session(n),
        reason: EndReason::SelfLogout,
        actor: Actor::Session(SessionId([n; 16])),
        command: RequestId([7; 16]),
        log_index: 70,
        set_version: u64::from(n) * 10,
        at_ms: 71,
        wall_ms: 72,
        region: RegionIndex(1),
        policy_version: 73,
    }
}

pub fn scan() -> Scan {
    Scan {
        account: account_id(),
        home: RegionIndex(1),
        approver: SessionId([2; 16]),
        approver_key: DeviceKey([3; 32]),
        auth_epoch: 4,
        scanned_at_ms: 5,
    }
}

pub fn approval(kind: ApprovalKind) -> Approval {
    Approval {
        kind,
        account: account_id(),
        auth_epoch: 1,
        ticket: TicketId([2; 16]),
        device_key_hash: Digest([3; 32]),
        approver: SessionId([4; 16]),
        envelope_hash: Digest([5; 32]),
        lifetime_ms: 6,
        signature: Signature([7; 64]),
    }
}

pub fn receipt() -> Receipt {
    Receipt {
        session: SessionId([1; 16]),
        seq: 2,
        version_before: 3,
        version_after: 4,
        digest_after: Digest([5; 32]),
        sessions_before: vec![SessionId([6; 16])],
        sessions_after: vec![SessionId([6; 16]), SessionId([1; 16])],
        log_index: 7,
    }
}

pub fn ticket(state: TicketState) -> Ticket {
    Ticket {
        id: TicketId([1; 16]),
        device_key: DeviceKey([2; 32]),
        method: Method::Qr,
        contested: false,
        opened_by: RequestId([3; 16]),
        requester: Requester { device: session(1).device, location: "Ghent".into() },
        opened_at_ms: 4,
        deadline_ms: 5,
        version: 6,
        state,
    }
}

pub fn directory_entry(state: DirectoryState) -> DirectoryEntry {
    DirectoryEntry { account: account_id(), claim: ClaimId([1; 16]), home: RegionIndex(2), state }
}

pub fn outcomes_of_tickets() -> Vec<TicketOutcome> {
    vec![
        TicketOutcome::Linked(receipt()),
        TicketOutcome::Refused(Rejection::TicketDenied),
        TicketOutcome::Cancelled,
        TicketOutcome::Expired,
    ]
}

pub fn ticket_states() -> Vec<TicketState> {
    vec![
        TicketState::Open,
        TicketState::Scanned(scan()),
        TicketState::Approved {
            scan: scan(),
            approval: approval(ApprovalKind::LinkReplacing(SessionId([8; 16]))),
            envelope: vec![1, 2, 3],
            approved_at_ms: 4,
            approved_by: RequestId([5; 16]),
        },
        TicketState::Linked { account: account_id(), receipt: receipt(), envelope: vec![1, 2, 3] },
        TicketState::Refused { account: account_id(), reason: Rejection::CompanionLimitReached { now: 4, max: 4 } },
        TicketState::Expired,
        TicketState::Denied,
        TicketState::Cancelled,
    ]
}

pub fn rejections() -> Vec<Rejection> {
    vec![
        Rejection::TicketNotFound,
        Rejection::TicketExpired,
        Rejection::TicketCancelled,
        Rejection::TicketDenied,
        Rejection::TicketAlreadyUsed,
        Rejection::TicketNotReady,
        Rejection::ApprovalInvalid,
        Rejection::EpochChanged { auth_epoch: 1 },
        Rejection::CompanionLimitReached { now: 2, max: 3 },
        Rejection::DeviceKeyAlreadyLinked { session: SessionId([4; 16]) },
        Rejection::QuarantinedActor { until_ms: 5 },
        Rejection::CallerNotAllowed,
        Rejection::ProofInvalid,
        Rejection::RequestIdReused,
        Rejection::AccountExists,
        Rejection::AccountNotFound,
        Rejection::SessionUnknown,
        Rejection::SessionEnded(Box::new(Tombstone {
            reason: EndReason::AdminRevoked,
            actor: Actor::Operator("root".into()),
            ..tombstone(2)
        })),
        Rejection::SetVersionConflict { current: 6 },
        Rejection::InvalidRequest("limit"),
    ]
}

/// Those that came later: they stand behind all others, so that no line of golden.txt moves.
pub fn later_rejections() -> Vec<Rejection> {
    vec![
        Rejection::NonceStale { nonce: vec![1; 24] },
        Rejection::AccountLocked,
        Rejection::SessionPinned { session: SessionId([2; 16]) },
    ]
}

/// See [`later_rejections`].
pub fn later_outcomes() -> Vec<Outcome> {
    vec![
        Outcome::EndedBefore(stub()),
        Outcome::Locked { locked: true, auth_epoch: 1 },
        Outcome::Session(Box::new(Session { pinned: true, ..session(1) })),
        Outcome::Replaced {
            session: SessionId([1; 16]),
            tombstones: vec![tombstone(2)],
            set_version: 3,
            auth_epoch: 4,
        },
        Outcome::Deleted { stubs: vec![stub()], set_version: 5 },
    ]
}

pub fn stub() -> Stub {
    Stub { session: SessionId([1; 16]), seq: 2, reason: EndReason::AccountDeleted, log_index: 3 }
}

pub fn deletion() -> Deletion {
    Deletion { set_version: 1, log_index: 2, at_ms: 3 }
}

pub fn outcomes() -> Vec<Outcome> {
    vec![
        Outcome::Done,
        Outcome::Claimed(directory_entry(DirectoryState::Claimed)),
        Outcome::Registered { session: SessionId([1; 16]), set_version: 1 },
        Outcome::Ticket(Box::new(ticket(TicketState::Open))),
        Outcome::Decided(TicketOutcome::Expired),
        Outcome::Ended(Box::new(tombstone(1))),
        Outcome::EndedOthers { tombstones: vec![tombstone(1), tombstone(2)], set_version: 3, auth_epoch: 4 },
    ]
}

pub fn replies() -> Vec<Reply> {
    outcomes().into_iter().map(Ok).chain(rejections().into_iter().map(Err)).collect()
}

pub fn later_replies() -> Vec<Reply> {
    later_outcomes().into_iter().map(Ok).chain(later_rejections().into_iter().map(Err)).collect()
}

fn kept(reply: Reply) -> Record {
    Record::Reply(KeptReply { command_hash: Digest([1; 32]), log_index: 2, reply })
}

pub fn timers() -> Vec<Timer> {
    let (ticket, request) = (TicketId([1; 16]), RequestId([2; 16]));
    vec![
        Timer::TicketDeadline(ticket),
        Timer::Saga(ticket),
        Timer::TicketRemoval(ticket),
        Timer::AccountReplyRemoval(account_id(), request),
        Timer::TicketReplyRemoval(ticket, request),
        Timer::OutcomeRemoval(account_id(), ticket),
    ]
}

/// Records of every arm, and of every arm inside them, each under a key that fits it.
pub fn records() -> Vec<(Key, Record)> {
    let account = account_id();
    let mut all = vec![
        (Key::Shard, Record::Shard(Shard { time_ms: 1, next_effect: 2 })),
        (Key::Directory(account.clone()), Record::Directory(directory_entry(DirectoryState::Claimed))),
        (Key::Directory(account.clone()), Record::Directory(directory_entry(DirectoryState::Home { home_epoch: 0 }))),
        (Key::Account(account.clone()), Record::Account(self::account())),
        (
            Key::Change(account.clone(), 5),
            Record::Change(SetChange {
                version: 5,
                digest: Digest([1; 32]),
                added: vec![session(3)],
                ended: vec![tombstone(4)],
                command: RequestId([2; 16]),
                log_index: 6,
                wall_ms: 7,
            }),
        ),
        (
            Key::Outbox(9),
            Record::Outbox(OutboxItem {
                id: 9,
                due_ms: 10,
                effect: Effect::Settle { ticket: TicketId([1; 16]), outcome: TicketOutcome::Cancelled },
            }),
        ),
        (
            Key::Outbox(10),
            Record::Outbox(OutboxItem {
                id: 10,
                due_ms: 11,
                effect: Effect::ConfirmClaim { account: account.clone(), claim: ClaimId([2; 16]), home_epoch: 1 },
            }),
        ),
    ];
    let reasons = [
        EndReason::UserUnlinkedFromPrimary,
        EndReason::UserUnlinkedFromSibling,
        EndReason::SelfLogout,
        EndReason::LogoutOthers,
        EndReason::ReplacedByLink,
        EndReason::AdminRevoked,
    ];
    for (n, reason) in (1..).zip(reasons) {
        let ended = Tombstone { reason, ..tombstone(n) };
        all.push((Key::Tombstone(account.clone(), ended.session.id), Record::Tombstone(ended)));
    }
    let ticket_id = TicketId([1; 16]);
    all.extend(
        outcomes_of_tickets()
            .into_iter()
            .map(|outcome| (Key::Outcome(account.clone(), ticket_id), Record::Outcome(outcome))),
    );
    all.extend(ticket_states().into_iter().map(|state| (Key::Ticket(ticket_id), Record::Ticket(ticket(state)))));
    all.extend(
        replies().into_iter().map(|reply| (Key::AccountReply(account.clone(), RequestId([1; 16])), kept(reply))),
    );
    all.push((Key::TicketReply(ticket_id, RequestId([1; 16])), kept(Ok(Outcome::Done))));
    all.extend(timers().into_iter().map(|timer| (Key::Timer(77, timer), Record::Timer)));
    let removals = timers().into_iter().filter(|timer| timer.may_share()).collect();
    all.push((Key::Timer(77, Timer::Removals(7)), Record::Removals(removals)));
    all.extend(later_records());
    all
}

/// See [`later_rejections`].
fn later_records() -> Vec<(Key, Record)> {
    let account = account_id();
    let effect = Effect::MarkDeleted { account: account.clone(), claim: ClaimId([2; 16]) };
    let mut all = vec![
        (Key::Stub(account.clone(), SessionId([1; 16])), Record::Stub(stub())),
        (Key::Deleted(account.clone()), Record::Deleted(deletion())),
        (Key::Directory(account.clone()), Record::Directory(directory_entry(DirectoryState::Deleted))),
        (
            Key::Account(account.clone()),
            Record::Account(Account {
                locked_at_ms: Some(0),
                record_version: 11,
                sessions: vec![Session { pinned: true, ..session(2) }],
                ..self::account()
            }),
        ),
        (Key::Outbox(11), Record::Outbox(OutboxItem { id: 11, due_ms: 12, effect })),
        (Key::Timer(77, Timer::TombstoneAgeing(account.clone(), SessionId([1; 16]))), Record::Timer),
        (Key::Timer(77, Timer::Erasure(account.clone())), Record::Timer),
    ];
    let reasons = [EndReason::PrimaryReplaced, EndReason::AccountDeleted, EndReason::CredentialCompromised];
    for (n, reason) in (20..).zip(reasons) {
        let ended = Tombstone { reason, ..tombstone(n) };
        all.push((Key::Tombstone(account.clone(), ended.session.id), Record::Tombstone(ended)));
    }
    let request = RequestId([3; 16]);
    all.extend(later_replies().into_iter().map(|reply| (Key::AccountReply(account.clone(), request), kept(reply))));
    all
}

pub fn commands() -> Vec<Command> {
    let (account, ticket, claim) = (account_id(), TicketId([1; 16]), ClaimId([2; 16]));
    let (device_key, device) = (DeviceKey([3; 32]), session(1).device);
    let requester = Requester { device: device.clone(), location: "Ghent".into() };
    vec![
        Command::Claim { account: account.clone(), claim, home: RegionIndex(0) },
        Command::ConfirmClaim { account: account.clone(), claim, home_epoch: 1 },
        Command::Register { account: account.clone(), claim, home: RegionIndex(1), device_key, device: device.clone() },
        Command::SetLimit { account: account.clone(), limit: 5 },
        Command::Open { ticket, device_key, method: Method::Qr, requester },
        Command::Scan { ticket, scan: scan() },
        Command::Approve { ticket, approval: approval(ApprovalKind::Link), envelope: vec![1, 2], number: None },
        Command::Deny { ticket },
        Command::Cancel { ticket },
        Command::Expire { tickets: vec![ticket, TicketId([2; 16])] },
        Command::Settle { ticket, outcome: TicketOutcome::Linked(receipt()) },
        Command::Link {
            ticket,
            device_key,
            device,
            approval: approval(ApprovalKind::LinkReplacing(SessionId([8; 16]))),
            approver_key: None,
        },
        Command::DecideTicket { account: account.clone(), ticket, decision: Decision::Cancelled },
        Command::Unlink { account: account.clone(), session: SessionId([4; 16]) },
        Command::UnlinkOthers { account, keep: SessionId([4; 16]), set_version: 5 },
        Command::Tick,
        Command::AckEffects { effects: vec![1, 300] },
    ]
    .into_iter()
    .chain(later_commands())
    .collect()
}

/// See [`later_rejections`].
fn later_commands() -> Vec<Command> {
    let (account, session) = (account_id(), SessionId([4; 16]));
    let (device_key, device) = (DeviceKey([3; 32]), self::session(1).device);
    vec![
        Command::Revoke { account: account.clone(), session },
        Command::Lock { account: account.clone(), locked: true },
        Command::Pin { account: account.clone(), session, pinned: true },
        Command::RotateDeviceKey { account: account.clone(), session, device_key },
        Command::ReplacePrimary {
            account: account.clone(),
            device_key,
            device: device.clone(),
            keep_companions: true,
            ends: vec![session, SessionId([5; 16])],
        },
        Command::Delete { account: account.clone(), set_version: 6 },
        Command::MarkDeleted { account, claim: ClaimId([2; 16]) },
        Command::Link {
            ticket: TicketId([1; 16]),
            device_key,
            device,
            approval: approval(ApprovalKind::Link),
            approver_key: Some(DeviceKey([6; 32])),
        },
    ]
}

pub fn envelope(proven: Proven, command: Command) -> Envelope {
    Envelope { request: RequestId([5; 16]), policy_version: 6, proven, command }
}

pub fn entry(commands: Vec<Envelope>) -> Entry {
    Entry { elapsed_ms: 1, wall_ms: 1_700_000_000_000, entropy: [2; 32], commands }
}

/// One entry per command, with every author in turn, then one of all of them, then an empty one.
pub fn entries() -> Vec<Entry> {
    let authors = [
        Proven::Cluster,
        Proven::Key(DeviceKey([1; 32])),
        Proven::Session { session: SessionId([2; 16]), key: DeviceKey([3; 32]), auth_epoch: 4 },
        Proven::Operator("root".into()),
    ];
    let envelopes: Vec<_> =
        commands().into_iter().zip(authors.iter().cycle()).map(|(c, by)| envelope(by.clone(), c)).collect();
    let mut all: Vec<_> = envelopes.iter().map(|envelope| entry(vec![envelope.clone()])).collect();
    all.push(entry(envelopes));
    all.push(entry(vec![]));
    all
}

pub fn submissions() -> Vec<Submission> {
    let proof = DeviceProof {
        account: Some(account_id()),
        session: Some(SessionId([1; 16])),
        request: RequestId([2; 16]),
        auth_epoch: 3,
        nonce: vec![4],
        signature: Signature([5; 64]),
    };
    let bare = DeviceProof { account: None, session: None, nonce: vec![], ..proof.clone() };
    let of = |command, proof, reference| Submission {
        envelope: envelope(Proven::Cluster, command),
        proof,
        possession: None,
        reference,
        propose_within_ms: 60_000,
    };
    let mut all: Vec<_> = commands().into_iter().map(|command| of(command, None, None)).collect();
    all.push(of(Command::Tick, Some(proof), Some(vec![1; 34])));
    all.push(of(Command::Tick, Some(bare.clone()), Some(vec![])));
    all.push(Submission { possession: Some(bare), ..of(Command::Tick, None, None) });
    all
}

pub fn queries() -> Vec<Query> {
    let account = account_id();
    vec![
        Query::Account(account.clone()),
        Query::Session(account.clone(), SessionId([1; 16])),
        Query::Sessions(vec![(account.clone(), SessionId([1; 16])), (account.clone(), SessionId([2; 16]))]),
        Query::Sessions(vec![]),
        Query::SessionByKey(account.clone(), DeviceKey([2; 32])),
        Query::Changes(account.clone(), 3),
        Query::Ticket(TicketId([4; 16])),
        Query::Directory(account.clone()),
        Query::Outcome(account, TicketId([5; 16])),
        Query::Nonce(ShardId(100), vec![6; 24]),
        Query::Nonce(ShardId(0), vec![]),
    ]
}

pub fn answers() -> Vec<Answer> {
    let change = SetChange {
        version: 5,
        digest: Digest([1; 32]),
        added: vec![],
        ended: vec![tombstone(4)],
        command: RequestId([2; 16]),
        log_index: 6,
        wall_ms: 7,
    };
    vec![
        Answer::Account(None),
        Answer::Account(Some(Box::new(account()))),
        Answer::Session { status: SessionStatus::Active(Box::new(session(1))), set_version: Some(0) },
        Answer::Session { status: SessionStatus::Ended(Box::new(tombstone(1))), set_version: Some(7) },
        Answer::Session { status: SessionStatus::Unknown, set_version: None },
        Answer::Sessions(vec![
            (Brief::Active, Some(4)),
            (Brief::Ended(Box::new(tombstone(1))), Some(7)),
            (Brief::Unknown, None),
            (Brief::Suspended { since_ms: 0 }, Some(2)),
            (Brief::Stub(stub()), Some(2)),
        ]),
        Answer::Changes { account: None, changes: vec![] },
        Answer::Changes { account: Some(Box::new(account())), changes: vec![change] },
        Answer::Ticket(None),
        Answer::Ticket(Some(Box::new(TicketAnswer {
            ticket: ticket(TicketState::Open),
            reference: vec![1; 34],
            reference_ttl_ms: 2,
            ticket_ttl_ms: 3,
            watch_secret: Digest([4; 32]),
        }))),
        Answer::Directory(None),
        Answer::Directory(Some(directory_entry(DirectoryState::Home { home_epoch: 1 }))),
        Answer::Outcome(None),
        Answer::Outcome(Some(TicketOutcome::Linked(receipt()))),
        Answer::Session {
            status: SessionStatus::Suspended { session: Box::new(session(1)), since_ms: 0 },
            set_version: Some(1),
        },
        Answer::Session { status: SessionStatus::Stub(stub()), set_version: Some(2) },
        Answer::Deleted(deletion()),
        Answer::Nonce { is_fresh: false, next: vec![] },
        Answer::Nonce { is_fresh: true, next: vec![7; 24] },
    ]
}
