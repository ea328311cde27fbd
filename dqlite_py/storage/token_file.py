"""The file that keeps the cluster's token: the token's own line, then one that vouches for it.

A byte that changed would make another, equally valid secret, with which no member would talk to
this one; so the file has a version and a checksum like all others.
"""

from __future__ import annotations

import re
from typing import Final
from zlib import crc32

from dqlite_py.errors import CorruptFile, NewerFormat

VERSION: Final = 1
_SEAL: Final = re.compile(r"format ([1-9][0-9]*) check [0-9a-f]{8}")


def encode(token: str, version: int = VERSION) -> bytes:
    """Return the file's content."""
    check = crc32(f"{version} {token}".encode())
    return f"{token}\nformat {version} check {check:08x}\n".encode()


def decode(path: str, data: bytes) -> str:
    """Return the token in ``data``, the content of ``path``.

    Raises CorruptFile when any byte differs from what was stored, NewerFormat when the file is
    whole but of a later version.
    """
    token, _, seal = data.decode(errors="replace").partition("\n")
    found = _SEAL.fullmatch(seal.removesuffix("\n"))
    version = int(found[1]) if found is not None else VERSION
    if data != encode(token, version):
        raise CorruptFile(path=path, detail="its checksum is wrong")
    if version > VERSION:
        raise NewerFormat(path=path, found=version, supported=VERSION)
    return token
