"""The four doors through which a replica reaches the world: clock, threads, disk, network.

Everything in ``node``, ``db``, ``storage`` and ``transport`` is handed objects of these shapes and
never imports ``time``, ``threading``, ``os`` or ``socket``, because the simulator runs that very
code on a virtual world. Coroutines may use ``asyncio`` (sleep, timeout, Future): the simulator
supplies an event loop whose time is virtual. Randomness is a ``random.Random`` handed in by the
composition root.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Random(Protocol):
    """The part of ``random.Random`` that replica code may use."""

    def random(self) -> float:
        """Return a float in [0, 1)."""

    def randrange(self, start: int, stop: int) -> int:
        """Return an int in [start, stop)."""

    def randbytes(self, n: int) -> bytes:
        """Return ``n`` random bytes."""


class Clock(Protocol):
    """Time as one replica sees it."""

    def now_s(self) -> float:
        """Return monotonic seconds; comparable only within one process life."""

    def wall_s(self) -> float:
        """Return Unix seconds; for identifiers and logs, never for ordering or expiry."""


class Worker(Protocol):
    """One thread that runs jobs in the order given, off the event loop."""

    def run(self, job: Callable[[], T]) -> Awaitable[T]:
        """Queue ``job``; the returned future settles on the event loop with its result or error.

        Jobs never overlap and never overtake each other. Cancelling the future does not stop a
        job that has been queued.
        """

    def close(self) -> None:
        """Refuse further jobs; those already queued still run."""


class Workers(Protocol):
    """Makes workers; each is one thread in a real process."""

    def serial(self, name: str) -> Worker:
        """Return a new worker; ``name`` labels its thread."""

    def notify(self, callback: Callable[[], None]) -> None:
        """From inside a running job: call ``callback`` on the event loop soon."""


class DiskFile(Protocol):
    """An open file. All calls block; errors are ``OSError``."""

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; shorter only at end of file."""

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``; durable only after ``fdatasync``."""

    def fdatasync(self) -> None:
        """Make written data, and the length needed to read it, durable."""

    def truncate(self, length: int) -> None:
        """Set the file's length; durable only after ``fdatasync``."""

    def size(self) -> int:
        """Return the file's length in bytes."""

    def close(self) -> None:
        """Close the file; says nothing about durability."""


class Disk(Protocol):
    """A file system. Paths are plain strings. All calls block; errors are ``OSError``."""

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        """Open for reading and writing; with ``create`` the file must not exist yet (mode 0600)."""

    def read(self, path: str) -> bytes:
        """Return a whole file; raise ``FileNotFoundError`` if absent."""

    def rename(self, source: str, target: str) -> None:
        """Atomically replace ``target``; durable only after ``sync_dir`` of its directory."""

    def unlink(self, path: str) -> None:
        """Remove a file; durable only after ``sync_dir``."""

    def mkdir(self, path: str) -> None:
        """Create a directory (mode 0700), and its parents, unless it exists."""

    def rmtree(self, path: str) -> None:
        """Remove a directory and all below it; absent is not an error."""

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""

    def exists(self, path: str) -> bool:
        """Tell whether a file or directory is there."""

    def sync_dir(self, path: str) -> None:
        """Make creations, renames and removals in a directory durable."""

    def lock(self, path: str) -> Callable[[], None]:
        """Take the exclusive lock file ``path``; return its release.

        Raises ``BlockingIOError`` when another process holds it.
        """


def replace_file(disk: Disk, path: str, data: bytes) -> None:
    """Atomically and durably make ``data`` the content of ``path``.

    Ordering: temporary file, fdatasync, rename, directory fsync. After a crash at any instant the
    file holds the old or the new content, whole.
    """
    temporary = path + ".tmp"
    if disk.exists(temporary):
        disk.unlink(temporary)
    file = disk.open(temporary, create=True)
    try:
        file.pwrite(data, 0)
        file.fdatasync()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.sync_dir(path.rpartition("/")[0] or ".")


class Stream(Protocol):
    """One ordered byte connection between two members."""

    async def read_exactly(self, length: int) -> bytes:
        """Return exactly ``length`` bytes; raise ``ConnectionError`` if the stream ends first."""

    def write(self, data: bytes) -> None:
        """Queue bytes to be sent; never blocks."""

    async def drain(self) -> None:
        """Wait until the send buffer is below its limit; raise ``ConnectionError`` if closed."""

    def buffered_bytes(self) -> int:
        """Return how many written bytes have not left yet."""

    def close(self) -> None:
        """Close at once; pending bytes may be lost."""

    def peer_address(self) -> str:
        """Return a printable address of the other side."""


class Network(Protocol):
    """Makes connections between members.

    An address is ``host:port``, or ``https://host:port`` for one that must be under TLS.
    """

    async def connect(self, address: str) -> Stream:
        """Open a stream to ``address``; raise ``ConnectionError`` or ``OSError`` on failure."""

    async def listen(
        self, addresses: Sequence[str], accept: Callable[[Stream], Awaitable[None]]
    ) -> Callable[[], None]:
        """Serve ``accept(stream)`` for each inbound stream; return a function that stops it."""
