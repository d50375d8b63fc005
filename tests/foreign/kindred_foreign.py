"""A client of Kindred, written from `proto/` and `docs/` alone: connections, refusals, retries, nonces, and devices.

The modules that protoc makes must be importable; run.py sees to that.
"""

import os
import time
from pathlib import Path

import grpc
from details_pb2 import ErrorInfo, RetryInfo
from details_pb2 import Status as RpcStatus
from kindred.account.v1 import account_pb2 as account
from kindred.account.v1 import account_pb2_grpc
from kindred.error.v1.error_pb2 import Reason
from kindred.pairing.v1 import pairing_pb2 as pairing
from kindred.pairing.v1 import pairing_pb2_grpc
from kindred.session.v1 import model_pb2 as model
from kindred.session.v1 import session_pb2 as session
from kindred.session.v1 import session_pb2_grpc

import ed25519
import encoding

STUBS = {
    "kindred.account.v1.Account": account_pb2_grpc.AccountStub,
    "kindred.pairing.v1.Pairing": pairing_pb2_grpc.PairingStub,
    "kindred.session.v1.Session": session_pb2_grpc.SessionStub,
}
ATTEMPTS_MAX = 60
NONCES_MAX = 3  # the first is refused for none, the second for home_region, the third must do
CALL_S, WATCH_S = 10, 120


class Refused(Exception):
    """A status other than OK, with what its details say."""

    def __init__(self, error):
        self.code, self.reason, self.metadata = error.code(), None, {}
        self.tombstone, self.retry_after_s = None, None
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                self._read(RpcStatus.FromString(value))
        super().__init__(f"{self.code.name} {self.reason} {self.metadata} {error.details()}")

    def _read(self, status):
        for detail in status.details:
            info, retry, stone = ErrorInfo(), RetryInfo(), model.Tombstone()
            if detail.Unpack(info) and info.domain == "kindred":
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                self.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
            elif detail.Unpack(stone):
                self.tombstone = stone

    def may_be_sent_again(self):
        """The same bytes: whoever has no details is not Kindred, and RetryInfo is there exactly where waiting helps."""
        return self.reason is None or self.retry_after_s is not None


class Cluster:
    """Connections to the nodes, any of which answers any call. `tls` is (trust, key, certificate), each PEM, or None."""

    def __init__(self, addresses, tls=None):
        options = [("grpc.enable_http_proxy", 0)]
        if tls:
            credentials = grpc.ssl_channel_credentials(*tls)
            channels = [grpc.secure_channel(address, credentials, options) for address in addresses]
        else:
            channels = [grpc.insecure_channel(address, options) for address in addresses]
        self.nodes = [{name: stub(channel) for name, stub in STUBS.items()} for channel in channels]
        reply, _ = self.call("kindred.account.v1.Account/GetCluster", account.GetClusterRequest())
        self.id, self.regions = reply.cluster, list(reply.regions)

    def method(self, node, method):
        service, rpc = method.split("/")
        return getattr(self.nodes[node % len(self.nodes)][service], rpc)

    def call(self, method, request, node=0):
        """Reply and nonce, if one came. Sends the very same bytes, to the next node, while the answer is that this helps."""
        for attempt in range(ATTEMPTS_MAX):
            try:
                reply, call = self.method(node + attempt, method).with_call(request, timeout=CALL_S)
                return reply, dict(call.initial_metadata()).get("kindred-nonce-bin", b"")
            except grpc.RpcError as error:
                refused = Refused(error)
                if not refused.may_be_sent_again() or attempt + 1 == ATTEMPTS_MAX:
                    raise refused from error
                time.sleep(refused.retry_after_s or 0.1)

    def validate(self, of, which, level="LINEARIZABLE", version=0, node=0):
        """Asks again while it is told UNDETERMINED."""
        request = session.ValidateRequest(
            account=of, session=which, level=session.Level.Value(level), min_set_version=version
        )
        for _ in range(ATTEMPTS_MAX):
            reply, _ = self.call("kindred.session.v1.Session/Validate", request, node)
            if reply.WhichOneof("verdict") != "undetermined":
                return reply
            time.sleep(reply.undetermined.retry_after_ms / 1000)
        raise AssertionError("UNDETERMINED for ever")

    def list_sessions(self, of, node=0):
        return self.call("kindred.session.v1.Session/ListSessions", session.ListSessionsRequest(account=of), node)[0]

    def why(self, of, node=0, **which):
        request = session.WhySignedOutRequest(account=of, **which)
        return self.call("kindred.session.v1.Session/WhySignedOut", request, node)[0]

    def watch_account(self, view, of, node=0):
        """Every event, for ever; each change is taken into `view` before it is told. Resumes where the view is."""
        for attempt in range(ATTEMPTS_MAX):
            request = session.WatchAccountRequest(account=of, from_set_version=view.version)
            try:
                stream = self.method(node + attempt, "kindred.session.v1.Session/WatchAccount")(request, timeout=WATCH_S)
                for event in stream:
                    if event.WhichOneof("event") == "change":
                        view.take(event.change)
                    elif event.WhichOneof("event") == "heartbeat":
                        view.agrees(event.heartbeat.set_version, event.heartbeat.set_digest)
                    yield event
            except grpc.RpcError as error:
                refused = Refused(error)
                if not refused.may_be_sent_again() or refused.code == grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise refused from error
                time.sleep(refused.retry_after_s or 0.1)


class Device:
    """One installation: its key, what it says of itself, and its session once it has one."""

    def __init__(self, cluster, platform, name, node=0):
        self.cluster, self.node = cluster, node
        self.seed = os.urandom(32)
        self.key = ed25519.public_key(self.seed)
        self.says = model.Device(platform=platform, app_version="1.2.3", display_name=name.encode())
        self.account, self.session, self.auth_epoch = b"", b"", 0
        self.nonces = {}  # what the next proof is about (account or ticket) → nonce
        self.stale = self.brought = 0  # how often NONCE_STALE was the answer, and how many replies brought a nonce

    def proof(self, method, request_id, hashed, nonce, whose=None, by=None, claims=None):
        """`whose` is (account, session, auth_epoch), by default the device's own; `by` another private key; `claims` a
        public key that is said to have signed."""
        of, own, epoch = whose or (self.account, self.session, self.auth_epoch)
        proof = model.DeviceProof(
            account=of, session=own, request_id=request_id, auth_epoch=epoch, nonce=nonce, device_key=claims or self.key
        )
        proof.signature = ed25519.sign(by or self.seed, encoding.proof_bytes(self.cluster.id, method, proof, hashed))
        return proof

    def act(self, method, request, hashed, about, request_id=None, **proof):
        """Signs the request and sends it, again with a fresh nonce whenever one is asked for."""
        request_id = request_id or os.urandom(16)
        for attempt in range(NONCES_MAX):
            nonce = self.nonces.pop(about, b"")
            request.proof.CopyFrom(self.proof(method, request_id, hashed, nonce, **proof))
            try:
                reply, nonce = self.cluster.call(method, request, self.node)
                if nonce:
                    self.nonces[about] = nonce
                    self.brought += 1
                return reply
            except Refused as refused:
                if not self.takes_nonce(about, refused) or attempt + 1 == NONCES_MAX:
                    raise

    def takes_nonce(self, about, refused):
        """Whether the refusal brought a nonce to sign again with."""
        if refused.reason != "NONCE_STALE":
            return False
        self.stale += 1
        self.nonces[about] = encoding.from_base64url(refused.metadata["nonce"])
        return True

    # Accounts.

    def register(self, of, home_region="", request_id=None):
        method = "kindred.account.v1.Account/Register"
        request = account.RegisterRequest(account=of, device_key=self.key, device=self.says, home_region=home_region)
        hashed = encoding.arguments(of, self.key, *encoding.device_fields(self.says))
        reply = self.act(method, request, hashed, of, request_id, whose=(of, b"", 0))
        self.account, self.session, self.auth_epoch = of, reply.session, reply.auth_epoch
        return reply

    def set_limit(self, limit):
        hashed = encoding.arguments(self.account, limit)
        request = account.SetLimitRequest(limit=limit)
        return self.act("kindred.account.v1.Account/SetLimit", request, hashed, self.account)

    def unlink(self, which, request_id=None, **proof):
        method = "kindred.session.v1.Session/Unlink"
        hashed = encoding.arguments(self.account, which)
        return self.act(method, session.UnlinkRequest(session=which), hashed, self.account, request_id, **proof)

    def unlink_others(self):
        method = "kindred.session.v1.Session/UnlinkOthers"
        hashed = encoding.arguments(self.account, self.session)
        reply = self.act(method, session.UnlinkOthersRequest(), hashed, self.account)
        self.auth_epoch = reply.auth_epoch
        return reply

    def reconcile(self, version, digest=None, listed=None):
        """Compares a digest, or a list of (id, seq)."""
        request = session.ReconcileRequest(account=self.account, set_version=version)
        if digest is not None:
            request.set_digest = digest
            fields = ["digest", digest]
        else:
            request.sessions.sessions.extend(session.ViewedSession(session=own, seq=seq) for own, seq in listed)
            fields = ["list", *(field for pair in listed for field in pair)]
        hashed = encoding.arguments(self.account, version, *fields)
        return self.act("kindred.session.v1.Session/Reconcile", request, hashed, self.account)

    def linked(self, event):
        """Takes in LINKED, which says nothing of auth_epoch: the gateway is asked for it."""
        self.account, self.session = event.account, event.session
        self.auth_epoch = self.cluster.list_sessions(self.account, self.node).auth_epoch

    # Tickets, as the companion.

    def open(self, location="Lyon", of=None, request_id=None):
        """By QR code, or, for an account, by typed code. Returns the reply."""
        method = "kindred.pairing.v1.Pairing/OpenTicket"
        requester = pairing.Requester(device=self.says, location=location)
        request = pairing.OpenTicketRequest(device_key=self.key, requester=requester, method=pairing.QR)
        fields = [self.key, *encoding.device_fields(self.says), location]
        if of:
            request.method, request.account = pairing.CODE, of
            fields += ["code", of]
        request_id = request_id or os.urandom(16)
        about = request_id  # the ticket has no id yet
        reply = self.act(method, request, encoding.arguments(*fields), about, request_id, whose=(b"", b"", 0))
        self.nonces[reply.ticket] = self.nonces.pop(about, b"")
        return reply

    def cancel(self, ticket, request_id=None):
        method = "kindred.pairing.v1.Pairing/CancelTicket"
        request = pairing.CancelTicketRequest(ticket=ticket)
        return self.act(method, request, encoding.arguments(ticket), ticket, request_id, whose=(b"", b"", 0))

    def watch(self, ticket, secret=None):
        """Events up to the terminal one, by proof or by secret."""
        method, stale = "kindred.pairing.v1.Pairing/WatchTicket", 0
        for attempt in range(ATTEMPTS_MAX):
            request = pairing.WatchTicketRequest(ticket=ticket)
            if secret:
                request.watch_secret = secret
            else:
                nonce, hashed = self.nonces.pop(ticket, b""), encoding.arguments(ticket)
                request.proof.CopyFrom(self.proof(method, os.urandom(16), hashed, nonce, whose=(b"", b"", 0)))
            try:
                stream = self.cluster.method(self.node + attempt, method)(request, timeout=WATCH_S)
                if nonce := dict(stream.initial_metadata() or ()).get("kindred-nonce-bin"):
                    self.nonces[ticket] = nonce
                for event in stream:
                    yield event
                    if event.WhichOneof("event") in ("linked", "refused"):
                        return
            except grpc.RpcError as error:
                refused = Refused(error)
                if self.takes_nonce(ticket, refused) and stale < NONCES_MAX:
                    stale += 1
                    continue
                if not refused.may_be_sent_again() or refused.code == grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise refused from error
                time.sleep(refused.retry_after_s or 0.1)

    # Tickets, as the phone.

    def scan(self, reference=None, code=None, request_id=None):
        method = "kindred.pairing.v1.Pairing/ScanTicket"
        if reference:
            request, about = pairing.ScanTicketRequest(reference=reference), reference[:16]
            hashed = encoding.arguments(reference)
        else:
            request, about = pairing.ScanTicketRequest(code=code), b""
            hashed = encoding.arguments(None, encoding.plain_code(code))
        reply = self.act(method, request, hashed, about, request_id)
        self.nonces[reply.ticket] = self.nonces.pop(about, b"")
        self.auth_epoch = reply.auth_epoch
        return reply

    def approval(self, scanned, companion_key, envelope=b"", replaces=b"", by=None):
        """`companion_key` as read from the QR code."""
        approval = pairing.Approval(
            account=self.account,
            auth_epoch=scanned.auth_epoch,
            ticket=scanned.ticket,
            device_key_hash=encoding.sha256(companion_key),
            replaces=replaces,
            approver=self.session,
            envelope_hash=encoding.sha256(envelope),
            lifetime_ms=scanned.ticket_ttl_ms,
        )
        approval.signature = ed25519.sign(by or self.seed, encoding.approval_bytes(self.cluster.id, approval))
        return approval

    def approve(self, approval, envelope=b"", number="", request_id=None, **proof):
        method = "kindred.pairing.v1.Pairing/ApproveTicket"
        request = pairing.ApproveTicketRequest(approval=approval, envelope=envelope, number=number)
        fields = [*encoding.approval_fields(approval), approval.signature] + ([number] if number else [])
        reply = self.act(method, request, encoding.arguments(*fields), approval.ticket, request_id, **proof)
        return reply.receipt

    def deny(self, ticket, request_id=None):
        method, request = "kindred.pairing.v1.Pairing/DenyTicket", pairing.DenyTicketRequest(ticket=ticket)
        return self.act(method, request, encoding.arguments(ticket), ticket, request_id)


def read_tls(directory, holder="gateway"):
    """Trust bundle, key and certificate as `kindred certificates` names them."""
    directory = Path(directory)
    return tuple((directory / name).read_bytes() for name in ("ca.pem", f"{holder}.key", f"{holder}.pem"))
