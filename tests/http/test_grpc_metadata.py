"""What a call says of itself in fields, and how its status travels back."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote

import pytest

from dqlite_py.http.grpc.methods import Call, Kind, Method
from dqlite_py.http.grpc.status import Code, Refused, percent_encoded
from tests.http.grpc_site import Answer, Echo, Site, serving
from tests.kit import raw_h2 as h2

UNARY = "/t.T/Unary"
QUESTION = h2.message(b"?")


def called(*fields: tuple[bytes, bytes], path: str = UNARY) -> tuple[Echo, Answer]:
    """Make one call with these fields."""
    echo, answers = Echo(), []

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answers.append(await peer.call(path, QUESTION, *fields))

    serving(scene, *echo.methods)
    return echo, answers[0]


def test_a_handler_gets_the_metadata_and_not_the_fields_of_the_protocol() -> None:
    echo, _ = called(
        (b"token", b"abc"),
        (b"grpc-timeout", b"9S"),
        (b"user-agent", b"test"),
        (b"grpc-accept-encoding", b"gzip"),
        (b"hasleader", b"true"),
    )
    assert echo.calls[0].metadata == {"token": "abc", "hasleader": "true"}
    assert echo.calls[0].remaining_s == 9.0


def test_of_a_repeated_key_the_first_value_counts() -> None:
    echo, _ = called((b"token", b"first"), (b"token", b"second"))
    assert echo.calls[0].metadata == {"token": "first"}


def test_calls_without_metadata_and_deadline_have_none() -> None:
    echo, _ = called()
    assert echo.calls == [Call({}, None, None)]


def test_equal_fields_are_read_once_and_other_fields_anew() -> None:
    echo = Echo()

    async def scene(site: Site) -> None:
        peer = await site.connect()
        for token in (b"a", b"a", b"b", b"a"):
            await peer.call(UNARY, QUESTION, (b"token", token))

    serving(scene, *echo.methods)
    assert [call.metadata["token"] for call in echo.calls] == ["a", "a", "b", "a"]
    assert echo.calls[0] is echo.calls[1]


@pytest.mark.parametrize("octets", [b"", b"\0", b"\0\xff", b"\0\xff\n", bytes(range(256))])
@pytest.mark.parametrize("padded", [True, False])
def test_binary_values_are_decoded_padded_or_not(octets: bytes, padded: bool) -> None:
    text = base64.b64encode(octets)
    echo, answer = called((b"x-bin", text if padded else text.rstrip(b"=")))
    assert echo.calls[0].metadata == {"x-bin": octets}
    assert answer.status == (Code.OK, "")


@pytest.mark.parametrize("joined", [b"AAE=,AgM=", b"AAE,AgM", b"AAE=,", b"AAE=,!"])
def test_of_joined_binary_values_the_first_counts(joined: bytes) -> None:
    echo, _ = called((b"x-bin", joined))
    assert echo.calls[0].metadata == {"x-bin": b"\0\1"}


@pytest.mark.parametrize("text", [b"A", b"AAAAA", b"!!!!", b"AA=A", b"A-_A", b"AAAA=", b"AA AA"])
def test_a_malformed_binary_value_ends_the_call(text: bytes) -> None:
    echo, answer = called((b"x-bin", text))
    assert answer.status == (Code.INTERNAL, "malformed binary metadata in header x-bin")
    assert answer.trailers_only
    assert echo.calls == []


def test_octets_beyond_ascii_in_a_text_value_do_no_harm() -> None:
    echo, answer = called((b"x-text", b"caf\xc3\xa9"))
    assert answer.status == (Code.OK, "")
    assert str(echo.calls[0].metadata["x-text"]).startswith("caf")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/t.T/Nothing", "unknown method Nothing for service t.T"),
        ("/u.U/Unary", "unknown service u.U"),
        ("/Unary", 'malformed method name: "/Unary"'),
        ("/", 'malformed method name: "/"'),
        ("/t.T/Unary/", "unknown service t.T/Unary"),
    ],
)
def test_methods_that_are_not_there_are_unimplemented(path: str, text: str) -> None:
    echo, answer = called(path=path)
    assert answer.status == (Code.UNIMPLEMENTED, text)
    assert answer.trailers_only
    assert answer.head[":status"] == "200"
    assert echo.calls == []


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
    ],
)
def test_the_content_type_says_whether_a_request_is_a_call(
    content_type: bytes, is_grpc: bool
) -> None:
    async def page(_request: Any, response: Any) -> None:
        await response.start(415, [])

    async def scene(site: Site) -> None:
        peer = await site.connect()
        fields = [pair for pair in h2.request_fields(UNARY.encode()) if pair[0] != b"content-type"]
        fields.append((b"content-type", content_type))
        await peer.send(h2.headers(1, fields), h2.data(1, QUESTION, end_stream=True))
        assert peer.answers[1].head[":status"] == ("200" if is_grpc else "415")

    serving(scene, *Echo().methods, web=page)


TEXTS = (
    "plain",
    "100%",
    "line\nfeed\r",
    "tab\t",
    "schlüssel",
    "鍵 not found",
    "\x7f\x00",
    "~ !\"#$&'()*+,-./:;<=>?@[]^_`{|}",
    "%41",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_message_of_any_characters_arrives(text: str) -> None:
    travelling = percent_encoded(text)
    assert all(0x20 <= octet <= 0x7E for octet in travelling)
    assert unquote(travelling.decode("ascii")) == text


def test_characters_are_escaped_as_utf_8_and_no_others() -> None:
    assert percent_encoded("a%é~") == b"a%25%C3%A9~"


def test_half_a_surrogate_in_a_message_breaks_nothing() -> None:
    assert percent_encoded("\udc80") == b"?"


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_a_handlers_refusal_is_the_status(code: Code) -> None:
    async def refuses(_request: bytes, _call: Call) -> bytes:
        raise Refused(code, "because of ü")

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Refuses", QUESTION)
        assert answer.status == (code, "because of %C3%BC")
        assert answer.trailers_only

    site = serving(scene, Method("/t.T/Refuses", Kind.UNARY, bytes, refuses))
    assert site.handled == [("/t.T/Refuses", code)]
    assert site.failures == []


@pytest.mark.parametrize("sent", [0, 2])
def test_a_handler_that_fails_has_its_error_told_and_reported(sent: int) -> None:
    async def fails(_request: bytes, send: Any, _call: Call) -> None:
        for _ in range(sent):
            await send(b"one")
        raise ValueError("oh")

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Fails", QUESTION)
        assert answer.status == (Code.INTERNAL, "broken: oh")
        assert len(answer.messages) == sent
        assert answer.trailers_only == (not sent)

    site = serving(scene, Method("/t.T/Fails", Kind.SERVER_STREAM, bytes, fails))
    assert site.failures == [("/t.T/Fails", "ValueError('oh')")]


def test_a_stream_without_messages_has_a_head_and_trailers() -> None:
    async def silent(_request: bytes, _send: Any, _call: Call) -> None:
        return

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Silent", QUESTION)
        assert [list(one) for one in answer.fields] == [
            [":status", "content-type"],
            ["grpc-status"],
        ]

    serving(scene, Method("/t.T/Silent", Kind.SERVER_STREAM, bytes, silent))


def test_the_name_in_a_certificate_is_told_to_handlers() -> None:
    echo = Echo()
    certificate = {"subject": ((("organizationName", "o"),), (("commonName", "root"),))}

    async def scene(site: Site) -> None:
        site_peer = site.arrive(sslcontext=object(), peercert=certificate)
        from_root = type(await site.connect())(site_peer)
        await from_root.send(h2.PREFACE, h2.settings())
        await from_root.call(UNARY, QUESTION)

    serving(scene, *echo.methods)
    assert [call.certificate_name for call in echo.calls] == ["root"]
