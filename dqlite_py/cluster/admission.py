"""Who may join, decided from the member list alone.

Joining is idempotent until the new member has run: a server that crashed before it stored the
answer comes back with the same name and peer URLs and gets the same id. A member that has run must
not come back with an empty directory under its old id, because it has forgotten votes and entries
that the others count on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dqlite_py.cluster.join import JoinRequest
from dqlite_py.node.contract import Member


@dataclass(frozen=True, slots=True)
class Admit:
    """Nobody is in the way: add a new member."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The member is in the list already and has never run: give it its id again."""

    member: Member


@dataclass(frozen=True, slots=True)
class Refuse:
    """The server may not join; ``reason`` is one line saying why and what to do."""

    reason: str


def decide(members: Sequence[Member], request: JoinRequest) -> Admit | Resume | Refuse:
    """Return what to do with ``request`` given the applied ``members``."""
    wanted = frozenset(request.peer_urls)
    for member in members:
        same_urls = frozenset(member.peer_urls) == wanted
        if same_urls and member.name in {"", request.name}:
            return _known(member)
        if member.name == request.name:
            return Refuse(
                f"duplicate node name found, please use a unique name for this node: "
                f"{member.name} is member {member.id:x} at {','.join(member.peer_urls)}"
            )
        if taken := sorted(wanted & frozenset(member.peer_urls)):
            return Refuse(
                f"peer URL {taken[0]} belongs to member {member.id:x} "
                f"({member.name or 'unnamed'}); advertise another one or remove that member"
            )
    return Admit()


def has_run(member: Member) -> bool:
    """Tell whether a member has ever served; it publishes its client URLs when it first does."""
    return bool(member.client_urls)


def _known(member: Member) -> Resume | Refuse:
    if has_run(member):
        return Refuse(
            f"member {member.id:x} ({member.name}) has run before and its data is not here; "
            f"if that data is lost, run `dqlite-py member remove {member.id:x}` and start again"
        )
    return Resume(member)
