"""The sending half of a connection: bounded, one write for all frames of a loop iteration."""

from __future__ import annotations

import asyncio

from dqlite_py.seams import Stream
from dqlite_py.transport.contract import TransportCounters, TransportLimits


class SendQueue:
    """Frames on their way to one stream.

    Without a stream it holds frames for the connection being made. ``held_bytes`` and the
    stream's own unsent bytes are bounded together, so a peer that stops reading costs no more
    than ``limits.send_queue_bytes``.
    """

    def __init__(self, limits: TransportLimits, counters: TransportCounters) -> None:
        self._limits = limits
        self._counters = counters
        self._frames: list[bytes] = []
        self._stream: Stream | None = None
        self._flushing = False
        self.held_bytes = 0

    def attach(self, stream: Stream) -> None:
        """Send through ``stream`` from now on, what is held first."""
        self._stream = stream
        if self._frames:
            self._schedule()

    def detach(self) -> int:
        """Forget the stream and what is held; return how many frames that were."""
        dropped = len(self._frames)
        self._stream = None
        self._frames.clear()
        self.held_bytes = 0
        return dropped

    def put(self, frame: bytes) -> bool:
        """Queue a frame; return False, and do nothing, when the queue is full.

        Ordering: frames leave in the order of ``put``.
        """
        stream = self._stream
        frames = self._frames
        waiting = self.held_bytes + len(frame)
        if stream is not None:
            waiting += stream.buffered_bytes()
        limits = self._limits
        if waiting > limits.send_queue_bytes or len(frames) >= limits.send_queue_messages:
            return False
        frames.append(frame)
        self.held_bytes += len(frame)
        if stream is not None and not self._flushing:
            self._schedule()
        return True

    def _schedule(self) -> None:
        self._flushing = True
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        frames = self._frames
        if self._stream is None or not frames:
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        self.held_bytes = 0
        self._counters.bytes_sent += len(data)
        self._stream.write(data)
