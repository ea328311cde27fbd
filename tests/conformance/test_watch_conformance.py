"""The same watch conversations with this server and one real etcd 3.5.1: equal responses.

Compared without ids and terms. Of several watchers on a stream each one's responses are compared in
order, because etcd promises no order between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.etcd_client import EtcdClient, Stream
from tests.kit.processes import Cluster

pytestmark = pytest.mark.process

TIMEOUT_S = 20.0
END = b"~end"  # outside every interval that a conversation watches: no order between ids


class Conversation:
    """One stream; ``expect`` reads so many responses, ``told`` keeps them by watch id."""

    def __init__(self, client: EtcdClient, stream: Stream, prefix: bytes) -> None:
        self.client = client
        self.prefix = prefix
        self.first_revision = client.revision() + 1
        self.told: dict[int, list[Any]] = {}
        self._stream = stream

    def create(self, key: bytes, range_end: bytes = b"", *, start: int = 0, **fields: Any) -> None:
        """Create a watch; ``start`` counts from this conversation's first revision, as 1."""
        request = rpc.WatchCreateRequest(
            key=self.prefix + key,
            range_end=self.prefix + range_end if range_end else b"",
            start_revision=start + self.first_revision - 1 if start > 0 else start,
            **fields,
        )
        self._stream.send(rpc.WatchRequest(create_request=request))

    def cancel(self, watch_id: int) -> None:
        request = rpc.WatchCancelRequest(watch_id=watch_id)
        self._stream.send(rpc.WatchRequest(cancel_request=request))

    def ask_progress(self) -> None:
        self._stream.send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def put(self, key: bytes, value: bytes) -> None:
        self.client.put(self.prefix + key, value)

    def delete(self, key: bytes, range_end: bytes = b"") -> None:
        self.client.delete(self.prefix + key, self.prefix + range_end if range_end else b"")

    def expect(self, count: int) -> None:
        for _ in range(count):
            response = next(self._stream)
            self.told.setdefault(response.watch_id, []).append(self._comparable(response))

    def _comparable(self, response: Any) -> Any:
        """Return the response with revisions counted from the conversation's first one."""
        response.ClearField("watch_id")
        base = self.first_revision - 1
        revision = response.header.revision
        response.header.Clear()
        if revision:
            response.header.revision = revision - base
        if response.compact_revision:
            response.compact_revision -= base
        for event in response.events:
            for kv in (event.kv, event.prev_kv):
                for field in ("mod_revision", "create_revision"):
                    if getattr(kv, field):
                        setattr(kv, field, getattr(kv, field) - base)
        return str(response)


def live(talk: Conversation) -> None:
    talk.create(b"a", b"c", prev_kv=True)
    talk.expect(1)
    talk.put(b"a", b"1")
    talk.put(b"b", b"2")
    talk.put(b"c", b"outside")
    talk.put(b"a", b"3")
    talk.delete(b"a", b"c")
    talk.expect(4)


def history_and_ids(talk: Conversation) -> None:
    for value in (b"1", b"2", b"3"):
        talk.put(b"k", value)
    talk.delete(b"k")
    talk.create(b"k", start=2, watch_id=5)
    talk.expect(2)
    talk.create(b"k", start=1, prev_kv=True)
    talk.expect(2)
    talk.create(b"k", watch_id=5)
    talk.create(b"k", b"a")
    talk.expect(2)
    talk.cancel(5)
    talk.expect(1)
    talk.cancel(77)
    talk.create(b"k", watch_id=5)
    talk.expect(1)
    talk.put(b"k", b"5")
    talk.expect(2)


def filters(talk: Conversation) -> None:
    no_put, no_delete = rpc.WatchCreateRequest.NOPUT, rpc.WatchCreateRequest.NODELETE
    talk.create(b"k", filters=[no_put], prev_kv=True)
    talk.create(b"k", filters=[no_delete])
    talk.create(b"k", filters=[no_put, no_delete])
    talk.expect(3)
    talk.put(b"k", b"1")
    talk.delete(b"k")
    talk.expect(2)


def the_future(talk: Conversation) -> None:
    talk.create(b"k", start=3)
    talk.expect(1)
    for value in (b"1", b"2", b"3", b"4"):
        talk.put(b"k", value)
    talk.expect(2)


def compaction(talk: Conversation) -> None:
    for value in (b"1", b"2", b"3", b"4"):
        talk.put(b"k", value)
    talk.client.compact(talk.first_revision + 2)
    talk.create(b"k", start=2)
    talk.expect(2)
    talk.create(b"k", start=3)
    talk.expect(2)


def progress(talk: Conversation) -> None:
    talk.create(b"k")
    talk.expect(1)
    talk.put(b"k", b"1")
    talk.expect(1)
    talk.put(b"other", b"1")
    talk.ask_progress()
    talk.expect(1)


def transactions(talk: Conversation) -> None:
    talk.create(b"a", b"z")
    talk.expect(1)
    operations = [
        rpc.RequestOp(request_put=rpc.PutRequest(key=talk.prefix + key, value=b"v"))
        for key in (b"c", b"a", b"b")
    ]
    talk.client.txn(rpc.TxnRequest(success=operations))
    talk.delete(b"a", b"z")
    talk.expect(2)


CONVERSATIONS: list[Callable[[Conversation], None]] = [
    live,
    history_and_ids,
    filters,
    the_future,
    compaction,
    progress,
    transactions,
]


def test_conversations_equal_etcds(pair: tuple[Cluster, Cluster]) -> None:
    ours, theirs = pair
    for number, conversation in enumerate(CONVERSATIONS):
        told = []
        for cluster in (theirs, ours):
            member = cluster.members[number % len(cluster.members)]
            client = member.client
            prefix = b"%d/" % number
            with client.watch(timeout_s=TIMEOUT_S) as stream:
                talk = Conversation(client, stream, prefix)
                conversation(talk)
                talk.create(END)
                talk.expect(1)
                talk.put(END, b"")
                talk.expect(1)
                told.append(talk.told)
        assert told[1] == told[0], conversation.__name__
