from __future__ import annotations

import hashlib
import secrets

import pytest

from dqlite_py.cluster.tokens import Token
from dqlite_py.errors import InvalidSetting


def test_generated_tokens_differ_and_survive_their_text() -> None:
    token, other = Token.generate(secrets.token_bytes), Token.generate(secrets.token_bytes)
    again = Token.parse(token.text)
    assert again.matches(token)
    assert again.id == token.id
    assert not token.matches(other)
    assert token.id != other.id


def test_a_token_never_shows_itself() -> None:
    token = Token.parse("open-sesame")
    assert "sesame" not in repr(token)
    assert token.key.hex() not in repr(token)
    assert "sesame" not in token.id


def test_the_full_form_pins_an_authority_and_is_the_same_secret() -> None:
    short = Token.parse("open-sesame")
    full = Token.parse(short.pinned_to(b"PEM"))
    assert full.matches(short)
    assert (full.text, full.id) == (short.text, short.id)
    assert full.authority_sha256 == hashlib.sha256(b"PEM").hexdigest()
    assert short.pinned_to(b"PEM") == f"K10{full.authority_sha256}::server:open-sesame"
    assert short.pinned_to(b"") == short.text
    assert short.authority_sha256 == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("K10abc::server:open-sesame", "invalid token CA hash length"),
        (f"K10{'z' * 64}::server:open-sesame", "invalid token format"),
        (f"K10{'a' * 64}::node:open-sesame", "invalid token format"),
        (f"K10{'a' * 64}::server", "invalid token format"),
        (f"K10{'a' * 64}::server:short", "characters"),
    ],
)
def test_a_broken_full_form_is_refused_in_k3s_words(text: str, line: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Token.parse(text)
    assert refused.value.setting == "token"
    assert line in refused.value.reason


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 513, "with blank", "with:colon", "ümlaut-token", "K10abc::server:x"]
)
def test_what_can_not_be_a_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Token.parse(text)
    assert refused.value.setting == "token"
    assert text not in refused.value.reason or not text
