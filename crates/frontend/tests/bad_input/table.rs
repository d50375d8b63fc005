//! The table. A new rpc gets a row here, with an expectation for every case, and a function that makes its requests.

use kindred_wire::reason::Reason;

/// How a request is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// No bytes at all.
    Empty,
    /// A field over its bound, in a message that is small enough.
    Oversized,
    /// A message over the bound of all messages.
    TooLarge,
    /// Bytes that are no protobuf.
    Malformed,
    /// An id, key or digest of another length.
    WrongLength,
    /// Signed by another key than the one that must have signed.
    WrongKey,
    /// By a session that has ended, or about a ticket whose time is over.
    Expired,
    /// The caller waits no longer, and the shards have not answered.
    Deadline,
    /// The very same bytes a second time, after they were done.
    Replayed,
    /// A proof that is good for another method.
    Transplanted,
    /// By or about an account that is not the caller's.
    ForeignAccount,
    /// By every role that may not call it.
    WrongRole,
    /// Names a region that is not the one.
    WrongRegion,
    /// Names a region that there is not.
    UnknownRegion,
    /// A number that no enum has.
    UnknownEnum,
}

/// All of them, in the order of every row.
pub const CASES: [Case; 15] = [
    Case::Empty,
    Case::Oversized,
    Case::TooLarge,
    Case::Malformed,
    Case::WrongLength,
    Case::WrongKey,
    Case::Expired,
    Case::Deadline,
    Case::Replayed,
    Case::Transplanted,
    Case::ForeignAccount,
    Case::WrongRole,
    Case::WrongRegion,
    Case::UnknownRegion,
    Case::UnknownEnum,
];

/// What must come of it. But for `Done`, no record of any shard may change; replies that are kept are new records.
#[derive(Debug, PartialEq, Eq)]
pub enum Expect {
    /// A status with this reason.
    Reason(Reason),
    /// INVALID_REQUEST that names this field.
    Field(&'static str),
    /// The answer has this reason in it as data, with this field in its metadata.
    Told(Reason, &'static str),
    /// The same answer as before.
    Same,
    /// An answer like any other, and why.
    Answered(&'static str),
    /// It is done like any other, and why.
    Done(&'static str),
    /// There is no such case, and why.
    Na(&'static str),
}

/// A method, `package.Service/Method`, with what each case must come to.
pub struct Row {
    pub method: &'static str,
    pub expect: &'static [(Case, Expect)],
}

use Case as C;
use Expect::{Answered, Done, Field, Na, Same, Told};

const fn no(reason: Reason) -> Expect {
    Expect::Reason(reason)
}

const INVALID: Expect = no(Reason::InvalidRequest);
const UNPROVEN: Expect = no(Reason::ProofInvalid);
const UNKNOWN: Expect = no(Reason::OutcomeUnknown);
const FORBIDDEN: Expect = no(Reason::CallerNotAllowed);
const NO_TICKET: Expect = no(Reason::TicketNotFound);
const SIGNED_OUT: Expect = no(Reason::SignedOut);

const NO_PROOF: Expect = Na("it carries no proof: gateways ask, and prove themselves by certificate");
const NO_REGION: Expect = Na("it names no region");
const NO_ENUM: Expect = Na("it has no enum");
const NOTHING_EXPIRES: Expect = Na("nothing in it expires");
const HINT: Expect = Answered("home_region is a hint; the directory tells");
const HINTED: Expect = Done("home_region is a hint; the directory tells, and it is done at home");

pub const TABLE: &[Row] = &[
    Row {
        method: "kindred.account.v1.Account/GetAccount",
        expect: &[
            (C::Empty, Field("account")),
            (C::Oversized, Field("account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Na("an account's id may have any length that is not too large")),
            (C::WrongKey, NO_PROOF),
            (C::Expired, NOTHING_EXPIRES),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, NO_PROOF),
            (C::ForeignAccount, no(Reason::AccountNotFound)),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINT),
            (C::UnknownRegion, HINT),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.account.v1.Account/GetCluster",
        expect: &[
            (C::Empty, Answered("its message has no fields")),
            (C::Oversized, Na("it has no fields")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Na("it has no fields")),
            (C::WrongKey, NO_PROOF),
            (C::Expired, NOTHING_EXPIRES),
            (C::Deadline, Na("it asks no shard")),
            (C::Replayed, Same),
            (C::Transplanted, NO_PROOF),
            (C::ForeignAccount, Na("it names no account")),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, NO_REGION),
            (C::UnknownRegion, NO_REGION),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.account.v1.Account/Register",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("device.platform")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("device_key")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, NOTHING_EXPIRES),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, no(Reason::AccountExists)),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, Done("a new account may live in any region")),
            (C::UnknownRegion, Field("home_region")),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.account.v1.Account/SetLimit",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("limit")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("proof.request_id")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, SIGNED_OUT),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINTED),
            (C::UnknownRegion, HINTED),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.admin.v1.Admin/ExportAccounts",
        expect: &[
            (C::Empty, Answered("no cursor is the beginning")),
            (C::Oversized, Field("after.account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Na("an account's id may have any length that is not too large")),
            (C::WrongKey, NO_PROOF),
            (C::Expired, NOTHING_EXPIRES),
            (C::Deadline, Na("a caller's deadline bounds the beginning of a stream, and this one begins at once")),
            (C::Replayed, Same),
            (C::Transplanted, NO_PROOF),
            (C::ForeignAccount, Answered("the cursor need not name an account that is still there")),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, Answered("a shard that is over is passed over")),
            (C::UnknownRegion, Answered("behind the last shard the export is over")),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.admin.v1.Admin/ImportAccounts",
        expect: &[
            (C::Empty, Answered("no items, no results")),
            (C::Oversized, Field("items")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Told(Reason::InvalidRequest, "request_id")),
            (C::WrongKey, NO_PROOF),
            (C::Expired, NOTHING_EXPIRES),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Answered("the second time it says `again`")),
            (C::Transplanted, NO_PROOF),
            (C::ForeignAccount, Told(Reason::AccountExists, "")),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, Done("the operator says where an account comes to live")),
            (C::UnknownRegion, Told(Reason::InvalidRequest, "home_region")),
            (C::UnknownEnum, Told(Reason::InvalidRequest, "session.role")),
        ],
    },
    Row {
        method: "kindred.pairing.v1.Pairing/ApproveTicket",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("envelope")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("approval.device_key_hash")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, no(Reason::TicketExpired)),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, NO_TICKET),
            (C::UnknownRegion, NO_TICKET),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.pairing.v1.Pairing/CancelTicket",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("proof.account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("ticket")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, Told(Reason::TicketExpired, "")),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, NO_TICKET),
            (C::UnknownRegion, NO_TICKET),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.pairing.v1.Pairing/DenyTicket",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("proof.account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("ticket")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, no(Reason::TicketExpired)),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, NO_TICKET),
            (C::UnknownRegion, NO_TICKET),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.pairing.v1.Pairing/OpenTicket",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("requester.location")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("device_key")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, NOTHING_EXPIRES),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, Na("a ticket is opened in the region of the node that is called")),
            (C::UnknownRegion, Na("a ticket is opened in the region of the node that is called")),
            (C::UnknownEnum, Field("method")),
        ],
    },
    Row {
        method: "kindred.pairing.v1.Pairing/ScanTicket",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("code")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("reference")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, no(Reason::TicketExpired)),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, NO_TICKET),
            (C::UnknownRegion, NO_TICKET),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.pairing.v1.Pairing/WatchTicket",
        expect: &[
            (C::Empty, Field("ticket")),
            (C::Oversized, UNPROVEN),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("ticket")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, Told(Reason::TicketExpired, "")),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, NO_TICKET),
            (C::UnknownRegion, NO_TICKET),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.session.v1.Session/ListSessions",
        expect: &[
            (C::Empty, Field("account")),
            (C::Oversized, Field("account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Na("an account's id may have any length that is not too large")),
            (C::WrongKey, NO_PROOF),
            (C::Expired, NOTHING_EXPIRES),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, NO_PROOF),
            (C::ForeignAccount, no(Reason::AccountNotFound)),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINT),
            (C::UnknownRegion, HINT),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.session.v1.Session/Reconcile",
        expect: &[
            (C::Empty, Field("account")),
            (C::Oversized, Field("sessions")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("set_digest")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, SIGNED_OUT),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINT),
            (C::UnknownRegion, HINT),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.session.v1.Session/Unlink",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("proof.account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("session")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, SIGNED_OUT),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, no(Reason::SessionUnknown)),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINTED),
            (C::UnknownRegion, HINTED),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.session.v1.Session/UnlinkOthers",
        expect: &[
            (C::Empty, Field("proof")),
            (C::Oversized, Field("proof.account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("proof.session")),
            (C::WrongKey, UNPROVEN),
            (C::Expired, SIGNED_OUT),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, UNPROVEN),
            (C::ForeignAccount, UNPROVEN),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINTED),
            (C::UnknownRegion, HINTED),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.session.v1.Session/Validate",
        expect: &[
            (C::Empty, Field("account")),
            (C::Oversized, Field("account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("session")),
            (C::WrongKey, NO_PROOF),
            (C::Expired, Told(Reason::SignedOut, "")),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, NO_PROOF),
            (C::ForeignAccount, Told(Reason::SessionUnknown, "")),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINT),
            (C::UnknownRegion, HINT),
            (C::UnknownEnum, Field("level")),
        ],
    },
    Row {
        method: "kindred.session.v1.Session/WatchAccount",
        expect: &[
            (C::Empty, Field("account")),
            (C::Oversized, Field("account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Na("an account's id may have any length that is not too large")),
            (C::WrongKey, NO_PROOF),
            (C::Expired, NOTHING_EXPIRES),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, NO_PROOF),
            (C::ForeignAccount, no(Reason::AccountNotFound)),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINT),
            (C::UnknownRegion, HINT),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
    Row {
        method: "kindred.session.v1.Session/WhySignedOut",
        expect: &[
            (C::Empty, Field("account")),
            (C::Oversized, Field("account")),
            (C::TooLarge, INVALID),
            (C::Malformed, INVALID),
            (C::WrongLength, Field("session")),
            (C::WrongKey, Field("device_key")),
            (C::Expired, Answered("this is the call that tells why")),
            (C::Deadline, UNKNOWN),
            (C::Replayed, Same),
            (C::Transplanted, NO_PROOF),
            (C::ForeignAccount, no(Reason::SessionUnknown)),
            (C::WrongRole, FORBIDDEN),
            (C::WrongRegion, HINT),
            (C::UnknownRegion, HINT),
            (C::UnknownEnum, NO_ENUM),
        ],
    },
];
