"""The replicated state that lives beside the log: members and the list of databases.

It changes only when entries are applied, so every member has the same catalogue at the same
index. The catalogue as of the log's start travels in the manifest and in snapshots (design
rule 5); newer versions are kept in memory so that the log can be trimmed at any applied index.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace

import msgpack

from dqlite_py.errors import NewerFormat
from dqlite_py.node.contract import Member
from dqlite_py.raft import ConfState

_VERSION = 1


@dataclass(frozen=True, slots=True)
class DatabaseRecord:
    """A database that exists: its name, the index of its creation entry, its page size."""

    name: str
    creation_index: int
    page_size: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """Members, databases and ids of removed members at one index."""

    cluster_id: int = 0
    members: tuple[Member, ...] = ()
    databases: tuple[DatabaseRecord, ...] = ()
    removed: tuple[int, ...] = ()

    def member(self, member_id: int) -> Member | None:
        """Return the member with this id, or None."""
        return next((m for m in self.members if m.id == member_id), None)

    def with_member(self, member: Member) -> Catalog:
        """Return a catalogue in which ``member`` is added or replaced."""
        others = [m for m in self.members if m.id != member.id]
        ordered = tuple(sorted([*others, member], key=lambda m: m.id))
        return replace(self, members=ordered)

    def without_member(self, member_id: int) -> Catalog:
        """Return a catalogue without the member; its id stays known as removed."""
        kept = tuple(m for m in self.members if m.id != member_id)
        removed = self.removed
        if member_id not in removed:
            removed = tuple(sorted((*removed, member_id)))
        return replace(self, members=kept, removed=removed)

    def with_database(self, record: DatabaseRecord) -> Catalog:
        """Return a catalogue with one more database."""
        return replace(self, databases=(*self.databases, record))


def pack_member(member: Member) -> list[object]:
    """Return a member as a msgpack-ready list."""
    return [
        member.id,
        member.name,
        list(member.peer_urls),
        list(member.client_urls),
        member.is_learner,
    ]


def unpack_member(data: list[object]) -> Member:
    """Inverse of ``pack_member``."""
    member_id, name, peer_urls, client_urls, is_learner = data
    assert isinstance(member_id, int)
    assert isinstance(peer_urls, list)
    assert isinstance(client_urls, list)
    return Member(member_id, str(name), tuple(peer_urls), tuple(client_urls), bool(is_learner))


def encode(catalog: Catalog) -> bytes:
    """Return the catalogue as the manifest's payload."""
    data: bytes = msgpack.packb(
        [
            _VERSION,
            catalog.cluster_id,
            [pack_member(m) for m in catalog.members],
            [[d.name, d.creation_index, d.page_size] for d in catalog.databases],
            list(catalog.removed),
        ]
    )
    return data


def decode(data: bytes, path: str = "catalogue") -> Catalog:
    """Inverse of ``encode``; raises NewerFormat, naming ``path``, for a version unknown here."""
    version, *rest = msgpack.unpackb(data)
    if version != _VERSION:
        raise NewerFormat(path=path, found=version, supported=_VERSION)
    cluster_id, members, databases, removed = rest
    return Catalog(
        cluster_id,
        tuple(unpack_member(m) for m in members),
        tuple(DatabaseRecord(*d) for d in databases),
        tuple(removed),
    )


@dataclass(frozen=True, slots=True)
class Version:
    """Catalogue and Raft configuration from ``index`` on, until the next version."""

    index: int
    conf_state: ConfState
    catalog: Catalog


class CatalogHistory:
    """The catalogue's versions between the log's start and the applied index."""

    def __init__(self, first: Version) -> None:
        self._versions = [first]

    @property
    def latest(self) -> Version:
        """The version in force at the applied index."""
        return self._versions[-1]

    def push(self, index: int, *, conf_state: ConfState | None, catalog: Catalog) -> None:
        """Record what the entry at ``index`` made of the catalogue."""
        previous = self.latest
        assert index > previous.index
        self._versions.append(Version(index, conf_state or previous.conf_state, catalog))

    def at(self, index: int) -> Version:
        """Return the version in force right after the entry at ``index`` was applied."""
        position = bisect_right(self._versions, index, key=lambda v: v.index) - 1
        assert position >= 0, (index, self._versions[0].index)
        return self._versions[position]

    def trim(self, index: int) -> None:
        """Forget versions that ended before ``index``."""
        position = bisect_right(self._versions, index, key=lambda v: v.index) - 1
        del self._versions[:position]

    def reset(self, version: Version) -> None:
        """Forget everything: a snapshot replaced the state."""
        self._versions = [version]
