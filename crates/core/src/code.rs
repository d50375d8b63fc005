//! What people type and compare: the code of a CODE ticket, and the number that both screens show before an approval. And
//! what an account's home knows of its codes.
//!
//! Neither code nor number is stored. The code follows from the region's ticket key and the ticket's id, the number from what both sides
//! know. The derivations are in docs/encoding.md, with test vectors; once shipped they never change.

use std::fmt;

use subtle::ConstantTimeEq as _;

use crate::canonical::{Canonical, TicketKey, hmac};
use crate::id::{DeviceKey, Digest, TicketId};
use crate::model::Requester;

/// Letters of a code: no vowels, so no words; nothing that looks like a digit.
pub const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters in a code.
pub const CODE_LEN: usize = 8;
/// Longest text that is looked at as a typed code: the letters with spaces and dashes to spare.
pub const CODE_TEXT_BYTES_MAX: usize = 32;
/// Tag of the bytes that the number to match is derived from.
pub const TAG_NUMBER: &str = "kindred/number/v1";
/// There are so many numbers to match: four digits.
pub const NUMBERS: u16 = 10_000;

/// Bytes from here on would favour the first letters of the alphabet, so they are passed over.
const UNBIASED: u8 = 240;

const _: () = assert!((UNBIASED as usize).is_multiple_of(ALPHABET.len()) && UNBIASED as usize + ALPHABET.len() > 256);

/// Eight letters. No Debug, no comparison but [`Self::matches`]: while its ticket is open a code is a secret.
#[derive(Clone)]
pub struct Code([u8; CODE_LEN]);

impl Code {
    /// Reads what a person typed: upper or lower case, with spaces and dashes anywhere. `None` for anything that cannot be
    /// a code: another number of letters, a letter that codes do not have, more than [`CODE_TEXT_BYTES_MAX`] bytes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > CODE_TEXT_BYTES_MAX {
            return None;
        }
        let letters: String = text.chars().filter(|c| *c != '-' && !c.is_whitespace()).collect();
        Self::from_letters(letters.to_ascii_uppercase().as_bytes())
    }

    /// Reads exactly [`CODE_LEN`] letters of [`ALPHABET`].
    pub fn from_letters(letters: &[u8]) -> Option<Self> {
        let letters: [u8; CODE_LEN] = letters.try_into().ok()?;
        letters.iter().all(|letter| ALPHABET.contains(letter)).then_some(Self(letters))
    }

    /// The letters, as they are signed and compared.
    pub fn letters(&self) -> &[u8; CODE_LEN] {
        &self.0
    }

    /// For the screen: `XXXX-XXXX`.
    pub fn shown(&self) -> String {
        let (left, right) = self.0.split_at(CODE_LEN / 2);
        [left, b"-", right].concat().into_iter().map(char::from).collect()
    }

    /// True if they are the same code; in constant time.
    pub fn matches(&self, typed: &Self) -> bool {
        self.0.ct_eq(&typed.0).into()
    }
}

impl TicketKey {
    /// The code of a CODE ticket. Every letter is as likely as any other: bytes that would favour some are passed over.
    pub fn code(&self, ticket: &TicketId) -> Code {
        let first = std::iter::once(hmac(&self.0, &[b"code", ticket.as_bytes()]));
        let later = (1..=u8::MAX).map(|block| hmac(&self.0, &[b"code", ticket.as_bytes(), &[block]]));
        // That the first block does not do happens once in 10^23 tickets.
        let letters = first.chain(later).flat_map(|block| block.0).filter(|byte| *byte < UNBIASED);
        let mut code = [ALPHABET[0]; CODE_LEN];
        for (place, byte) in code.iter_mut().zip(letters) {
            *place = ALPHABET[usize::from(byte % 20)];
        }
        Code(code)
    }

    /// Tells one try from another in the log without telling what was typed: nobody without the key can go through all
    /// codes to find the one that it stands for.
    pub fn tried(&self, ticket: &TicketId, typed: &Code) -> Digest {
        hmac(&self.0, &[b"tried", ticket.as_bytes(), typed.letters()])
    }
}

/// The number that both screens show: four digits that follow from the companion's device key and the ticket.
///
/// It tells two requests apart that are open at the same time. It is no proof against a cluster that lies about the key:
/// whoever makes keys can try until the four digits fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchNumber(u16);

impl MatchNumber {
    /// The number of this key and ticket: the first 8 bytes of a SHA-256, modulo [`NUMBERS`].
    pub fn of(device_key: &DeviceKey, ticket: &TicketId) -> Self {
        let digest = Canonical::new(TAG_NUMBER).bytes(device_key.as_bytes()).bytes(ticket.as_bytes()).digest();
        let mut head = [0; 8];
        head.copy_from_slice(&digest.0[..8]);
        Self(u16::try_from(u64::from_be_bytes(head) % u64::from(NUMBERS)).unwrap_or_default())
    }

    /// Reads a number below [`NUMBERS`].
    pub fn new(number: u32) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| *number < NUMBERS).map(Self)
    }

    /// Reads exactly four digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok().map(Self)).flatten()
    }

    /// As a number, below [`NUMBERS`].
    pub fn number(self) -> u32 {
        self.0.into()
    }
}

impl fmt::Display for MatchNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

/// The codes of an account, at its home. Goes by itself once nothing in it matters any more.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Codes {
    /// The latest one; at most one can be typed.
    pub attached: Option<AttachedCode>,
    /// Tickets that will not be attached (again), oldest first; at most [`crate::limits::CODES_OVER_MAX`].
    pub over: Vec<TicketId>,
    /// Shard time of the home at which the record goes.
    pub until_ms: u64,
}

/// A CODE ticket that names this account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedCode {
    /// The ticket.
    pub ticket: TicketId,
    /// Who asks, for the account's watches.
    pub requester: Requester,
    /// When it was attached, shard time of the home.
    pub attached_at_ms: u64,
    /// What a newer one means to it.
    pub standing: Standing,
}

/// Where an attached code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has typed it; a newer one replaces it.
    Waiting,
    /// It was typed, and somebody decides; newer ones are not attached.
    Held,
    /// Its ticket takes no codes any more. Still named, so that whoever types it late hears why; a newer one replaces it.
    Over,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_code_is_read_whatever_its_case_and_spacing_and_nothing_else_is() {
        let code = Code::from_letters(b"BCDFGHJK").unwrap();
        assert_eq!(code.shown(), "BCDF-GHJK");
        for typed in ["BCDF-GHJK", "bcdfghjk", " b c d f - g h j k ", "BcDf--GhJk", "BCDF\u{a0}GHJK"] {
            assert!(Code::parse(typed).is_some_and(|typed| code.matches(&typed)), "{typed}");
        }
        assert!(!code.matches(&Code::parse("BCDF-GHJL").unwrap()));
        let long = "B".repeat(1 << 20);
        for typed in ["", "BCDF-GHJ", "BCDF-GHJKL", "ACDF-GHJK", "1CDF-GHJK", "BCDF_GHJK", "ßCDFGHJK", &long] {
            assert!(Code::parse(typed).is_none(), "{typed}");
        }
    }

    #[test]
    fn codes_use_every_letter_at_every_place_about_equally_often() {
        let key = TicketKey([7; 32]);
        let mut counts = [[0u32; 20]; CODE_LEN];
        for n in 0u64..20_000 {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&n.to_be_bytes());
            for (place, letter) in key.code(&TicketId(id)).letters().iter().enumerate() {
                counts[place][ALPHABET.iter().position(|l| l == letter).unwrap()] += 1;
            }
        }
        // 1,000 expected, with a standard deviation of 31. A plain `% 20` gives the first 16 letters 1,016 and the last
        // four 938 in the mean, which the sums over all places tell apart.
        assert!(counts.iter().flatten().all(|n| (800..1_200).contains(n)), "{counts:?}");
        let last_four: u32 = counts.iter().flat_map(|of_place| &of_place[16..]).sum();
        assert!((31_200..32_800).contains(&last_four), "{last_four} of 160,000, not a fifth");
    }

    #[test]
    fn a_number_is_four_digits() {
        let number = MatchNumber::of(&DeviceKey([1; 32]), &TicketId([2; 16]));
        assert_eq!(MatchNumber::parse(&number.to_string()), Some(number));
        assert_eq!(MatchNumber::new(number.number()), Some(number));
        assert_eq!(MatchNumber::parse("0042").unwrap().to_string(), "0042");
        for text in ["", "42", "00042", "+042", "12a4", "10 0"] {
            assert_eq!(MatchNumber::parse(text), None, "{text}");
        }
        assert_eq!(MatchNumber::new(10_000), None);
    }
}
