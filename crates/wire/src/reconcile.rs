//! Views of a session set ⇄ protobuf.

use std::collections::BTreeSet;

use kindred_core::command::Compared;
use kindred_core::limits::VIEW_SESSIONS_MAX;
use kindred_core::model::Account;
use kindred_core::reconcile::{Believed, Differences, Set, Standing, Unexpected, Verdict};

use crate::convert::{self, Decoded, Invalid, digest, raw, session_id};
use crate::pb::session::v1 as pb;
use crate::pb::session::v1::reconcile_request::View;

/// What somebody believes.
pub fn believed_in(set_version: u64, view: Option<View>) -> Decoded<Believed> {
    let set = match view.ok_or(Invalid("view"))? {
        View::SetDigest(bytes) => Set::Digest(digest(&bytes, "set_digest")?),
        View::Sessions(list) if list.sessions.len() > VIEW_SESSIONS_MAX => return Err(Invalid("sessions")),
        View::Sessions(list) => {
            let each = list.sessions.iter().map(|s| Ok((session_id(&s.session, "sessions.session")?, s.seq)));
            let sessions = each.collect::<Decoded<Vec<_>>>()?;
            let once: BTreeSet<_> = sessions.iter().map(|(id, _)| *id).collect();
            if once.len() != sessions.len() {
                return Err(Invalid("sessions.session"));
            }
            Set::Sessions(sessions)
        }
    };
    Ok(Believed { set_version, set })
}

/// The same for the wire.
pub fn believed(believed: &Believed) -> View {
    match &believed.set {
        Set::Digest(digest) => View::SetDigest(raw(digest.as_bytes())),
        Set::Sessions(sessions) => {
            let each = sessions.iter().map(|(id, seq)| pb::ViewedSession { session: raw(id.as_bytes()), seq: *seq });
            View::Sessions(pb::SessionList { sessions: each.collect() })
        }
    }
}

/// The answer for the wire.
pub fn compared(compared: &Compared) -> pb::ReconcileReply {
    use pb::reconcile_reply::Result as Arm;
    let account = &compared.account;
    let result = match &compared.verdict {
        Verdict::InSync => Arm::InSync(pb::InSync {}),
        Verdict::Behind { changes, ended, stubs } => Arm::Behind(pb::Behind {
            changes: changes.iter().map(convert::change).collect(),
            snapshot: changes.is_empty().then(|| snapshot(account)),
            ended: ended.iter().map(convert::tombstone).chain(stubs.iter().map(convert::stub)).collect(),
        }),
        Verdict::Diverged(differences) => Arm::Diverged(diverged(account, differences)),
    };
    pb::ReconcileReply {
        result: Some(result),
        set_version: account.set_version,
        set_digest: raw(account.set_digest.as_bytes()),
    }
}

fn diverged(account: &Account, differences: &Differences) -> pb::Diverged {
    let missing = account.sessions.iter().filter(|s| differences.missing.contains(&s.id));
    pb::Diverged {
        unexpected: differences.unexpected.iter().map(unexpected).collect(),
        missing: missing.map(convert::session).collect(),
        digest: differences
            .digest
            .map(|(set_version, digest)| pb::DigestMismatch { set_version, set_digest: raw(digest.as_bytes()) }),
        snapshot: Some(snapshot(account)),
    }
}

fn unexpected(unexpected: &Unexpected) -> pb::UnexpectedSession {
    use pb::unexpected_session::Standing as Arm;
    let standing = match &unexpected.standing {
        Standing::Ended(tombstone) => Arm::Ended(convert::tombstone(tombstone)),
        Standing::EndedBefore(stub) => Arm::Ended(convert::stub(stub)),
        Standing::OtherSeq(seq) => Arm::OtherSeq(*seq),
        Standing::Unknown => Arm::Unknown(pb::UnknownSession {}),
    };
    pb::UnexpectedSession { session: raw(unexpected.session.as_bytes()), seq: unexpected.seq, standing: Some(standing) }
}

/// The set as it is.
pub fn snapshot(account: &Account) -> pb::Snapshot {
    pb::Snapshot {
        sessions: account.sessions.iter().map(convert::session).collect(),
        set_version: account.set_version,
        set_digest: raw(account.set_digest.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kindred_core::id::{Digest, SessionId};

    #[test]
    fn a_view_comes_back_and_every_bound_of_it_is_named() {
        let list = |n: u16| (0..n).map(|n| (SessionId([n.to_be_bytes()[1]; 16]), 7)).collect::<Vec<_>>();
        for set in [Set::Digest(Digest([3; 32])), Set::Sessions(list(256)), Set::Sessions(vec![])] {
            let view = Believed { set_version: 9, set };
            assert_eq!(believed_in(9, Some(believed(&view))), Ok(view));
        }
        let twice = Believed { set_version: 9, set: Set::Sessions(list(257)) };
        assert_eq!(believed_in(9, Some(believed(&twice))), Err(Invalid("sessions")));
        let twice = Believed { set_version: 9, set: Set::Sessions([list(2), list(1)].concat()) };
        assert_eq!(believed_in(9, Some(believed(&twice))), Err(Invalid("sessions.session")));
        assert_eq!(believed_in(9, Some(View::SetDigest(raw(&[0; 31])))), Err(Invalid("set_digest")));
        assert_eq!(believed_in(9, None), Err(Invalid("view")));
    }
}
