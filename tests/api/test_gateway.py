"""The JSON gateway's unary calls, and what stands around it."""

from __future__ import annotations

import asyncio

import pytest

from dqlite_py.api.gateway_paths import METHODS
from dqlite_py.api.status import Code
from dqlite_py.api.web import ANY_ORIGIN, WebApp
from dqlite_py.errors import Compacted, LeaseNotFound, NoLeader, NoSpace
from tests.api.gateway_site import KEY, Site, with_site
from tests.kit.fake_transport import settle
from tests.kit.web_client import ask, pieces, request


@pytest.mark.parametrize("prefix", ["/v3", "/v3beta"])
def test_a_call_is_answered_in_compact_json(prefix: str) -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post(f"{prefix}/kv/range", KEY)
        assert answer.body == (
            b'{"header":{"revision":"7"},"kvs":[{"key":"Zm9v","value":"dg=="}],"count":"1"}'
        )
        assert (answer.status, answer.body_bytes) == (200, len(answer.body))
        assert answer.headers["content-type"] == "application/json"

    assert with_site(scenario).handled == [("Range", Code.OK)]


@pytest.mark.parametrize(
    ("error", "status", "code", "text"),
    [
        (Compacted(), 400, 11, "etcdserver: mvcc: required revision has been compacted"),
        (LeaseNotFound(), 404, 5, "etcdserver: requested lease not found"),
        (NoLeader(), 503, 14, "etcdserver: no leader"),
        (NoSpace(), 429, 8, "etcdserver: mvcc: database space exceeded"),
        (ValueError("secret"), 500, 13, "internal error"),
        (TimeoutError("secret"), 500, 13, "internal error"),
    ],
)
def test_an_error_has_etcds_form(error: Exception, status: int, code: int, text: str) -> None:
    async def scenario(site: Site) -> None:
        site.error = error
        answer = await site.post("/v3/kv/range", KEY)
        assert answer.status == status
        assert answer.json() == {"error": text, "code": code, "message": text}
        assert answer.headers["content-type"] == "application/json"

    site = with_site(scenario)
    assert site.handled == [("Range", Code(code))]
    assert len(site.failures) == (1 if code == 13 else 0)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"key":5}', b'{"key":"\xff"}', b'{"limit":"x"}'])
def test_what_is_no_request_is_refused_and_is_no_call(body: bytes) -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/kv/range", body)
        assert (answer.status, answer.json()["code"]) == (400, 3)
        assert answer.json()["message"]

    assert with_site(scenario).handled == []


def test_no_body_is_an_empty_request() -> None:
    async def scenario(site: Site) -> None:
        assert (await site.post("/v3/kv/range")).status == 200

    with_site(scenario)


def test_large_requests_are_refused() -> None:
    async def scenario(site: Site) -> None:
        value = b'{"key":"' + b"AAAA" * 350 + b'"}'  # 1,050 bytes in 1,400 of text
        answer = await site.post("/v3/kv/range", value)
        text = "grpc: received message larger than max (1053 vs. 1000)"
        assert (answer.status, answer.json()["message"]) == (429, text)
        answer = await site.post("/v3/kv/range", pieces(*[b" " * 500] * 5))
        assert (answer.status, answer.json()["code"]) == (429, 8)

    assert with_site(scenario).handled == []


def test_unknown_paths_methods_and_services_are_told_apart() -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/kv/nothing")
        assert (answer.status, answer.body) == (404, b"Not Found\n")
        assert (await site.post("/v3/kv/range/")).status == 404
        answer = await ask(site.gateway, request("/v3/kv/range", method="GET"))
        assert (answer.status, answer.body) == (405, b"Method Not Allowed\n")
        answer = await site.post("/v3/auth/enable", b"{}")
        text = "unknown method AuthEnable for service etcdserverpb.Auth"
        assert (answer.status, answer.json()["code"]) == (501, 12)
        assert answer.json()["message"] == text
        assert not site.gateway.serves("/v3alpha/kv/range")

    with_site(scenario)


def test_headers_become_metadata() -> None:
    async def scenario(site: Site) -> None:
        await site.post(
            "/v3/kv/range",
            KEY,
            authorization="Bearer token",
            grpc_metadata_hasleader="true",
            grpc_metadata_raw_bin="AAAA",
            x_other="y",
            accept="text/html",
        )
        [call] = site.calls
        assert call.metadata == {
            "authorization": "Bearer token",
            "hasleader": "true",
            "grpcgateway-accept": "text/html",
        }
        assert call.remaining_s is None

    with_site(scenario)


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("1H", 3600), ("2M", 120), ("3S", 3), ("4m", 0.004), ("5u", 5e-6)]
)
def test_a_timeout_is_the_calls_deadline(timeout: str, seconds: float) -> None:
    async def scenario(site: Site) -> None:
        loop = asyncio.get_running_loop()
        answer = await site.post("/v3/kv/range", b'{"limit":99}', grpc_timeout=timeout)
        assert loop.time() == pytest.approx(seconds)
        assert answer.status == 504
        expected = "context deadline exceeded"
        assert answer.json() == {"error": expected, "code": 4, "message": expected}
        assert site.calls[0].remaining_s == pytest.approx(seconds)

    assert with_site(scenario).handled == [("Range", Code.DEADLINE_EXCEEDED)]


@pytest.mark.parametrize("timeout", ["", "5", "S", "5x", "-1S", "1.5S", "123456789S", "\u0661S"])
def test_what_is_no_timeout_is_refused(timeout: str) -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/kv/range", KEY, grpc_timeout=timeout)
        assert (answer.status, answer.json()["code"]) == (400, 3)
        assert answer.json()["message"] == f"invalid grpc-timeout: {timeout}"

    with_site(scenario)


def test_a_client_that_goes_cancels_the_call() -> None:
    async def scenario(site: Site) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(site.post("/v3/kv/range", b'{"limit":99}'))
            await settle()
            assert site.waiting == 1
            task.cancel()

    assert with_site(scenario).handled == [("Range", Code.CANCELLED)]


# --- beside the pages --------------------------------------------------------------------------
def test_scripts_of_any_origin_may_call_if_so_configured() -> None:
    async def scenario(site: Site) -> None:
        app = WebApp({}, site.gateway, ANY_ORIGIN)
        answer = await ask(app, request("/v3/kv/range", KEY))
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-headers"] == (
            "accept, content-type, authorization"
        )
        before = await ask(app, request("/v3/kv/range", method="OPTIONS"))
        assert (before.status, before.body) == (200, b"")
        assert before.headers["access-control-allow-methods"] == "POST, GET, OPTIONS, PUT, DELETE"

    with_site(scenario)


def test_scripts_of_other_origins_may_not() -> None:
    async def scenario(site: Site) -> None:
        app = WebApp({}, site.gateway, ("http://a",))
        own = await ask(app, request("/v3/kv/range", KEY, headers={"origin": "http://a"}))
        other = await ask(app, request("/v3/kv/range", KEY, headers={"origin": "http://b"}))
        assert own.headers["access-control-allow-origin"] == "http://a"
        assert "access-control-allow-origin" not in other.headers

    with_site(scenario)


def test_without_a_gateway_its_paths_do_not_exist() -> None:
    async def scenario(_site: Site) -> None:
        answer = await ask(WebApp({}), request("/v3/kv/range", KEY))
        assert (answer.status, answer.body) == (404, b"404 page not found\n")
        assert "access-control-allow-origin" not in answer.headers

    with_site(scenario)


def test_every_path_names_a_method_once() -> None:
    assert len(METHODS) == 51  # 48 methods with a path, three of them with two
    assert len(set(METHODS.values())) == 48
