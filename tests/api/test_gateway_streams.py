"""The JSON gateway's calls that stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dqlite_py.api.status import Code
from dqlite_py.http.web import BodyUnusable
from tests.api.gateway_site import Site, with_site
from tests.kit.fake_transport import settle
from tests.kit.web_client import RecordedAnswer, pieces, request


def test_a_stream_answers_each_request_in_a_line() -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/lease/keepalive", pieces(b'{"ID":5}{"I', b'D":"7"}'))
        assert answer.body == (
            b'{"result":{"ID":"5","TTL":"10"}}\n{"result":{"ID":"7","TTL":"10"}}\n'
        )
        assert (answer.status, answer.body_bytes) == (200, None)

    assert with_site(scenario).handled == [("LeaseKeepAlive", Code.OK)]


def test_a_stream_without_requests_is_empty() -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/lease/keepalive")
        assert (answer.status, answer.body) == (200, b"")

    with_site(scenario)


def test_a_line_is_sent_before_the_next_request_is_there() -> None:
    more = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"ID":1}'
        await more.wait()
        yield b'{"ID":2}'

    async def scenario(site: Site) -> None:
        answer = RecordedAnswer()
        asked = request("/v3/lease/keepalive", slowly())
        async with asyncio.TaskGroup() as group:
            group.create_task(site.gateway(asked, answer))
            await answer.next()
            await settle()
            assert [line["result"]["ID"] for line in answer.lines()] == ["1"]
            more.set()
        assert [line["result"]["ID"] for line in answer.lines()] == ["1", "2"]

    with_site(scenario)


def test_a_watch_goes_on_after_its_requests_until_the_client_goes() -> None:
    async def scenario(site: Site) -> None:
        answer = RecordedAnswer()
        asked = request("/v3/watch", b'{"create_request":{"watch_id":3}}')
        async with asyncio.TaskGroup() as group:
            task = group.create_task(site.gateway(asked, answer))
            await asyncio.sleep(1000.0)
            assert answer.lines() == [{"result": {"watch_id": "3", "created": True}}]
            task.cancel()

    assert with_site(scenario).handled == [("Watch", Code.CANCELLED)]


def test_an_error_before_the_first_message_is_the_answer() -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/lease/keepalive", b'{"ID":13}')
        assert (answer.status, answer.json()["code"]) == (404, 5)

    with_site(scenario)


def test_an_error_after_messages_is_the_last_line() -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/lease/keepalive", b'{"ID":5}{"ID":13}{"ID":6}')
        assert answer.status == 200
        assert answer.lines()[1:] == [
            {
                "error": {
                    "grpc_code": 5,
                    "http_code": 404,
                    "message": "etcdserver: requested lease not found",
                    "http_status": "Not Found",
                    "code": 5,
                }
            }
        ]

    assert with_site(scenario).handled == [("LeaseKeepAlive", Code.NOT_FOUND)]


def test_a_deadline_ends_a_stream_with_an_error() -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/watch", b'{"create_request":{}}', grpc_timeout="300m")
        created, error = answer.lines()
        assert created["result"]["created"]
        assert error["error"]["message"] == "context deadline exceeded"
        assert (error["error"]["grpc_code"], error["error"]["http_code"]) == (4, 504)

    with_site(scenario)


@pytest.mark.parametrize("body", [b"x", b"[]", b'{"ID":true}', b"{"])
def test_a_stream_that_does_not_begin_with_a_request_is_no_call(body: bytes) -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/lease/keepalive", body)
        assert (answer.status, answer.json()["code"]) == (400, 3)

    assert with_site(scenario).handled == []


@pytest.mark.parametrize("rest", [b"x", b'{"ID":true}', b"{"])
def test_what_is_no_request_later_ends_the_stream_with_an_error(rest: bytes) -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/lease/keepalive", b'{"ID":5}' + rest)
        result, error = answer.lines()
        assert result["result"]["ID"] == "5"
        assert error["error"]["grpc_code"] == 3

    assert with_site(scenario).handled == [("LeaseKeepAlive", Code.INVALID_ARGUMENT)]


def test_a_body_that_breaks_off_is_the_servers_to_answer() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b'{"ID":5}'
        raise BodyUnusable(400, "bad chunk")

    async def scenario(site: Site) -> None:
        for path in ("/v3/lease/keepalive", "/v3/kv/range"):
            with pytest.raises(BodyUnusable):
                await site.post(path, broken())

    assert with_site(scenario).failures == []


def test_a_server_stream_takes_one_request() -> None:
    async def scenario(site: Site) -> None:
        answer = await site.post("/v3/maintenance/snapshot", b"{}")
        assert answer.lines() == [
            {"result": {"remaining_bytes": "2", "blob": "eA=="}},
            {"result": {"remaining_bytes": "1", "blob": "eA=="}},
            {"result": {"blob": "eA=="}},
        ]

    with_site(scenario)
