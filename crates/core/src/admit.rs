//! The leader's check before it proposes: repeats are answered, signatures are verified, once, and their nonces are fresh.
//!
//! What `admit` refuses it refuses on the state that the leader has applied. A leader must therefore confirm by a read
//! index that this state is current, and ask again, before it passes a rejection on; a kept reply may go out at once, and
//! so may NonceStale, which decides nothing.

use crate::apply::{closed, fingerprint, repeat, reply_key};
use crate::arguments;
use crate::canonical::{DeviceProof, TicketKey, approval_bytes, proof_bytes, verify};
use crate::code::Code;
use crate::command::{Command, Committed, Envelope, Proven, Submission};
use crate::id::{AccountId, ClusterId, DeviceKey, Digest, ShardId, TicketId};
use crate::model::{Method, Rejection, Ticket, TicketState};
use crate::nonce::{is_fresh, nonce};
use crate::query::window;
use crate::rules::{self, Act};
use crate::state::{Key, ReadError, Record, View};

/// What the leader of a shard knows beside its state.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    /// The cluster that signatures are for.
    pub cluster: &'a ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// Its region's key. Without it no proof can be admitted; the directory has none, and takes none.
    pub ticket_key: Option<&'a TicketKey>,
    /// Its estimate of shard time.
    pub now_ms: u64,
}

impl Gate<'_> {
    /// The nonce for the caller's next proof here; empty where no proof came, or without the key.
    pub fn next_nonce(&self, submission: &Submission) -> Vec<u8> {
        let is_asked = submission.proof.is_some() || submission.possession.is_some();
        let key = self.ticket_key.filter(|_| is_asked);
        key.map(|key| nonce(key, self.shard, self.now_ms).to_vec()).unwrap_or_default()
    }

    fn fresh(&self, submission: &Submission, proof: &DeviceProof) -> Result<(), Rejection> {
        let good = self.ticket_key.is_some_and(|key| is_fresh(key, self.shard, self.now_ms, &proof.nonce));
        if good { Ok(()) } else { Err(Rejection::NonceStale { nonce: self.next_nonce(submission) }) }
    }
}

/// `Ok(Ok(envelope))`: propose this; its `proven` is what was verified. `Ok(Err(committed))`: answer this instead;
/// `log_index` 0 marks a rejection made here, any other a kept reply.
///
/// The caller's `proven` is a claim: for commands of an account and for Approve and Deny its key is ignored and taken
/// from the state; for Scan and ScanCode it is the key that the frontend read at the account's home. Whether a ScanCode has
/// the right code is found out here, and what the caller claims of it is ignored. An operator is believed, for it was the
/// frontend that saw its certificate.
pub fn admit(
    view: &dyn View,
    gate: &Gate<'_>,
    submission: &Submission,
) -> Result<Result<Envelope, Committed>, ReadError> {
    let judged = judged(gate.ticket_key, submission);
    let submission = judged.as_ref().unwrap_or(submission);
    let envelope = &submission.envelope;
    let answer = |reply, log_index| Committed {
        reply,
        log_index,
        shard_time_ms: gate.now_ms,
        nonce: gate.next_nonce(submission),
    };
    if let Some((key, _)) = reply_key(envelope)
        && let Some(Record::Reply(kept)) = view.get(&key)?
    {
        let (reply, log_index) = repeat(&kept, &fingerprint(&envelope.command), &envelope.command, |k| view.get(k))?;
        return Ok(Err(answer(reply, log_index)));
    }
    Ok(match verified(view, gate, submission)? {
        Ok(proven) => Ok(Envelope { proven, ..envelope.clone() }),
        Err(rejection) => Err(answer(Err(rejection), 0)),
    })
}

/// A ScanCode with the leader's verdict on the code that was typed; `None` for any other command, and for a ScanCode that
/// cannot be judged, which is refused by what follows.
fn judged(ticket_key: Option<&TicketKey>, submission: &Submission) -> Option<Submission> {
    let Command::ScanCode { ticket, scan, .. } = &submission.envelope.command else { return None };
    let (key, typed) = (ticket_key?, Code::from_letters(submission.reference.as_deref()?)?);
    let right = key.code(ticket).matches(&typed);
    let command = Command::ScanCode { ticket: *ticket, scan: scan.clone(), tried: key.tried(ticket, &typed), right };
    Some(Submission { envelope: Envelope { command, ..submission.envelope.clone() }, ..submission.clone() })
}

type Verified = Result<Result<Proven, Rejection>, ReadError>;

fn verified(view: &dyn View, gate: &Gate<'_>, submission: &Submission) -> Verified {
    let Envelope { command, proven, .. } = &submission.envelope;
    let act = Act::of(command);
    if act == Act::Bookkeeping {
        // From the cluster's nodes only.
        let is_cluster = *proven == Proven::Cluster;
        return Ok(if is_cluster { Ok(Proven::Cluster) } else { Err(Rejection::CallerNotAllowed) });
    }
    let signed = arguments::of_command(command, submission.reference.as_deref());
    if let Proven::Operator(name) = proven {
        if !rules::is_for_operators(act) {
            return Ok(Err(Rejection::CallerNotAllowed));
        }
        let possessed = signed.map_or(Ok(()), |(method, hash)| possesses(gate, submission, method, &hash));
        return Ok(possessed.map(|()| Proven::Operator(name.clone())));
    }
    let Some((method, hash)) = signed else {
        return Ok(Err(match command {
            Command::Scan { .. } => Rejection::InvalidRequest("ref"),
            Command::ScanCode { .. } => Rejection::InvalidRequest("code"),
            _ => Rejection::CallerNotAllowed,
        }));
    };
    let Some(proof) = &submission.proof else { return Ok(Err(Rejection::ProofInvalid)) };
    let key = match key_for(view, gate, submission)? {
        Ok(key) => key,
        Err(rejection) => return Ok(Err(rejection)),
    };
    Ok(signature_holds(gate, submission, (method, &hash), proof, &key)
        .and_then(|()| possesses(gate, submission, method, &hash))
        .and_then(|()| proven_by(command, proof, key)))
}

/// The proof, then the approval if there is one, then the nonce: who holds the key is told first whether its nonce is old,
/// and nobody else is told anything of it.
fn signature_holds(
    gate: &Gate<'_>,
    submission: &Submission,
    (method, hash): (&str, &Digest),
    proof: &DeviceProof,
    key: &DeviceKey,
) -> Result<(), Rejection> {
    let envelope = &submission.envelope;
    if proof.request != envelope.request
        || !verify(key, &proof_bytes(gate.cluster, method, proof, hash), &proof.signature)
    {
        return Err(Rejection::ProofInvalid);
    }
    if let Command::Approve { approval, .. } = &envelope.command
        && !verify(key, &approval_bytes(gate.cluster, approval), &approval.signature)
    {
        return Err(Rejection::ApprovalInvalid);
    }
    gate.fresh(submission, proof)
}

/// A command that brings in a new device key needs a second proof, by that key, over the same arguments.
fn possesses(gate: &Gate<'_>, submission: &Submission, method: &str, hash: &Digest) -> Result<(), Rejection> {
    let (account, key): (&AccountId, &DeviceKey) = match &submission.envelope.command {
        Command::ReplacePrimary { account, device_key, .. } | Command::RotateDeviceKey { account, device_key, .. } => {
            (account, device_key)
        }
        _ => return Ok(()),
    };
    let Some(proof) = &submission.possession else { return Err(Rejection::ProofInvalid) };
    if proof.account.as_ref() != Some(account) || proof.session.is_some() {
        return Err(Rejection::ProofInvalid);
    }
    signature_holds(gate, submission, (method, hash), proof, key)
}

/// What a verified proof makes of the command's author.
fn proven_by(command: &Command, proof: &DeviceProof, key: DeviceKey) -> Result<Proven, Rejection> {
    match command {
        Command::Open { .. } | Command::Register { .. } | Command::Cancel { .. } => Ok(Proven::Key(key)),
        _ => {
            let session = proof.session.ok_or(Rejection::ProofInvalid)?;
            Ok(Proven::Session { session, key, auth_epoch: proof.auth_epoch })
        }
    }
}

/// The key that must have signed.
fn key_for(
    view: &dyn View,
    gate: &Gate<'_>,
    submission: &Submission,
) -> Result<Result<DeviceKey, Rejection>, ReadError> {
    let proof_account = submission.proof.as_ref().and_then(|p| p.account.as_ref());
    Ok(match &submission.envelope.command {
        Command::Open { device_key, .. } | Command::Register { device_key, .. } => Ok(*device_key),
        Command::ScanCode { ticket, scan, .. }
            if gate.ticket_key.is_none() || !is_for(view, ticket, &scan.account)? =>
        {
            Err(Rejection::TicketNotFound)
        }
        Command::ScanCode { scan, .. } if proof_account != Some(&scan.account) => Err(Rejection::ProofInvalid),
        Command::ScanCode { scan, .. } => Ok(scan.approver_key),
        Command::Scan { ticket: id, scan } => {
            let Some(ticket) = ticket(view, id)?.filter(|ticket| ticket.method == Method::Qr) else {
                return Ok(Err(Rejection::TicketNotFound));
            };
            let reference = submission.reference.as_deref().unwrap_or_default();
            let shown = gate.ticket_key.is_some_and(|key| key.accepts(id, reference, window(&ticket, gate.now_ms).0));
            if !shown {
                // A ref that has left the screen, or was never on one.
                Err(if gate.now_ms >= ticket.deadline_ms {
                    Rejection::TicketExpired
                } else {
                    Rejection::TicketNotFound
                })
            } else if proof_account != Some(&scan.account) {
                Err(Rejection::ProofInvalid)
            } else {
                Ok(scan.approver_key)
            }
        }
        Command::Approve { ticket: id, .. } | Command::Deny { ticket: id } => {
            let Some(ticket) = ticket(view, id)? else { return Ok(Err(Rejection::TicketNotFound)) };
            match &ticket.state {
                TicketState::Scanned(scan) | TicketState::Approved { scan, .. } => {
                    if proof_account == Some(&scan.account) {
                        Ok(scan.approver_key)
                    } else {
                        Err(Rejection::ProofInvalid)
                    }
                }
                other => Err(closed(other)),
            }
        }
        Command::Cancel { ticket: id } => {
            ticket(view, id)?.map(|ticket| ticket.device_key).ok_or(Rejection::TicketNotFound)
        }
        Command::Unlink { account, .. }
        | Command::UnlinkOthers { account, .. }
        | Command::SetLimit { account, .. }
        | Command::ReplacePrimary { account, .. }
        | Command::Delete { account, .. }
        | Command::Pin { account, .. }
        | Command::RotateDeviceKey { account, .. } => {
            if proof_account != Some(account) {
                return Ok(Err(Rejection::ProofInvalid));
            }
            let session = submission.proof.as_ref().and_then(|p| p.session);
            match (view.get(&Key::Account(account.clone()))?, session) {
                (Some(Record::Account(found)), Some(session)) => {
                    match found.sessions.iter().find(|s| s.id == session) {
                        Some(actor) => Ok(actor.device_key),
                        // An ended session may learn of its own end, if it proves that it was that session.
                        None => match view.get(&Key::Tombstone(account.clone(), session))? {
                            Some(Record::Tombstone(tombstone)) => Ok(tombstone.session.device_key),
                            _ => Err(Rejection::ProofInvalid),
                        },
                    }
                }
                (Some(_), None) => Err(Rejection::ProofInvalid),
                _ => Err(Rejection::AccountNotFound),
            }
        }
        _ => Err(Rejection::CallerNotAllowed),
    })
}

/// True if it is a CODE ticket of this account.
fn is_for(view: &dyn View, id: &TicketId, scanning: &AccountId) -> Result<bool, ReadError> {
    let of_account = |t: Ticket| matches!(t.method, Method::Code { account, .. } if account == *scanning);
    Ok(ticket(view, id)?.is_some_and(of_account))
}

fn ticket(view: &dyn View, id: &TicketId) -> Result<Option<Ticket>, ReadError> {
    Ok(match view.get(&Key::Ticket(*id))? {
        Some(Record::Ticket(ticket)) => Some(ticket),
        _ => None,
    })
}
