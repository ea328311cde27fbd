"""``dqlite-py member``: who is in the cluster."""

from __future__ import annotations

from typing import Any

import click

from dqlite_py.cli.channels import ClientTls
from dqlite_py.cli.endpoints import (
    call,
    endpoint_options,
    list_members,
    parse_endpoints,
    parse_member_id,
)
from dqlite_py.cli.output import print_rows
from dqlite_py.pb import rpc_pb2


@click.group("member")
def command() -> None:
    """List, remove and promote members."""


@command.command("list")
@endpoint_options
def list_command(endpoints: str, tls: ClientTls, output: str) -> None:
    """List the members of the cluster."""
    print_rows(
        [member_row(member) for member in list_members(parse_endpoints(endpoints, tls))], output
    )


@command.command("remove")
@click.argument("member_id", metavar="ID")
@endpoint_options
def remove(member_id: str, endpoints: str, tls: ClientTls, output: str) -> None:
    """Remove the member with this id (hexadecimal); its data directory becomes unusable."""
    # Not retried on another endpoint: a request without an answer may have happened.
    response = call(
        parse_endpoints(endpoints, tls)[0],
        "/etcdserverpb.Cluster/MemberRemove",
        rpc_pb2.MemberRemoveRequest(ID=parse_member_id(member_id)),
        rpc_pb2.MemberRemoveResponse,
    )
    print_rows([member_row(member) for member in response.members], output)


@command.command("promote")
@click.argument("member_id", metavar="ID")
@endpoint_options
def promote(member_id: str, endpoints: str, tls: ClientTls, output: str) -> None:
    """Make a learner that has caught up a voting member."""
    response = call(
        parse_endpoints(endpoints, tls)[0],
        "/etcdserverpb.Cluster/MemberPromote",
        rpc_pb2.MemberPromoteRequest(ID=parse_member_id(member_id)),
        rpc_pb2.MemberPromoteResponse,
    )
    print_rows([member_row(member) for member in response.members], output)


def member_row(member: rpc_pb2.Member) -> dict[str, Any]:
    """Return what is shown of one member."""
    return {
        "id": f"{member.ID:x}",
        "name": member.name,
        "status": "started" if member.clientURLs else "unstarted",
        "peer_urls": list(member.peerURLs),
        "client_urls": list(member.clientURLs),
        "learner": member.isLearner,
    }
