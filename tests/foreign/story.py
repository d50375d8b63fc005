"""What the foreign client does with a cluster: every step checks what `proto/` and `docs/` promise of it."""

import os

import encoding
from kindred_foreign import Cluster, Device, Reason, Refused, account, model, read_tls, session

HISTORY = b"for the companion only"
# Events of an account's watch that may come between two changes.
BETWEEN = ("heartbeat", "records", "link_requested", "link_request_over")


def play(addresses, tls, has_nonces):
    """Raises at the first thing that does not hold."""
    story = Story(Cluster(addresses, read_tls(tls) if tls else None))
    for chapter in (
        story.registers,
        story.links_by_qr,
        story.links_from_elsewhere,
        story.refuses_what_is_not_signed_well,
        story.unlinks_and_says_why,
        story.links_by_code,
        story.replaces,
        story.takes_no_for_an_answer,
        story.refuses_at_the_limit,
        story.ends_others,
        story.reconciles,
    ):
        chapter()
        print(f"ok: {chapter.__doc__.rstrip('.')}", flush=True)
    stale, brought = story.phone.stale, story.phone.brought
    assert (stale > 0, brought > 0) == (has_nonces, has_nonces), f"NONCE_STALE {stale} times, nonces in {brought} replies"
    print(f"ok: nonces as the page has it: NONCE_STALE {stale} times, nonces in {brought} replies to the phone")


def refusal(reason, act):
    """What the act was refused with; fails if it was not, or with another reason."""
    try:
        said = act()
    except Refused as refused:
        assert refused.reason == reason, f"{refused}, not {reason}"
        return refused
    raise AssertionError(f"not {reason}: {said}")


def until(stream, wanted, *passed):
    """The next event of this kind; only `passed` may come before it."""
    for event in stream:
        kind = event.WhichOneof("event")
        if kind == wanted:
            return getattr(event, kind)
        assert kind in passed, f"{kind} before {wanted}"
    raise AssertionError(f"the stream ended before {wanted}")


class Story:
    """One household and what it holds to be true."""

    def __init__(self, cluster):
        assert len(cluster.id) == 16 and cluster.regions, "GetCluster says nothing"
        self.cluster = cluster
        self.account = b"ann-" + os.urandom(8)
        self.phone = Device(cluster, "android", "Ann's phone")
        self.view = encoding.View(self.account)
        self.told = None
        self.laptop = self.desk = None

    def device(self, platform, node=0):
        return Device(self.cluster, platform, f"Ann's {platform}", node)

    def change(self, version):
        """The next change on the account's watch. The view has checked that it follows."""
        change = until(self.told, "change", *BETWEEN)
        assert change.version == version == self.view.version, f"change {change.version}, not {version}"
        return change

    def listed(self, node=0):
        """The sessions as listed, which must be those of our view."""
        said = self.cluster.list_sessions(self.account, node)
        self.view.agrees(said.set_version, said.set_digest, said.sessions)
        return {record.session: record for record in said.sessions}

    def pair(self, companion, envelope=b"", replaces=b""):
        """A whole pairing by QR code; returns the receipt."""
        opened = companion.open()
        reference, key, _ = encoding.qr_payload(opened.qr_payload)
        events = companion.watch(opened.ticket)
        until(events, "offered")
        scanned = self.phone.scan(reference)
        until(events, "scanned", "offered")
        receipt = self.phone.approve(self.phone.approval(scanned, key, envelope, replaces), envelope)
        linked = until(events, "linked", "approved")
        assert (linked.account, linked.session, linked.receipt) == (self.account, receipt.session, receipt)
        assert linked.envelope == envelope, "another envelope"
        companion.linked(linked)
        by_secret = until(companion.watch(opened.ticket, opened.watch_secret), "linked")
        assert (by_secret.receipt, by_secret.envelope) == (receipt, b""), "a secret opened the envelope"
        return receipt

    def registers(self):
        """an account is registered, once, and its watch begins with that"""
        request_id, home = os.urandom(16), self.cluster.regions[0]
        first = self.phone.register(self.account, home, request_id)
        assert first.home_region == home and len(first.session) == 16, "another home"
        assert self.phone.register(self.account, home, request_id) == first, "a retry got another answer"
        refusal("ACCOUNT_EXISTS", lambda: self.device("android").register(self.account, home))
        refusal("ACCOUNT_NOT_FOUND", lambda: self.cluster.list_sessions(b"nobody-" + os.urandom(8)))
        self.told = self.cluster.watch_account(self.view, self.account, node=1)
        (added,) = self.change(1).added
        assert (added.session, added.device_key, added.role) == (first.session, self.phone.key, model.PRIMARY)

    def links_by_qr(self):
        """a companion is linked by QR code; both levels say VALID; every retry gets the same answer"""
        self.laptop = laptop = self.device("web")
        opening = os.urandom(16)
        opened = laptop.open(request_id=opening)
        reference, key, region = encoding.qr_payload(opened.qr_payload)
        assert (key, reference) == (laptop.key, opened.reference) and opened.code == "", "the QR code is not ours"
        index = self.cluster.regions.index(region)
        ticket = encoding.ticket_id(index, laptop.key, opening)
        assert opened.ticket == reference[:16] == ticket, "the ticket id does not follow from key and request id"
        again = laptop.open(request_id=opening)
        assert (again.ticket, again.watch_secret) == (ticket, opened.watch_secret), "a retry opened another ticket"

        events = laptop.watch(ticket)
        assert until(events, "offered").reference[:16] == ticket
        scanning, approving = os.urandom(16), os.urandom(16)
        scanned = self.phone.scan(reference, request_id=scanning)
        assert (scanned.ticket, scanned.requester.device) == (ticket, laptop.says), "somebody else asks"
        assert (scanned.requester.location, scanned.number_match, scanned.companions) == ("Lyon", False, 0)
        assert self.phone.scan(reference, request_id=scanning).log_index == scanned.log_index, "scanned twice"
        until(events, "scanned", "offered")
        approval = self.phone.approval(scanned, key, HISTORY)
        receipt = self.phone.approve(approval, HISTORY, request_id=approving)
        assert self.phone.approve(approval, HISTORY, request_id=approving) == receipt, "a retry got another receipt"
        linked = until(events, "linked", "approved")
        assert (linked.account, linked.receipt, linked.envelope) == (self.account, receipt, HISTORY)
        assert linked.session == receipt.session, "the receipt is of another session"
        laptop.linked(linked)

        change = self.change(2)
        assert (receipt.version_before, receipt.version_after) == (1, 2) and receipt.digest_after == change.digest
        assert list(receipt.sessions_before) == [self.phone.session], "sessions_before"
        assert list(receipt.sessions_after) == [self.phone.session, laptop.session], "sessions_after"
        for node, level in enumerate(("LOCAL", "LINEARIZABLE")):
            said = self.cluster.validate(self.account, laptop.session, level, receipt.version_after, node)
            assert said.valid.session == change.added[0] and said.set_version >= 2, f"{level}: {said}"

    def links_from_elsewhere(self):
        """a second companion is linked through another node, and no sibling changes"""
        before = self.listed()
        self.desk = self.device("desktop", node=1)
        receipt = self.pair(self.desk, HISTORY)
        self.change(3)
        after = self.listed(node=2)
        assert list(receipt.sessions_before) == list(before), "a sibling is missing"
        assert {session: after[session] for session in before} == before, "a sibling's record has changed"
        assert [record.seq for record in after.values()] == sorted(record.seq for record in after.values())
        assert after[self.desk.session].linked_by == self.phone.session
        assert after[self.desk.session].role == model.COMPANION

    def refuses_what_is_not_signed_well(self):
        """wrong signatures, wrong keys and used request ids are refused, and change nothing"""
        phone, stranger, before = self.phone, self.device("web"), self.listed()
        refusal("PROOF_INVALID", lambda: phone.unlink(self.desk.session, by=stranger.seed))
        whose = (self.account, phone.session, phone.auth_epoch)
        refusal("PROOF_INVALID", lambda: stranger.unlink(self.desk.session, whose=whose))
        # The very same bytes for another session than the one that was signed.
        hashed = encoding.arguments(self.account, self.laptop.session)
        method = "kindred.session.v1.Session/Unlink"
        request = session.UnlinkRequest(session=self.desk.session)
        refusal("PROOF_INVALID", lambda: phone.act(method, request, hashed, self.account))

        opened = stranger.open()
        reference, key, _ = encoding.qr_payload(opened.qr_payload)
        scanned = phone.scan(reference)
        forged = phone.approval(scanned, key, by=stranger.seed)
        refusal("APPROVAL_INVALID", lambda: phone.approve(forged))
        other_key = phone.approval(scanned, self.laptop.key)
        refusal("APPROVAL_INVALID", lambda: phone.approve(other_key))
        refusal("APPROVAL_INVALID", lambda: phone.approve(phone.approval(scanned, key), b"another envelope"))
        assert stranger.cancel(opened.ticket).WhichOneof("outcome") == "cancelled"

        request_id = os.urandom(16)
        hashed, limit = encoding.arguments(self.account, 4), "kindred.account.v1.Account/SetLimit"
        phone.act(limit, account.SetLimitRequest(limit=4), hashed, self.account, request_id)
        reused = refusal("REQUEST_ID_REUSED", lambda: phone.unlink(self.desk.session, request_id))
        assert reused.code.name == "INVALID_ARGUMENT", reused
        young = refusal("QUARANTINED_ACTOR", lambda: self.laptop.unlink(self.desk.session))
        assert int(young.metadata["until_ms"]) == before[self.laptop.session].quarantine_until_ms
        assert self.listed() == before, "a refused call changed something"

    def unlinks_and_says_why(self):
        """a companion is unlinked by name: both levels, why and its own call bring the same tombstone"""
        phone, laptop, request_id = self.phone, self.laptop, os.urandom(16)
        reply = phone.unlink(laptop.session, request_id)
        stone = reply.tombstone
        assert (stone.session.session, stone.reason) == (laptop.session, model.USER_UNLINKED_FROM_PRIMARY)
        assert (stone.actor_session, stone.command, reply.already_ended) == (phone.session, request_id, False)
        assert phone.unlink(laptop.session, request_id) == reply, "a retry got another answer"
        # Whoever is said to have signed decides nothing.
        later = phone.unlink(laptop.session, claims=laptop.key)
        assert later.already_ended and later.tombstone == stone, "the tombstone has changed"
        assert list(self.change(4).ended) == [stone], "the watch tells it otherwise"
        for node, level in enumerate(("LOCAL", "LINEARIZABLE")):
            said = self.cluster.validate(self.account, laptop.session, level, stone.set_version, node)
            assert said.signed_out.tombstone == stone, f"{level}: {said}"
        assert self.cluster.why(self.account, session=laptop.session).ended == stone
        assert self.cluster.why(self.account, device_key=laptop.key).ended == stone
        assert self.cluster.why(self.account, session=self.desk.session).active.session == self.desk.session
        refusal("SESSION_UNKNOWN", lambda: self.cluster.why(self.account, session=os.urandom(16)))
        told = refusal("SIGNED_OUT", lambda: laptop.unlink(self.desk.session))
        assert (told.code.name, told.tombstone) == ("UNAUTHENTICATED", stone), told
        assert self.cluster.validate(self.account, self.desk.session).valid.session.session == self.desk.session
        self.listed()

    def links_by_code(self):
        """a code is typed, the numbers match, and the account's watch tells of the request"""
        phone, tablet = self.phone, self.device("tablet", node=2)
        opened = tablet.open(of=self.account)
        assert (opened.reference, opened.qr_payload, len(opened.code)) == (b"", "", 9), opened
        events = tablet.watch(opened.ticket)
        assert until(events, "offered").code == opened.code
        asked = until(self.told, "link_requested", "heartbeat", "records")
        assert (asked.ticket, asked.device, asked.location) == (opened.ticket, tablet.says, "Lyon")

        wrong = "".join(encoding.ALPHABET[encoding.ALPHABET.index(letter) - 1] for letter in encoding.plain_code(opened.code))
        assert refusal("CODE_MISMATCH", lambda: phone.scan(code=wrong)).metadata["left"] == "4"
        scanned = phone.scan(code=opened.code.lower().replace("-", " "))
        until(events, "scanned", "offered")
        shown = encoding.number_to_match(tablet.key, opened.ticket)
        number = encoding.number_to_match(scanned.device_key, scanned.ticket)
        assert scanned.number_match and number == shown, "the screens show different numbers"
        approval = phone.approval(scanned, scanned.device_key)
        refusal("STEP_UP_REQUIRED", lambda: phone.approve(approval))
        receipt = phone.approve(approval, number=number)
        linked = until(events, "linked", "approved")
        assert linked.receipt == receipt, "the companion was told of another link"
        assert self.change(receipt.version_after).digest == receipt.digest_after
        self.listed()

    def replaces(self):
        """a link replaces the one session that its approval names"""
        before, replaced = self.listed(), self.desk.session
        self.desk = self.device("desktop")
        receipt = self.pair(self.desk, replaces=replaced)
        change = self.change(receipt.version_after)
        assert [stone.session.session for stone in change.ended] == [replaced]
        assert change.ended[0].reason == model.REPLACED_BY_LINK
        stayed = {session: record for session, record in before.items() if session != replaced}
        after = self.listed()
        assert after.pop(self.desk.session) == change.added[0] and after == stayed, "a sibling has changed"

    def takes_no_for_an_answer(self):
        """a ticket that is denied stays so, and the companion is told"""
        stranger = self.device("web")
        opened = stranger.open()
        scanned = self.phone.scan(opened.reference)
        request_id = os.urandom(16)
        self.phone.deny(opened.ticket, request_id)
        # The arguments hash to the same; the method differs.
        refusal("REQUEST_ID_REUSED", lambda: stranger.cancel(opened.ticket, request_id))
        events = stranger.watch(opened.ticket)
        refused = until(events, "refused", "offered", "scanned")
        assert Reason.Name(refused.reason) == "TICKET_DENIED", refused
        refusal("TICKET_DENIED", lambda: self.phone.approve(self.phone.approval(scanned, stranger.key)))
        self.listed()

    def refuses_at_the_limit(self):
        """at the limit a link is refused, and nobody is evicted"""
        before = self.listed()
        self.phone.set_limit(len(before) - 1)
        late = self.device("web")
        opened = late.open()
        scanned = self.phone.scan(opened.reference)
        assert scanned.companions == scanned.companion_limit == len(before) - 1, "the phone is not told"
        approval = self.phone.approval(scanned, late.key)
        full = refusal("COMPANION_LIMIT_REACHED", lambda: self.phone.approve(approval))
        assert full.metadata["now"] == full.metadata["max"] == str(len(before) - 1), full
        assert self.listed() == before, "somebody was evicted"

    def ends_others(self):
        """all others are signed out at once, and what was signed before counts no more"""
        others = set(self.view.sessions) - {self.phone.session}
        epoch = self.phone.auth_epoch
        reply = self.phone.unlink_others()
        assert {stone.session.session for stone in reply.tombstones} == others
        assert {stone.reason for stone in reply.tombstones} == {model.LOGOUT_OTHERS}
        assert list(self.change(reply.set_version).ended) == list(reply.tombstones)
        assert list(self.listed()) == [self.phone.session], "somebody is left, or nobody"
        old = (self.account, self.phone.session, epoch)
        moved = refusal("EPOCH_CHANGED", lambda: self.phone.unlink(self.phone.session, whose=old))
        assert moved.metadata["auth_epoch"] == str(reply.auth_epoch) != str(epoch), moved

    def reconciles(self):
        """a view that was chained by hand is IN_SYNC; a signed list may lack nobody; a new watch ends at the same digest"""
        companion = self.device("web")
        receipt = self.pair(companion)
        self.change(receipt.version_after)
        view, phone = self.view, self.phone
        assert phone.reconcile(view.version, digest=view.digest).WhichOneof("result") == "in_sync"
        everybody = sorted(view.sessions.items(), key=lambda pair: pair[1])
        assert phone.reconcile(view.version, listed=everybody).WhichOneof("result") == "in_sync"
        lacks = refusal("WOULD_DROP_SIBLINGS", lambda: phone.reconcile(view.version, listed=everybody[:1]))
        assert lacks.metadata["sessions"] == companion.session.hex(), lacks
        again = encoding.View(self.account)
        for _ in self.cluster.watch_account(again, self.account, node=2):
            if again.version == view.version:
                break
        assert (again.digest, again.sessions) == (view.digest, view.sessions), "two watches, two chains"

