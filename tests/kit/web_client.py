"""Requests to a ``WebHandler`` without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from dqlite_py.http.web import WebHandler, WebRequest


class RecordedAnswer:
    """Implements WebResponse; ``whole`` says whether the handler came to an end."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body_bytes: int | None = None
        self.pieces: list[bytes] = []
        self.whole = False
        self.progress = asyncio.Event()

    async def start(
        self, status: int, headers: Sequence[tuple[str, str]], *, body_bytes: int | None = None
    ) -> None:
        assert not self.status
        assert all(name == name.lower() for name, _ in headers)
        self.status = status
        self.headers = dict(headers)
        self.body_bytes = body_bytes
        self.progress.set()

    async def write(self, data: bytes) -> None:
        assert self.status
        self.pieces.append(data)
        self.progress.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    async def next(self) -> None:
        """Wait until more has been sent."""
        self.progress.clear()
        await self.progress.wait()


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


def request(
    path: str,
    body: bytes | AsyncIterator[bytes] = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> WebRequest:
    chunks = pieces(body) if isinstance(body, bytes) else body
    path, _, query = path.partition("?")
    return WebRequest(method, path, query, dict(headers or {}), chunks)


async def ask(handler: WebHandler, asked: WebRequest) -> RecordedAnswer:
    answer = RecordedAnswer()
    await handler(asked, answer)
    answer.whole = True
    assert answer.status
    if answer.body_bytes is not None:
        assert len(answer.body) == answer.body_bytes
    return answer
