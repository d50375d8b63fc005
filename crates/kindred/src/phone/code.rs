//! Pairing by a code that the owner types, and by a number that the owner compares.

use kindred_client::Approve;
use kindred_core::code::{Code, MatchNumber};
use kindred_core::id::{DeviceKey, SessionId, TicketId};
use kindred_wire::pb::pairing::v1::ScanTicketReply;

use super::{Phone, ask, settle, show, ticket_in, usage};
use crate::output::{Exit, Output, exit};

/// What the flags say of a pairing by code.
pub(super) struct Typed {
    pub(super) code: Code,
    /// The number on the companion's screen, if the command line has it.
    pub(super) number: Option<MatchNumber>,
}

impl Typed {
    pub(super) fn parse(code: &str, number: Option<&str>) -> anyhow::Result<Self> {
        let wrong_code = || anyhow::anyhow!("a code has eight letters, without vowels: XXXX-XXXX");
        let wrong_number = || anyhow::anyhow!("the number to match has four digits");
        let code = usage(Code::parse(code).ok_or_else(wrong_code))?;
        let number = number.map(|number| usage(MatchNumber::parse(number).ok_or_else(wrong_number))).transpose()?;
        Ok(Self { code, number })
    }
}

/// Who asks, once the code was right.
struct Asking {
    reply: ScanTicketReply,
    ticket: TicketId,
    device_key: DeviceKey,
}

impl Asking {
    fn number(&self) -> MatchNumber {
        MatchNumber::of(&self.device_key, &self.ticket)
    }
}

impl Phone {
    pub(super) async fn pair_code(
        &mut self,
        typed: &Typed,
        yes: bool,
        replacing: Option<SessionId>,
    ) -> anyhow::Result<()> {
        if yes && typed.number.is_none() {
            let error = "with --yes nobody compares the numbers; add the one on the other screen: --number NNNN";
            return Err(Exit::error(exit::USAGE, error));
        }
        let asking = self.scan_typed(&typed.code).await?;
        match self.output {
            Output::Table => print!("{}", show::question(&self.member, &asking.reply)),
            // For a person; a program reads only what came of it.
            Output::Json if !yes => eprint!("{}", show::question(&self.member, &asking.reply)),
            Output::Json => {}
        }
        let number = asking.number();
        matching(typed.number.unwrap_or(number), number)?;
        if !yes && !ask(&format!("Does the other device show {number}, too? Then link it?"))? {
            return self.deny(&asking.ticket).await;
        }
        self.approve_matched(&asking, replacing).await
    }

    pub(super) async fn scan_code(&mut self, typed: &Typed) -> anyhow::Result<()> {
        let asking = self.scan_typed(&typed.code).await?;
        show::scanned(&self.member, &asking.reply, self.output)?;
        if self.output == Output::Table {
            println!(
                "If the other device shows {number}, too: kindred phone --keys {} approve --code {} --number {number}",
                self.file.path().display(),
                typed.code.shown(),
                number = asking.number(),
            );
        }
        Ok(())
    }

    /// Types the code once more, which tells whose key it is, and approves under the number from the command line.
    pub(super) async fn approve_code(&mut self, typed: &Typed, replacing: Option<SessionId>) -> anyhow::Result<()> {
        let asking = self.scan_typed(&typed.code).await?;
        let number = typed.number.ok_or_else(|| Exit::error(exit::USAGE, "a code needs --number NNNN, too"))?;
        matching(number, asking.number())?;
        self.approve_matched(&asking, replacing).await
    }

    async fn scan_typed(&mut self, code: &Code) -> anyhow::Result<Asking> {
        let request = self.file.begin(&format!("scan code {}", code.shown()))?;
        let result = self.client.scan_code(&mut self.member, code, request).await;
        let reply = settle(&mut self.file, "scan", result)?;
        let no_key = || Exit::error(exit::FAILED, "scan: the answer names no device key");
        let device_key = DeviceKey::from_slice(&reply.device_key).ok_or_else(no_key)?;
        Ok(Asking { ticket: ticket_in(&reply)?, device_key, reply })
    }

    async fn approve_matched(&mut self, asking: &Asking, replaces: Option<SessionId>) -> anyhow::Result<()> {
        let (ticket, device_key) = (asking.ticket, asking.device_key);
        let what = Approve { ticket, device_key, replaces, envelope: Vec::new() };
        let victim = replaces.map_or_else(String::new, |session| format!(" replacing {session}"));
        let request = self.file.begin(&format!("approve {ticket}{victim}"))?;
        let result = self.client.approve_with_number(&self.member, &what, asking.number(), request).await;
        let receipt = settle(&mut self.file, "approve", result)?;
        show::linked(&self.member, &receipt, replaces, self.output)
    }
}

/// Two numbers mean two requests: the one on the phone is not the one that the owner sits before.
fn matching(seen: MatchNumber, here: MatchNumber) -> anyhow::Result<()> {
    if seen == here {
        return Ok(());
    }
    let error =
        format!("the other device shows {seen}, and this request has {here}: somebody else asks; do not approve");
    Err(Exit::error(exit::REFUSED, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_or_number_that_cannot_be_one_is_a_wrong_command_line() {
        for (code, number) in [("BCDF-GHJ", None), ("hello you", None), ("BCDF-GHJK", Some("42"))] {
            let Err(error) = Typed::parse(code, number) else { panic!("{code} {number:?} was read") };
            assert_eq!(error.downcast_ref::<Exit>().unwrap().code, exit::USAGE);
        }
        assert_eq!(Typed::parse("bcdf ghjk", Some("0042")).unwrap().code.shown(), "BCDF-GHJK");
    }
}
