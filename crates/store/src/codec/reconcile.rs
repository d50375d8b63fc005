//! Views of a session set, between nodes.

use kindred_core::command::Compared;
use kindred_core::id::AccountId;
use kindred_core::reconcile::{Believed, Differences, Set, Standing, Unexpected, Verdict};

use super::Malformed;
use super::convert::{UNIT, account, each, id, ids, need, part, parts, raw, raw_account, raws};
use crate::proto::shard::v1 as pb;

pub(super) fn query_to(account: &AccountId, believed: &Believed) -> pb::ReconcileQuery {
    use pb::reconcile_query::Set as Arm;
    let set = match &believed.set {
        Set::Digest(digest) => Arm::Digest(raw(digest)),
        Set::Sessions(sessions) => {
            let each = sessions.iter().map(|(id, seq)| pb::BelievedSession { session: raw(id), seq: *seq });
            Arm::Sessions(pb::BelievedSessions { sessions: each.collect() })
        }
    };
    pb::ReconcileQuery { account: raw_account(account), set_version: believed.set_version, set: Some(set) }
}

pub(super) fn query_from(query: pb::ReconcileQuery) -> Result<(AccountId, Believed), Malformed> {
    use pb::reconcile_query::Set as Arm;
    let set = match need(query.set, "set of a view")? {
        Arm::Digest(digest) => Set::Digest(id(&digest)?),
        Arm::Sessions(all) => {
            let each = all.sessions.iter().map(|session| Ok((id(&session.session)?, session.seq)));
            Set::Sessions(each.collect::<Result<_, Malformed>>()?)
        }
    };
    Ok((account(&query.account)?, Believed { set_version: query.set_version, set }))
}

impl From<&Compared> for pb::ReconcileAnswer {
    fn from(compared: &Compared) -> Self {
        use pb::reconcile_answer::Verdict as Arm;
        let verdict = match &compared.verdict {
            Verdict::InSync => Arm::InSync(UNIT),
            Verdict::Behind { changes, ended, stubs } => {
                Arm::Behind(pb::Behind { changes: each(changes), ended: each(ended), stubs: each(stubs) })
            }
            Verdict::Diverged(differences) => Arm::Diverged(pb::Differences {
                unexpected: each(&differences.unexpected),
                missing: raws(&differences.missing),
                digest: differences
                    .digest
                    .map(|(set_version, digest)| pb::OtherDigest { set_version, digest: raw(&digest) }),
            }),
        };
        Self { account: Some((&compared.account).into()), verdict: Some(verdict) }
    }
}

impl TryFrom<pb::ReconcileAnswer> for Compared {
    type Error = Malformed;
    fn try_from(answer: pb::ReconcileAnswer) -> Result<Self, Malformed> {
        use pb::reconcile_answer::Verdict as Arm;
        let verdict = match need(answer.verdict, "verdict on a view")? {
            Arm::InSync(_) => Verdict::InSync,
            Arm::Behind(behind) => Verdict::Behind {
                changes: parts(behind.changes)?,
                ended: parts(behind.ended)?,
                stubs: parts(behind.stubs)?,
            },
            Arm::Diverged(differences) => Verdict::Diverged(Differences {
                unexpected: parts(differences.unexpected)?,
                missing: ids(&differences.missing)?,
                digest: differences.digest.map(|d| Ok((d.set_version, id(&d.digest)?))).transpose()?,
            }),
        };
        Ok(Self { account: part(answer.account, "account of a verdict")?, verdict })
    }
}

impl From<&Unexpected> for pb::Unexpected {
    fn from(unexpected: &Unexpected) -> Self {
        use pb::unexpected::Standing as Arm;
        let standing = match &unexpected.standing {
            Standing::Ended(tombstone) => Arm::Ended(tombstone.as_ref().into()),
            Standing::EndedBefore(stub) => Arm::EndedBefore(stub.into()),
            Standing::OtherSeq(seq) => Arm::OtherSeq(*seq),
            Standing::Unknown => Arm::Unknown(UNIT),
        };
        Self { session: raw(&unexpected.session), seq: unexpected.seq, standing: Some(standing) }
    }
}

impl TryFrom<pb::Unexpected> for Unexpected {
    type Error = Malformed;
    fn try_from(unexpected: pb::Unexpected) -> Result<Self, Malformed> {
        use pb::unexpected::Standing as Arm;
        let standing = match need(unexpected.standing, "standing of a session")? {
            Arm::Ended(tombstone) => Standing::Ended(Box::new(tombstone.try_into()?)),
            Arm::EndedBefore(stub) => Standing::EndedBefore(stub.try_into()?),
            Arm::OtherSeq(seq) => Standing::OtherSeq(seq),
            Arm::Unknown(_) => Standing::Unknown,
        };
        Ok(Self { session: id(&unexpected.session)?, seq: unexpected.seq, standing })
    }
}
