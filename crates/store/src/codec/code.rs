//! Typed codes: what an account's home keeps, and what it is asked.

use kindred_core::code::{AttachedCode, Codes, MatchNumber, Standing};
use kindred_core::command::CodeAnswer;
use kindred_core::id::{AccountId, TicketId};

use super::Malformed;
use super::convert::{id, ids, need, part, raw, raw_account, raws};
use crate::proto::shard::v1 as shard_pb;
use crate::proto::storage::v1 as pb;

pub(super) fn of_account(account: &AccountId, ticket: &TicketId) -> pb::CodeOfAccount {
    pb::CodeOfAccount { account: raw_account(account), ticket: raw(ticket) }
}

/// The number of an approval, if there is one; one that is out of range is malformed, not absent.
pub(super) fn number_from(number: Option<u32>) -> Result<Option<MatchNumber>, Malformed> {
    number.map(|number| MatchNumber::new(number).ok_or(Malformed("number of an Approve"))).transpose()
}

fn standing_to(standing: Standing) -> pb::CodeStanding {
    match standing {
        Standing::Waiting => pb::CodeStanding::Waiting,
        Standing::Held => pb::CodeStanding::Held,
        Standing::Over => pb::CodeStanding::Over,
    }
}

fn standing_from(standing: i32) -> Result<Standing, Malformed> {
    match pb::CodeStanding::try_from(standing) {
        Ok(pb::CodeStanding::Waiting) => Ok(Standing::Waiting),
        Ok(pb::CodeStanding::Held) => Ok(Standing::Held),
        Ok(pb::CodeStanding::Over) => Ok(Standing::Over),
        Ok(pb::CodeStanding::Unspecified) | Err(_) => Err(Malformed("standing of a code")),
    }
}

impl From<&Codes> for pb::Codes {
    fn from(codes: &Codes) -> Self {
        let attached = codes.attached.as_ref().map(|code| pb::AttachedCode {
            ticket: raw(&code.ticket),
            requester: Some((&code.requester).into()),
            attached_at_ms: code.attached_at_ms,
            standing: standing_to(code.standing).into(),
        });
        Self { attached, over: raws(&codes.over), until_ms: codes.until_ms }
    }
}

impl TryFrom<pb::Codes> for Codes {
    type Error = Malformed;
    fn try_from(codes: pb::Codes) -> Result<Self, Malformed> {
        let attached = codes.attached.map(|code| {
            Ok(AttachedCode {
                ticket: id(&code.ticket)?,
                requester: part(code.requester, "requester of an attached code")?,
                attached_at_ms: code.attached_at_ms,
                standing: standing_from(code.standing)?,
            })
        });
        Ok(Self { attached: attached.transpose()?, over: ids(&codes.over)?, until_ms: codes.until_ms })
    }
}

impl From<&CodeAnswer> for shard_pb::CodeAnswer {
    fn from(code: &CodeAnswer) -> Self {
        Self {
            ticket: Some(raw(&code.ticket)),
            requester: Some((&code.requester).into()),
            age_ms: code.age_ms,
            ttl_ms: code.ttl_ms,
            standing: standing_to(code.standing).into(),
        }
    }
}

impl TryFrom<shard_pb::CodeAnswer> for CodeAnswer {
    type Error = Malformed;
    fn try_from(code: shard_pb::CodeAnswer) -> Result<Self, Malformed> {
        Ok(Self {
            ticket: id(&need(code.ticket, "ticket of a code")?)?,
            requester: part(code.requester, "requester of a code")?,
            age_ms: code.age_ms,
            ttl_ms: code.ttl_ms,
            standing: standing_from(code.standing)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::codec::decision::method_from;
    use kindred_core::model::Method;

    #[test]
    fn a_code_ticket_without_its_account_or_a_qr_ticket_with_one_is_malformed() {
        let code = |wrong_tries| Some(pb::CodeTicket { account: b"ann".to_vec().into(), wrong_tries });
        let account = AccountId::new(b"ann").unwrap();
        assert_eq!(method_from(pb::Method::Code.into(), code(5)), Ok(Method::Code { account, wrong_tries: 5 }));
        assert!(method_from(pb::Method::Code.into(), None).is_err());
        assert!(method_from(pb::Method::Qr.into(), code(0)).is_err());
        assert!(method_from(pb::Method::Code.into(), code(256)).is_err());
        let nameless = pb::CodeTicket { account: Vec::new().into(), wrong_tries: 0 };
        assert!(method_from(pb::Method::Code.into(), Some(nameless)).is_err());
    }

    #[test]
    fn a_number_that_has_five_digits_is_malformed_and_not_absent() {
        assert_eq!(number_from(None), Ok(None));
        assert_eq!(number_from(Some(9_999)), Ok(MatchNumber::new(9_999)));
        assert!(number_from(Some(10_000)).is_err());
    }
}
