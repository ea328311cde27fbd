"""What an error says about a request: that it did not happen, or that nobody knows.

etcd's rule, which every product here claims to follow: UNAVAILABLE, a timeout, a cancelled call
and a changed leader leave the outcome open; any other error of the server is a refusal before
the request was proposed.
"""

from __future__ import annotations

from jepsen.history import FAIL, INFO
from tests.kit.etcd_client import Refused

NEVER_SENT = ("failed to connect to all addresses", "connection attempt timed out before")
"""What gRPC says when it had no connection to send the request on."""

DEFINITE_TEXTS = frozenset(
    {
        "etcdserver: key is not provided",
        "etcdserver: duplicate key given in txn request",
        "etcdserver: mvcc: required revision has been compacted",
        "etcdserver: mvcc: required revision is a future revision",
        "etcdserver: mvcc: database space exceeded",
        "etcdserver: requested lease not found",
        "etcdserver: lease already exists",
        "etcdserver: too many requests",
        "etcdserver: member ID already exist",
        "etcdserver: Peer URLs already exists",
        "etcdserver: member not found",
        "etcdserver: unhealthy cluster",
        "etcdserver: too many learner members in cluster",
        "etcdserver: can only promote a learner member",
        "etcdserver: can only promote a learner member which is in sync with leader",
        "etcdserver: re-configuration failed due to not enough started members",
        "etcdserver: rpc not supported for learner",
        "etcdserver: no leader",
    }
)
DEFINITE_CODES = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "OUT_OF_RANGE",
        "FAILED_PRECONDITION",
        "RESOURCE_EXHAUSTED",
        "PERMISSION_DENIED",
        "UNIMPLEMENTED",
        "UNAUTHENTICATED",
    }
)


def never_sent(error: Refused) -> bool:
    """Tell whether the request never left the client."""
    return error.code == "UNAVAILABLE" and error.text.startswith(NEVER_SENT)


def classify(error: Refused, *, reads_only: bool = False) -> str:
    """Return ``fail`` if the request certainly did nothing, else ``info``."""
    if reads_only or never_sent(error):
        return FAIL
    if error.text in DEFINITE_TEXTS or error.code in DEFINITE_CODES:
        return FAIL
    return INFO
