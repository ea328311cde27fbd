"""Which links a partition cuts: pure functions from members to directed pairs."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

Pair = tuple[str, str]


def both_ways(left: Sequence[str], right: Sequence[str]) -> list[Pair]:
    """Cut every link between the two sides."""
    return [pair for a in left for b in right for pair in ((a, b), (b, a))]


def isolated(name: str, names: Sequence[str]) -> list[Pair]:
    """Cut one member off from all others."""
    return both_ways([name], [other for other in names if other != name])


def halves(names: Sequence[str], random: Random) -> list[Pair]:
    """Cut into a majority and a minority, chosen at random."""
    mixed = random.sample(list(names), len(names))
    middle = len(mixed) // 2
    return both_ways(mixed[:middle], mixed[middle:])


def one_way(names: Sequence[str], random: Random) -> list[Pair]:
    """Let one member speak but not hear, or hear but not speak."""
    chosen = random.choice(list(names))
    others = [name for name in names if name != chosen]
    if random.random() < 0.5:
        return [(other, chosen) for other in others]
    return [(chosen, other) for other in others]


def bridge(names: Sequence[str], random: Random) -> list[Pair]:
    """Cut into two halves that both still see one member between them."""
    mixed = random.sample(list(names), len(names))
    rest = mixed[1:]
    middle = len(rest) // 2
    return both_ways(rest[:middle], rest[middle:])


def ring(names: Sequence[str], random: Random) -> list[Pair]:
    """Let every member see a majority, but no two the same: neighbours on a ring.

    Needs five members: on a ring of three everyone is everyone's neighbour.
    """
    mixed = random.sample(list(names), len(names))
    count = len(mixed)
    reach = max(1, (count // 2) // 2)
    pairs = []
    for at, name in enumerate(mixed):
        for to, other in enumerate(mixed):
            distance = min((at - to) % count, (to - at) % count)
            if name != other and distance > reach:
                pairs.append((name, other))
    return pairs
