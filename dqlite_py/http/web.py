"""Requests that are not gRPC, whatever version of HTTP brought them.

A handler is written once, against these types, and serves HTTP/1.1 and HTTP/2 alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dqlite_py.http.budget import Budget

TOO_MUCH = "too many bytes of incomplete requests, try again later"


class BodyTooLarge(Exception):
    """The body of a request is larger than the handler was willing to read.

    Raised by WebRequest.read; ``most_bytes`` is the limit. A handler that does not catch it
    makes the server answer 413.
    """

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the body is larger than {most_bytes} bytes")
        self.most_bytes = most_bytes


class BodyUnusable(Exception):
    """The rest of a request's body can not be had: it is malformed, or it came too slowly.

    Raised while ``chunks`` is read; ``status`` is what the client is told. A handler that does not
    catch it makes the server answer so.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class WebRequest:
    """One request.

    ``path`` is as it was sent, without the query; ``headers`` has lower-case names, of a repeated
    one the values are joined with ", " (RFC 9110 section 5.3). ``chunks`` yields the body as it
    arrives and can be iterated once; reading slowly slows the client. It raises BodyUnusable.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    secure: bool = False  # over TLS
    certificate_name: str | None = None  # the subject's common name in a verified certificate
    budget: Budget | None = None  # what all incomplete bodies may take together

    async def read(self, most_bytes: int) -> bytes:
        """Return the whole body; raise BodyTooLarge if it has more than ``most_bytes``.

        Raises BodyUnusable (503) if all incomplete bodies together have too many bytes.
        """
        body = bytearray()
        share = _Share(self.budget)
        try:
            async with asyncio.timeout(None) as share.patience:
                async for chunk in self.chunks:
                    if len(body) + len(chunk) > most_bytes:
                        raise BodyTooLarge(most_bytes)
                    share.take(len(chunk))
                    body += chunk
        except TimeoutError:
            if share.patience.expired():
                raise BodyUnusable(503, TOO_MUCH) from None
            raise
        finally:
            share.give_back()
        return bytes(body)


class _Share:
    """What the body of one request holds of a budget; without one there is no limit."""

    patience: asyncio.Timeout

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget
        self._held_bytes = 0

    def take(self, size_bytes: int) -> None:
        if self._budget is None:
            return
        if not self._budget.take(size_bytes, self):
            raise BodyUnusable(503, TOO_MUCH)
        self._held_bytes += size_bytes

    def give_back(self) -> None:
        if self._budget is not None:
            self._budget.take(-self._held_bytes, self)
            self._budget.forget(self)
            self._held_bytes = 0

    def give_way(self) -> None:
        self.give_back()
        self.patience.reschedule(asyncio.get_running_loop().time())


class WebResponse(Protocol):
    """How a handler answers: ``start`` once, then any number of ``write``; returning ends it."""

    async def start(
        self, status: int, headers: Sequence[tuple[str, str]], *, body_bytes: int | None = None
    ) -> None:
        """Send status and headers (lower-case names).

        With ``body_bytes`` the body has exactly this length, otherwise it is streamed.
        """

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; return when the transport has room for more."""


# An error that it raises is reported; the client gets 500 if nothing was sent, else the stream or
# connection is broken off, so that a cut answer never looks whole. Cancelled if the client goes.
WebHandler = Callable[[WebRequest, WebResponse], Awaitable[None]]


def within_budget(handler: WebHandler, budget: Budget) -> WebHandler:
    """Return a handler whose requests take from ``budget`` while their bodies are incomplete."""

    async def handle(request: WebRequest, response: WebResponse) -> None:
        await handler(replace(request, budget=budget), response)

    return handle
