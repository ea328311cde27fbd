"""The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).

The code is canonical: the lengths of the codes determine the codes. Strings are decoded an octet
at a time by a state machine whose transitions are worked out when they are first needed, because
all 65,536 of them would take several megabytes and ordinary headers use a few hundred.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

# Symbols by the length of their codes in bits, in the order of their codes. The symbol that ends
# a string follows the last one.
_SYMBOLS: Final = (
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b'!"()?'),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, bytes.fromhex("808283a2b8c2e0e2")),
    (21, bytes.fromhex("99a1a7acb0b1b3d1d8d9e3e5e6")),
    (22, bytes.fromhex("8184858688929a9ca0a3a4a9aaadb2b5b9babbbdbec4c6e4e8e9")),
    (23, bytes.fromhex("0187898a8b8c8d8f93959697989b9d9ea5a6a8aeafb4b6b7bcbfc5e7ef")),
    (24, bytes.fromhex("098e9091949fabced7e1eced")),
    (25, bytes.fromhex("c7cfeaeb")),
    (26, bytes.fromhex("c0c1c8c9cacdd2d5dadbeef0f2f3ff")),
    (27, bytes.fromhex("cbccd3d4d6dddedff1f4f5f6f7f8fafbfcfdfe")),
    (28, bytes.fromhex("020304050607080b0c0e0f1011121314151718191a1b1c1d1e1f7fdcf9")),
    (30, b"\n\r\x16"),
)
_PADDING_MAX_BITS = 7
_TRANSITIONS_MAX = 16_384  # about 2 MB; a peer that sends random octets gets there


class HuffmanError(ValueError):
    """The octets are not a valid string of the code; ``str()`` says why."""


def _codes() -> Iterator[tuple[bytes, str]]:
    code = 0
    width = 0
    for length_bits, symbols in _SYMBOLS:
        code <<= length_bits - width
        width = length_bits
        for symbol in symbols:
            yield bytes([symbol]), f"{code:0{width}b}"
            code += 1


class _State(dict[int, "tuple[_State, bytes]"]):
    """A node of the code's tree: transitions by octet, made when they are missing."""

    __slots__ = ("children", "may_end")
    remembered: ClassVar[int] = 0
    root: ClassVar[_State]
    states: ClassVar[list[_State]] = []

    def __init__(self, may_end: bool) -> None:
        super().__init__()
        self.children: list[_State | bytes | None] = [None, None]
        self.may_end = may_end
        self.states.append(self)

    def __missing__(self, octet: int) -> tuple[_State, bytes]:
        state = self
        text = b""
        for shift in range(7, -1, -1):
            child = state.children[octet >> shift & 1]
            if child is None:
                raise HuffmanError("the symbol that ends a string is inside of one")
            if isinstance(child, bytes):
                text += child
                state = self.root
            else:
                state = child
        if _State.remembered >= _TRANSITIONS_MAX:
            _State.remembered = 0
            for each in self.states:
                each.clear()
        _State.remembered += 1
        self[octet] = state, text
        return state, text


def _plant() -> _State:
    """Build the tree; return its root."""
    root = _State.root = _State(may_end=True)
    for symbol, code in _codes():
        node = root
        for depth, bit in enumerate(code[:-1], start=1):
            child = node.children[int(bit)]
            if not isinstance(child, _State):
                # Padding is the beginning of the last code, which is all ones.
                padding = depth <= _PADDING_MAX_BITS and "0" not in code[:depth]
                child = node.children[int(bit)] = _State(padding)
            node = child
        node.children[int(code[-1])] = symbol
    return root


_ROOT: Final = _plant()
_BITS: Final = tuple(code for _, code in sorted(_codes()))
_LENGTHS_BITS: Final = tuple(map(len, _BITS))


def decode(data: bytes) -> bytes:
    """Return the string that ``data`` encodes (RFC 7541 section 5.2).

    Raises HuffmanError if it contains the symbol that ends a string, or if its padding is longer
    than seven bits or is not the beginning of that symbol.
    """
    state = _ROOT
    texts = []
    for octet in data:
        state, text = state[octet]
        texts.append(text)
    if not state.may_end:
        raise HuffmanError("the padding is wrong")
    return b"".join(texts)


def encoded_length_bytes(text: bytes) -> int:
    """Return how long ``encode(text)`` would be."""
    return sum(map(_LENGTHS_BITS.__getitem__, text)) + 7 >> 3


def encode(text: bytes) -> bytes:
    """Return ``text`` in the code, padded with ones to whole octets (RFC 7541 section 5.2)."""
    bits = "".join(map(_BITS.__getitem__, text))
    if not bits:
        return b""
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
