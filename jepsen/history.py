"""Histories: what clients asked, what they were told, and in which order.

A history is a list of events. A client records an ``invoke`` before it sends a request and one
completion when it knows more: ``ok`` (it happened, and this is the answer), ``fail`` (it
certainly did not happen) or ``info`` (nobody knows: it may take effect at any later time, or
never). Indexes are given out by one writer in the order in which events were recorded, so
``a.completion.index < b.invocation.index`` means that a had ended before b began; this is the
only real-time order that checkers use. The schema of each workload is in jepsen/README.md.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

INVOKE = "invoke"
OK = "ok"
FAIL = "fail"
INFO = "info"
TYPES = (INVOKE, OK, FAIL, INFO)

NEMESIS = -1
"""The process number of fault injection; its events are ``info`` and pair with nothing."""

FLUSH_EVERY_EVENTS = 256
NEVER = 1 << 62
"""An index and a time later than any other: the end of an operation of unknown outcome."""


class MalformedHistory(ValueError):
    """The history breaks its schema, so that nothing can be concluded from it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history; ``value`` and ``extra`` hold only what JSON can carry."""

    index: int
    time_ns: int
    type: str
    process: int
    f: str
    key: str | None = None
    value: Any = None
    node: str | None = None
    error: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the event as a JSON object with every field of the schema."""
        return {
            "index": self.index,
            "time_ns": self.time_ns,
            "type": self.type,
            "process": self.process,
            "f": self.f,
            "key": self.key,
            "value": self.value,
            "node": self.node,
            "error": self.error,
            "extra": dict(self.extra),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Event:
        """Return the event of a JSON object; raises MalformedHistory."""
        try:
            event = cls(
                index=fields["index"],
                time_ns=fields["time_ns"],
                type=fields["type"],
                process=fields["process"],
                f=fields["f"],
                key=fields.get("key"),
                value=fields.get("value"),
                node=fields.get("node"),
                error=fields.get("error"),
                extra=fields.get("extra") or {},
            )
        except KeyError as missing:
            raise MalformedHistory(f"event without {missing}: {fields}") from missing
        if event.type not in TYPES:
            raise MalformedHistory(f"event {event.index} has the type {event.type!r}")
        return event


@dataclass(frozen=True, slots=True)
class Operation:
    """An invocation and its completion; without one its outcome is unknown, as with ``info``."""

    invocation: Event
    completion: Event | None

    @property
    def type(self) -> str:
        """``ok``, ``fail`` or ``info``."""
        return INFO if self.completion is None else self.completion.type

    @property
    def f(self) -> str:
        """The name of what was asked."""
        return self.invocation.f

    @property
    def key(self) -> str | None:
        """The key of the operation, if it has just one."""
        return self.invocation.key

    @property
    def process(self) -> int:
        """The client process."""
        return self.invocation.process

    @property
    def node(self) -> str | None:
        """The member that was asked, which the completion knows best."""
        if self.completion is not None and self.completion.node is not None:
            return self.completion.node
        return self.invocation.node

    @property
    def request(self) -> Any:
        """The value of the invocation."""
        return self.invocation.value

    @property
    def answer(self) -> Any:
        """The value of the completion; None without one."""
        return None if self.completion is None else self.completion.value

    @property
    def extra(self) -> Mapping[str, Any]:
        """What the completion adds, over what the invocation said."""
        if self.completion is None:
            return self.invocation.extra
        return {**self.invocation.extra, **self.completion.extra}

    @property
    def revision(self) -> int | None:
        """The store revision in the header of the answer, if the answer is known."""
        if self.completion is None or self.completion.type != OK:
            return None
        revision = self.completion.extra.get("revision")
        return None if revision is None else int(revision)

    @property
    def start(self) -> int:
        """The index of the invocation."""
        return self.invocation.index

    @property
    def end(self) -> int:
        """The index of the completion; NEVER while the outcome is unknown."""
        if self.completion is None or self.completion.type == INFO:
            return NEVER
        return self.completion.index

    @property
    def is_ok(self) -> bool:
        """Whether the answer is known."""
        return self.type == OK

    @property
    def may_have_happened(self) -> bool:
        """Whether the operation took effect or could still do so."""
        return self.type != FAIL

    @property
    def serializable(self) -> bool:
        """Whether the client asked for a read that may be stale."""
        return bool(self.invocation.extra.get("serializable"))


def pair(events: Iterable[Event]) -> list[Operation]:
    """Match invocations with completions, in the order of invocation.

    Nemesis events are left out. Raises MalformedHistory if indexes do not rise, if a process
    has two operations open, or if a completion has no invocation of the same ``f``.
    """
    opened: dict[int, Event] = {}
    completions: dict[int, Event] = {}
    invocations: list[Event] = []
    last = -1
    for event in events:
        if event.index <= last:
            raise MalformedHistory(f"index {event.index} follows {last}")
        last = event.index
        if event.process == NEMESIS:
            continue
        if event.type == INVOKE:
            if event.process in opened:
                raise MalformedHistory(f"process {event.process} invokes twice: {event.index}")
            opened[event.process] = event
            invocations.append(event)
            continue
        invocation = opened.pop(event.process, None)
        if invocation is None or invocation.f != event.f:
            raise MalformedHistory(f"completion {event.index} has no invocation")
        completions[invocation.index] = event
    return [Operation(invoked, completions.get(invoked.index)) for invoked in invocations]


class HistoryWriter:
    """Appends events to a file of JSON lines; may be shared by threads.

    Gives out indexes and times, so the order of calls is the order of the history. Lines reach
    the operating system every few hundred events and the disk in ``close``. With ``keep`` the
    events stay in ``events`` as well.
    """

    def __init__(
        self, path: str, *, keep: bool = True, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.path = path
        self.events: list[Event] = []
        self._keep = keep
        self._clock_ns = clock_ns
        self._began_ns = clock_ns()
        self._count = 0
        self._lock = threading.Lock()
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by close()

    def record(
        self,
        type: str,  # noqa: A002 - the name in the schema
        process: int,
        f: str,
        *,
        key: str | None = None,
        value: Any = None,
        node: str | None = None,
        error: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Event:
        """Append one event and return it; raises ValueError if a value is not JSON."""
        with self._lock:
            event = Event(
                index=self._count,
                time_ns=self._clock_ns() - self._began_ns,
                type=type,
                process=process,
                f=f,
                key=key,
                value=value,
                node=node,
                error=error,
                extra=extra or {},
            )
            self._file.write(line(event) + "\n")
            self._count += 1
            if self._keep:
                self.events.append(event)
            if self._count % FLUSH_EVERY_EVENTS == 0:
                self._file.flush()
        return event

    def invoke(self, process: int, f: str, **fields: Any) -> Event:
        """Record that a client is about to ask; call it before the first byte is sent."""
        return self.record(INVOKE, process, f, **fields)

    def complete(
        self,
        invocation: Event,
        type: str,  # noqa: A002
        value: Any = None,
        **fields: Any,
    ) -> Event:
        """Record what became of an invocation; ``type`` is ok, fail or info."""
        fields.setdefault("node", invocation.node)
        return self.record(
            type, invocation.process, invocation.f, key=invocation.key, value=value, **fields
        )

    def nemesis(self, f: str, nemesis: str, detail: Any = None) -> Event:
        """Record fault injection: ``f`` is start, stop, or the name of an action."""
        return self.record(INFO, NEMESIS, f, value={"nemesis": nemesis, "detail": detail})

    def close(self) -> None:
        """Write everything; the history is durable on return."""
        with self._lock:
            if self._file.closed:
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_history(path: str) -> list[Event]:
    """Read a file of JSON lines; a torn last line is an error. Raises MalformedHistory."""
    with open(path, encoding="utf-8") as lines:
        return list(parse(lines))


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """Parse JSON lines; raises MalformedHistory."""
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            yield Event.from_json(json.loads(text))
        except json.JSONDecodeError as error:
            raise MalformedHistory(f"line {number}: {error}") from error


def line(event: Event) -> str:
    """Return an event as one line of JSON without its end."""
    return json.dumps(event.to_json(), separators=(",", ":"))


def write_history(events: Iterable[Event], path: str) -> None:
    """Write events as JSON lines; durable on return."""
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(
            json.dumps(event.to_json(), separators=(",", ":")) + "\n" for event in events
        )
        out.flush()
        os.fsync(out.fileno())
