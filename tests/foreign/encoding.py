"""docs/encoding.md in Python: what is signed, hashed and shown. Knows nothing of gRPC and nothing of Rust."""

import base64
import hashlib
import hmac
import urllib.parse

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"


def canonical(*fields):
    """Each field with its length in front; integers as 8 bytes, what is absent (None) as length 0."""
    parts = []
    for field in fields:
        if field is None:
            field = b""
        elif isinstance(field, int):
            field = field.to_bytes(8, "big")
        elif isinstance(field, str):
            field = field.encode()
        parts += [len(field).to_bytes(4, "big"), field]
    return b"".join(parts)


def sha256(data):
    return hashlib.sha256(data).digest()


def from_base64url(text):
    """RFC 4648 section 5, without padding."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


# Proofs and approvals.


def arguments(*fields):
    """The hash of a method's arguments, which a proof covers."""
    return sha256(canonical("kindred/arguments/v1", *fields))


def device_fields(device):
    """What a device says of itself, in the order in which it is hashed."""
    return device.platform, device.app_version, device.display_name


def approval_fields(approval):
    """Arguments of ApproveTicket but for the signature and the number."""
    operation = "link-replacing" if approval.replaces else "link"
    return (
        approval.ticket,
        operation,
        approval.account,
        approval.auth_epoch,
        approval.device_key_hash,
        approval.replaces,
        approval.approver,
        approval.envelope_hash,
        approval.lifetime_ms,
    )


def proof_bytes(cluster, method, proof, hashed_arguments):
    return canonical(
        "kindred/proof/v1",
        cluster,
        method,
        proof.account,
        proof.session,
        proof.request_id,
        proof.auth_epoch,
        hashed_arguments,
        proof.nonce,
    )


def approval_bytes(cluster, approval):
    return canonical(
        "kindred/approval/v1",
        cluster,
        "link-replacing" if approval.replaces else "link",
        approval.account,
        approval.auth_epoch,
        approval.ticket,
        approval.device_key_hash,
        approval.replaces,
        approval.approver,
        approval.envelope_hash,
        approval.lifetime_ms,
    )


# Tickets.


def slot(device_key):
    return int.from_bytes(sha256(device_key)[:2], "big") >> 6


def ticket_id(region, device_key, request_id):
    return region.to_bytes(2, "big") + slot(device_key).to_bytes(2, "big") + sha256(device_key + request_id)[:12]


def qr_payload(text):
    """Ref, device key and region name of a QR code's text."""
    url = urllib.parse.urlsplit(text)
    if (url.scheme, url.netloc, url.path) != ("kindred", "link", "/1"):
        raise ValueError(f"no such payload: {text}")
    said = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    return from_base64url(said["r"]), from_base64url(said["k"]), said["g"]


def number_to_match(device_key, ticket):
    digest = sha256(canonical("kindred/number/v1", device_key, ticket))
    return f"{int.from_bytes(digest[:8], 'big') % 10_000:04}"


def plain_code(code):
    """A code as it is hashed: letters only, upper case."""
    return code.replace("-", "").replace(" ", "").upper()


# What only a cluster makes; here for the test vectors.


def keyed(ticket_key, *parts):
    return hmac.new(ticket_key, b"".join(parts), hashlib.sha256).digest()


def reference(ticket_key, ticket, window):
    window = window.to_bytes(2, "big")
    return ticket + window + keyed(ticket_key, b"ref", ticket, window)[:16]


def code_of(ticket_key, ticket):
    letters, more = "", b""
    while len(letters) < 8:
        letters += "".join(ALPHABET[byte % 20] for byte in keyed(ticket_key, b"code", ticket, more) if byte < 240)
        more = bytes([more[0] + 1 if more else 1])
    return f"{letters[:4]}-{letters[4:8]}"


def nonce(ticket_key, shard, shard_time_ms):
    time = shard_time_ms.to_bytes(8, "big")
    return time + keyed(ticket_key, b"nonce", shard.to_bytes(4, "big"), time)[:16]


# The chain of a session set.


def first_digest(account):
    return sha256(canonical("kindred/change/v1", account))


def change_bytes(before, version, added, ended):
    """`added`: (id, seq, device key) each; `ended`: (id, seq, number of the reason) each."""
    fields = ["kindred/change/v1", before, version]
    for session, seq, key in added:
        fields += ["+", session, seq, key]
    for session, seq, reason in ended:
        fields += ["-", session, seq, reason]
    return canonical(*fields)


class View:
    """A reader's view of a session set, which takes in nothing that does not follow."""

    def __init__(self, account):
        self.version = 0
        self.digest = first_digest(account)
        self.sessions = {}  # id → seq

    def take(self, change):
        """Takes in a SetChange."""
        added = [(record.session, record.seq, record.device_key) for record in change.added]
        ended = [(stone.session.session, stone.session.seq, stone.reason) for stone in change.ended]
        assert change.version == self.version + 1, f"version {change.version} after {self.version}"
        assert added or ended, f"change {change.version} is empty"
        digest = sha256(change_bytes(self.digest, change.version, added, ended))
        assert digest == change.digest, f"the digest of change {change.version} does not follow"
        sessions = dict(self.sessions)
        for session, seq, _ in added:
            assert session not in sessions, f"change {change.version} adds what is there"
            sessions[session] = seq
        for session, seq, _ in ended:
            assert sessions.pop(session, None) == seq, f"change {change.version} ends what is not there"
        self.version, self.digest, self.sessions = change.version, digest, sessions

    def agrees(self, version, digest, records=None):
        """Fails unless a heartbeat, list or snapshot is of this very set."""
        assert (version, digest) == (self.version, self.digest), f"version {version} is not our {self.version}"
        if records is not None:
            assert {record.session: record.seq for record in records} == self.sessions, "other sessions"
