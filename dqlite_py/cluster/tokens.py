"""The cluster's secret as operators see it: a printable token, and what is derived from it.

Whoever knows the token may join and act as a member. It never travels: both sides prove that they
know it (``cluster.join``).

In full form, ``K10<SHA-256 of the authority's PEM>::server:<secret>`` (k3s's), a token also says
which authority the servers' certificates are of.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import pbkdf2_hmac, sha256

from dqlite_py.errors import InvalidSetting

TOKEN_FILE_NAME = "token"  # noqa: S105 - a file name, in the data directory
GENERATED_BYTES = 32
TEXT_MIN_LENGTH = 6
TEXT_MAX_LENGTH = 512
# Makes guessing a short token from recorded proofs slow; paid once at every start.
KEY_ROUNDS = 50_000
KEY_SALT = b"dqlite-py cluster key 1"
ID_LABEL = b"dqlite-py token id 1"
ID_LENGTH = 16
FULL_PREFIX = "K10"
FULL_USER = "server"
HASH_LENGTH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A valid token. ``key`` authenticates joiners and peers; ``id`` names the token in public."""

    text: str = field(repr=False)  # the secret alone
    key: bytes = field(repr=False)
    id: str
    authority_sha256: str = ""  # in hexadecimal; empty: no authority is pinned

    @classmethod
    def parse(cls, given: str) -> Token:
        """Return the token written as ``given``, in short or full form.

        Raises InvalidSetting if it can not be one.
        """
        text, pin = _split(given)
        if not TEXT_MIN_LENGTH <= len(text) <= TEXT_MAX_LENGTH:
            raise InvalidSetting(
                setting="token",
                reason=f"must have {TEXT_MIN_LENGTH} to {TEXT_MAX_LENGTH} characters; "
                "`dqlite-py token --generate` makes a good one",
            )
        if not (text.isascii() and text.isprintable()) or " " in text or ":" in text:
            raise InvalidSetting(
                setting="token", reason="must be printable ASCII without blanks and colons"
            )
        key = pbkdf2_hmac("sha256", text.encode("ascii"), KEY_SALT, KEY_ROUNDS)
        return cls(text, key, hmac.digest(key, ID_LABEL, "sha256").hex()[:ID_LENGTH], pin)

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes]) -> Token:
        """Return a new token from ``random_bytes``, which must be fit for secrets."""
        # Base 32 has no character that a shell or a command line could mistake for something.
        text = b32encode(random_bytes(GENERATED_BYTES)).decode("ascii").rstrip("=").lower()
        return cls.parse(text)

    def pinned_to(self, authority: bytes) -> str:
        """Return the token in full form, pinning ``authority`` (PEM); in short form if empty."""
        if not authority:
            return self.text
        return f"{FULL_PREFIX}{sha256(authority).hexdigest()}::{FULL_USER}:{self.text}"

    def matches(self, other: Token) -> bool:
        """Tell in constant time whether both are the same token."""
        return hmac.compare_digest(self.key, other.key)


def _split(given: str) -> tuple[str, str]:
    """Return the secret of a token and the hash in front of it, if any."""
    if not given.startswith(FULL_PREFIX) or "::" not in given:
        return given, ""
    pin, _, credentials = given.removeprefix(FULL_PREFIX).partition("::")
    user, colon, secret = credentials.partition(":")
    if len(pin) != HASH_LENGTH:
        raise InvalidSetting(setting="token", reason="invalid token CA hash length")
    if not re.fullmatch("[0-9a-f]+", pin) or user != FULL_USER or not colon:
        raise InvalidSetting(setting="token", reason="invalid token format")
    return secret, pin
