//! From the words of the interface to those of the history.

use kindred_check::{Answer, Member, Tombstone, Verdict};
use kindred_core::id::hex;
use kindred_core::model::Receipt;
use kindred_wire::pb::account::v1::{RegisterReply, ReplacePrimaryReply};
use kindred_wire::pb::pairing::v1 as pairing;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::pb::session::v1::validate_reply::Verdict as Told;
use kindred_wire::pb::session::v1::why_signed_out_reply::Answer as Why;

/// Of a registration.
pub fn registered(reply: &RegisterReply) -> Answer {
    Answer {
        session: Some(hex(&reply.session)),
        set_version: Some(reply.set_version),
        log_index: Some(reply.log_index),
        ..Answer::default()
    }
}

/// Of an open ticket.
pub fn opened(reply: &pairing::OpenTicketReply) -> Answer {
    Answer { ticket: Some(hex(&reply.ticket)), ..Answer::default() }
}

/// Of a scan.
pub fn scanned(reply: &pairing::ScanTicketReply) -> Answer {
    Answer {
        ticket: Some(hex(&reply.ticket)),
        device_key: Some(hex(&reply.device_key)),
        log_index: Some(reply.log_index),
        ..Answer::default()
    }
}

/// Of a link: the receipt's "after".
pub fn receipt(receipt: &Receipt) -> Answer {
    let after = receipt.sessions_after.iter().map(|id| Member { id: id.to_string(), seq: None }).collect();
    Answer {
        session: Some(receipt.session.to_string()),
        seq: Some(receipt.seq),
        sessions: Some(after),
        set_version: Some(receipt.version_after),
        log_index: Some(receipt.log_index),
        ..Answer::default()
    }
}

/// Of a list.
pub fn listed(reply: &session::ListSessionsReply) -> Answer {
    let member = |s: &session::SessionRecord| Member { id: hex(&s.session), seq: Some(s.seq) };
    Answer {
        sessions: Some(reply.sessions.iter().map(member).collect()),
        set_version: Some(reply.set_version),
        ..Answer::default()
    }
}

/// Of a verdict.
pub fn validated(reply: &session::ValidateReply) -> Answer {
    let (verdict, proof) = match &reply.verdict {
        Some(Told::Valid(_)) => (Verdict::Valid, None),
        Some(Told::SignedOut(out)) => (Verdict::SignedOut, out.tombstone.as_ref()),
        Some(Told::Suspended(_)) => (Verdict::Suspended, None),
        Some(Told::Stale(_)) => (Verdict::Stale, None),
        Some(Told::Malformed(_)) => (Verdict::Malformed, None),
        Some(Told::Undetermined(_)) | None => (Verdict::Undetermined, None),
    };
    Answer {
        verdict: Some(verdict),
        // No state was read: 0 is no version.
        set_version: Some(reply.set_version).filter(|version| *version > 0),
        tombstones: proof.map(tombstone).into_iter().collect(),
        ..Answer::default()
    }
}

/// Of the end of one session.
pub fn unlinked(reply: &session::UnlinkReply) -> Answer {
    Answer {
        set_version: reply.tombstone.as_ref().map(|t| t.set_version),
        tombstones: reply.tombstone.as_ref().map(tombstone).into_iter().collect(),
        log_index: Some(reply.log_index),
        ..Answer::default()
    }
}

/// Of the end of all others.
pub fn unlinked_others(reply: &session::UnlinkOthersReply) -> Answer {
    Answer {
        set_version: Some(reply.set_version),
        tombstones: reply.tombstones.iter().map(tombstone).collect(),
        log_index: Some(reply.log_index),
        ..Answer::default()
    }
}

/// Of another phone in the primary's place.
pub fn primary_replaced(reply: &ReplacePrimaryReply) -> Answer {
    Answer {
        session: Some(hex(&reply.session)),
        set_version: Some(reply.set_version),
        tombstones: reply.tombstones.iter().map(tombstone).collect(),
        log_index: Some(reply.log_index),
        ..Answer::default()
    }
}

/// Of a question why.
pub fn explained(reply: &session::WhySignedOutReply) -> Answer {
    let ended = match &reply.answer {
        Some(Why::Ended(ended)) => Some(tombstone(ended)),
        Some(Why::Active(_)) | None => None,
    };
    Answer { tombstones: ended.into_iter().collect(), ..Answer::default() }
}

/// A proof.
pub fn tombstone(told: &session::Tombstone) -> Tombstone {
    Tombstone {
        session: told.session.as_ref().map(|s| hex(&s.session)).unwrap_or_default(),
        reason: told.reason().as_str_name().to_owned(),
        command: hex(&told.command),
        log_index: told.log_index,
        set_version: told.set_version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_no_verdict_about_the_session_and_no_version() {
        let answer = validated(&session::ValidateReply::default());
        assert_eq!((answer.verdict, answer.set_version), (Some(Verdict::Undetermined), None));
    }

    #[test]
    fn a_sign_out_is_recorded_with_its_proof() {
        let proof = session::Tombstone {
            session: Some(session::SessionRecord { session: vec![7; 16].into(), ..Default::default() }),
            reason: session::EndReason::SelfLogout.into(),
            command: vec![9; 16].into(),
            log_index: 5,
            set_version: 3,
            ..Default::default()
        };
        let verdict = Some(Told::SignedOut(session::SignedOut { tombstone: Some(proof) }));
        let answer = validated(&session::ValidateReply { verdict, set_version: 3, ..Default::default() });
        assert_eq!(answer.tombstones[0].session, "07".repeat(16));
        assert_eq!((answer.tombstones[0].reason.as_str(), answer.tombstones[0].log_index), ("SELF_LOGOUT", 5));
    }
}
