"""Who leaves requests incomplete gives way to those who go on with theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dqlite_py.http.budget import Budget
from dqlite_py.http.connections import ConnectionLimits, Connections
from dqlite_py.http.grpc.methods import Call, Kind, Method
from dqlite_py.http.grpc.service import GrpcLimits, GrpcService
from dqlite_py.http.grpc.status import Code
from dqlite_py.http.h2_protocol import H2Protocol, H2Setting
from dqlite_py.http.owner import TaskOwner
from dqlite_py.http.web import BodyUnusable, WebRequest, WebResponse
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import FakeTransport, settle

SIZE_BYTES = 10_000
PATH = "/test.Test/Ask"
MESSAGE = h2.message(bytes(6_000))
JSON = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]


class Site:
    """Connections of one server that holds at most SIZE_BYTES of incomplete requests."""

    def __init__(self) -> None:
        self.handled: list[Code] = []
        self.read: list[int] = []
        self.budget = Budget(SIZE_BYTES)
        method = Method(PATH, Kind.UNARY, bytes, self._ask)
        service = GrpcService(
            {PATH.encode(): method},
            self._failed,
            self._failed,
            lambda _method, code: self.handled.append(code),
            GrpcLimits(),
            self.budget,
        )
        self._setting = H2Setting(service, self._page, self._failed)
        self._connections = Connections(ConnectionLimits(), lambda why: None)
        self._owner = TaskOwner(self._failed)

    def connect(self) -> FakeTransport:
        protocol = H2Protocol(
            self._setting, self._connections, self._owner, secure=False, certificate_name=None
        )
        self._connections.admit(protocol, "somewhere")
        transport = FakeTransport(protocol)
        transport.connect()
        transport.receive(h2.PREFACE + h2.settings())
        return transport

    @staticmethod
    async def _ask(_request: bytes, _call: Call) -> bytes:
        return b""

    async def _page(self, request: WebRequest, response: WebResponse) -> None:
        self.read.append(len(await request.read(SIZE_BYTES)))
        await response.start(200, [])

    @staticmethod
    def _failed(*error: Any) -> Any:
        raise AssertionError(error)


def begin(fields: h2.Fields) -> bytes:
    return h2.headers(1, fields) + h2.data(1, MESSAGE[:-1])


def end() -> bytes:
    return h2.data(1, MESSAGE[-1:], end_stream=True)


CALL = h2.request_fields(PATH.encode())


@pytest.mark.parametrize("first", [CALL, JSON])
@pytest.mark.parametrize("second", [CALL, JSON])
def test_the_oldest_incomplete_request_gives_way(first: h2.Fields, second: h2.Fields) -> None:
    async def scene() -> None:
        site = Site()
        idle, busy = site.connect(), site.connect()
        idle.receive(begin(first))
        await settle()
        busy.receive(begin(second))
        await settle()
        busy.receive(end())
        await settle()
        calls = [Code.RESOURCE_EXHAUSTED] if first is CALL else []
        assert site.handled == calls + ([Code.OK] if second is CALL else [])
        assert site.read == ([] if second is CALL else [len(MESSAGE)])
        frames, _ = h2.parse(bytes(idle.sent))
        ended = [one for one in frames if one.stream_id == 1 and one.flags & h2.END_STREAM]
        assert ended, "who gave way was not told"
        assert site.budget.left_bytes == SIZE_BYTES

    asyncio.run(scene())


def test_who_wants_more_than_there_is_gives_way_itself() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(SIZE_BYTES)
        yield b"x"

    async def scene() -> None:
        budget = Budget(SIZE_BYTES)
        request = WebRequest("POST", "/", "", {}, chunks(), budget=budget)
        with pytest.raises(BodyUnusable):
            await request.read(2 * SIZE_BYTES)
        assert budget.left_bytes == SIZE_BYTES

    asyncio.run(scene())
