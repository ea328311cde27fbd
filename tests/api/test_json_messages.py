"""Messages as JSON: what is sent and what is taken, with protobuf's own mapping as an oracle."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from dqlite_py.api.json_messages import from_json, to_json
from dqlite_py.errors import MalformedJson
from dqlite_py.pb import auth_pb2, kv_pb2, lock_pb2
from dqlite_py.pb import rpc_pb2 as rpc

TYPES: list[type[Message]] = [
    rpc.RangeRequest,
    rpc.RangeResponse,
    rpc.TxnRequest,
    rpc.TxnResponse,
    rpc.WatchRequest,
    rpc.WatchResponse,
    rpc.StatusResponse,
    rpc.MemberAddResponse,
    rpc.AlarmResponse,
    rpc.LeaseTimeToLiveResponse,
    auth_pb2.Role,
    lock_pb2.LockRequest,
]


def test_what_is_sent_has_etcds_form() -> None:
    header = rpc.ResponseHeader(cluster_id=2**64 - 1, revision=2)
    pair = kv_pb2.KeyValue(key=b"foo", value=b"\xff\xfe", mod_revision=2, lease=-5)
    event = kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=pair)
    message = rpc.WatchResponse(header=header, watch_id=-1, canceled=True, events=[event])
    assert to_json(message) == (
        '{"header":{"cluster_id":"18446744073709551615","revision":"2"},"watch_id":"-1",'
        '"canceled":true,"events":[{"type":"DELETE","kv":{"key":"Zm9v","mod_revision":"2",'
        '"value":"//4=","lease":"-5"}}]}'
    )


def test_what_is_unset_or_zero_is_left_out_but_an_empty_message_is_not() -> None:
    assert to_json(rpc.RangeResponse(header=rpc.ResponseHeader(), count=0)) == '{"header":{}}'
    assert to_json(rpc.DefragmentResponse()) == "{}"


def test_small_numbers_are_numbers_and_text_is_not_escaped() -> None:
    assert to_json(rpc.HashResponse(hash=2**32 - 1)) == '{"hash":4294967295}'
    assert to_json(rpc.WatchResponse(cancel_reason='"ü&<"')) == '{"cancel_reason":"\\"ü&<\\""}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"range_end":"Zm9v"}', rpc.RangeRequest(range_end=b"foo")),
        ('{"rangeEnd":"Zm9v"}', rpc.RangeRequest(range_end=b"foo")),
        ('{"key":"-_8="}', rpc.RangeRequest(key=b"\xfb\xff")),
        ('{"key":"+/8="}', rpc.RangeRequest(key=b"\xfb\xff")),
        ('{"key":"Zm8"}', rpc.RangeRequest(key=b"fo")),
        ('{"limit":7}', rpc.RangeRequest(limit=7)),
        ('{"limit":"-7"}', rpc.RangeRequest(limit=-7)),
        ('{"limit":7.0}', rpc.RangeRequest(limit=7)),
        ('{"limit":9223372036854775807}', rpc.RangeRequest(limit=2**63 - 1)),
        ('{"sort_order":"DESCEND"}', rpc.RangeRequest(sort_order=rpc.RangeRequest.DESCEND)),
        ('{"sort_order":2}', rpc.RangeRequest(sort_order=rpc.RangeRequest.DESCEND)),
        ('{"serializable":true}', rpc.RangeRequest(serializable=True)),
        ('{"unknown":{"a":[1]},"limit":1}', rpc.RangeRequest(limit=1)),
        ('{"key":null,"limit":null}', rpc.RangeRequest()),
        ("", rpc.RangeRequest()),
        (" \n", rpc.RangeRequest()),
        ("null", rpc.RangeRequest()),
        (' {"limit":1} {"limit":2}', rpc.RangeRequest(limit=1)),
    ],
)
def test_what_is_taken(text: str, expected: Message) -> None:
    assert from_json(text, rpc.RangeRequest) == expected


def test_an_empty_member_of_a_oneof_is_set() -> None:
    request = from_json('{"success":[{"request_txn":{}},null]}', rpc.TxnRequest)
    assert [op.WhichOneof("request") for op in request.success] == ["request_txn", None]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "x",
        "[]",
        "7",
        '"text"',
        '{"key":5}',
        '{"key":"Zm9v!"}',
        '{"key":"Z"}',
        '{"key":"Zm9v\\n"}',
        '{"key":"Zm9vü"}',
        '{"limit":1.5}',
        '{"limit":true}',
        '{"limit":""}',
        '{"limit":"1_0"}',
        '{"limit":" 1"}',
        '{"limit":"\u0661"}',
        '{"limit":9223372036854775808}',
        '{"limit":1e300}',
        '{"limit":NaN}',
        '{"limit":' + "9" * 5000 + "}",
        '{"sort_order":"UPWARD"}',
        '{"sort_order":"1"}',
        '{"sort_order":4294967296}',
        '{"sort_order":true}',
        '{"serializable":"true"}',
        '{"serializable":1}',
        '{"rangeEnd":"YQ==","range_end":"Yg=="}',
        "[" * 100_000,
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(MalformedJson) as caught:
        from_json(text, rpc.RangeRequest)
    assert len(caught.value.reason) < 200


@pytest.mark.parametrize(
    "text",
    [
        '{"success":{}}',
        '{"success":[[]]}',
        '{"success":[{"request_range":{"key":"YQ=="},"request_put":{"key":"YQ=="}}]}',
        '{"success":[{"request_txn":' * 60 + "{}" + "}]}" * 60,
    ],
)
def test_nested_messages_are_refused_too(text: str) -> None:
    with pytest.raises(MalformedJson):
        from_json(text, rpc.TxnRequest)


def test_the_place_of_the_mistake_is_named() -> None:
    with pytest.raises(MalformedJson) as caught:
        from_json('{"success":[{"request_put":{"key":"!"}}]}', rpc.TxnRequest)
    assert caught.value.reason == "success: request_put: key: illegal base64 data"


# --- chance ------------------------------------------------------------------------------------
def filled(random: Random, message: Message, depth: int = 0) -> Message:
    """Set random fields of a message to random values."""
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.4 or (depth > 3 and field.message_type is not None):
            continue
        count = random.randrange(3) if field.is_repeated else 1
        for _ in range(count):
            if field.message_type is not None:
                part = getattr(message, field.name)
                inner = part.add() if field.is_repeated else part
                inner.SetInParent()
                filled(random, inner, depth + 1)
            elif field.is_repeated:
                getattr(message, field.name).append(scalar(random, field))
            else:
                setattr(message, field.name, scalar(random, field))
    return message


def scalar(random: Random, field: FieldDescriptor) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_BYTES:
            return random.randbytes(random.randrange(6))
        case FieldDescriptor.TYPE_STRING:
            return "".join(random.choice('a"\\ü\n') for _ in range(random.randrange(5)))
        case FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            return random.randrange(6)  # some have no name
        case FieldDescriptor.TYPE_INT64:
            return random.choice((0, 1, -1, 2**63 - 1, -(2**63)))
        case FieldDescriptor.TYPE_UINT64:
            return random.choice((0, 1, 2**64 - 1))
    return random.randrange(2**31)


@pytest.mark.parametrize("seed", range(300))
def test_messages_survive_the_way_through_json_and_protobuf_reads_the_same(seed: int) -> None:
    random = Random(seed)
    kind = random.choice(TYPES)
    message = filled(random, kind())
    text = to_json(message)
    assert from_json(text, kind) == message
    assert json_format.Parse(text, kind()) == message
    camel = json_format.MessageToJson(message)
    assert from_json(camel, kind) == message


@pytest.mark.parametrize("seed", range(300))
def test_damaged_json_is_refused_or_read_as_protobuf_reads_it(seed: int) -> None:
    random = Random(seed)
    kind = random.choice(TYPES)
    text = bytearray(to_json(filled(random, kind())).encode())
    at = random.randrange(len(text))
    text[at : at + random.randrange(3)] = random.choice(
        (b"", b"0", b'"', b"{", b"null", b"a", b"=")
    )
    damaged = text.decode(errors="replace")
    try:
        message = from_json(damaged, kind)
    except MalformedJson:
        return
    value, _ = json.JSONDecoder().raw_decode(damaged)
    assert message == json_format.ParseDict(value or {}, kind(), ignore_unknown_fields=True)


def test_base64_is_whole() -> None:
    value = bytes(range(256))
    text = json.dumps({"key": base64.b64encode(value).decode()})
    assert from_json(text, rpc.RangeRequest).key == value
