"""``dqlite-py leader``: hand leadership to another member."""

from __future__ import annotations

from collections.abc import Iterable

import click

from dqlite_py.cli.channels import NO_TLS, CallRefused, ClientTls, Target
from dqlite_py.cli.endpoints import (
    call,
    endpoint_options,
    list_members,
    parse_endpoints,
    parse_member_id,
    server_status,
)
from dqlite_py.cli.output import print_rows
from dqlite_py.pb import rpc_pb2


@click.group("leader")
def command() -> None:
    """Move leadership."""


@command.command("move")
@click.argument("target_id", metavar="[ID]", required=False)
@endpoint_options
def move(target_id: str | None, endpoints: str, tls: ClientTls, output: str) -> None:
    """Make the member with this id (hexadecimal) the leader; without one, the most caught up."""
    members = list_members(parse_endpoints(endpoints, tls))
    statuses = reachable(members, tls)
    leader_id = next((one.leader for one in statuses.values() if one.leader), 0)
    leader = next((member for member in members if leader_id == member.ID), None)
    if leader is None or not leader.clientURLs:
        raise CallRefused("the cluster has no leader that can be reached")
    target = parse_member_id(target_id) if target_id else best_successor(statuses, leader_id)
    call(
        target_of(leader, tls),
        "/etcdserverpb.Maintenance/MoveLeader",
        rpc_pb2.MoveLeaderRequest(targetID=target),
        rpc_pb2.MoveLeaderResponse,
    )
    print_rows([{"from": f"{leader_id:x}", "to": f"{target:x}"}], output)


def reachable(
    members: Iterable[rpc_pb2.Member], tls: ClientTls = NO_TLS
) -> dict[int, rpc_pb2.StatusResponse]:
    """Return the status of each started member that answers, by member id."""
    statuses = {}
    for member in members:
        if not member.clientURLs:
            continue
        try:
            statuses[member.ID] = server_status(target_of(member, tls))
        except CallRefused as error:
            click.echo(f"dqlite-py: {error.format_message()}", err=True)
    return statuses


def best_successor(statuses: dict[int, rpc_pb2.StatusResponse], leader_id: int) -> int:
    """Return the voter other than the leader with the most applied; raise CallRefused if none."""
    voters = {
        member_id: status.raftAppliedIndex
        for member_id, status in statuses.items()
        if member_id != leader_id and not status.isLearner
    }
    if not voters:
        raise CallRefused("no other voting member can be reached")
    return max(voters, key=lambda member_id: voters[member_id])


def target_of(member: rpc_pb2.Member, tls: ClientTls = NO_TLS) -> Target:
    """Return the server at a started member's first client URL."""
    return parse_endpoints(member.clientURLs[0], tls)[0]
