"""Small files that are replaced whole: magic, version, length, checksum, body."""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from dqlite_py.errors import CorruptFile, DiskFailed, NewerFormat
from dqlite_py.seams import Disk, replace_file

_HEADER: Final = struct.Struct("<4sIII")
_CHECKED: Final = struct.Struct("<4sII")


def load_sealed(disk: Disk, path: str, magic: bytes, version: int) -> bytes | None:
    """Return the body of ``path``, ``None`` if there is no such file.

    Raises CorruptFile when any byte differs from what was stored, NewerFormat when the file is
    whole but of a later version, DiskFailed.
    """
    try:
        data = disk.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskFailed(path=path, detail=str(error)) from error
    if len(data) < _HEADER.size:
        raise CorruptFile(path=path, detail="the file is too short for its header")
    found_magic, found, length, checksum = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    checked = _CHECKED.pack(found_magic, found, length)
    if length != len(body) or checksum != crc32(body, crc32(checked)):
        raise CorruptFile(path=path, detail="length or checksum is wrong")
    if found_magic != magic:
        raise CorruptFile(path=path, detail="the file is of another kind")
    if found > version:
        raise NewerFormat(path=path, found=found, supported=version)
    return body


def store_sealed(disk: Disk, path: str, magic: bytes, version: int, body: bytes) -> None:
    """Durably replace ``path``; after a crash it holds the old or the new body, whole.

    Raises DiskFailed.
    """
    checked = _CHECKED.pack(magic, version, len(body))
    header = _HEADER.pack(magic, version, len(body), crc32(body, crc32(checked)))
    try:
        replace_file(disk, path, header + body)
    except OSError as error:
        raise DiskFailed(path=path, detail=str(error)) from error
