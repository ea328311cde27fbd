"""How the text of a setting becomes its value; each function raises InvalidSetting by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dqlite_py.config.endpoint import ALL_SCHEMES, Endpoint
from dqlite_py.config.security import CIPHER_SUITES, CIPHER_SUITES_OF_1_3
from dqlite_py.errors import InvalidSetting

Parse = Callable[[str, Any], Any]

LOG_LEVELS = ("debug", "info", "warning", "error")
NAME_MAX_LENGTH = 128


def text(setting: str, value: Any) -> str:
    """Return any text."""
    if not isinstance(value, str):
        raise InvalidSetting(setting=setting, reason=f"{value!r} is not text")
    return value


def member_name(setting: str, value: Any) -> str:
    """Return the name of a member."""
    name = text(setting, value)
    if not name or len(name) > NAME_MAX_LENGTH or not name.isprintable() or "/" in name:
        raise InvalidSetting(
            setting=setting,
            reason=f"{name!r} must be 1 to {NAME_MAX_LENGTH} printable characters without '/'",
        )
    return name


def listed(setting: str, value: Any) -> list[str]:
    """Return the items of a list, or of text that commas separate; empty ones are left out."""
    items = value if isinstance(value, list | tuple) else text(setting, value).split(",")
    return [text(setting, item).strip() for item in items if item]


def urls(schemes: Sequence[str] = ALL_SCHEMES) -> Parse:
    """Return a reader of URLs of these schemes, none of them twice."""

    def parse(setting: str, value: Any) -> tuple[str, ...]:
        found = [str(Endpoint.parse(setting, item, schemes)) for item in listed(setting, value)]
        if len(set(found)) != len(found):
            raise InvalidSetting(setting=setting, reason="the same URL is given twice")
        return tuple(found)

    return parse


def url(schemes: Sequence[str] = ALL_SCHEMES) -> Parse:
    """Return a reader of one URL or nothing."""

    def parse(setting: str, value: Any) -> str:
        given = text(setting, value)
        return str(Endpoint.parse(setting, given, schemes)) if given else ""

    return parse


def switch(setting: str, value: Any) -> bool:
    """Return a truth value."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "false": False, "0": False}
    if str(value).lower() not in words:
        raise InvalidSetting(setting=setting, reason=f"{value!r} is neither true nor false")
    return words[str(value).lower()]


def log_level(setting: str, value: Any) -> str:
    """Return one of LOG_LEVELS."""
    level = text(setting, value).lower()
    level = {"warn": "warning"}.get(level, level)  # etcd's spelling
    return one_of(LOG_LEVELS)(setting, level)


def one_of(choices: Sequence[str], *, optional: bool = False) -> Callable[[str, Any], str]:
    """Return a reader of one of ``choices``; with ``optional`` nothing does as well."""

    def parse(setting: str, value: Any) -> str:
        given = text(setting, value)
        if given not in choices and not (optional and not given):
            raise InvalidSetting(
                setting=setting, reason=f"{value!r} is not one of {', '.join(choices)}"
            )
        return given

    return parse


def cipher_suites(setting: str, value: Any) -> tuple[str, ...]:
    """Return OpenSSL's names of cipher suites given by etcd's; those of TLS 1.3 are no choice."""
    found = []
    for name in listed(setting, value):
        if name in CIPHER_SUITES_OF_1_3:
            continue
        if name not in CIPHER_SUITES:
            raise InvalidSetting(setting=setting, reason=f"unexpected TLS cipher suite {name!r}")
        found.append(CIPHER_SUITES[name])
    return tuple(found)


def integer(low: int | None, high: int | None = None) -> Callable[[str, Any], int]:
    """Return a reader of whole numbers from ``low`` to ``high``."""

    def parse(setting: str, value: Any) -> int:
        try:
            if isinstance(value, bool | float):
                raise ValueError(value)
            number = int(value)
        except (TypeError, ValueError):
            raise InvalidSetting(
                setting=setting, reason=f"{value!r} is not a whole number"
            ) from None
        if (low is not None and number < low) or (high is not None and number > high):
            wanted = f"at least {low}" if high is None else f"between {low} and {high}"
            raise InvalidSetting(setting=setting, reason=f"{number} must be {wanted}")
        return number

    return parse
