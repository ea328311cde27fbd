"""Talking to servers from the command line: one unary gRPC call at a time, errors as one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import grpc
from google.protobuf.message import Message

from dqlite_py.pb import rpc_pb2

Response = TypeVar("Response", bound=Message)
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ENDPOINT = "http://127.0.0.1:2379"
TIMEOUT_S = 5.0
MAX_RESPONSE_BYTES = 2**31 - 1


class CallRefused(click.ClickException):
    """A server answered with an error or did not answer; exit code 1."""


def endpoint_options(function: F) -> F:
    """Add ``--endpoints`` and ``-o`` to a command."""
    function = click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print.",
    )(function)
    return click.option(
        "--endpoints",
        default=DEFAULT_ENDPOINT,
        show_default=True,
        envvar="DQLITE_PY_ENDPOINTS",
        help="Client URLs of servers, separated by commas.",
    )(function)


def parse_endpoints(text: str) -> list[str]:
    """Return ``host:port`` of each endpoint; raise UsageError for anything else."""
    targets = [part.strip().removeprefix("http://").rstrip("/") for part in text.split(",")]
    targets = [target for target in targets if target]
    for target in targets:
        host, _, port = target.rpartition(":")
        if not host or not port.isdecimal() or "/" in target:
            raise click.UsageError(f"--endpoints: {target!r} is not http://host:port")
    if not targets:
        raise click.UsageError("--endpoints: at least one is needed")
    return targets


def call(
    target: str,
    method: str,
    request: Message,
    response_type: type[Response],
    timeout_s: float = TIMEOUT_S,
) -> Response:
    """Call ``method`` (``/package.Service/Name``) of the server at ``target`` (``host:port``).

    Raises CallRefused with the server's own text.
    """
    options = [("grpc.max_receive_message_length", MAX_RESPONSE_BYTES)]
    with grpc.insecure_channel(target, options=options) as channel:
        stub = channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response_type.FromString,
        )
        try:
            response = stub(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise CallRefused(f"{target}: {_reason(error)}") from None
    assert isinstance(response, response_type), type(response)
    return response


def _reason(error: Any) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    return " ".join((error.details() or error.code().name).split())


def call_any(
    targets: list[str], method: str, request: Message, response_type: type[Response]
) -> Response:
    """Return the first answer of ``targets`` in order; raise the last CallRefused if none answers.

    Only for requests that may run twice.
    """
    refused: CallRefused | None = None
    for target in targets:
        try:
            return call(target, method, request, response_type)
        except CallRefused as error:
            refused = error
    assert refused is not None
    raise refused


def list_members(targets: list[str]) -> list[rpc_pb2.Member]:
    """Return the member list, linearizable, ordered by id."""
    response = call_any(
        targets,
        "/etcdserverpb.Cluster/MemberList",
        rpc_pb2.MemberListRequest(linearizable=True),
        rpc_pb2.MemberListResponse,
    )
    return sorted(response.members, key=lambda member: member.ID)


def server_status(target: str) -> rpc_pb2.StatusResponse:
    """Return the status of one server."""
    return call(
        target,
        "/etcdserverpb.Maintenance/Status",
        rpc_pb2.StatusRequest(),
        rpc_pb2.StatusResponse,
    )


def parse_member_id(text: str) -> int:
    """Return the member id written in hexadecimal, as printed by ``member list``."""
    try:
        member_id = int(text, 16)
    except ValueError:
        raise click.UsageError(f"{text!r} is not a member id in hexadecimal") from None
    if not 0 < member_id < 2**64:
        raise click.UsageError(f"{text!r} is not a member id")
    return member_id
