"""etcdserverpb.Cluster: who belongs to the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from dqlite_py.api.header import HeaderFiller
from dqlite_py.api.routes import Call, Route, unary
from dqlite_py.errors import MemberBadUrls
from dqlite_py.node.contract import Member, ReplicaPort
from dqlite_py.pb import rpc_pb2 as rpc


class _ClusterCalls:
    """Answers carry no revision (etcd behaviour)."""

    def __init__(self, replica: ReplicaPort, headers: HeaderFiller) -> None:
        self._replica = replica
        self._headers = headers

    async def member_list(
        self, request: rpc.MemberListRequest, _call: Call
    ) -> rpc.MemberListResponse:
        if request.linearizable:
            await self._replica.barrier()
        return rpc.MemberListResponse(header=self._header(), members=self._members())

    async def member_add(self, request: rpc.MemberAddRequest, _call: Call) -> rpc.MemberAddResponse:
        check_urls(request.peerURLs)
        member = await self._replica.add_member(
            list(request.peerURLs), is_learner=request.isLearner
        )
        return rpc.MemberAddResponse(
            header=self._header(), member=member_message(member), members=self._members()
        )

    async def member_remove(
        self, request: rpc.MemberRemoveRequest, _call: Call
    ) -> rpc.MemberRemoveResponse:
        await self._replica.remove_member(request.ID)
        return rpc.MemberRemoveResponse(header=self._header(), members=self._members())

    async def member_update(
        self, request: rpc.MemberUpdateRequest, _call: Call
    ) -> rpc.MemberUpdateResponse:
        check_urls(request.peerURLs)
        await self._replica.update_member(request.ID, peer_urls=list(request.peerURLs))
        return rpc.MemberUpdateResponse(header=self._header(), members=self._members())

    async def member_promote(
        self, request: rpc.MemberPromoteRequest, _call: Call
    ) -> rpc.MemberPromoteResponse:
        await self._replica.promote_member(request.ID)
        return rpc.MemberPromoteResponse(header=self._header(), members=self._members())

    def _header(self) -> rpc.ResponseHeader:
        header = rpc.ResponseHeader()
        self._headers.fill(header)
        return header

    def _members(self) -> list[rpc.Member]:
        return [member_message(member) for member in self._replica.members()]


def routes(replica: ReplicaPort, headers: HeaderFiller) -> list[Route]:
    """Return the routes of the Cluster service.

    Adding and updating raise MemberBadUrls for peer URLs that no member could be reached at; all
    other errors are those of the replica.
    """
    calls = _ClusterCalls(replica, headers)
    path = "/etcdserverpb.Cluster/"
    return [
        unary(
            path + "MemberList", rpc.MemberListRequest, rpc.MemberListResponse, calls.member_list
        ),
        unary(path + "MemberAdd", rpc.MemberAddRequest, rpc.MemberAddResponse, calls.member_add),
        unary(
            path + "MemberRemove",
            rpc.MemberRemoveRequest,
            rpc.MemberRemoveResponse,
            calls.member_remove,
        ),
        unary(
            path + "MemberUpdate",
            rpc.MemberUpdateRequest,
            rpc.MemberUpdateResponse,
            calls.member_update,
        ),
        unary(
            path + "MemberPromote",
            rpc.MemberPromoteRequest,
            rpc.MemberPromoteResponse,
            calls.member_promote,
        ),
    ]


def member_message(member: Member) -> rpc.Member:
    """Return ``member`` as the API's message."""
    return rpc.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def check_urls(urls: Iterable[str]) -> None:
    """Raise MemberBadUrls unless there is at least one URL and each is scheme://host:port."""
    checked = list(urls)
    if not checked or not all(_is_peer_url(url) for url in checked):
        raise MemberBadUrls


def _is_peer_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme in {"unix", "unixs"}:
        return bool(parts.netloc or parts.path)
    return (
        parts.scheme in {"http", "https"}
        and parts.hostname is not None
        and port is not None
        and parts.path == ""
    )
