"""Fuzzing the state machine of HTTP/2: ``python -m tests.http.fuzz --minutes 10 --seed 1``.

Three kinds of conversations: ``octets`` (random ones, and right conversations with mistakes put
in, cut anywhere), ``frames`` (sequences of frames, some of them wrong) and ``client`` (the PyPI
library h2 as a peer without fault, which must get exactly the answers that were given). An owner
answers at random. After each step everything that `fuzz_owner` knows must hold. A conversation is
made of its kind, seed and number alone: ``--only frames:1:234`` repeats one.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import resource
import time
import traceback
from collections.abc import Callable
from random import Random

from tests.http.fuzz_client import client
from tests.http.fuzz_frames import FrameMaker, mutated, split
from tests.http.fuzz_owner import Owner, random_limits
from tests.kit import raw_h2 as h2

HANG_S = 120.0
MOST_FINDINGS = 20
HUGE = 1 << 28


def octets(draw: Random) -> int:
    """Random octets, or a conversation with mistakes; return the steps."""
    owner = Owner(draw, random_limits(draw), faulty=draw.random() < 0.5)
    maker = FrameMaker(draw, 0.0)
    data = maker.begin()
    kind = draw.randrange(4)
    if kind == 0:
        data = data * draw.randrange(2) + draw.randbytes(draw.choice((10, 100, 3_000)))
    else:
        data += b"".join(maker.next() for _ in range(draw.choice((3, 20, 60))))
        if kind > 1:
            data = mutated(draw, data)
    pieces = split(draw, data)
    for piece in pieces:
        owner.step(piece)
    _end(owner, whole=kind == 1 and not owner.faulty)
    return len(pieces)


def frames(draw: Random) -> int:
    """A sequence of frames, some wrong; return the steps."""
    owner = Owner(draw, random_limits(draw), faulty=draw.random() < 0.5)
    maker = FrameMaker(draw, draw.choice((0.0, 0.01, 0.05, 0.3)))
    steps = draw.choice((20, 100, 300))
    owner.step(maker.begin())
    for _ in range(steps):
        data = b"".join(maker.next() for _ in range(draw.choice((1, 1, 1, 3, 10))))
        if draw.random() < 0.2:
            at = draw.randrange(len(data) + 1)
            owner.step(data[:at])
            data = data[at:]
        owner.step(data)
        if owner.end is not None and draw.random() < 0.5:
            break
    _end(owner, whole=not owner.faulty)
    return steps


KINDS: dict[str, Callable[[Random], int]] = {"octets": octets, "frames": frames, "client": client}


def _end(owner: Owner, *, whole: bool) -> None:
    """Answer what is open, open all windows; what was answered must come."""
    if owner.end is None and not owner.connection.mid_frame and whole:
        owner.finish()
        owner.step(b"")
        wide = [0, *owner.open]
        room = 2**31 - 1 - max(owner.windows.now.values())
        if room > HUGE:
            owner.step(b"".join(h2.window_update(number, HUGE) for number in wide))
            owner.finish()
            owner.step(b"")
        if owner.end is None and room > HUGE:
            assert not [one for one in owner.open.values() if one.stream.queue], "an answer stuck"
    owner.check_bodies()
    owner.connection.fail(0, "over")
    owner.send()
    owner.step(h2.ping())
    assert not owner.connection.streams
    assert not owner.connection.sender.held_bytes


def converse(kind: str, seed: int, number: int) -> int:
    """Have one conversation; return its steps, raise what it finds."""
    return KINDS[kind](Random(f"{kind}:{seed}:{number}"))


def slice_of(minutes: float, seed: int) -> int:
    """Converse for that long; print findings and figures; return how many findings there are."""
    steps: collections.Counter[str] = collections.Counter()
    found: dict[str, str] = {}
    number, end_s = 0, time.monotonic() + minutes * 60
    while time.monotonic() < end_s and len(found) < MOST_FINDINGS:
        number += 1
        for kind in KINDS:
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            try:
                steps[kind] += converse(kind, seed, number)
            except Exception:
                text = traceback.format_exc()
                where = "".join(text.splitlines()[-3:])
                if where not in found:
                    found[where] = f"{kind}:{seed}:{number}"
                    print(f"FOUND {kind}:{seed}:{number}\n{text}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    largest_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"seed {seed}: {number} conversations of each kind, steps {dict(steps)}, "
        f"{len(found)} findings {sorted(found.values())}, at most {largest_mb:.0f} MB",
        flush=True,
    )
    return len(found)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="kind:seed:number of one conversation")
    options = parser.parse_args()
    if options.only:
        kind, seed, number = options.only.split(":")
        print(converse(kind, int(seed), int(number)), "steps")
        return 0
    return 1 if slice_of(options.minutes, options.seed) else 0


if __name__ == "__main__":
    raise SystemExit(main())
