"""A joiner speaks only to a server whose certificate it can verify."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from dqlite_py.cluster.join import JoinAnswer, JoinRequest
from dqlite_py.cluster.join_client import CHALLENGE_METHOD, REDEEM_METHOD, join
from dqlite_py.cluster.join_service import JoinService
from dqlite_py.cluster.join_trust import Trust, establish
from dqlite_py.cluster.tokens import Token
from dqlite_py.config import Endpoint
from dqlite_py.errors import StartRefused
from dqlite_py.pb import join_pb2
from dqlite_py.system.clock import SystemClock
from dqlite_py.system.tls.authority import find_authority
from dqlite_py.system.tls.contexts import TlsFiles, server_context
from dqlite_py.system.tls.self_signed import ensure_pair, now_utc
from tests.kit.member_list_replica import MemberListReplica
from tests.kit.pki import Authority, Pair

SHORT = Token.parse("open-sesame")
REQUEST = JoinRequest("n2", ("https://127.0.0.1:11",), ("https://127.0.0.1:12",))
NOTHING = TlsFiles()


@dataclass
class World:
    ca: Authority
    server: Pair
    other: Authority

    def files(self, **given: Any) -> TlsFiles:
        return TlsFiles(**{name: str(path) for name, path in given.items()})


@pytest.fixture
def world(tmp_path: Path) -> World:
    ca = Authority(tmp_path / "pki")
    return World(ca, ca.issue("server"), Authority(tmp_path / "other", "other"))


@asynccontextmanager
async def telling(files: TlsFiles, authority: bytes) -> AsyncIterator[Endpoint]:
    """Serve /cacerts under TLS, nothing else."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            found = head.startswith(b"GET /cacerts ") and authority
            status = b"200 OK" if found else b"404 Not Found"
            writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n" % (status, len(authority)))
            writer.write(authority)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # a handshake without words is how a certificate is looked at
        finally:
            writer.close()

    context = server_context(files, verify_clients=False)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Endpoint.parse("server", f"https://127.0.0.1:{port}")


def trusted(files: TlsFiles, told: bytes, token: Token, own: TlsFiles = NOTHING) -> Trust:
    async def main() -> Trust:
        async with telling(files, told) as endpoint:
            return await establish(endpoint, token, own)

    return asyncio.run(main())


def test_the_pinned_authority_is_asked_for_and_believed(world: World) -> None:
    files = world.files(certificate=world.server.certificate, key=world.server.key)
    bundle = world.ca.path.read_bytes()
    token = Token.parse(SHORT.pinned_to(bundle))
    assert trusted(files, bundle, token) == Trust(bundle)
    # Authorities of one's own, given for one's own clients, change nothing about the pin.
    own = world.files(authorities=world.other.path)
    assert trusted(files, bundle, token, own) == Trust(bundle)


def test_another_authority_than_the_pinned_is_refused(world: World) -> None:
    files = world.files(certificate=world.server.certificate, key=world.server.key)
    token = Token.parse(SHORT.pinned_to(world.other.path.read_bytes()))
    with pytest.raises(StartRefused, match="token CA hash does not match"):
        trusted(files, world.ca.path.read_bytes(), token)
    with pytest.raises(StartRefused, match="does not say what its authority is"):
        trusted(files, b"", token)


def test_knowing_the_bundle_is_not_having_a_certificate_of_it(world: World) -> None:
    stranger = world.other.issue("server")
    files = world.files(certificate=stranger.certificate, key=stranger.key)
    bundle = world.ca.path.read_bytes()
    with pytest.raises(StartRefused, match="certificate is not accepted") as refused:
        trusted(files, bundle, Token.parse(SHORT.pinned_to(bundle)))
    assert "\n" not in refused.value.reason


def test_without_a_pin_the_given_authority_or_the_systems_decide(world: World) -> None:
    files = world.files(certificate=world.server.certificate, key=world.server.key)
    own = world.files(authorities=world.ca.path)
    assert trusted(files, b"", SHORT, own).authorities == world.ca.path.read_bytes()
    # Nothing is trusted for being met first.
    with pytest.raises(StartRefused, match="dqlite-py token"):
        trusted(files, world.ca.path.read_bytes(), SHORT)


def test_a_server_without_tls_is_refused_in_a_line(world: World) -> None:
    async def main() -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            url = Endpoint.parse("server", f"https://127.0.0.1:{port}")
            await establish(url, SHORT, world.files(authorities=world.ca.path))

    with pytest.raises(StartRefused, match="did not speak TLS"):
        asyncio.run(main())


def test_a_pinning_token_is_not_used_without_tls() -> None:
    token = Token.parse(SHORT.pinned_to(b"PEM"))
    with pytest.raises(StartRefused, match="use https"):
        asyncio.run(join("http://127.0.0.1:1", token, REQUEST, secrets.token_bytes, 5.0))


def test_an_authority_is_found_by_who_vouches(world: World, tmp_path: Path) -> None:
    pair = {"certificate": world.server.certificate, "key": world.server.key}
    assert find_authority(world.files(**pair, authorities=world.ca.path)) == (
        world.ca.path.read_bytes()
    )
    # This authority is for clients' certificates only, and the server's own is unknown here.
    assert find_authority(world.files(**pair, authorities=world.other.path)) == b""
    certificate, key = ensure_pair(
        str(tmp_path / "auto"), "client", ["127.0.0.1"], validity_years=1, now=now_utc()
    )
    own = find_authority(TlsFiles(certificate, key))
    assert own == Path(certificate).read_bytes()
    # And it is enough for a joiner.
    token = Token.parse(SHORT.pinned_to(own))
    assert trusted(TlsFiles(certificate, key), own, token).authorities == own


def _method(handler: Any, request_type: Any) -> grpc.RpcMethodHandler:
    async def answer(request: Any, _context: Any) -> Any:
        return await handler(request)

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _credentials(pair: TlsFiles, clients: Authority | None) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(Path(pair.key).read_bytes(), Path(pair.certificate).read_bytes())],
        clients.path.read_bytes() if clients else None,
        require_client_auth=clients is not None,
    )


@asynccontextmanager
async def member(pair: TlsFiles, clients: Authority | None) -> AsyncIterator[str]:
    """Serve the join protocol under TLS; with ``clients`` they must show a certificate."""
    service = JoinService(MemberListReplica(), SHORT, SystemClock(), secrets.token_bytes)
    handlers = {
        CHALLENGE_METHOD.rpartition("/")[2]: _method(service.challenge, join_pb2.ChallengeRequest),
        REDEEM_METHOD.rpartition("/")[2]: _method(service.redeem, join_pb2.RedeemRequest),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("dqlite.v1.Join", handlers)]
    )
    port = server.add_secure_port("127.0.0.1:0", _credentials(pair, clients))
    await server.start()
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        await server.stop(None)


def joined(pair: TlsFiles, clients: Authority | None, token: Token, own: TlsFiles) -> JoinAnswer:
    async def main() -> JoinAnswer:
        async with member(pair, clients) as url:
            return await join(url, token, REQUEST, secrets.token_bytes, 10.0, own)

    return asyncio.run(main())


def test_joining_works_under_mutual_tls(world: World) -> None:
    server = world.files(certificate=world.server.certificate, key=world.server.key)
    client = world.ca.issue("n2")
    own = world.files(certificate=client.certificate, key=client.key, authorities=world.ca.path)
    token = Token.parse(SHORT.pinned_to(world.ca.path.read_bytes()))
    assert joined(server, world.ca, token, own).member_id == 2
    assert joined(server, world.ca, SHORT, own).member_id == 2


def test_joining_through_a_self_signed_server_works_with_its_pin(tmp_path: Path) -> None:
    pair = TlsFiles(
        *ensure_pair(str(tmp_path), "client", ["127.0.0.1"], validity_years=1, now=now_utc())
    )
    token = Token.parse(SHORT.pinned_to(Path(pair.certificate).read_bytes()))
    own = TlsFiles(authorities=pair.certificate)
    assert joined(pair, None, token, own).member_id == 2
