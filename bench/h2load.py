"""Load from h2load (Debian's nghttp2-client), which sends the same body with every request.

So it puts one key again and again, or reads that one key; ``bench.load`` is the generator that
rotates keys and values. h2load takes an HTTP status of 200 for success and never looks at
gRPC's, so the answers are counted by other means: puts by the store's revision, reads by the
bytes of their answers.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.failures import CannotMeasure
from bench.load import summary
from bench.measure import spread
from bench.wire import METHODS, VALUE_BYTES, prefixed, request
from tests.kit.processes import ServerProcess

ONE_KEY = b"bench/one-key"
IN_MEMORY = Path("/dev/shm")  # its logs must not be counted among the bytes written to disk
GRACE_S = 30.0
GRPC_PREFIX_BYTES = 5


@dataclass(frozen=True)
class Seen:
    """The figures of one h2load process."""

    seconds: float
    done: int
    not_2xx: int
    answer_bytes: int
    latencies_s: list[float]


def parsed(output: str, log: str) -> Seen:
    """Return the figures in what h2load printed and logged; raise CannotMeasure if there are none.

    The log's lines are: start in us since 1970, HTTP status, us to the end of the answer.
    """
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m|h)\b", output)
    requests = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", output)
    traffic = re.search(r"traffic:.*\((\d+)\) data", output)
    if finished is None or requests is None or traffic is None:
        raise CannotMeasure(f"h2load printed no result: {output.strip()[-400:]!r}")
    unit_s = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}[finished[2]]
    rows = [line.split("\t") for line in log.splitlines()]
    return Seen(
        seconds=float(finished[1]) * unit_s,
        done=int(requests[1]),
        not_2xx=int(requests[1]) - int(requests[2]),
        answer_bytes=int(traffic[1]),
        latencies_s=[int(row[2]) / 1e6 for row in rows if row[1] == "200"],
    )


def command(
    member: ServerProcess, kind: str, streams: int, seconds: float, scratch: Path
) -> list[str]:
    """Return h2load's command line: one connection, ``streams`` requests under way on it."""
    return [
        "h2load",
        "--clients=1",
        f"--max-concurrent-streams={streams}",
        f"--duration={round(1000 * seconds)}ms",
        f"--data={scratch / 'body'}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"--log-file={scratch / member.name}",
        f"http://{member.address.client}{METHODS[kind]}",
    ]


def unanswered(member: ServerProcess, kind: str, message: bytes, seen: Seen) -> int:
    """Return how many reads brought no value, judged by the bytes that arrived altogether."""
    if kind == "put":
        return seen.not_2xx
    answer_bytes = GRPC_PREFIX_BYTES + len(member.client.raw(METHODS[kind], message))
    return max(seen.not_2xx, round(seen.done - seen.answer_bytes / answer_bytes))


def run(
    members: Sequence[ServerProcess], kind: str, concurrency: int, seconds: float
) -> dict[str, Any]:
    """Put ``concurrency`` streams on the members, one h2load process each, and merge the figures.

    Raises CannotMeasure if h2load is missing or fails.
    """
    if shutil.which("h2load") is None:
        raise CannotMeasure("h2load is not installed (Debian: apt install nghttp2-client)")
    message = request(kind, ONE_KEY, os.urandom(VALUE_BYTES))
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="h2load-", dir=place) as directory:
        scratch = Path(directory)
        (scratch / "body").write_bytes(prefixed(message))
        started = [
            (
                member,
                subprocess.Popen(
                    command(member, kind, streams, seconds, scratch),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                ),
            )
            for member, streams in spread(members, concurrency)
        ]
        seen, errors = [], 0
        try:
            for member, process in started:
                output, _ = process.communicate(timeout=seconds + GRACE_S)
                if process.returncode:
                    raise CannotMeasure(f"h2load: exit {process.returncode}: {output[-400:]!r}")
                log = scratch / member.name
                seen.append(parsed(output, log.read_text() if log.exists() else ""))
                errors += unanswered(member, kind, message, seen[-1])
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"h2load did not end within {GRACE_S} s of its time") from None
        finally:
            for _, process in started:
                process.kill()
                process.wait()
    latencies_s = [latency for each in seen for latency in each.latencies_s]
    return summary(latencies_s, errors, max(each.seconds for each in seen))
