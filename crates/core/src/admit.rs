//! The leader's check before it proposes: repeats are answered, signatures are verified, once.
//!
//! What `admit` refuses it refuses on the state that the leader has applied. A leader must therefore confirm by a read
//! index that this state is current, and ask again, before it passes a rejection on; a kept reply may go out at once.

use crate::apply::{closed, fingerprint, repeat, reply_key};
use crate::arguments;
use crate::canonical::{DeviceProof, TicketKey, approval_bytes, proof_bytes, verify};
use crate::code::Code;
use crate::command::{Command, Committed, Envelope, Proven, Submission};
use crate::id::{AccountId, ClusterId, DeviceKey, TicketId};
use crate::model::{Method, Rejection, Ticket, TicketState};
use crate::query::window;
use crate::state::{Key, ReadError, Record, View};

/// `Ok(Ok(envelope))`: propose this; its `proven` is what was verified. `Ok(Err(committed))`: answer this instead;
/// `log_index` 0 marks a rejection made here, any other a kept reply.
///
/// The caller's `proven` is a claim: for commands of an account and for Approve and Deny its key is ignored and taken
/// from the state; for Scan and ScanCode it is the key that the frontend read at the account's home. Whether a ScanCode has
/// the right code is found out here, and what the caller claims of it is ignored.
pub fn admit(
    view: &dyn View,
    cluster: &ClusterId,
    ticket_key: Option<&TicketKey>,
    now_ms: u64,
    submission: &Submission,
) -> Result<Result<Envelope, Committed>, ReadError> {
    let judged = judged(ticket_key, submission);
    let submission = judged.as_ref().unwrap_or(submission);
    let envelope = &submission.envelope;
    if let Some((key, _)) = reply_key(envelope)
        && let Some(Record::Reply(kept)) = view.get(&key)?
    {
        let (reply, log_index) = repeat(&kept, &fingerprint(&envelope.command), &envelope.command, |k| view.get(k))?;
        return Ok(Err(Committed { reply, log_index, shard_time_ms: now_ms }));
    }
    Ok(match verified(view, cluster, ticket_key, now_ms, submission)? {
        Ok(proven) => Ok(Envelope { proven, ..envelope.clone() }),
        Err(rejection) => Err(Committed { reply: Err(rejection), log_index: 0, shard_time_ms: now_ms }),
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

fn verified(
    view: &dyn View,
    cluster: &ClusterId,
    ticket_key: Option<&TicketKey>,
    now_ms: u64,
    submission: &Submission,
) -> Verified {
    let Envelope { command, proven, request, .. } = &submission.envelope;
    let Some((method, hash)) = arguments::of_command(command, submission.reference.as_deref()) else {
        // The cluster's own commands come from its nodes only; a Scan without its ref lands here too.
        return Ok(match (command, proven) {
            (Command::Scan { .. }, _) => Err(Rejection::InvalidRequest("ref")),
            (Command::ScanCode { .. }, _) => Err(Rejection::InvalidRequest("code")),
            (Command::Install { .. }, Proven::Operator(name)) => Ok(Proven::Operator(name.clone())),
            (Command::Install { .. }, _) => Err(Rejection::CallerNotAllowed),
            (_, Proven::Cluster) => Ok(Proven::Cluster),
            _ => Err(Rejection::CallerNotAllowed),
        });
    };
    if let Proven::Operator(name) = proven {
        return Ok(Ok(Proven::Operator(name.clone())));
    }
    let Some(proof) = &submission.proof else { return Ok(Err(Rejection::ProofInvalid)) };
    if proof.request != *request {
        return Ok(Err(Rejection::ProofInvalid));
    }
    let key = match key_for(view, ticket_key, now_ms, submission)? {
        Ok(key) => key,
        Err(rejection) => return Ok(Err(rejection)),
    };
    if !verify(&key, &proof_bytes(cluster, method, proof, &hash), &proof.signature) {
        return Ok(Err(Rejection::ProofInvalid));
    }
    if let Command::Approve { approval, .. } = command
        && !verify(&key, &approval_bytes(cluster, approval), &approval.signature)
    {
        return Ok(Err(Rejection::ApprovalInvalid));
    }
    Ok(proven_by(command, proof, key))
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
    ticket_key: Option<&TicketKey>,
    now_ms: u64,
    submission: &Submission,
) -> Result<Result<DeviceKey, Rejection>, ReadError> {
    let proof_account = submission.proof.as_ref().and_then(|p| p.account.as_ref());
    Ok(match &submission.envelope.command {
        Command::Open { device_key, .. } | Command::Register { device_key, .. } => Ok(*device_key),
        Command::ScanCode { ticket, scan, .. } if ticket_key.is_none() || !is_for(view, ticket, &scan.account)? => {
            Err(Rejection::TicketNotFound)
        }
        Command::ScanCode { scan, .. } if proof_account != Some(&scan.account) => Err(Rejection::ProofInvalid),
        Command::ScanCode { scan, .. } => Ok(scan.approver_key),
        Command::Scan { ticket: id, scan } => {
            let Some(ticket) = ticket(view, id)?.filter(|ticket| ticket.method == Method::Qr) else {
                return Ok(Err(Rejection::TicketNotFound));
            };
            let reference = submission.reference.as_deref().unwrap_or_default();
            let shown = ticket_key.is_some_and(|key| key.accepts(id, reference, window(&ticket, now_ms).0));
            if !shown {
                // A ref that has left the screen, or was never on one.
                Err(if now_ms >= ticket.deadline_ms { Rejection::TicketExpired } else { Rejection::TicketNotFound })
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
        Command::Unlink { account, .. } | Command::UnlinkOthers { account, .. } | Command::SetLimit { account, .. } => {
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
