"""Ids of members and clusters by etcd's rule, so that the same flags give the same ids as etcd.

Source: etcd behaviour (observed ids of etcd 3.5.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1


def member_id(peer_urls: Iterable[str], salt: str) -> int:
    """Return a member's id: never 0, 64 bits.

    ``salt`` is the initial cluster token for a member that is there from the start, and the Unix
    seconds in decimal for one that is added later, so that an address used again gives a new id.
    """
    return _first_word("".join(sorted(peer_urls)).encode() + salt.encode())


def added_member_id(peer_urls: Iterable[str], wall_s: float, taken: Iterable[int]) -> int:
    """Return the id of a member added at ``wall_s`` (Unix seconds) that is not in ``taken``.

    ``taken`` must name removed members too. On a collision the next second is tried.
    """
    urls, used, second = tuple(peer_urls), frozenset(taken), int(wall_s)
    while (found := member_id(urls, str(second))) in used:
        second += 1
    return found


def cluster_id(member_ids: Iterable[int]) -> int:
    """Return the id of a cluster founded by ``member_ids``: never 0, 64 bits."""
    return _first_word(b"".join(one.to_bytes(8, "big") for one in sorted(member_ids)))


def _first_word(data: bytes) -> int:
    digest = sha1(data, usedforsecurity=False).digest()
    # 0 means "no member" in the protocol; no known input gives it.
    return int.from_bytes(digest[:8], "big") or 1
