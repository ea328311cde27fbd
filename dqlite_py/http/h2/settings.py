"""The parameters that both sides announce (RFC 9113 section 6.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dqlite_py.http.h2 import frames
from dqlite_py.http.h2.errors import ConnectionBroken, ErrorCode
from dqlite_py.http.h2.guard import Rate

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6


@dataclass(frozen=True, slots=True)
class H2Limits:
    """What one connection may cost. Windows are what we announce to the peer.

    Rates say how often the peer may do what costs us work and brings it nothing.
    """

    max_concurrent_streams: int = 10_000
    stream_window_bytes: int = 256 * 1024
    connection_window_bytes: int = 1024 * 1024
    header_list_bytes: int = 64 * 1024  # as RFC 9113 section 6.5.2 counts
    header_block_bytes: int = 64 * 1024  # compressed
    large_heads_bytes: int = 4 * 1024 * 1024  # of the requests that are open at a time
    max_continuations: int = 16
    output_bytes: int = 128 * 1024  # encoded frames held at a time, beyond which data waits
    resets: Rate = field(default_factory=lambda: Rate(burst=2_000, per_s=200.0))
    idle_frames: Rate = field(default_factory=lambda: Rate(burst=10_000, per_s=2_000.0))
    settings_frames: Rate = field(default_factory=lambda: Rate(burst=50, per_s=1.0))
    ping_interval_s: float = 5.0  # etcd behaviour: clients that ping more often are disconnected
    ping_interval_without_streams_s: float = 7_200.0
    ping_strikes: int = 2

    def announced(self) -> bytes:
        """Return the SETTINGS frame and WINDOW_UPDATE with which a server begins."""
        own = frames.settings(
            (
                (MAX_CONCURRENT_STREAMS, self.max_concurrent_streams),
                (INITIAL_WINDOW_SIZE, self.stream_window_bytes),
                (MAX_HEADER_LIST_SIZE, self.header_list_bytes),
            )
        )
        more_bytes = self.connection_window_bytes - frames.DEFAULT_WINDOW_BYTES
        return own + frames.window_update(0, more_bytes) if more_bytes > 0 else own


def parse(payload: bytes) -> Iterator[tuple[int, int]]:
    """Yield (identifier, value) of a SETTINGS payload, checked (RFC 9113 section 6.5.2).

    Raises ConnectionBroken for a value that is out of range. Unknown identifiers are passed on.
    """
    if len(payload) % frames.SETTING.size:
        raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    for identifier, value in frames.SETTING.iter_unpack(payload):
        if identifier == ENABLE_PUSH and value > 1:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if identifier == INITIAL_WINDOW_SIZE and value > frames.LARGEST_WINDOW_BYTES:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE too large")
        if identifier == MAX_FRAME_SIZE and not (
            frames.DEFAULT_FRAME_BYTES <= value <= frames.LARGEST_FRAME_BYTES
        ):
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
        yield identifier, value
