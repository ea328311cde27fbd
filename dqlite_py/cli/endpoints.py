"""Talking to servers from the command line: one unary gRPC call at a time, errors as one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click
import grpc
from google.protobuf.message import Message

from dqlite_py.cli.channels import NO_TLS, CallRefused, ClientTls, Target
from dqlite_py.config.endpoint import Endpoint
from dqlite_py.errors import InvalidSetting
from dqlite_py.pb import rpc_pb2

Response = TypeVar("Response", bound=Message)
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ENDPOINT = "http://127.0.0.1:2379"
TIMEOUT_S = 5.0
UNREACHED = ("Socket closed", "Connection reset", "failed to connect", "recvmsg:")


def endpoint_options(function: F) -> F:
    """Add ``--endpoints``, the flags of TLS and ``-o`` to a command.

    The command gets ``endpoints``, ``tls`` (a ClientTls) and ``output``.
    """

    @wraps(function)
    def with_tls(
        *args: Any, cacert: str, cert: str, key: str, insecure_skip_tls_verify: bool, **kwargs: Any
    ) -> Any:
        tls = ClientTls(cacert, cert, key, insecure_skip_tls_verify)
        return function(*args, tls=tls, **kwargs)

    decorated: Any = click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print.",
    )(with_tls)
    for flag, text in (
        ("--key", "PEM key of --cert."),
        ("--cert", "PEM certificate shown to servers."),
        ("--cacert", "PEM authorities that servers' certificates must be of."),
    ):
        variable = f"DQLITE_PY_{flag.strip('-').upper()}"
        option = click.option(flag, default="", metavar="FILE", envvar=variable, help=text)
        decorated = option(decorated)
    decorated = click.option(
        "--insecure-skip-tls-verify", is_flag=True, help="Accept any certificate; for tests."
    )(decorated)
    return click.option(  # type: ignore[no-any-return]
        "--endpoints",
        default=DEFAULT_ENDPOINT,
        show_default=True,
        envvar="DQLITE_PY_ENDPOINTS",
        help="Client URLs of servers, separated by commas.",
    )(decorated)


def parse_endpoints(text: str, tls: ClientTls = NO_TLS) -> list[Target]:
    """Return the server of each endpoint; raise UsageError for anything else.

    ``https`` and ``unixs`` are under TLS, ``http`` and ``unix`` are not; without a scheme it is
    under TLS if any flag of it was given (etcdctl behaviour).
    """
    targets = []
    for part in filter(None, (one.strip().rstrip("/") for one in text.split(","))):
        url = part if "://" in part else f"http{'s' if tls.given else ''}://{part}"
        try:
            endpoint = Endpoint.parse("endpoints", url)
        except InvalidSetting:
            raise click.UsageError(f"--endpoints: {part!r} is not http[s]://host:port") from None
        targets.append(Target(endpoint.address, tls if endpoint.secure else None, endpoint.is_unix))
    if not targets:
        raise click.UsageError("--endpoints: at least one is needed")
    return targets


def call(
    target: Target,
    method: str,
    request: Message,
    response_type: type[Response],
    timeout_s: float = TIMEOUT_S,
) -> Response:
    """Call ``method`` (``/package.Service/Name``) of the server at ``target``.

    Raises CallRefused with the server's own text.
    """
    with target.channel() as channel:
        stub = channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response_type.FromString,
        )
        try:
            response = stub(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise CallRefused(f"{target}: {_reason(error, target)}") from None
    assert isinstance(response, response_type), type(response)
    return response


def _reason(error: Any, target: Target) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    reason = " ".join((error.details() or error.code().name).split())
    unreached = error.code() is grpc.StatusCode.UNAVAILABLE and any(
        words in reason for words in UNREACHED
    )
    if unreached and target.tls is None:
        return f"{reason} (a server under TLS needs https:// and --cacert)"
    return reason


def call_any(
    targets: list[Target], method: str, request: Message, response_type: type[Response]
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


def list_members(targets: list[Target]) -> list[rpc_pb2.Member]:
    """Return the member list, linearizable, ordered by id."""
    response = call_any(
        targets,
        "/etcdserverpb.Cluster/MemberList",
        rpc_pb2.MemberListRequest(linearizable=True),
        rpc_pb2.MemberListResponse,
    )
    return sorted(response.members, key=lambda member: member.ID)


def server_status(target: Target) -> rpc_pb2.StatusResponse:
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
