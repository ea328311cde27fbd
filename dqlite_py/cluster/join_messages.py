"""Member records as protobuf messages (joiners) and as lists (between members)."""

from __future__ import annotations

from typing import Any

from dqlite_py.node.contract import Member
from dqlite_py.pb import rpc_pb2


def member_to_pb(member: Member) -> rpc_pb2.Member:
    """Return the record as etcd's message."""
    return rpc_pb2.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def member_from_pb(message: rpc_pb2.Member) -> Member:
    """Return the record in etcd's message."""
    return Member(
        message.ID,
        message.name,
        tuple(message.peerURLs),
        tuple(message.clientURLs),
        message.isLearner,
    )


def member_to_list(member: Member) -> list[Any]:
    """Return the record as plain values that msgpack can carry."""
    return [member.id, member.name, member.peer_urls, member.client_urls, member.is_learner]


def member_from_list(values: list[Any]) -> Member:
    """Inverse of ``member_to_list``."""
    member_id, name, peer_urls, client_urls, is_learner = values
    return Member(member_id, name, tuple(peer_urls), tuple(client_urls), is_learner)
