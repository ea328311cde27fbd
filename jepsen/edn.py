"""Histories as EDN, for the tools of Jepsen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from jepsen.history import NEMESIS, Event, MalformedHistory


def write_edn(events: Iterable[Event], path: str) -> None:
    """Write events as one EDN map a line, with the keywords that Jepsen's tools expect.

    ``type``, ``f`` and the names of micro-operations become keywords, ``time_ns`` becomes
    ``:time`` and the process of fault injection becomes ``:nemesis``.
    """
    with open(path, "w", encoding="utf-8") as out:
        for event in events:
            _write_edn_event(event, out)


def _write_edn_event(event: Event, out: TextIO) -> None:
    process = ":nemesis" if event.process == NEMESIS else str(event.process)
    fields = [
        f":index {event.index}",
        f":time {event.time_ns}",
        f":type :{event.type}",
        f":process {process}",
        f":f :{event.f}",
        f":value {_edn_value(event)}",
    ]
    if event.key is not None:
        fields.append(f":key {edn(event.key)}")
    if event.node is not None:
        fields.append(f":node {edn(event.node)}")
    if event.error is not None:
        fields.append(f":error {edn(event.error)}")
    if event.extra:
        fields.append(f":extra {edn(event.extra)}")
    out.write("{" + ", ".join(fields) + "}\n")


def _edn_value(event: Event) -> str:
    if event.f == "txn" and isinstance(event.value, list):
        operations = (f"[:{name} {edn(key)} {edn(value)}]" for name, key, value in event.value)
        return "[" + " ".join(operations) + "]"
    return edn(event.value)


def edn(value: Any) -> str:
    """Return a JSON value as EDN; keys of maps become keywords where they can."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        pairs = (f"{_edn_key(str(name))} {edn(item)}" for name, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Sequence):
        return "[" + " ".join(edn(item) for item in value) + "]"
    raise MalformedHistory(f"not a JSON value: {value!r}")


def _edn_key(name: str) -> str:
    plain = name.replace("_", "-")
    if plain and plain[0].isalpha() and all(c.isalnum() or c == "-" for c in plain):
        return ":" + plain
    return edn(name)
