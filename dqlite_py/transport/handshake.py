"""How two members convince each other that they know the cluster's secret.

The dialer speaks first. Frames, each one msgpack array:

    hello      ->  [magic, lowest version, highest version, cluster id, from id, to id,
                    nonce, incarnation, attempt]
    challenge  <-  ["challenge", version, nonce, acceptor's proof]
    proof      ->  ["proof", dialer's proof]
    welcome    <-  ["welcome"]

Either side may send ["rejected", error] instead and close. A proof is HMAC-SHA256 under the
secret over a label naming the direction and both nonces' whole frames, so that no proof fits
another connection, other parameters or the opposite direction.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from dqlite_py.errors import AuthenticationFailed, ClusterIdMismatch, DqliteError, to_wire
from dqlite_py.seams import Random, Stream
from dqlite_py.transport.codec import decode_error
from dqlite_py.transport.contract import PeerIdentity
from dqlite_py.transport.framing import (
    HEADER_BYTES,
    FrameError,
    decode_body,
    encode_frame,
    read_body,
)

MAGIC = "dqlite-py peer"
LOWEST_VERSION = 1
HIGHEST_VERSION = 1
NONCE_BYTES = 32
INCARNATION_BYTES = 16

REFUSAL_LINGER_S = 1.0
"""How long the side that refuses waits for the other to hang up."""

REFUSAL_READ_BYTES = 4096
"""What it reads of the other side's words meanwhile."""

_DIALER_LABEL = b"dqlite-py peer handshake 1: dialer proves\0"
_ACCEPTOR_LABEL = b"dqlite-py peer handshake 1: acceptor proves\0"


@dataclass(frozen=True, slots=True)
class Epoch:
    """Orders the connections one process dials to one member; processes are not ordered."""

    incarnation: bytes  # random, new in each process life
    attempt: int

    def older_than(self, other: Epoch) -> bool:
        """Tell whether this connection was dialled before ``other`` by the same process."""
        return self.incarnation == other.incarnation and self.attempt < other.attempt


@dataclass(frozen=True, slots=True)
class Hello:
    """What the dialer claims; proven once ``admit`` returns it."""

    lowest_version: int
    highest_version: int
    cluster_id: int
    from_id: int
    to_id: int
    nonce: bytes
    epoch: Epoch

    def fields(self) -> list[Any]:
        """Return the array that travels."""
        return [
            MAGIC,
            self.lowest_version,
            self.highest_version,
            self.cluster_id,
            self.from_id,
            self.to_id,
            self.nonce,
            self.epoch.incarnation,
            self.epoch.attempt,
        ]


@dataclass(frozen=True, slots=True)
class Handshaker:
    """One member's side of every handshake.

    Args:
        identity: this member.
        secret: the cluster's secret.
        random: nonces; cryptographically strong outside a simulation.
        frame_limit_bytes: longest frame read before the other side has proven itself.
    """

    identity: PeerIdentity
    secret: bytes
    random: Random
    frame_limit_bytes: int

    async def greet(self, stream: Stream, to_id: int, epoch: Epoch) -> None:
        """Dialer's side: return once both sides have proven themselves.

        Raises AuthenticationFailed or ClusterIdMismatch (found here or told by the other side)
        and ConnectionError. The caller bounds the time and closes the stream on failure.
        """
        hello = Hello(
            LOWEST_VERSION,
            HIGHEST_VERSION,
            self.identity.cluster_id,
            self.identity.member_id,
            to_id,
            self.random.randbytes(NONCE_BYTES),
            epoch,
        )
        sent = encode_frame(hello.fields())
        stream.write(sent)
        match _decode(await read_body(stream, self.frame_limit_bytes)):
            case ["challenge", int(version), bytes(nonce), bytes(proof)]:
                expected = self._proof(_ACCEPTOR_LABEL, sent, version, nonce)
            case other:
                raise FrameError(f"an unexpected frame in the handshake: {str(other)[:80]}")
        if not LOWEST_VERSION <= version <= HIGHEST_VERSION or len(nonce) != NONCE_BYTES:
            raise FrameError("the other side chose no valid version or nonce")
        if not hmac.compare_digest(proof, expected):
            raise await refused(stream, AuthenticationFailed(detail="the cluster secrets differ"))
        stream.write(encode_frame(["proof", self._proof(_DIALER_LABEL, sent, version, nonce)]))
        if _decode(await read_body(stream, self.frame_limit_bytes)) != ["welcome"]:
            raise FrameError("an unexpected frame at the end of the handshake")

    async def admit(self, stream: Stream) -> Hello:
        """Acceptor's side: return the dialer's proven hello.

        Raises as ``greet`` does; a refusal has been told to the dialer. The welcome is not sent
        yet: the caller calls ``welcome`` when it is ready for the dialer's frames.
        """
        body = await read_body(stream, self.frame_limit_bytes)
        # The bytes as received: a newer version's hello may hold more than is understood here.
        received = len(body).to_bytes(HEADER_BYTES, "big") + body
        hello = _parse_hello(_decode(body))
        if (objection := self._objection(hello)) is not None:
            raise await refused(stream, objection)
        version = min(hello.highest_version, HIGHEST_VERSION)
        nonce = self.random.randbytes(NONCE_BYTES)
        proof_here = self._proof(_ACCEPTOR_LABEL, received, version, nonce)
        stream.write(encode_frame(["challenge", version, nonce, proof_here]))
        match _decode(await read_body(stream, self.frame_limit_bytes)):
            case ["proof", bytes(proof)]:
                expected = self._proof(_DIALER_LABEL, received, version, nonce)
            case _:
                raise FrameError("an unexpected frame in the handshake")
        if not hmac.compare_digest(proof, expected):
            raise await refused(stream, AuthenticationFailed(detail="the cluster secrets differ"))
        return hello

    def _objection(self, hello: Hello) -> DqliteError | None:
        """Return what is wrong with the claims whatever the secret."""
        if hello.cluster_id != self.identity.cluster_id:
            return ClusterIdMismatch()
        if hello.to_id != self.identity.member_id or hello.from_id == self.identity.member_id:
            detail = f"this is member {self.identity.member_id:x}, not {hello.to_id:x}"
            return AuthenticationFailed(detail=detail)
        if hello.highest_version < LOWEST_VERSION or hello.lowest_version > HIGHEST_VERSION:
            detail = f"protocol versions {LOWEST_VERSION} to {HIGHEST_VERSION} are spoken here"
            return AuthenticationFailed(detail=detail)
        return None

    def _proof(self, label: bytes, hello_frame: bytes, version: int, nonce: bytes) -> bytes:
        # Both frames carry their length, so no two transcripts share their bytes.
        transcript = label + hello_frame + encode_frame([version, nonce])
        return hmac.new(self.secret, transcript, hashlib.sha256).digest()


def welcome(stream: Stream) -> None:
    """Acceptor: tell the dialer that its frames are served from now on."""
    stream.write(encode_frame(["welcome"]))


async def refused(stream: Stream, error: DqliteError) -> DqliteError:
    """Tell the other side why it is turned away and return ``error``, to be raised.

    Waits a moment for the other side to hang up, because closing first may lose the reason.
    """
    stream.write(encode_frame(["rejected", to_wire(error)]))
    try:
        async with asyncio.timeout(REFUSAL_LINGER_S):
            await stream.read_exactly(REFUSAL_READ_BYTES)
    except (TimeoutError, ConnectionError):
        return error
    return error


def _decode(body: bytes) -> list[Any]:
    content = decode_body(body)
    if content[0] == "rejected":
        raise decode_error(content[1] if len(content) > 1 else None)
    return content


def _parse_hello(content: list[Any]) -> Hello:
    match content:
        case [
            str(magic),
            int(lowest),
            int(highest),
            int(cluster_id),
            int(from_id),
            int(to_id),
            bytes(nonce),
            bytes(incarnation),
            int(attempt),
            *_,
        ] if magic == MAGIC and len(nonce) == NONCE_BYTES and len(incarnation) == INCARNATION_BYTES:
            epoch = Epoch(incarnation, attempt)
            return Hello(lowest, highest, cluster_id, from_id, to_id, nonce, epoch)
        case _:
            raise FrameError("the other side does not speak the peer protocol")
