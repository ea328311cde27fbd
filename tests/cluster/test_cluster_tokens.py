from __future__ import annotations

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


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 513, "with blank", "with:colon", "ümlaut-token", "K10abc::server:x"]
)
def test_what_can_not_be_a_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Token.parse(text)
    assert refused.value.setting == "token"
    assert text not in refused.value.reason or not text
