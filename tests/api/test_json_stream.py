"""A stream of JSON objects is cut where they end, however it arrives."""

from __future__ import annotations

import json
from random import Random

import pytest

from dqlite_py.api.json_stream import ObjectSplitter
from dqlite_py.errors import MalformedJson


def split(*data: bytes, most_bytes: int = 1000) -> list[str]:
    splitter = ObjectSplitter(most_bytes)
    result = [text for piece in data for text in splitter.feed(piece)]
    splitter.finish()
    return result


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b" \r\n\t", []),
        (b"{}", ["{}"]),
        (b'{"a":1}{"b":2}', ['{"a":1}', '{"b":2}']),
        (b'\n{"a":{"b":[1,{}]}}\n {"c":2}\n', ['{"a":{"b":[1,{}]}}', '{"c":2}']),
        (b'{"a":"}{"}{}', ['{"a":"}{"}', "{}"]),
        (rb'{"a":"\"}"}{}', [r'{"a":"\"}"}', "{}"]),
        (rb'{"a":"\\"}{}', [r'{"a":"\\"}', "{}"]),
        ('{"ü":"ü"}'.encode(), ['{"ü":"ü"}']),
    ],
)
def test_objects_are_found_whole_and_byte_by_byte(data: bytes, expected: list[str]) -> None:
    assert split(data) == expected
    assert split(*[bytes((byte,)) for byte in data]) == expected


def test_an_object_is_there_as_soon_as_its_last_byte_is() -> None:
    splitter = ObjectSplitter(1000)
    assert list(splitter.feed(b'{"a":1')) == []
    assert list(splitter.feed(b"}{")) == ['{"a":1}']
    assert list(splitter.feed(b"}")) == ["{}"]


@pytest.mark.parametrize(
    "data", [b"x", b"{}x", b"[]", b"1", b"{}\xff", b'{"a":"\xff"}', b"{", b'{"a']
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedJson):
        split(data)


@pytest.mark.parametrize("data", [b'{"a":"' + b"x" * 100, b'{"a":"' + b"x" * 100 + b'"}'])
def test_an_object_may_not_be_too_large(data: bytes) -> None:
    with pytest.raises(MalformedJson) as caught:
        split(data, most_bytes=100)
    assert "100 bytes" in caught.value.reason


def test_many_small_objects_are_not_one_large_one() -> None:
    assert len(split(b"{}" * 1000, most_bytes=10)) == 1000


@pytest.mark.parametrize("seed", range(50))
def test_random_objects_in_random_pieces(seed: int) -> None:
    random = Random(seed)
    values = [
        {"k": "".join(random.choice('{}[]"\\a é') for _ in range(9)), "n": [random.random(), {}]}
        for _ in range(8)
    ]
    data = "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode()
    cut = sorted(random.randrange(len(data)) for _ in range(6))
    found = split(*[data[a:b] for a, b in zip([0, *cut], [*cut, len(data)], strict=True)])
    assert [json.loads(text) for text in found] == values
