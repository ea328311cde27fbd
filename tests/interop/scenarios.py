"""What every client does with the server, and what it must see.

A client is a program. It gets an endpoint, the names of scenarios and two counts, and prints one
line of JSON for each scenario: ``{"scenario": NAME, ...what it saw}``. Programs in four languages
do the same things, so the expectations stand here once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REQUEST_LIMIT_BYTES = 1_572_864  # etcd's --max-request-bytes
MESSAGE_LIMIT_BYTES = REQUEST_LIMIT_BYTES + 512 * 1024  # what its transport receives
READ_BACK_BYTES = 1_500_000


@dataclass(frozen=True)
class Counts:
    """How often the repeating scenarios repeat."""

    sequential: int
    concurrent: int


QUICK = Counts(sequential=300, concurrent=100)
LONG = Counts(sequential=10_000, concurrent=1_000)

# Put and Range of one key; a refusal of the service; a method nobody has.
UNARY = {
    "value": "unary value",
    "refused": "INVALID_ARGUMENT etcdserver: key is not provided",
    "unknown_method": "UNIMPLEMENTED",
}
# Health.Watch: the first message, and then the end that the client asks for.
SERVER_STREAM = {"status": "SERVING", "end": "CANCELLED"}
# Two watchers on one stream see a put, one is cancelled; LeaseKeepAlive is closed by the client
# after two requests for a lease that does not exist, and ends well after two answers.
BIDI = {"created": 2, "events": 2, "canceled": 1, "renewals": [0, 0], "end": "OK"}
# A watch that the client gives up; the connection serves on.
CANCEL = {"end": "CANCELLED", "after": "still here"}
# A watch with 300 ms to live; the connection serves on.
DEADLINE = {"end": "DEADLINE_EXCEEDED", "after": "still here"}
# A value is written and read back; two are read in one answer; a message of the transport's limit
# is served; a Put of this size is refused by the service, a message one byte larger by the
# transport; the connection serves on.
LARGE = {
    "read_back": READ_BACK_BYTES,
    "both": 2 * READ_BACK_BYTES,
    "at_limit": 0,
    "put_at_limit": "INVALID_ARGUMENT etcdserver: request is too large",
    "over_limit": "RESOURCE_EXHAUSTED",
    "after": "still here",
}


def expected(counts: Counts) -> dict[str, dict[str, Any]]:
    """Return what each scenario must print."""
    return {
        "unary": UNARY,
        "server_stream": SERVER_STREAM,
        "bidi": BIDI,
        "cancel": CANCEL,
        "deadline": DEADLINE,
        "large": LARGE,
        "sequential": {"answered": counts.sequential},
        "concurrent": {"created": counts.concurrent, "events": counts.concurrent},
    }
