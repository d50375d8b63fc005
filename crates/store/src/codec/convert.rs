//! Small parts that all conversions share.

use bytes::Bytes;
use kindred_core::id::{AccountId, ClaimId, DeviceKey, Digest, RegionIndex, RequestId, SessionId, Signature, TicketId};

use super::Malformed;
use crate::proto::storage::v1::Unit;

/// An id of fixed width.
pub(super) trait FixedId: Sized {
    /// Its name in an error.
    const NAME: &'static str;
    fn read(bytes: &[u8]) -> Option<Self>;
    fn raw(&self) -> &[u8];
}

macro_rules! fixed_ids {
    ($($id:ident: $name:literal),* $(,)?) => {
        $(impl FixedId for $id {
            const NAME: &'static str = $name;
            fn read(bytes: &[u8]) -> Option<Self> {
                Self::from_slice(bytes)
            }
            fn raw(&self) -> &[u8] {
                self.as_bytes()
            }
        })*
    };
}

fixed_ids! {
    SessionId: "width of a session id",
    TicketId: "width of a ticket id",
    RequestId: "width of a request id",
    ClaimId: "width of a claim id",
    DeviceKey: "width of a device key",
    Digest: "width of a digest",
    Signature: "width of a signature",
}

/// Reads an id; absent is the empty one and therefore malformed.
pub(super) fn id<T: FixedId>(bytes: &Bytes) -> Result<T, Malformed> {
    T::read(bytes).ok_or(Malformed(T::NAME))
}

pub(super) fn maybe_id<T: FixedId>(bytes: Option<&Bytes>) -> Result<Option<T>, Malformed> {
    bytes.map(id).transpose()
}

pub(super) fn ids<T: FixedId>(all: &[Bytes]) -> Result<Vec<T>, Malformed> {
    all.iter().map(id).collect()
}

pub(super) fn raw<T: FixedId>(id: &T) -> Bytes {
    Bytes::copy_from_slice(id.raw())
}

pub(super) fn raws<T: FixedId>(ids: &[T]) -> Vec<Bytes> {
    ids.iter().map(raw).collect()
}

pub(super) fn account(bytes: &Bytes) -> Result<AccountId, Malformed> {
    AccountId::new(bytes).ok_or(Malformed("length of an account id"))
}

pub(super) fn raw_account(id: &AccountId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(super) fn region(index: u32) -> Result<RegionIndex, Malformed> {
    u16::try_from(index).map(RegionIndex).map_err(|_| Malformed("region index"))
}

/// A message or arm that must be there.
pub(super) fn need<T>(part: Option<T>, what: &'static str) -> Result<T, Malformed> {
    part.ok_or(Malformed(what))
}

/// Converts a message that must be there.
pub(super) fn part<M, T: TryFrom<M, Error = Malformed>>(part: Option<M>, what: &'static str) -> Result<T, Malformed> {
    need(part, what)?.try_into()
}

/// Converts every message of a list.
pub(super) fn parts<M, T: TryFrom<M, Error = Malformed>>(all: Vec<M>) -> Result<Vec<T>, Malformed> {
    all.into_iter().map(T::try_from).collect()
}

/// Converts every item of a list for writing.
pub(super) fn each<'a, T, M: From<&'a T>>(all: &'a [T]) -> Vec<M> {
    all.iter().map(M::from).collect()
}

pub(super) const UNIT: Unit = Unit {};
