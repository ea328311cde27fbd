"""A connection without a socket: what asyncio would do between a protocol and its peer."""

from __future__ import annotations

import asyncio
from typing import Any

import h11


class FakeTransport(asyncio.Transport):
    """The server's end. The peer takes all that is written unless it is ``stalled``."""

    def __init__(self, protocol: Any, extra: dict[str, Any] | None = None) -> None:
        super().__init__(extra)
        self.protocol = protocol
        self.secure = False  # TLS has no half-closed connections
        self.sent = bytearray()  # what the peer has taken
        self.unsent = bytearray()
        self.stalled = False
        self.reading = True
        self.closing = False
        self.lost = False
        self.aborted = False
        self.ended = False  # the server said that it sends no more
        self._held = bytearray()  # sent by the peer while reading was paused
        self._high = 65536
        self._paused_writing = False

    # --- what the protocol calls ---------------------------------------------------------------
    def write(self, data: Any) -> None:
        assert not self.ended
        if self.closing:
            return
        self.unsent += data
        if not self.stalled:
            self.take(len(self.unsent))
        elif len(self.unsent) > self._high and not self._paused_writing:
            self._paused_writing = True
            self.protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or self._high

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def can_write_eof(self) -> bool:
        return not self.secure

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True
        held, self._held = bytes(self._held), bytearray()
        if held:
            asyncio.get_running_loop().call_soon(self.receive, held)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.unsent:
                self._lose(None)

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.unsent.clear()
        self._lose(None)

    # --- what the peer does --------------------------------------------------------------------
    def connect(self) -> None:
        self.protocol.connection_made(self)

    def receive(self, data: bytes) -> None:
        """The peer sends; it waits in the kernel while the server does not read."""
        if not self.reading:
            self._held += data
        elif not self.closing:
            self.protocol.data_received(data)

    def end(self) -> None:
        """The peer sends no more."""
        if not self.protocol.eof_received():
            self.close()

    def take(self, size: int) -> None:
        """The peer reads ``size`` bytes."""
        self.sent += self.unsent[:size]
        del self.unsent[:size]
        if self._paused_writing and len(self.unsent) <= self._high // 4:
            self._paused_writing = False
            self.protocol.resume_writing()
        if self.closing and not self.unsent:
            self._lose(None)

    def reset(self) -> None:
        """The peer is gone."""
        self.closing = True
        self._lose(ConnectionResetError())

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)


async def settle(rounds: int = 30) -> None:
    """Let everything run that can run without time passing."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class Reply:
    """One answer as a client sees it."""

    def __init__(self, response: h11.Response) -> None:
        self.status = response.status_code
        self.headers = {name.decode(): value.decode() for name, value in response.headers}
        self.body = b""
        self.chunks: list[bytes] = []
        self.whole = False


def replies(data: bytes, *methods: str) -> list[Reply]:
    """Parse what a server sent in answer to requests with these methods."""
    result: list[Reply] = []
    client = h11.Connection(h11.CLIENT)
    client.receive_data(data)
    client.receive_data(b"")
    for method in methods:
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        while True:
            try:
                event = client.next_event()
            except h11.RemoteProtocolError:
                return result  # cut short
            if isinstance(event, h11.Response):
                result.append(Reply(event))
            elif isinstance(event, h11.Data):
                result[-1].body += bytes(event.data)
                result[-1].chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                result[-1].whole = True
                break
            elif not isinstance(event, h11.InformationalResponse):
                return result
        if client.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            break
        client.start_next_cycle()
    return result
