//! What is on the companion's screen, a QR code or a code to type, and how it leads back to the ticket.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kindred_core::arguments::{METHOD_SCAN, scan, scan_code};
use kindred_core::canonical::REF_LEN;
use kindred_core::code::Code;
use kindred_core::command::{Answer, Command, Query, Submission, TicketAnswer};
use kindred_core::id::{Digest, TicketId};
use kindred_core::model::{Method, Scan};
use kindred_wire::convert;
use kindred_wire::pb::pairing::v1 as pb;
use kindred_wire::reason::Reason;
use kindred_wire::shards::Consistency;
use kindred_wire::status::Failure;

use crate::front::{Asked, Front, invalid, unexpected};

/// What a phone has read off the screen.
pub(crate) enum Shown {
    /// The ref of a QR code; the ticket's id is its first part.
    Reference(TicketId, Vec<u8>),
    /// A code that was typed.
    Code(Code),
}

impl Shown {
    /// Exactly one of the two must be there.
    pub(crate) fn read(reference: &[u8], code: &str) -> Result<Self, Failure> {
        match (reference.is_empty(), code.is_empty()) {
            (true, false) => Ok(Self::Code(convert::code_in(code)?)),
            (false, false) => Err(invalid("code")),
            _ if reference.len() != REF_LEN => Err(invalid("reference")),
            _ => {
                let id = convert::ticket_id(&reference[..TicketId::LEN], "reference")?;
                Ok(Self::Reference(id, reference.to_vec()))
            }
        }
    }

    /// The arguments that the proof of ScanTicket covers.
    pub(crate) fn arguments(&self) -> Digest {
        match self {
            Self::Reference(_, reference) => scan(reference),
            Self::Code(code) => scan_code(code),
        }
    }
}

impl Front {
    /// The ticket that was read off the screen, and the submission that scans it as `scan` says.
    pub(crate) async fn scanning(
        &self,
        asked: &Asked,
        scan: Scan,
        shown: &Shown,
    ) -> Result<(TicketId, Submission), Failure> {
        let (id, command, reference) = match shown {
            Shown::Reference(id, reference) => (*id, Command::Scan { ticket: *id, scan }, reference.clone()),
            Shown::Code(code) => {
                let ticket = self.attached(asked, &scan, shown).await?;
                // Whether it is right the ticket's leader finds out.
                let command = Command::ScanCode { ticket, scan, tried: Digest([0; 32]), right: false };
                (ticket, command, code.letters().to_vec())
            }
        };
        Ok((id, Submission { reference: Some(reference), ..asked.submission(command) }))
    }

    /// The latest CODE ticket of this account; if it takes no codes any more, its leader says why. Told to the account's own sessions only, so the proof is looked at
    /// first; the ticket's leader looks at it again.
    async fn attached(&self, asked: &Asked, scan: &Scan, shown: &Shown) -> Result<TicketId, Failure> {
        if !self.verifies(&scan.approver_key, METHOD_SCAN, &asked.proof, &shown.arguments()) {
            return Err(Failure::new(Reason::ProofInvalid));
        }
        let shard = self.account_shard(scan.home, &scan.account)?;
        let query = Query::Code(scan.account.clone());
        match self.query(shard, query, Consistency::Linearizable).await?.answer {
            Answer::Code(Some(code)) => Ok(code.ticket),
            Answer::Code(None) => Err(Failure::new(Reason::TicketNotFound)),
            _ => Err(unexpected()),
        }
    }

    /// What the companion is to show now.
    pub(crate) fn offered(&self, answer: &TicketAnswer) -> pb::Offered {
        let reference_ttl_ms = answer.reference_ttl_ms;
        match answer.ticket.method {
            Method::Qr => pb::Offered {
                reference: convert::raw(&answer.reference),
                qr_payload: self.qr_payload(answer),
                reference_ttl_ms,
                code: String::new(),
            },
            Method::Code { .. } => {
                let code = Code::from_letters(&answer.reference).map(|code| code.shown()).unwrap_or_default();
                pb::Offered { code, reference_ttl_ms, ..pb::Offered::default() }
            }
        }
    }

    /// `kindred://link/1?r=<ref>&k=<device key>&g=<region>`; docs/encoding.md.
    fn qr_payload(&self, answer: &TicketAnswer) -> String {
        let reference = URL_SAFE_NO_PAD.encode(&answer.reference);
        let key = URL_SAFE_NO_PAD.encode(answer.ticket.device_key.as_bytes());
        format!("kindred://link/1?r={reference}&k={key}&g={}", self.region_name(answer.ticket.id.region()))
    }
}
