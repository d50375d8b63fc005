"""Recomputes every test vector of docs/encoding.md, as the page stands, so that page and client cannot drift apart."""

from types import SimpleNamespace

import ed25519
import encoding
from encoding import arguments, sha256

# What the page says of the people in its vectors.
CLUSTER, TICKET_KEY = b"\xc1" * 16, b"\x44" * 32
PHONE, COMPANION = b"\x01" * 32, b"\x02" * 32
ACCOUNT, EPOCH = "ann", 1
REQUEST, CALLER, VICTIM, THIRD = b"\x22" * 16, b"\x33" * 16, b"\x55" * 16, b"\x66" * 16
DEVICE = ("web", "1.2.3", "Ann's laptop")
REPLACED_BY_LINK, USER_UNLINKED_FROM_PRIMARY = 5, 1

# On the page once server nonces are; all of them or none.
OF_NONCES = {
    "nonce, shard 100, 60 s",
    "arguments ReplacePrimary, keep",
    "arguments ReplacePrimary, end",
    "arguments Delete",
    "arguments Pin",
    "arguments Pin, let go",
    "arguments RotateDeviceKey",
    "proof bytes, Unlink, nonce",
    "proof signature, Unlink, nonce",
    "possession bytes, Rotate",
    "possession signature, Rotate",
}


def read(page):
    """Name and value of each line in a fenced block behind the heading "Test vectors"."""
    found, is_fenced = {}, False
    for line in page.split("\n## Test vectors\n", 1)[1].splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced and line.strip():
            name, value = line.rsplit(None, 1)
            assert name.strip() not in found, f"{name} is there twice"
            found[name.strip()] = value
    return found


def compute():
    """The same by our own means: names and values."""
    phone, companion = ed25519.public_key(PHONE), ed25519.public_key(COMPANION)
    ticket = encoding.ticket_id(1, companion, REQUEST)
    vectors = {
        "phone public key": phone,
        "companion public key": companion,
        "slot": encoding.slot(companion).to_bytes(2, "big"),
        "ticket id": ticket,
        "ref, window 3": encoding.reference(TICKET_KEY, ticket, 3),
        "watch secret": encoding.keyed(TICKET_KEY, b"watch", ticket),
        "code": encoding.code_of(TICKET_KEY, ticket),
        "number to match": encoding.number_to_match(companion, ticket),
        "nonce, shard 100, 60 s": encoding.nonce(TICKET_KEY, 100, 60_000),
        **account_arguments(phone, companion),
        **ticket_arguments(companion, ticket),
        **approvals(companion, ticket),
        **unlinks(),
        **rotation(companion),
        **chain(phone, companion),
    }
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in vectors.items()}


def account_arguments(phone, companion):
    replace = (ACCOUNT, companion, *DEVICE)
    return {
        "arguments Register": arguments(ACCOUNT, phone, *DEVICE),
        "arguments SetLimit 5": arguments(ACCOUNT, 5),
        "arguments Unlink": arguments(ACCOUNT, VICTIM),
        "arguments UnlinkOthers": arguments(ACCOUNT, CALLER),
        "arguments ReplacePrimary, keep": arguments(*replace, 1),
        "arguments ReplacePrimary, end": arguments(*replace, 0),
        "arguments Delete": arguments(ACCOUNT),
        "arguments Pin": arguments(ACCOUNT, VICTIM, 1),
        "arguments Pin, let go": arguments(ACCOUNT, VICTIM, 0),
        "arguments RotateDeviceKey": arguments(ACCOUNT, CALLER, companion),
    }


def ticket_arguments(companion, ticket):
    code = encoding.code_of(TICKET_KEY, ticket)
    opened = (companion, *DEVICE, "Lyon")
    return {
        "arguments OpenTicket": arguments(*opened),
        "arguments OpenTicket, code": arguments(*opened, "code", ACCOUNT),
        "arguments WatchTicket": arguments(ticket),
        "arguments ScanTicket": arguments(encoding.reference(TICKET_KEY, ticket, 3)),
        "arguments ScanTicket, code": arguments(None, encoding.plain_code(code)),
        "arguments DenyTicket": arguments(ticket),
        "arguments CancelTicket": arguments(ticket),
    }


def approvals(companion, ticket):
    plain = SimpleNamespace(
        ticket=ticket,
        account=ACCOUNT,
        auth_epoch=EPOCH,
        device_key_hash=sha256(companion),
        replaces=b"",
        approver=CALLER,
        envelope_hash=sha256(b"hello"),
        lifetime_ms=160_000,
    )
    replacing = SimpleNamespace(**{**vars(plain), "replaces": VICTIM})
    signed = encoding.approval_bytes(CLUSTER, plain)
    signed_replacing = encoding.approval_bytes(CLUSTER, replacing)
    signature = ed25519.sign(PHONE, signed)
    number = encoding.number_to_match(companion, ticket)
    return {
        "approval bytes": signed,
        "approval signature": signature,
        "approval bytes, replacing": signed_replacing,
        "approval signature, replacing": ed25519.sign(PHONE, signed_replacing),
        "arguments ApproveTicket": arguments(*encoding.approval_fields(plain), signature),
        "arguments ApproveTicket, number": arguments(*encoding.approval_fields(plain), signature, number),
    }


def proof(method, hashed, session=CALLER, epoch=EPOCH, nonce=b""):
    said = SimpleNamespace(account=ACCOUNT, session=session, request_id=REQUEST, auth_epoch=epoch, nonce=nonce)
    return encoding.proof_bytes(CLUSTER, method, said, hashed)


def unlinks():
    nonce = encoding.nonce(TICKET_KEY, 100, 60_000)
    method, hashed = "kindred.session.v1.Session/Unlink", arguments(ACCOUNT, VICTIM)
    bare, with_nonce = proof(method, hashed), proof(method, hashed, nonce=nonce)
    return {
        "proof bytes, Unlink": bare,
        "proof signature, Unlink": ed25519.sign(PHONE, bare),
        "proof bytes, Unlink, nonce": with_nonce,
        "proof signature, Unlink, nonce": ed25519.sign(PHONE, with_nonce),
    }


def rotation(companion):
    nonce = encoding.nonce(TICKET_KEY, 100, 60_000)
    hashed = arguments(ACCOUNT, CALLER, companion)
    possession = proof("kindred.session.v1.Session/RotateDeviceKey", hashed, None, 0, nonce)
    return {
        "possession bytes, Rotate": possession,
        "possession signature, Rotate": ed25519.sign(COMPANION, possession),
    }


def chain(phone, companion):
    vectors = {"digest, set_version 0": encoding.first_digest(ACCOUNT)}
    changes = [
        ([(CALLER, 1, phone)], []),
        ([(VICTIM, 2, companion)], []),
        ([(THIRD, 3, phone)], [(VICTIM, 2, REPLACED_BY_LINK)]),
        ([], [(THIRD, 3, USER_UNLINKED_FROM_PRIMARY)]),
    ]
    for version, (added, ended) in enumerate(changes, 1):
        before = vectors[f"digest, set_version {version - 1}"]
        data = encoding.change_bytes(before, version, added, ended)
        if version > 1:
            vectors[f"bytes of change {version}"] = data
        vectors[f"digest, set_version {version}"] = sha256(data)
    digest = arguments(ACCOUNT, 2, "digest", vectors["digest, set_version 2"])
    listed = arguments(ACCOUNT, 2, "list", CALLER, 1, VICTIM, 2)
    signed = proof("kindred.session.v1.Session/Reconcile", listed)
    return {
        **vectors,
        "arguments Reconcile, digest": digest,
        "arguments Reconcile, list": listed,
        "proof bytes, Reconcile, list": signed,
        "proof signature, Reconcile, list": ed25519.sign(PHONE, signed),
    }


def check(page):
    """Raises AssertionError unless the page's vectors are exactly ours; returns how many there are."""
    on_page, ours = read(page), compute()
    unknown = sorted(on_page.keys() - ours.keys())
    assert not unknown, f"vectors that this client cannot make: {unknown}"
    missing = ours.keys() - on_page.keys()
    assert missing in (set(), OF_NONCES), f"vectors that the page lacks: {sorted(missing)}"
    wrong = [f"{name}: {on_page[name]} on the page, {ours[name]} here" for name in on_page if on_page[name] != ours[name]]
    assert not wrong, "vectors that differ:\n" + "\n".join(wrong)
    return len(on_page)


def has_nonces(page):
    """Whether the page asks for server nonces."""
    return OF_NONCES <= read(page).keys()
