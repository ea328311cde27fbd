"""One watcher: what it wants, and the next revision it is owed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.watch import wire
from dqlite_py.watch.history import Change, Interest

if TYPE_CHECKING:
    from dqlite_py.watch.stream import WatchStream

ALL_KEYS_END = b"\x00"


class Watcher:
    """A watcher is *synced* while the hub hands it new revisions as they come, otherwise *behind*.

    All it needs in order to go on is ``next_revision``, so a slow one costs no memory.
    """

    __slots__ = (
        "fragment_bytes",
        "id",
        "id_field",
        "idle",
        "interest",
        "next_revision",
        "progress_notify",
        "range_end",
        "start_revision",
        "stream",
        "synced",
    )

    def __init__(
        self,
        stream: WatchStream,
        watch_id: int,
        request: rpc.WatchCreateRequest,
        next_revision: int,
        fragment_bytes: int,
    ) -> None:
        self.stream = stream
        self.id = watch_id
        self.id_field = wire.watch_id_field(watch_id)
        self.interest = interest_of(request)
        self.range_end = request.range_end
        self.start_revision = request.start_revision
        self.next_revision = next_revision
        self.progress_notify = request.progress_notify
        self.fragment_bytes = fragment_bytes if request.fragment else None
        self.synced = False
        self.idle = True  # no events since the last tick of progress notifications

    @property
    def key(self) -> bytes:
        """The first key watched."""
        return self.interest.key

    def select(self, changes: Sequence[Change]) -> list[bytes] | None:
        """Return the events of ``changes`` for this watcher as response fields.

        None if it wants previous pairs and they were not read.
        """
        interest = self.interest
        wanted = [change for change in changes if interest.wants(is_delete=change.is_delete)]
        if not interest.previous:
            return [change.plain for change in wanted]
        full = [change.full for change in wanted if change.full is not None]
        return full if len(full) == len(wanted) else None

    def responses(self, header: bytes, events: Sequence[bytes]) -> list[bytes]:
        """Return the serialised responses that bring ``events`` under ``header``."""
        return wire.responses(header + self.id_field, events, self.fragment_bytes)

    def shape(self) -> tuple[object, ...]:
        """Return what decides the bytes of a response, besides the header and the changes."""
        interest = self.interest
        return (
            self.id,
            interest.no_put,
            interest.no_delete,
            interest.previous,
            self.fragment_bytes,
        )


def interest_of(request: rpc.WatchCreateRequest) -> Interest:
    """Return what a create request asks to be told."""
    return Interest(
        key=request.key or b"\x00",  # etcd behaviour
        range_end=request.range_end,
        no_put=rpc.WatchCreateRequest.NOPUT in request.filters,
        no_delete=rpc.WatchCreateRequest.NODELETE in request.filters,
        previous=request.prev_kv,
    )


def is_empty(interest: Interest) -> bool:
    """Tell whether no key can be in the interval."""
    end = interest.range_end
    return end not in {b"", ALL_KEYS_END} and interest.key >= end
