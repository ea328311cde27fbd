"""A disk in memory that forgets at a power cut what a real one may forget.

What was not synced is lost, kept or torn sector by sector; creations, renames and removals that no
directory sync covered are each kept or lost; all by a seeded ``Random``, so a seed is a run.

A file system may do less harm than that: ext4 writes its names in the order they were changed, and
an unsynced file comes back empty or as far as its pages happened to be written. It may not do more,
and no other order is promised to a program that does not sync. So a file that was removed again
before any sync may be back, and then its bytes are as uncertain as any that were not synced.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

SECTOR_BYTES = 512


class PowerCut(Exception):
    """The simulated machine lost power; nothing works until ``crash`` has been called."""


class _Inode:
    """One file's content: as programs see it, and as it is on the platter."""

    def __init__(self) -> None:
        self.current = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if offset > len(self.current):
            self._touch(len(self.current), offset)
            self.current.extend(bytes(offset - len(self.current)))
        self.current[offset:end] = data
        self._touch(offset, end)

    def truncate(self, length: int) -> None:
        old = len(self.current)
        self._touch(min(old, length), max(old, length))
        if length < old:
            del self.current[length:]
        else:
            self.current.extend(bytes(length - old))

    def sync(self) -> None:
        self._settle(self.dirty, len(self.current))
        self.dirty.clear()

    def crash(self, random: Random) -> int:
        """Let each unsynced sector, and the length, be old or new; return how many stay old."""
        share = random.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        kept = {sector for sector in sorted(self.dirty) if random.random() < share}
        length = random.choice((len(self.current), len(self.durable)))
        self._settle(kept, length)
        self.current = bytearray(self.durable)
        lost = len(self.dirty) - len(kept)
        self.dirty.clear()
        return lost

    def _touch(self, start: int, end: int) -> None:
        if end > start:
            self.dirty.update(range(start // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1))

    def _settle(self, sectors: set[int], length: int) -> None:
        if len(self.durable) > length:
            del self.durable[length:]
        else:
            self.durable.extend(bytes(length - len(self.durable)))
        for sector in sectors:
            at = sector * SECTOR_BYTES
            new = self.current[at : min(at + SECTOR_BYTES, length)]
            self.durable[at : at + len(new)] = new


class SimulatedFile:
    """A handle; it dies with the machine."""

    def __init__(self, disk: SimulatedDisk, path: str, inode: _Inode) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._life = disk.crashes
        self._open = True

    def _enter(self, operation: str) -> None:
        assert self._open, f"{self._path} is closed"
        assert self._life == self._disk.crashes, f"{self._path} was opened before the crash"
        self._disk.enter(operation, self._path)

    def pread(self, length: int, offset: int) -> bytes:
        self._enter("pread")
        return bytes(self._inode.current[offset : offset + length])

    def pwrite(self, data: bytes, offset: int) -> None:
        self._enter("pwrite")
        self._inode.write(data, offset)

    def fdatasync(self) -> None:
        self._enter("fdatasync")
        self._inode.sync()

    def truncate(self, length: int) -> None:
        self._enter("truncate")
        self._inode.truncate(length)

    def size(self) -> int:
        self._enter("size")
        return len(self._inode.current)

    def close(self) -> None:
        self._open = False


class SimulatedDisk:
    """Implements ``Disk``. Paths are compared as strings; there are no links.

    ``fault`` is asked before every operation with its name and path and may return an error to
    raise. ``cut_power_at`` makes the operation with that number (counted from 0 among those that
    change anything) raise PowerCut instead of happening.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._directories = {"", "/", "."}
        self._durable_directories = set(self._directories)
        self._unsynced: list[tuple[str, str, str, _Inode | None]] = []
        self._locks: set[str] = set()
        self._dead = False
        self.crashes = 0
        self.lost_sectors = 0  # unsynced ones that crashes took back
        self.changes = 0
        self.cut_power_at: int | None = None
        self.fault: Callable[[str, str], OSError | None] | None = None
        self.trace: list[str] = []

    # --- what tests do ---------------------------------------------------------------------------
    def crash(self) -> None:
        """Cut power and boot again: open files and locks are gone, unsynced changes decided."""
        # Also those without a name now: a removal that is not durable brings them back.
        unsynced = [inode for *_, inode in self._unsynced if inode is not None]
        inodes: dict[int, _Inode] = {}
        for held in (*self._durable_names.values(), *self._names.values(), *unsynced):
            inodes.setdefault(id(held), held)
        for inode in inodes.values():
            self.lost_sectors += inode.crash(self._random)
        for change in self._unsynced:
            if change[0] == "rmtree":
                self._settle_in_part(change[1])
            elif self._random.random() < 0.5:
                self._settle(change)
        self._unsynced.clear()
        self._names = dict(self._durable_names)
        self._directories = set(self._durable_directories)
        self._locks.clear()
        self._dead = False
        self.cut_power_at = None
        self.crashes += 1

    def flip(self, path: str, offset: int, mask: int = 1) -> None:
        """Damage one byte on the platter."""
        inode = self._names[path]
        for content in (inode.current, inode.durable):
            content[offset] ^= mask

    def cut_file(self, path: str, length: int) -> None:
        """Damage a file by making it shorter."""
        inode = self._names[path]
        for content in (inode.current, inode.durable):
            del content[length:]

    def files(self) -> dict[str, bytes]:
        """Return every file's content, by path."""
        return {path: bytes(inode.current) for path, inode in sorted(self._names.items())}

    def copy(self, random: Random) -> SimulatedDisk:
        """Return an independent disk with the same content, all of it durable."""
        other = SimulatedDisk(random)
        other._directories = set(self._directories)
        other._durable_directories = set(self._directories)
        for path, content in self.files().items():
            inode = _Inode()
            inode.current, inode.durable = bytearray(content), bytearray(content)
            other._names[path] = other._durable_names[path] = inode
        return other

    def enter(self, operation: str, path: str) -> None:
        """Count, trace, and fail if this operation is to fail."""
        if self._dead:
            raise PowerCut
        if self.fault is not None and (error := self.fault(operation, path)) is not None:
            raise error
        if operation in ("pread", "read", "size", "listdir", "exists"):
            return
        self.trace.append(f"{operation} {path}")
        number = self.changes
        self.changes += 1
        if number == self.cut_power_at:
            self._dead = True
            raise PowerCut

    # --- the seam --------------------------------------------------------------------------------
    def open(self, path: str, *, create: bool = False) -> SimulatedFile:
        if create:
            self.enter("create", path)
            if path in self._names:
                raise FileExistsError(path)
            if _parent(path) not in self._directories:
                raise FileNotFoundError(path)
            inode = self._names[path] = _Inode()
            self._unsynced.append(("link", path, path, inode))
        elif path not in self._names:
            raise FileNotFoundError(path)
        return SimulatedFile(self, path, self._names[path])

    def read(self, path: str) -> bytes:
        self.enter("read", path)
        if path not in self._names:
            raise FileNotFoundError(path)
        return bytes(self._names[path].current)

    def rename(self, source: str, target: str) -> None:
        self.enter("rename", target)
        if source not in self._names:
            raise FileNotFoundError(source)
        inode = self._names[target] = self._names.pop(source)
        self._unsynced.append(("rename", source, target, inode))

    def unlink(self, path: str) -> None:
        self.enter("unlink", path)
        if path not in self._names:
            raise FileNotFoundError(path)
        del self._names[path]
        self._unsynced.append(("unlink", path, path, None))

    def mkdir(self, path: str) -> None:
        """The contract makes new directories durable at once, so a crash never loses one."""
        if path in self._directories:
            return
        self.enter("mkdir", path)
        # Durable at once, so an earlier removal of the same directory is durable too.
        removals = [c for c in self._unsynced if c[0] == "rmtree" and f"{path}/".startswith(c[1])]
        for change in removals:
            self._settle(change)
            self._unsynced.remove(change)
        while path not in self._directories:
            self._directories.add(path)
            self._durable_directories.add(path)
            path = _parent(path)

    def rmtree(self, path: str) -> None:
        self.enter("rmtree", path)
        if path in self._names:
            raise NotADirectoryError(path)
        _remove_below(path, self._names, self._directories)
        self._unsynced.append(("rmtree", path, path, None))

    def listdir(self, path: str) -> list[str]:
        self.enter("listdir", path)
        if path not in self._directories:
            raise FileNotFoundError(path)
        everything = (*self._names, *self._directories)
        return sorted(
            name.rpartition("/")[2] for name in everything if _parent(name) == path and name != path
        )

    def exists(self, path: str) -> bool:
        self.enter("exists", path)
        return path in self._names or path in self._directories

    def sync_dir(self, path: str) -> None:
        self.enter("sync_dir", path)
        waiting = []
        for change in self._unsynced:
            if _parent(change[2]) == path:
                self._settle(change)
            else:
                waiting.append(change)
        self._unsynced = waiting

    def lock(self, path: str) -> Callable[[], None]:
        self.enter("lock", path)
        if path in self._locks:
            raise BlockingIOError(path)
        self._locks.add(path)
        return lambda: self._locks.discard(path)

    def _settle_in_part(self, root: str) -> None:
        """Decide for each file below ``root`` whether its removal is durable."""
        share = self._random.choice((0.0, 0.5, 1.0))
        names = sorted(name for name in self._durable_names if name.startswith(f"{root}/"))
        gone = [name for name in names if self._random.random() < share]
        for name in gone:
            del self._durable_names[name]
        if len(gone) == len(names) and self._random.random() < share:
            _remove_below(root, self._durable_names, self._durable_directories)

    def _settle(self, change: tuple[str, str, str, _Inode | None]) -> None:
        """Make one change of names durable."""
        kind, source, target, inode = change
        if kind == "unlink":
            self._durable_names.pop(source, None)
        elif kind == "rmtree":
            _remove_below(source, self._durable_names, self._durable_directories)
        elif inode is not None:
            if kind == "rename":
                self._durable_names.pop(source, None)
            self._durable_names[target] = inode


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _remove_below(path: str, names: dict[str, _Inode], directories: set[str]) -> None:
    below = path + "/"
    for name in [name for name in names if name.startswith(below)]:
        del names[name]
    for name in [name for name in directories if name == path or name.startswith(below)]:
        directories.discard(name)
