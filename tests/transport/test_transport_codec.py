from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlite_py import errors
from dqlite_py.raft.messages import (
    LOCAL_KINDS,
    ConfState,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    Snapshot,
)
from dqlite_py.transport.codec import decode_error, decode_message, encode_failure, encode_message
from dqlite_py.transport.framing import HEADER_BYTES, FrameError, decode_body, encode_frame

number = st.integers(0, 2**64 - 1)
ids = st.lists(number, max_size=3).map(tuple)
entry = st.builds(Entry, number, number, st.sampled_from(EntryKind), st.binary(max_size=30))
conf_state = st.builds(ConfState, ids, ids, ids, ids, st.booleans())
snapshot = st.builds(Snapshot, number, number, conf_state, st.binary(max_size=30))
message = st.builds(
    Message,
    kind=st.sampled_from([kind for kind in MessageKind if kind not in LOCAL_KINDS]),
    to=number,
    from_=number,
    term=number,
    log_term=number,
    index=number,
    entries=st.lists(entry, max_size=4).map(tuple),
    commit=number,
    vote=number,
    snapshot=st.none() | snapshot,
    reject=st.booleans(),
    reject_hint=number,
    context=st.binary(max_size=30),
    responses=st.just(()),
)


def body(frame: bytes) -> list[Any]:
    assert int.from_bytes(frame[:HEADER_BYTES], "big") == len(frame) - HEADER_BYTES
    return decode_body(frame[HEADER_BYTES:])


@given(message)
def test_a_raft_message_survives_the_wire(sent: Message) -> None:
    assert decode_message(body(encode_message(sent))) == sent


def test_an_entrys_data_travels_as_raw_bytes() -> None:
    page = bytes(range(256)) * 16
    sent = Message(MessageKind.APP, 2, 1, entries=(Entry(1, 1, EntryKind.NORMAL, page),))
    frame = encode_message(sent)
    assert page in frame
    assert len(frame) < len(page) + 40


APP = Message(
    MessageKind.APP,
    2,
    1,
    entries=(Entry(1, 1, EntryKind.NORMAL, b"x"),),
    snapshot=Snapshot(1, 1, ConfState((1,))),
)


@pytest.mark.parametrize("position", range(1, 14))
@pytest.mark.parametrize("junk", ["text", -1.5, {"a": 1}, [["x"]], [1, 2, 3, 4], b"bytes", None])
def test_a_message_with_a_field_of_another_type_is_refused_or_still_a_message(
    position: int, junk: object
) -> None:
    fields = body(encode_message(APP))
    fields[position] = junk
    try:
        decoded = decode_message(fields)
    except FrameError:
        return
    assert body(encode_message(decoded)) == fields


def test_storage_and_other_local_messages_do_not_come_from_the_network() -> None:
    for kind in LOCAL_KINDS:
        with pytest.raises(FrameError):
            decode_message(body(encode_message(replace(APP, kind=kind))))


def _example(cls: type[errors.DqliteError]) -> errors.DqliteError:
    return cls(**{name: f"<{name}>" for name in cls.FIELDS})


@pytest.mark.parametrize("cls", list(errors.DqliteError.registry.values()))
def test_an_error_survives_the_wire_unless_it_is_the_other_members_fatal_one(
    cls: type[errors.DqliteError],
) -> None:
    sent = _example(cls)
    kind, call_id, wire = body(encode_failure(7, sent))
    assert (kind, call_id) == (3, 7)
    received = decode_error(wire)
    expected = errors.PeerFailed if issubclass(cls, errors.Fatal) else cls
    assert type(received) is expected
    assert expected is not cls or str(received) == str(sent)


def test_an_error_whose_data_msgpack_cannot_carry_still_has_its_name() -> None:
    _, _, wire = body(encode_failure(7, errors.PeerFailed(detail=object())))
    assert str(decode_error(wire)) == "PeerFailed(detail='PeerFailed')"


def test_an_error_of_a_newer_version_becomes_peer_failed() -> None:
    assert isinstance(decode_error(["NotYetInvented", []]), errors.PeerFailed)


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_raise_frame_error(data: bytes) -> None:
    try:
        content = decode_body(data)
        decode_message(content)
    except FrameError:
        return


@given(st.lists(st.integers() | st.none() | st.lists(st.binary())))
def test_any_array_is_a_message_or_a_frame_error(content: list[Any]) -> None:
    try:
        decode_message([0, 8, *content])
    except FrameError:
        return


def test_a_deeply_nested_frame_is_refused() -> None:
    with pytest.raises(FrameError):
        decode_body(b"\x91" * 100_000 + b"\x01")
    assert decode_body(encode_frame([1])[HEADER_BYTES:]) == [1]
