"""What all calls of a server share: its methods, limits, and who is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dqlite_py.http.budget import Budget
from dqlite_py.http.grpc.methods import Method
from dqlite_py.http.grpc.status import Code


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """Limits of calls; those of connections are `H2Limits`."""

    max_message_bytes: int = (
        2 * 1024 * 1024
    )  # received; what is sent has no limit (etcd's defaults)
    stream_queue_bytes: int = 64 * 1024  # of a stream's responses, beyond which its handler waits
    partial_bytes: int = 64 * 1024 * 1024  # of incomplete requests, over all connections


@dataclass(frozen=True, slots=True)
class GrpcService:
    """The methods by path, and the words of the product for errors.

    ``status_of`` gives code and text for what a handler raised. ``failed`` is told of errors that
    end as INTERNAL, ``handled`` of every finished call; neither may raise.
    """

    methods: Mapping[bytes, Method]
    status_of: Callable[[BaseException], tuple[Code, str]]
    failed: Callable[[str, BaseException], None]
    handled: Callable[[Method, Code], None]
    limits: GrpcLimits
    budget: Budget
