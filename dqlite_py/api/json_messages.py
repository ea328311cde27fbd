"""Protobuf messages as JSON text and back, as etcd's gateway has them.

What is sent follows protobuf's JSON mapping with the fields' original names: bytes are base64,
64-bit integers are text, enums are names, what is unset or zero is left out, and there is no space
between tokens, because scripts cut values out of the text.

What is received is read by this module and not by protobuf's own ``json_format``, which takes
base64 with foreign characters in it, ``1_000`` for a number, and when it may ignore unknown fields
also ignores unknown enum names: a request would be carried out with another meaning than its text.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from dqlite_py.errors import MalformedJson

M = TypeVar("M", bound=Message)

MOST_NESTING = 50  # messages within messages; protobuf itself reads at most 100
MOST_DIGITS = 20  # of a 64-bit integer, with its sign
URL_SAFE = str.maketrans("-_", "+/")


def to_json(message: Message) -> str:
    """Return a message as compact JSON."""
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def from_json(text: str, message_type: type[M]) -> M:
    """Return the message that the first JSON value in ``text`` stands for.

    Fields are found by their original or lowerCamelCase name, unknown ones are ignored, ``null``
    is an unset field; bytes may be standard or URL-safe base64, with or without padding; enums and
    integers may be numbers or text. No text at all, or ``null``, is the empty message, and what
    follows the value is not looked at (etcd behaviour). Raises MalformedJson.
    """
    message = message_type()
    text = text.lstrip()
    if not text:
        return message
    try:
        value, _ = _DECODER.raw_decode(text)
        if value is not None:
            _fill(message, value, 0)
    except (ValueError, RecursionError, OverflowError) as error:
        raise MalformedJson(reason=str(error)) from None
    return message


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Return the fields by every name that they may have in JSON."""
    by_name = {field.json_name: field for field in descriptor.fields}
    return by_name | {field.name: field for field in descriptor.fields}


def _fill(message: Message, value: Any, depth: int) -> None:
    if not isinstance(value, dict):
        raise _mismatch(value, message.DESCRIPTOR.full_name)
    if depth > MOST_NESTING:
        raise ValueError("messages are nested too deeply")
    fields = _fields(message.DESCRIPTOR)
    seen: set[object] = set()
    for name, part in value.items():
        field = fields.get(name)
        if field is None or part is None:
            continue
        # Of a oneof too there is one member only: the last would win by the order in the text.
        alone = field.containing_oneof.full_name if field.containing_oneof else field.full_name
        if alone in seen:
            raise ValueError(f"{alone} is given twice")
        seen.add(alone)
        try:
            _set(message, field, part, depth)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _set(message: Message, field: FieldDescriptor, part: Any, depth: int) -> None:
    if field.is_repeated:
        if not isinstance(part, list):
            raise _mismatch(part, "a list")
        items = getattr(message, field.name)
        if field.message_type is None:
            items.extend(_scalar(field, item) for item in part)
        for item in part if field.message_type is not None else ():
            _fill(items.add(), {} if item is None else item, depth + 1)
    elif field.message_type is None:
        setattr(message, field.name, _scalar(field, part))
    else:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _fill(inner, part, depth + 1)


def _scalar(field: FieldDescriptor, part: Any) -> Any:
    return _SCALARS[field.type](field, part)


def _bytes(_field: FieldDescriptor, part: Any) -> bytes:
    if not isinstance(part, str):
        raise _mismatch(part, "base64 text")
    standard = part.translate(URL_SAFE)
    if "=" not in standard:
        standard += "=" * (-len(standard) % 4)
    try:
        return base64.b64decode(standard, validate=True)
    except binascii.Error:
        raise ValueError("illegal base64 data") from None


def _text(_field: FieldDescriptor, part: Any) -> str:
    if not isinstance(part, str):
        raise _mismatch(part, "text")
    return part


def _truth(_field: FieldDescriptor, part: Any) -> bool:
    if not isinstance(part, bool):
        raise _mismatch(part, "true or false")
    return part


def _integer(_field: FieldDescriptor, part: Any) -> int:
    # The range is protobuf's to check.
    if isinstance(part, int) and not isinstance(part, bool):
        return part
    if isinstance(part, float) and part.is_integer() and abs(part) < 2**53:
        return int(part)
    if isinstance(part, str) and len(part) <= MOST_DIGITS:
        digits = part.removeprefix("-")
        if digits.isascii() and digits.isdigit():
            return int(part)
    raise _mismatch(part, "an integer")


def _enum(field: FieldDescriptor, part: Any) -> int:
    assert field.enum_type is not None
    if isinstance(part, int) and not isinstance(part, bool):
        return part
    known = field.enum_type.values_by_name.get(part) if isinstance(part, str) else None
    if known is None:
        raise ValueError(f"unknown value {_shown(part)} for enum {field.enum_type.full_name}")
    return int(known.number)


_SCALARS: dict[int, Callable[[FieldDescriptor, Any], Any]] = {
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BOOL: _truth,
    FieldDescriptor.TYPE_ENUM: _enum,
    FieldDescriptor.TYPE_INT32: _integer,
    FieldDescriptor.TYPE_INT64: _integer,
    FieldDescriptor.TYPE_UINT32: _integer,
    FieldDescriptor.TYPE_UINT64: _integer,
}


def _mismatch(part: Any, wanted: str) -> ValueError:
    return ValueError(f"{_shown(part)} is not {wanted}")


def _shown(part: Any) -> str:
    text = json.dumps(part, separators=(",", ":"))
    return text if len(text) <= 40 else f"{text[:40]}..."
