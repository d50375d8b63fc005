//! Identifiers. Opaque outside, fixed width inside, ordered so that no map iteration can leak chance into a result.

use std::fmt;

/// Writes bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// Reads lower- or upper-case hexadecimal; `None` if `text` is not whole bytes of it.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        })
        .collect()
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Width in bytes.
            pub const LEN: usize = $len;

            /// Reads exactly [`Self::LEN`] bytes; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex(&self.0))
            }
        }
    };
}

bytes_id!(
    /// A session. Derived from the committing log entry, never from the live set, and never reused (I4).
    SessionId, 16
);
bytes_id!(
    /// A pairing ticket: region index (2) ‖ slot (2) ‖ first 12 bytes of SHA-256(device key ‖ request id).
    TicketId, 16
);
bytes_id!(
    /// Idempotency key of one request, chosen by the caller; also the name of the command that it became.
    RequestId, 16
);
bytes_id!(
    /// The claim under which an account was registered.
    ClaimId, 16
);
bytes_id!(
    /// Ed25519 public key of one installation of the app.
    DeviceKey, 32
);
bytes_id!(
    /// A SHA-256 value.
    Digest, 32
);
bytes_id!(
    /// An Ed25519 signature.
    Signature, 64
);
bytes_id!(
    /// A Kindred cluster. Random, made once when the cluster is formed.
    ClusterId, 16
);

impl TicketId {
    /// Composes the id, so that a retried Open by the same device finds the same ticket.
    pub fn compose(region: RegionIndex, slot: Slot, device_key: &DeviceKey, request: &RequestId) -> Self {
        let digest = crate::canonical::sha256(&[device_key.as_bytes(), request.as_bytes()]);
        let mut id = [0; 16];
        id[..2].copy_from_slice(&region.0.to_be_bytes());
        id[2..4].copy_from_slice(&slot.0.to_be_bytes());
        id[4..].copy_from_slice(&digest.0[..12]);
        Self(id)
    }

    /// The region that opened the ticket and keeps it for its whole life.
    pub fn region(&self) -> RegionIndex {
        RegionIndex(u16::from_be_bytes([self.0[0], self.0[1]]))
    }

    /// The slot within [`Self::region`]; not yet checked against [`Slot::COUNT`].
    pub fn slot(&self) -> Slot {
        Slot(u16::from_be_bytes([self.0[2], self.0[3]]))
    }
}

/// Owner of a session set: an opaque id of 1 to 64 bytes, chosen by the operator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(std::sync::Arc<[u8]>);

impl AccountId {
    /// `None` if `bytes` is empty or longer than [`crate::limits::ACCOUNT_ID_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=crate::limits::ACCOUNT_ID_BYTES_MAX).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => f.write_str(text),
            _ => write!(f, "0x{}", hex(&self.0)),
        }
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({self})")
    }
}

/// Position of a region in the cluster's region list. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionIndex(pub u16);

/// One of [`Slot::COUNT`] hash ranges of a region's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// Slots per region.
    pub const COUNT: u16 = 1024;

    /// First ten bits of SHA-256(`key`).
    pub fn of(key: &[u8]) -> Self {
        let digest = crate::canonical::sha256(&[key]);
        Self(u16::from_be_bytes([digest.0[0], digest.0[1]]) >> 6)
    }
}

/// One Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
