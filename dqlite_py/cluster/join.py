"""The join protocol: both sides prove that they know the cluster's key, which never travels.

    joiner                                   member
      | -- Challenge: nonce, token id ------->  |   keeps both nonces for a while
      | <- nonce, cluster id, member id, MAC -  |   "a member that knows the key answered me"
      | -- Redeem: name, URLs, MAC ---------->  |   "a server that knows the key asked this"
      | <- ids, members or refusal, MAC ------  |   "that member answered exactly this"

Each proof is an HMAC-SHA-256 over a label of its own, so that none can be passed off as another,
and over both nonces and all values in unambiguous form. A nonce of the member is good for one
Redeem. Pure: no clock, no randomness, no transport.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dqlite_py.cluster.tokens import Token
from dqlite_py.errors import AuthenticationFailed
from dqlite_py.node.contract import Member

VERSION = 1
NONCE_BYTES = 32
CHALLENGE_TTL_S = 30.0
CHALLENGES_MAX = 256
NAME_MAX_LENGTH = 128
URLS_MAX = 16

_LABEL_CHALLENGE = b"dqlite-py join 1: member answers challenge"
_LABEL_REDEEM = b"dqlite-py join 1: joiner redeems"
_LABEL_ANSWER = b"dqlite-py join 1: member answers redeem"

_Field = bytes | str | int | Sequence["_Field"]


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a server says of itself when it asks to become a member."""

    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """What a cluster answers: an id and the members, or why not."""

    cluster_id: int
    member_id: int  # 0 when refused
    members: tuple[Member, ...] = ()
    refusal: str = ""
    retry: bool = False  # asking again a little later may help


@dataclass(frozen=True, slots=True)
class Nonces:
    """The two random values that make one exchange unlike any other."""

    client: bytes
    server: bytes

    def __post_init__(self) -> None:
        if len(self.client) != NONCE_BYTES or len(self.server) != NONCE_BYTES:
            raise AuthenticationFailed(detail="a nonce of the wrong length")


@dataclass(frozen=True, slots=True)
class Prover:
    """Makes and checks the three proofs. ``check_*`` raise AuthenticationFailed."""

    key: bytes = field(repr=False)
    token_id: str
    cluster_id: int
    member_id: int  # of the member that answers

    def challenge_proof(self, nonces: Nonces) -> bytes:
        """Return the member's proof that it knows the key."""
        return self._mac(_LABEL_CHALLENGE, nonces)

    def redeem_proof(self, nonces: Nonces, request: JoinRequest) -> bytes:
        """Return the joiner's proof that it knows the key and asks for exactly ``request``."""
        return self._mac(_LABEL_REDEEM, nonces, _request_fields(request))

    def answer_proof(self, nonces: Nonces, request: JoinRequest, answer: JoinAnswer) -> bytes:
        """Return the member's proof that ``answer`` is what it answers to ``request``."""
        return self._mac(_LABEL_ANSWER, nonces, _request_fields(request), _answer_fields(answer))

    def check_challenge(self, nonces: Nonces, proof: bytes) -> None:
        """(joiner) Refuse a server that does not know the key."""
        self._check(self.challenge_proof(nonces), proof, "the server does not know this token")

    def check_redeem(self, nonces: Nonces, request: JoinRequest, proof: bytes) -> None:
        """(member) Refuse a joiner that does not know the key."""
        self._check(self.redeem_proof(nonces, request), proof, "the joiner does not know the token")

    def check_answer(
        self, nonces: Nonces, request: JoinRequest, answer: JoinAnswer, proof: bytes
    ) -> None:
        """(joiner) Refuse an answer that was made or changed on the way."""
        expected = self.answer_proof(nonces, request, answer)
        self._check(expected, proof, "the answer was changed on the way")
        if answer.cluster_id != self.cluster_id:
            raise AuthenticationFailed(detail="the answer is about another cluster")

    def _mac(self, label: bytes, nonces: Nonces, *fields: _Field) -> bytes:
        bound: _Field = (
            label,
            nonces.client,
            nonces.server,
            self.token_id,
            self.cluster_id,
            self.member_id,
            *fields,
        )
        return hmac.digest(self.key, unambiguous(bound), "sha256")

    @staticmethod
    def _check(expected: bytes, proof: bytes, detail: str) -> None:
        if not hmac.compare_digest(expected, proof):
            raise AuthenticationFailed(detail=detail)


def prover(token: Token, cluster_id: int, member_id: int) -> Prover:
    """Return the prover of ``token`` for exchanges with one member of one cluster."""
    return Prover(token.key, token.id, cluster_id, member_id)


def unambiguous(value: _Field) -> bytes:
    """Serialise ``value`` so that no two different values give the same bytes."""
    if isinstance(value, bytes):
        return b"b" + len(value).to_bytes(8, "big") + value
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return b"s" + len(data).to_bytes(8, "big") + data
    if isinstance(value, int):
        return b"i" + value.to_bytes(8, "big")
    return b"l" + len(value).to_bytes(8, "big") + b"".join(map(unambiguous, value))


class PendingChallenges:
    """(member) The challenges that may still be redeemed, once each; bounded in number and age.

    When full, the oldest gives way: its joiner is refused and asks again.
    """

    def __init__(self, limit: int = CHALLENGES_MAX, ttl_s: float = CHALLENGE_TTL_S) -> None:
        self._limit = limit
        self._ttl_s = ttl_s
        self._issued: OrderedDict[Nonces, float] = OrderedDict()  # -> monotonic seconds

    def issue(self, nonces: Nonces, now_s: float) -> None:
        """Remember a challenge answered at ``now_s`` (monotonic seconds)."""
        self._forget(before_s=now_s - self._ttl_s)
        while len(self._issued) >= self._limit:
            self._issued.popitem(last=False)
        self._issued[nonces] = now_s

    def redeem(self, nonces: Nonces, now_s: float) -> None:
        """Use a challenge up; raise AuthenticationFailed if it is unknown, used or too old."""
        self._forget(before_s=now_s - self._ttl_s)
        if self._issued.pop(nonces, None) is None:
            raise AuthenticationFailed(detail="no such challenge, or too old: ask again")

    def _forget(self, before_s: float) -> None:
        while self._issued and next(iter(self._issued.values())) < before_s:
            self._issued.popitem(last=False)


def check_shape(request: JoinRequest) -> str:
    """Return why ``request`` is malformed, or an empty string."""
    if not 0 < len(request.name) <= NAME_MAX_LENGTH or not request.name.isprintable():
        return f"a name of 1 to {NAME_MAX_LENGTH} printable characters is needed"
    for kind, urls in (("peer", request.peer_urls), ("client", request.client_urls)):
        if not 0 < len(urls) <= URLS_MAX:
            return f"1 to {URLS_MAX} {kind} URLs are needed"
    return ""


def _request_fields(request: JoinRequest) -> _Field:
    return (request.name, request.peer_urls, request.client_urls)


def _answer_fields(answer: JoinAnswer) -> _Field:
    return (
        answer.cluster_id,
        answer.member_id,
        _member_fields(answer.members),
        answer.refusal,
        int(answer.retry),
    )


def _member_fields(members: Iterable[Member]) -> _Field:
    return tuple(
        (one.id, one.name, one.peer_urls, one.client_urls, int(one.is_learner)) for one in members
    )
