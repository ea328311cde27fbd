"""The connections of a server: how many there are, of whom, and why they ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dqlite_py.http.h2.errors import ErrorCode


class Ending(Enum):
    """Why the server ended a connection that kept all rules of the protocol."""

    SLOW_WRITER = "the rest of a frame did not come"
    SLOW_READER = "nothing of what was sent is read"
    NO_SIGN_OF_LIFE = "no answer to a ping"
    LEAVING = "the server stops"
    TOO_MANY = "too many connections"
    TOO_MANY_OF_ADDRESS = "too many connections from one address"


class ServedConnection(Protocol):
    """What the listener can do with a connection."""

    def leave(self) -> None:
        """Finish what is begun, then close."""

    def abort(self, ending: Ending) -> None:
        """Close at once."""

    def tick(self, now_s: float) -> None:
        """Check the peer's debts."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections a server keeps."""

    connections: int = 10_000
    connections_of_address: int = 2_000
    unsent_bytes: int = 256 * 1024 * 1024  # of answers whose clients open no window, in sum


class Connections:
    """The open connections, each with its address. ``count`` is told why connections end."""

    def __init__(self, limits: ConnectionLimits, count: Callable[[str], None]) -> None:
        self._limits = limits
        self._count = count
        self._open: dict[ServedConnection, str] = {}
        self._of_address: Counter[str] = Counter()
        self._unsent: dict[ServedConnection, int] = {}
        self._unsent_bytes = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: ServedConnection, address: str) -> Ending | None:
        """Remember a new connection, or return why there may be no more."""
        if len(self._open) >= self._limits.connections:
            return Ending.TOO_MANY
        if self._of_address[address] >= self._limits.connections_of_address:
            return Ending.TOO_MANY_OF_ADDRESS
        self._open[connection] = address
        self._of_address[address] += 1
        self._empty.clear()
        return None

    def replace(self, old: ServedConnection, new: ServedConnection) -> None:
        """Let ``new`` go on with what ``old`` began."""
        self._open[new] = self._open.pop(old)

    def remove(self, connection: ServedConnection) -> None:
        """Forget a closed connection."""
        self._unsent_bytes -= self._unsent.pop(connection, 0)
        address = self._open.pop(connection, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
            if not self._open:
                self._empty.set()

    def holds(self, connection: ServedConnection, unsent_bytes: int) -> None:
        """Take note of what waits for a connection's windows.

        A client that opens no window makes us hold every answer that it asks for. When that is
        too much in sum, the connection that holds the most is ended.
        """
        unsent = self._unsent
        if not unsent_bytes and connection not in unsent:
            return
        self._unsent_bytes += unsent_bytes - unsent.pop(connection, 0)
        if unsent_bytes:
            unsent[connection] = unsent_bytes
        if self._unsent_bytes > self._limits.unsent_bytes:
            worst = max(unsent, key=unsent.__getitem__)
            self._unsent_bytes -= unsent.pop(worst)
            worst.abort(Ending.SLOW_READER)

    async def emptied(self) -> None:
        """Wait until no connection is open."""
        await self._empty.wait()

    def ended(self, ending: Ending) -> None:
        """Count a connection that the server ended, unless it only stops itself."""
        if ending is not Ending.LEAVING:
            self._count(ending.name.lower())

    def broken(self, code: ErrorCode) -> None:
        """Count a connection that ended because its peer broke a rule."""
        self._count(code.name.lower())

    def all(self) -> list[ServedConnection]:
        """Return the open connections."""
        return list(self._open)
