"""``dqlite-py status``: one row a server."""

from __future__ import annotations

from typing import Any

import click

from dqlite_py.cli.channels import CallRefused, ClientTls, Target
from dqlite_py.cli.endpoints import endpoint_options, parse_endpoints, server_status
from dqlite_py.cli.output import print_rows
from dqlite_py.pb import rpc_pb2


@click.command("status")
@endpoint_options
def command(endpoints: str, tls: ClientTls, output: str) -> int:
    """Show role, term, log position and size of each server; exit 1 if one does not answer."""
    rows, refused = [], []
    for target in parse_endpoints(endpoints, tls):
        try:
            rows.append(status_row(target, server_status(target)))
        except CallRefused as error:
            refused.append(error)
    if rows or output == "json":
        print_rows(rows, output)
    for refusal in refused:
        click.echo(f"dqlite-py: {refusal.format_message()}", err=True)
    return 1 if refused else 0


def status_row(target: Target, status: rpc_pb2.StatusResponse) -> dict[str, Any]:
    """Return what is shown of one server."""
    return {
        "endpoint": str(target),
        "member_id": f"{status.header.member_id:x}",
        "version": status.version,
        "role": role_of(status),
        "leader_id": f"{status.leader:x}" if status.leader else "none",
        "term": status.raftTerm,
        "committed_index": status.raftIndex,
        "applied_index": status.raftAppliedIndex,
        "db_size_bytes": status.dbSize,
        "db_in_use_bytes": status.dbSizeInUse,
        "errors": list(status.errors),
    }


def role_of(status: rpc_pb2.StatusResponse) -> str:
    """Return ``leader``, ``learner`` or ``follower``."""
    if status.leader == status.header.member_id:
        return "leader"
    return "learner" if status.isLearner else "follower"
