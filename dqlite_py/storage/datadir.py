"""The data directory: lock, identity, token and where everything lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from dqlite_py.errors import (
    CorruptFile,
    DataDirInUse,
    DiskFailed,
    NewerFormat,
    StartRefused,
)
from dqlite_py.seams import Disk, replace_file
from dqlite_py.storage import token_file

FORMAT: Final = 1
PKI_FOLDER: Final = "pki"
AUTHORITY_FILE: Final = "authority.pem"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this member is; written once, when the directory joins a cluster."""

    cluster_id: int
    member_id: int
    name: str


class DataDir:
    """An open, locked data directory. All methods block."""

    def __init__(self, disk: Disk, path: str, release: Callable[[], None]) -> None:
        self._disk = disk
        self._release = release
        self.path = path
        self.identity: Identity | None = None

    @classmethod
    def open(cls, disk: Disk, path: str, *, cluster_id: int | None = None) -> DataDir:
        """Create ``path`` if needed (mode 0700), lock it and read its identity.

        ``identity`` is ``None`` in a directory that belongs to no cluster yet; databases without
        one are a member's that lost it. Nothing in an existing directory is changed. Raises
        DataDirInUse when a running server holds it, StartRefused when ``cluster_id`` is given and
        the directory belongs to another cluster, NewerFormat, CorruptFile, DiskFailed.
        """
        try:
            disk.mkdir(path)
            release = disk.lock(f"{path}/LOCK")
        except BlockingIOError as error:
            raise DataDirInUse(
                reason=f"the data directory {path} is in use by another running server"
            ) from error
        except OSError as error:
            raise DiskFailed(path=path, detail=str(error)) from error
        directory = cls(disk, path, release)
        try:
            directory.identity = directory._load_identity()
            if directory.identity is None:
                directory._require_no_databases()
            elif cluster_id is not None:
                directory._require_cluster(directory.identity.cluster_id, cluster_id)
        except Exception:
            release()
            raise
        return directory

    @property
    def raft_path(self) -> str:
        """Where the Raft log lies."""
        return f"{self.path}/raft"

    @property
    def databases_path(self) -> str:
        """Where the generations of database files lie."""
        return f"{self.path}/db"

    def generation_path(self, generation: int) -> str:
        """Where the database files of ``generation`` lie."""
        return f"{self.databases_path}/{generation}"

    def database_path(self, generation: int, name: str) -> str:
        """Return the main file of database ``name``."""
        return f"{self.generation_path(generation)}/{name}.sqlite"

    def base_path(self, generation: int, name: str) -> str:
        """Return the base index file of database ``name``."""
        return f"{self.generation_path(generation)}/{name}.base"

    @property
    def token_path(self) -> str:
        """Where the token lies that lets others join."""
        return f"{self.path}/token"

    @property
    def pki_path(self) -> str:
        """Where certificates of the server's own making lie."""
        return f"{self.path}/{PKI_FOLDER}"

    @property
    def authority_path(self) -> str:
        """Where the bundle lies that vouches for the client port, if there is one."""
        return f"{self.pki_path}/{AUTHORITY_FILE}"

    def store_identity(self, identity: Identity) -> None:
        """Make this directory a member's; durable on return.

        Ordering: the last step of setting a member up; until it has happened a start treats the
        directory as new. Raises DiskFailed.
        """
        document: dict[str, Any] = {
            "format": FORMAT,
            "cluster_id": f"{identity.cluster_id:016x}",
            "member_id": f"{identity.member_id:016x}",
            "name": identity.name,
        }
        document["check"] = _check(document)
        text = json.dumps(document, indent=2, sort_keys=True) + "\n"
        self._replace(f"{self.path}/identity.json", text.encode())
        self.identity = identity

    def load_token(self) -> str | None:
        """Return the stored token, ``None`` if there is none.

        Raises CorruptFile, NewerFormat or DiskFailed.
        """
        data = self._read(self.token_path)
        return None if data is None else token_file.decode(self.token_path, data)

    def store_token(self, token: str) -> None:
        """Store the token, readable by the owner only; durable on return. Raises DiskFailed."""
        self._replace(self.token_path, token_file.encode(token))

    def close(self) -> None:
        """Release the lock."""
        self._release()

    def _load_identity(self) -> Identity | None:
        path = f"{self.path}/identity.json"
        data = self._read(path)
        if data is None:
            return None
        try:
            document = json.loads(data)
            whole = document["check"] == _check(document)
            canonical = json.dumps(document, indent=2, sort_keys=True) + "\n"
            if not whole or canonical.encode() != data:
                raise CorruptFile(path=path, detail="its checksum is wrong")
            if document["format"] > FORMAT:
                raise NewerFormat(path=path, found=document["format"], supported=FORMAT)
            cluster_id = int(document["cluster_id"], 16)
            return Identity(cluster_id, int(document["member_id"], 16), document["name"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFile(path=path, detail="not an identity file") from error

    def _require_no_databases(self) -> None:
        """Setting a member up begins by removing what is there: never someone's databases."""
        try:
            generations = []
            if self._disk.exists(self.databases_path):
                generations = self._disk.listdir(self.databases_path)
            held = any(self._disk.listdir(f"{self.databases_path}/{one}") for one in generations)
        except OSError as error:
            raise DiskFailed(path=self.databases_path, detail=str(error)) from error
        if held:
            raise CorruptFile(
                path=f"{self.path}/identity.json",
                detail=f"the file is missing, but there are databases in {self.databases_path}",
            )

    def _require_cluster(self, found: int, wanted: int) -> None:
        if found != wanted:
            raise StartRefused(
                reason=f"the data directory {self.path} belongs to cluster {found:x}, not to "
                f"{wanted:x}; use another --data-dir or move this one away"
            )

    def _read(self, path: str) -> bytes | None:
        try:
            return self._disk.read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiskFailed(path=path, detail=str(error)) from error

    def _replace(self, path: str, data: bytes) -> None:
        try:
            replace_file(self._disk, path, data)
        except OSError as error:
            raise DiskFailed(path=path, detail=str(error)) from error


def _check(document: dict[str, Any]) -> str:
    """Return the checksum of everything but the checksum."""
    content = {key: value for key, value in document.items() if key != "check"}
    return f"{crc32(json.dumps(content, sort_keys=True).encode()):08x}"
