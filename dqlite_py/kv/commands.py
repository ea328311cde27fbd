"""Commands that travel through the log's leader, and their answers."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from dqlite_py import errors
from dqlite_py.pb import rpc_pb2


class Kind(IntEnum):
    """What a command does; the number is its first byte on the wire between members."""

    PUT = 1
    DELETE_RANGE = 2
    TXN = 3
    COMPACT = 4
    COMPACT_STEP = 5
    LEASE_GRANT = 6
    LEASE_REVOKE = 7
    ALARM = 8
    LEASE_EXPIRE = 9  # a revoke by the leader's own clock; never travels


class Command(NamedTuple):
    """A request to execute on the leader."""

    kind: Kind
    request: Any  # the protobuf message that belongs to the kind
    # For an expiry: asked on the writer thread just before execution whether it is still wanted.
    guard: Callable[[], bool] | None = None

    @property
    def size_bytes(self) -> int:
        """Its size when serialised, for the bounds of queues and batches."""
        size: int = self.request.ByteSize()
        return size

    @property
    def leader_bound(self) -> bool:
        """Whether it rests on this member's own clock and leadership."""
        return self.kind is Kind.LEASE_EXPIRE


class Result(NamedTuple):
    """What a command answered."""

    kind: Kind
    response: Any


_REQUESTS: dict[int, type[Message]] = {
    Kind.PUT: rpc_pb2.PutRequest,
    Kind.DELETE_RANGE: rpc_pb2.DeleteRangeRequest,
    Kind.TXN: rpc_pb2.TxnRequest,
    Kind.COMPACT: rpc_pb2.CompactionRequest,
    Kind.COMPACT_STEP: rpc_pb2.CompactionRequest,
    Kind.LEASE_GRANT: rpc_pb2.LeaseGrantRequest,
    Kind.LEASE_REVOKE: rpc_pb2.LeaseRevokeRequest,
    Kind.ALARM: rpc_pb2.AlarmRequest,
}
_RESPONSES: dict[int, type[Message]] = {
    Kind.PUT: rpc_pb2.PutResponse,
    Kind.DELETE_RANGE: rpc_pb2.DeleteRangeResponse,
    Kind.TXN: rpc_pb2.TxnResponse,
    Kind.COMPACT: rpc_pb2.CompactionResponse,
    Kind.COMPACT_STEP: rpc_pb2.CompactionResponse,
    Kind.LEASE_GRANT: rpc_pb2.LeaseGrantResponse,
    Kind.LEASE_REVOKE: rpc_pb2.LeaseRevokeResponse,
    Kind.LEASE_EXPIRE: rpc_pb2.LeaseRevokeResponse,
    Kind.ALARM: rpc_pb2.AlarmResponse,
}


def encode_command(command: Command) -> bytes:
    """Serialise a command: one byte of kind, then the message.

    Raises LeaderChanged for an expiry: it rests on this member's clock and leadership, and another
    leader may have renewed the lease.
    """
    if command.kind is Kind.LEASE_EXPIRE:
        raise errors.LeaderChanged
    message: bytes = command.request.SerializeToString()
    return bytes((command.kind,)) + message


def decode_command(data: bytes) -> Command:
    """Inverse of ``encode_command``.

    Raises NotCapable for what this version does not know: a newer member must not stop this one.
    """
    try:
        kind = Kind(data[0])
        return Command(kind, _REQUESTS[kind].FromString(data[1:]))
    except (IndexError, ValueError, KeyError, DecodeError) as error:
        raise errors.NotCapable from error


def encode_result(result: Result) -> bytes:
    """Serialise a result: one byte of kind, then the message."""
    message: bytes = result.response.SerializeToString()
    return bytes((result.kind,)) + message


def decode_result(data: bytes) -> Result:
    """Inverse of ``encode_result``."""
    kind = Kind(data[0])
    return Result(kind, _RESPONSES[kind].FromString(data[1:]))
