"""RFC 9113 section 8: requests and responses, their fields. One test a rule."""

from __future__ import annotations

import pytest

from tests.http.conversation import OK_HEAD, OK_TRAILERS, Conversation
from tests.kit import raw_h2 as h2

PSEUDO = dict(h2.REQUEST[:4])
REGULAR = h2.REQUEST[4:]


def request(**changes: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return a request's fields with pseudo-header fields changed, or left out if None."""
    pseudo: dict[bytes, bytes | None] = {**PSEUDO}
    pseudo.update({b":" + name.encode(): value for name, value in changes.items()})
    return [(name, value) for name, value in pseudo.items() if value is not None] + REGULAR


def with_field(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [*h2.REQUEST, (name, value)]


def test_8_1_a_request_is_headers_data_and_trailers() -> None:
    """HEADERS, DATA and HEADERS with END_STREAM are one request."""
    talk = Conversation()
    talk.say(h2.headers(1), h2.data(1, b"bo"), h2.data(1, b"dy"))
    talk.say(h2.headers(1, [(b"x-checksum", b"1")], end_stream=True))
    assert talk.body_of(1) == b"body"
    assert talk.seen.bodies[-1] == (1, b"", True)
    talk.alive()


def test_8_1_trailers_end_the_stream() -> None:
    """Second HEADERS without END_STREAM make a request malformed."""
    talk = Conversation()
    talk.say(h2.headers(1))
    talk.resets(1, h2.headers(1, [(b"x", b"1")]), code=h2.PROTOCOL_ERROR)


def test_8_1_a_response_is_headers_data_and_trailers() -> None:
    """A response is HEADERS, DATA and HEADERS with END_STREAM, in this order, on its stream."""
    talk = Conversation()
    talk.say(h2.headers(1, end_stream=True))
    sent = talk.answer(1, b"body")
    assert [(one.kind, one.stream_id) for one in sent] == [
        (h2.HEADERS, 1),
        (h2.DATA, 1),
        (h2.HEADERS, 1),
    ]
    assert [bool(one.flags & h2.END_STREAM) for one in sent] == [False, False, True]


def test_8_1_trailers_wait_for_the_data_before_them() -> None:
    """The order of a response is kept when its data waits for a window."""
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 1)), h2.headers(1, end_stream=True))
    sent = talk.answer(1, b"body") + talk.say(h2.window_update(1, 100))
    kinds = [one.kind for one in sent if one.stream_id == 1]
    assert kinds == [h2.HEADERS, h2.DATA, h2.DATA, h2.HEADERS]


def test_8_1_an_early_answer_stops_the_request_without_error() -> None:
    """After a whole answer to half a request RST_STREAM says NO_ERROR, after END_STREAM."""
    talk = Conversation()
    talk.say(h2.headers(1))
    sent = talk.answer(1, b"no")
    assert (sent[-1].kind, sent[-1].code) == (h2.RST_STREAM, h2.NO_ERROR)
    assert sent[-2].flags & h2.END_STREAM
    assert talk.say(h2.data(1, b"on its way")) == []
    talk.alive()


@pytest.mark.parametrize("length", [b"3", b"5", b"0"])
def test_8_1_1_content_length_is_the_bodys(length: bytes) -> None:
    """A body that differs from content-length makes the request malformed."""
    talk = Conversation()
    talk.say(h2.headers(1, with_field(b"content-length", length)), h2.data(1, b"bo"))
    heard = talk.say(h2.data(1, b"dy", end_stream=True))
    codes = [one.code for one in heard if one.kind == h2.RST_STREAM]
    assert codes == [h2.PROTOCOL_ERROR] or talk.seen.resets == [(1, h2.PROTOCOL_ERROR)]
    assert (1, b"dy", True) not in talk.seen.bodies, "a cut body looked whole"
    talk.alive()


def test_8_1_1_content_length_counts_without_padding() -> None:
    """The sum of the DATA frames without padding is compared with content-length."""
    talk = Conversation()
    talk.say(h2.headers(1, with_field(b"content-length", b"4")))
    flags = h2.PADDED | h2.END_STREAM
    talk.say(h2.frame(h2.DATA, flags, 1, h2.padded(b"body", 30)))
    assert talk.seen.bodies == [(1, b"body", True)]
    talk.alive()


def test_8_1_1_a_promised_body_that_never_comes() -> None:
    """content-length above 0 on a request that HEADERS end is malformed."""
    Conversation().malformed(with_field(b"content-length", b"4"))


@pytest.mark.parametrize("value", [b"", b"-1", b"+4", b"0x4", b"4,4", b"4 4", b"four"])
def test_8_1_1_content_length_is_a_number(value: bytes) -> None:
    """A content-length that is no number makes the request malformed."""
    Conversation().malformed(with_field(b"content-length", value), end_stream=False)


@pytest.mark.parametrize("name", [b"Content-Type", b"X", b"x-A"])
def test_8_2_names_are_in_lower_case(name: bytes) -> None:
    """A name with a capital letter makes the request malformed."""
    Conversation().malformed(with_field(name, b"x"))


@pytest.mark.parametrize("octet", [0x00, 0x0A, 0x0D, 0x20, 0x3A, 0x41, 0x5A, 0x7F, 0x80, 0xFF])
def test_8_2_1_names_have_no_forbidden_octets(octet: int) -> None:
    """A name with a control, blank, capital, colon or non-ASCII octet is malformed."""
    Conversation().malformed(with_field(b"x" + bytes([octet]) + b"y", b"x"))


def test_8_2_1_names_are_not_empty() -> None:
    """An empty name is malformed."""
    Conversation().malformed(with_field(b"", b"x"))


@pytest.mark.parametrize("octet", [0x00, 0x0A, 0x0D])
@pytest.mark.parametrize("form", [b"%b", b"x%b", b"%bx", b"x%bx"])
@pytest.mark.parametrize("name", [b"x-any", b":path", b":authority"])
def test_8_2_1_values_have_no_nul_and_no_line_ends(name: bytes, octet: int, form: bytes) -> None:
    """A value with NUL, LF or CR is malformed."""
    value = form % bytes([octet])
    if name == b"x-any":
        Conversation().malformed(with_field(name, value))
    else:
        Conversation().malformed(request(**{name[1:].decode(): b"/" + value}))


@pytest.mark.parametrize("value", [b" x", b"x ", b"\tx", b"x\t", b" "])
def test_8_2_1_values_have_no_blanks_around_them(value: bytes) -> None:
    """A value that begins or ends with a blank or a tab is malformed."""
    Conversation().malformed(with_field(b"x-any", value))


@pytest.mark.parametrize("value", [b"", b"a b", b"a\tb", b"\xff\x80", b"\x01", b"a,b;c"])
def test_8_2_1_other_values_are_taken(value: bytes) -> None:
    """No other value is malformed for its octets."""
    talk = Conversation()
    talk.say(h2.headers(1, with_field(b"x-any", value), end_stream=True))
    assert (b"x-any", value) in talk.seen.requests[0].head.fields


@pytest.mark.parametrize(
    "name",
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"],
)
def test_8_2_2_connection_specific_fields_are_malformed(name: bytes) -> None:
    """Fields about an HTTP/1.1 connection make a request malformed."""
    Conversation().malformed(with_field(name, b"x"))


@pytest.mark.parametrize("value", [b"gzip", b"trailers, deflate", b"", b"trailers;q=0.5"])
def test_8_2_2_te_says_trailers_only(value: bytes) -> None:
    """TE with another value than trailers makes a request malformed."""
    Conversation().malformed([*h2.REQUEST[:5], (b"te", value)])


def test_8_2_3_cookies_in_pieces_keep_their_order() -> None:
    """Several cookie fields reach the owner as they came, in order, to be joined there."""
    talk = Conversation()
    pieces = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
    talk.say(h2.headers(1, [*h2.REQUEST, *pieces], end_stream=True))
    assert [one for one in talk.seen.requests[0].head.fields if one[0] == b"cookie"] == pieces


@pytest.mark.parametrize("name", [b":status", b":unknown", b":", b":protocol"])
def test_8_3_unknown_pseudo_header_fields_are_malformed(name: bytes) -> None:
    """A pseudo-header field that requests do not have makes one malformed."""
    Conversation().malformed([(name, b"200"), *h2.REQUEST])


@pytest.mark.parametrize("name", PSEUDO)
def test_8_3_pseudo_header_fields_come_first(name: bytes) -> None:
    """A pseudo-header field behind a regular one makes the request malformed."""
    rest = [pair for pair in h2.REQUEST if pair[0] != name]
    Conversation().malformed([*rest, (name, PSEUDO[name])])


@pytest.mark.parametrize("name", [*PSEUDO, b":status"])
def test_8_3_trailers_have_no_pseudo_header_fields(name: bytes) -> None:
    """A pseudo-header field in trailers makes the request malformed."""
    talk = Conversation()
    talk.say(h2.headers(1))
    talk.resets(1, h2.headers(1, [(name, b"x")], end_stream=True), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("fields", [[(b"Upper", b"x")], [(b"connection", b"x")], [(b"x", b" y")]])
def test_8_2_1_trailers_are_checked_like_other_fields(fields: list[tuple[bytes, bytes]]) -> None:
    """What is malformed in a head is malformed in trailers."""
    talk = Conversation()
    talk.say(h2.headers(1))
    talk.resets(1, h2.headers(1, fields, end_stream=True), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("name", PSEUDO)
def test_8_3_pseudo_header_fields_are_not_repeated(name: bytes) -> None:
    """The same pseudo-header field twice makes the request malformed."""
    Conversation().malformed([(name, PSEUDO[name]), *h2.REQUEST])


@pytest.mark.parametrize("name", ["method", "scheme", "path"])
@pytest.mark.parametrize("value", [None, b""])
def test_8_3_1_method_scheme_and_path_are_there(name: str, value: bytes | None) -> None:
    """A request without :method, :scheme or :path, or with an empty one, is malformed."""
    Conversation().malformed(request(**{name: value}))


def test_8_3_1_authority_may_be_missing() -> None:
    """A request without :authority is a request."""
    talk = Conversation()
    talk.say(h2.headers(1, request(authority=None), end_stream=True))
    assert talk.seen.requests[0].head.authority == b""


def test_8_3_1_options_may_ask_for_everything() -> None:
    """The path of OPTIONS may be an asterisk, which other methods can not ask for."""
    talk = Conversation()
    talk.say(h2.headers(1, request(method=b"OPTIONS", path=b"*"), end_stream=True))
    assert talk.seen.requests[0].head.path == b"*"
    Conversation().malformed(request(path=b"*"))


@pytest.mark.parametrize("head", ["status", "content"])
def test_8_3_2_a_response_begins_with_its_status(head: str) -> None:
    """A response has :status once, before every other field, and no other pseudo-header field."""
    talk = Conversation()
    talk.say(h2.headers(1, end_stream=True))
    sent = talk.answer(1)
    encode = talk.connection.encoder.encode
    assert sent[0].payload == encode(OK_HEAD)
    assert sent[0].payload[0] == 0x88, "the static table's entry of :status 200"
    assert sent[-1].payload == encode(OK_TRAILERS)


def test_8_4_nothing_is_pushed() -> None:
    """A server is not obliged to push: even even-numbered streams never appear."""
    talk = Conversation()
    talk.say(h2.settings((h2.ENABLE_PUSH, 1)), h2.headers(1, end_stream=True))
    assert {one.stream_id for one in talk.answer(1)} == {1}


@pytest.mark.parametrize("changes", [{"path": b"/x"}, {"scheme": b"http"}, {"authority": None}])
def test_8_5_connect_has_neither_scheme_nor_path(changes: dict[str, bytes | None]) -> None:
    """CONNECT with :scheme or :path, or without :authority, is malformed."""
    parts: dict[str, bytes | None] = {"method": b"CONNECT", "scheme": None, "path": None}
    Conversation().malformed(request(**{**parts, **changes}))


def test_8_7_a_refused_stream_was_not_looked_at() -> None:
    """REFUSED_STREAM and a lower last stream in GOAWAY promise that nothing was done."""
    talk = Conversation()
    talk.connection.leave()
    talk.hear()
    heard = talk.say(h2.headers(1, end_stream=True))
    assert [(one.stream_id, one.code) for one in heard] == [(1, h2.REFUSED_STREAM)]
    assert talk.seen.requests == []
