//! What nodes ask of one another's replicas.

use bytes::Bytes;
use kindred_core::canonical::DeviceProof;
use kindred_core::command::{Answer, Committed, Query, SessionStatus, Submission, TicketAnswer};
use kindred_core::id::ShardId;

use super::convert::{UNIT, account, each, id, maybe_id, need, part, parts, raw, raw_account};
use super::reply::{reply_from, reply_to};
use super::{Malformed, Observed, bundle, reconcile};
use crate::proto::shard::v1 as pb;

impl From<&DeviceProof> for pb::DeviceProof {
    fn from(proof: &DeviceProof) -> Self {
        Self {
            account: proof.account.as_ref().map(raw_account),
            session: proof.session.as_ref().map(raw),
            request: raw(&proof.request),
            auth_epoch: proof.auth_epoch,
            nonce: Bytes::copy_from_slice(&proof.nonce),
            signature: raw(&proof.signature),
        }
    }
}

impl TryFrom<pb::DeviceProof> for DeviceProof {
    type Error = Malformed;
    fn try_from(proof: pb::DeviceProof) -> Result<Self, Malformed> {
        Ok(Self {
            account: proof.account.as_ref().map(account).transpose()?,
            session: maybe_id(proof.session.as_ref())?,
            request: id(&proof.request)?,
            auth_epoch: proof.auth_epoch,
            nonce: proof.nonce.into(),
            signature: id(&proof.signature)?,
        })
    }
}

impl From<&Submission> for pb::Submission {
    fn from(submission: &Submission) -> Self {
        Self {
            envelope: Some((&submission.envelope).into()),
            proof: submission.proof.as_ref().map(Into::into),
            possession: submission.possession.as_ref().map(Into::into),
            reference: submission.reference.as_deref().map(Bytes::copy_from_slice),
            propose_within_ms: submission.propose_within_ms,
        }
    }
}

impl TryFrom<pb::Submission> for Submission {
    type Error = Malformed;
    fn try_from(submission: pb::Submission) -> Result<Self, Malformed> {
        Ok(Self {
            envelope: part(submission.envelope, "envelope of a submission")?,
            proof: submission.proof.map(TryInto::try_into).transpose()?,
            possession: submission.possession.map(TryInto::try_into).transpose()?,
            reference: submission.reference.map(Into::into),
            propose_within_ms: submission.propose_within_ms,
        })
    }
}

impl From<&Committed> for pb::Committed {
    fn from(committed: &Committed) -> Self {
        Self {
            reply: Some(reply_to(&committed.reply)),
            log_index: committed.log_index,
            shard_time_ms: committed.shard_time_ms,
            nonce: Bytes::copy_from_slice(&committed.nonce),
        }
    }
}

impl TryFrom<pb::Committed> for Committed {
    type Error = Malformed;
    fn try_from(committed: pb::Committed) -> Result<Self, Malformed> {
        Ok(Self {
            reply: reply_from(committed.reply)?,
            log_index: committed.log_index,
            shard_time_ms: committed.shard_time_ms,
            nonce: committed.nonce.into(),
        })
    }
}

impl From<&Query> for pb::Query {
    fn from(query: &Query) -> Self {
        use pb::query::Query as Arm;
        let query = match query {
            Query::Account(account) => Arm::Account(raw_account(account)),
            Query::Session(account, session) => {
                Arm::Session(pb::SessionQuery { account: raw_account(account), session: raw(session) })
            }
            Query::SessionByKey(account, key) => {
                Arm::SessionByKey(pb::SessionByKeyQuery { account: raw_account(account), device_key: raw(key) })
            }
            Query::Changes(account, from) => {
                Arm::Changes(pb::ChangesQuery { account: raw_account(account), from: *from })
            }
            Query::Ticket(ticket) => Arm::Ticket(raw(ticket)),
            Query::Directory(account) => Arm::Directory(raw_account(account)),
            Query::Outcome(account, ticket) => {
                Arm::Outcome(pb::OutcomeQuery { account: raw_account(account), ticket: raw(ticket) })
            }
            Query::Nonce(shard, nonce) => {
                Arm::Nonce(pb::NonceQuery { shard: shard.0, nonce: Bytes::copy_from_slice(nonce) })
            }
            Query::Code(account) => Arm::Code(raw_account(account)),
            Query::Export(after) => Arm::Export(bundle::export_to(after.as_ref())),
            Query::Reconcile(account, believed) => Arm::Reconcile(reconcile::query_to(account, believed)),
        };
        Self { query: Some(query) }
    }
}

impl TryFrom<pb::Query> for Query {
    type Error = Malformed;
    fn try_from(query: pb::Query) -> Result<Self, Malformed> {
        use pb::query::Query as Arm;
        Ok(match need(query.query, "arm of a query")? {
            Arm::Account(bytes) => Self::Account(account(&bytes)?),
            Arm::Session(q) => Self::Session(account(&q.account)?, id(&q.session)?),
            Arm::SessionByKey(q) => Self::SessionByKey(account(&q.account)?, id(&q.device_key)?),
            Arm::Changes(q) => Self::Changes(account(&q.account)?, q.from),
            Arm::Ticket(bytes) => Self::Ticket(id(&bytes)?),
            Arm::Directory(bytes) => Self::Directory(account(&bytes)?),
            Arm::Outcome(q) => Self::Outcome(account(&q.account)?, id(&q.ticket)?),
            Arm::Nonce(q) => Self::Nonce(ShardId(q.shard), q.nonce.into()),
            Arm::Code(bytes) => Self::Code(account(&bytes)?),
            Arm::Export(query) => Self::Export(bundle::export_from(&query)?),
            Arm::Reconcile(query) => {
                let (account, believed) = reconcile::query_from(query)?;
                Self::Reconcile(account, believed)
            }
        })
    }
}

impl From<&Answer> for pb::Answer {
    fn from(answer: &Answer) -> Self {
        use pb::answer::Answer as Arm;
        let answer = match answer {
            Answer::Account(account) => Arm::Account(pb::AccountAnswer { account: account.as_deref().map(Into::into) }),
            Answer::Session { status, set_version } => {
                Arm::Session(pb::SessionAnswer { status: Some(status.into()), set_version: *set_version })
            }
            Answer::Changes { account, changes } => {
                Arm::Changes(pb::ChangesAnswer { account: account.as_deref().map(Into::into), changes: each(changes) })
            }
            Answer::Ticket(ticket) => Arm::Ticket(ticket.as_deref().map(Into::into).unwrap_or_default()),
            Answer::Directory(entry) => Arm::Directory(pb::DirectoryAnswer { entry: entry.as_ref().map(Into::into) }),
            Answer::Outcome(outcome) => Arm::Outcome(pb::OutcomeAnswer { outcome: outcome.as_ref().map(Into::into) }),
            Answer::Export(page) => Arm::Export(page.as_ref().into()),
            Answer::Reconcile(compared) => Arm::Reconcile(compared.as_deref().map(Into::into).unwrap_or_default()),
            Answer::Deleted(deletion) => Arm::Deleted(deletion.into()),
            Answer::Nonce { is_fresh, next } => {
                Arm::Nonce(pb::NonceAnswer { is_fresh: *is_fresh, next: Bytes::copy_from_slice(next) })
            }
            Answer::Code(code) => Arm::Code(code.as_deref().map(Into::into).unwrap_or_default()),
        };
        Self { answer: Some(answer) }
    }
}

impl TryFrom<pb::Answer> for Answer {
    type Error = Malformed;
    fn try_from(answer: pb::Answer) -> Result<Self, Malformed> {
        use pb::answer::Answer as Arm;
        Ok(match need(answer.answer, "arm of an answer")? {
            Arm::Account(a) => Self::Account(boxed(a.account)?),
            Arm::Session(a) => {
                Self::Session { status: part(a.status, "status of a session")?, set_version: a.set_version }
            }
            Arm::Changes(a) => Self::Changes { account: boxed(a.account)?, changes: parts(a.changes)? },
            Arm::Ticket(pb::TicketAnswer { ticket: None, .. }) => Self::Ticket(None),
            Arm::Ticket(a) => Self::Ticket(Some(Box::new(a.try_into()?))),
            Arm::Directory(a) => Self::Directory(a.entry.map(TryInto::try_into).transpose()?),
            Arm::Outcome(a) => Self::Outcome(a.outcome.map(TryInto::try_into).transpose()?),
            Arm::Export(page) => Self::Export(Box::new(page.try_into()?)),
            Arm::Reconcile(pb::ReconcileAnswer { account: None, .. }) => Self::Reconcile(None),
            Arm::Reconcile(compared) => Self::Reconcile(Some(Box::new(compared.try_into()?))),
            Arm::Deleted(deletion) => Self::Deleted(deletion.into()),
            Arm::Nonce(a) => Self::Nonce { is_fresh: a.is_fresh, next: a.next.into() },
            Arm::Code(pb::CodeAnswer { ticket: None, .. }) => Self::Code(None),
            Arm::Code(a) => Self::Code(Some(Box::new(a.try_into()?))),
        })
    }
}

fn boxed<M, T: TryFrom<M, Error = Malformed>>(message: Option<M>) -> Result<Option<Box<T>>, Malformed> {
    message.map(|message| message.try_into().map(Box::new)).transpose()
}

impl From<&SessionStatus> for pb::session_answer::Status {
    fn from(status: &SessionStatus) -> Self {
        match status {
            SessionStatus::Active(session) => Self::Active(session.as_ref().into()),
            SessionStatus::Ended(tombstone) => Self::Ended(tombstone.as_ref().into()),
            SessionStatus::Unknown => Self::Unknown(UNIT),
            SessionStatus::Suspended { session, since_ms } => {
                Self::Suspended(pb::Suspended { session: Some(session.as_ref().into()), since_ms: *since_ms })
            }
            SessionStatus::Stub(stub) => Self::Stub(stub.into()),
        }
    }
}

impl TryFrom<pb::session_answer::Status> for SessionStatus {
    type Error = Malformed;
    fn try_from(status: pb::session_answer::Status) -> Result<Self, Malformed> {
        use pb::session_answer::Status;
        Ok(match status {
            Status::Active(session) => Self::Active(Box::new(session.try_into()?)),
            Status::Ended(tombstone) => Self::Ended(Box::new(tombstone.try_into()?)),
            Status::Unknown(_) => Self::Unknown,
            #[cfg(kindred_mutants)]
            Status::Suspended(s) if kindred_core::mutants::is("suspended-read-as-ended") => {
                let session: kindred_core::model::Session = part(s.session, "session of a suspension")?;
                let reason = kindred_core::model::EndReason::AdminRevoked;
                Self::Stub(kindred_core::model::Stub { session: session.id, seq: session.seq, reason, log_index: 1 })
            }
            Status::Suspended(s) => {
                Self::Suspended { session: Box::new(part(s.session, "session of a suspension")?), since_ms: s.since_ms }
            }
            Status::Stub(stub) => Self::Stub(stub.try_into()?),
        })
    }
}

impl From<&TicketAnswer> for pb::TicketAnswer {
    fn from(answer: &TicketAnswer) -> Self {
        Self {
            ticket: Some((&answer.ticket).into()),
            reference: Bytes::copy_from_slice(&answer.reference),
            reference_ttl_ms: answer.reference_ttl_ms,
            ticket_ttl_ms: answer.ticket_ttl_ms,
            watch_secret: raw(&answer.watch_secret),
        }
    }
}

impl TryFrom<pb::TicketAnswer> for TicketAnswer {
    type Error = Malformed;
    fn try_from(answer: pb::TicketAnswer) -> Result<Self, Malformed> {
        Ok(Self {
            ticket: part(answer.ticket, "ticket of an answer")?,
            reference: answer.reference.into(),
            reference_ttl_ms: answer.reference_ttl_ms,
            ticket_ttl_ms: answer.ticket_ttl_ms,
            watch_secret: id(&answer.watch_secret)?,
        })
    }
}

impl From<&Observed> for pb::Observed {
    fn from(observed: &Observed) -> Self {
        Self {
            answer: Some((&observed.answer).into()),
            age_ms: observed.age_ms,
            shard_time_ms: observed.shard_time_ms,
            applied_index: observed.applied_index,
        }
    }
}

impl TryFrom<pb::Observed> for Observed {
    type Error = Malformed;
    fn try_from(observed: pb::Observed) -> Result<Self, Malformed> {
        Ok(Self {
            answer: part(observed.answer, "answer")?,
            age_ms: observed.age_ms,
            shard_time_ms: observed.shard_time_ms,
            applied_index: observed.applied_index,
        })
    }
}
