"""A server that stops gives every answer that it has, within its grace."""

from __future__ import annotations

import asyncio
from typing import Any

from dqlite_py.http.client_port import Bind, ClientPort, PortSetting
from dqlite_py.http.grpc.methods import Call, Kind, Method
from dqlite_py.http.grpc.service import Budget, GrpcLimits, GrpcService
from dqlite_py.http.grpc.status import Code
from dqlite_py.http.h2_protocol import H2Setting
from dqlite_py.http.web import WebRequest, WebResponse
from tests.kit import raw_h2 as h2

LARGE = "/test.Test/Large"
LARGE_BYTES = 1_000_000  # many times what the client's window admits at a time
GRACE_S = 60.0  # more than this takes: whoever needs it all has not noticed that all is done


async def large(_request: bytes, _call: Call) -> bytes:
    return bytes(LARGE_BYTES)


async def no_page(_request: WebRequest, response: WebResponse) -> None:
    await response.start(404, [])


def failed(*error: Any) -> Any:
    raise AssertionError(error)


def port() -> ClientPort:
    method = Method(LARGE, Kind.UNARY, bytes, large)
    service = GrpcService(
        {LARGE.encode(): method},
        lambda error: (Code.INTERNAL, str(error)),
        failed,
        lambda method, code: None,
        GrpcLimits(),
        Budget(1 << 20),
    )
    return ClientPort(PortSetting(H2Setting(service, no_page, failed), lambda why: None))


class Client:
    """Reads an answer with the smallest windows that there are, and acknowledges pings."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._rest = b""
        self.body_bytes = 0
        self.ended = False

    async def frames(self) -> list[h2.Frame]:
        """Return the next frames; none at the end."""
        try:
            data = await self._reader.read(65536)
        except ConnectionError:
            return []
        frames, self._rest = h2.parse(self._rest + data)
        for one in frames:
            if one.kind == h2.DATA:
                self.body_bytes += len(one.payload)
                for stream_id in (0, 1):
                    self._writer.write(h2.window_update(stream_id, len(one.payload)))
            elif one.kind == h2.PING and not one.flags:
                self._writer.write(h2.ping(one.payload, ack=True))
            elif one.kind == h2.HEADERS:
                self.ended = bool(one.flags & h2.END_STREAM)
        return frames if data else []


def test_an_answer_that_waits_for_windows_is_given_before_the_server_stops() -> None:
    async def scene() -> None:
        server = port()
        (number,) = await server.start([Bind("127.0.0.1", 0)])
        client = Client(*(streams := await asyncio.open_connection("127.0.0.1", number)))
        writer = streams[1]
        writer.write(h2.PREFACE + h2.settings())
        writer.write(h2.headers(1, h2.request_fields(LARGE.encode())))
        writer.write(h2.data(1, h2.message(b""), end_stream=True))
        while not client.body_bytes:
            assert await client.frames()
        stopping = asyncio.ensure_future(server.stop(GRACE_S))
        while await client.frames():
            pass
        assert client.body_bytes == LARGE_BYTES + 5
        assert client.ended
        async with asyncio.timeout(GRACE_S / 2):
            await stopping
        writer.transport.abort()

    asyncio.run(scene())
