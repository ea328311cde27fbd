"""The cluster's secret as operators see it: a printable token, and what is derived from it.

Whoever knows the token may join and act as a member. It never travels: both sides prove that they
know it (``cluster.join``).
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import pbkdf2_hmac

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


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A valid token. ``key`` authenticates joiners and peers; ``id`` names the token in public."""

    text: str = field(repr=False)
    key: bytes = field(repr=False)
    id: str

    @classmethod
    def parse(cls, text: str) -> Token:
        """Return the token written as ``text``; raise InvalidSetting if it can not be one."""
        if text.startswith("K10") and "::" in text:
            raise InvalidSetting(
                setting="token",
                reason="this token pins a certificate authority, but this version has no TLS yet",
            )
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
        return cls(text, key, hmac.digest(key, ID_LABEL, "sha256").hex()[:ID_LENGTH])

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes]) -> Token:
        """Return a new token from ``random_bytes``, which must be fit for secrets."""
        # Base 32 has no character that a shell or a command line could mistake for something.
        text = b32encode(random_bytes(GENERATED_BYTES)).decode("ascii").rstrip("=").lower()
        return cls.parse(text)

    def matches(self, other: Token) -> bool:
        """Tell in constant time whether both are the same token."""
        return hmac.compare_digest(self.key, other.key)
