"""A Raft log driven together with a model of what it must hold after a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from dqlite_py.raft import NO_LIMIT, ConfState, Entry, EntryKind, HardState
from dqlite_py.storage import AppendBatch, Manifest, RaftStorage, StorageLimits, manifest
from tests.kit.disk import SimulatedDisk

DIRECTORY = "/data"
LOG = "/data/raft"
SMALL = StorageLimits(
    segment_bytes=12288, first_segment_bytes=4096, step_bytes=4096, cache_bytes=2000
)
START = Manifest(1, 0, 0, ConfState((1,)))


@dataclass(frozen=True)
class Expected:
    """What the log must hold; ``commit_least`` is the highest commit index made durable."""

    manifest: Manifest = START
    entries: tuple[Entry, ...] = ()
    term: int = 0
    vote: int = 0
    commit: int = 0
    commit_least: int = 0

    @property
    def last(self) -> int:
        return self.manifest.index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.manifest.term

    def entry_term(self, index: int) -> int:
        slot = index - self.manifest.index - 1
        return self.entries[slot].term if slot >= 0 else self.manifest.term

    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.commit)

    def above(self, index: int) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.index > index)


class DrivenLog:
    """Does an operation on the log and the model; ``before`` and ``after`` bound an unfinished one.

    All operations of one step are atomic: a crash leaves the log as before or as after.
    """

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.before = self.after = Expected()
        disk.mkdir(DIRECTORY)
        manifest.store(disk, DIRECTORY, START)
        self.storage = RaftStorage.open(disk, LOG, START, SMALL)

    def _do(self, after: Expected, action: Callable[[], None]) -> None:
        self.after = after
        action()
        self.before = after

    def append(self, index: int, term: int, payloads: list[bytes], *, vote: int = 1) -> None:
        """Write entries from ``index`` on, replacing what is there, with a hard state."""
        model = self.before
        kept = tuple(entry for entry in model.entries if entry.index < index)
        new = tuple(
            Entry(term, index + i, EntryKind.NORMAL, data) for i, data in enumerate(payloads)
        )
        vote = model.vote if term == model.term and model.vote else vote
        state = HardState(term, vote, model.commit)
        after = replace(
            model,
            entries=kept + new,
            term=term,
            vote=vote,
            commit_least=max(model.commit, model.commit_least),
        )
        half = len(new) // 2
        batches = (AppendBatch(new[:half]), AppendBatch(new[half:], state))
        self._do(after, lambda: self.storage.publish(self.storage.write(batches)))

    def commit(self, index: int) -> None:
        """Move the commit index without a sync, as Raft asks when nothing else changed."""
        after = replace(self.before, commit=index)
        batch = AppendBatch((), after.hard_state(), must_sync=False)
        self._do(after, lambda: self.storage.publish(self.storage.write((batch,))))

    def store_commit(self) -> None:
        after = replace(self.before, commit_least=self.before.commit)
        action = lambda: self.storage.publish(self.storage.store_commit(after.commit))  # noqa: E731
        self._do(after, action)

    def vote(self, term: int, vote: int) -> None:
        model = self.before
        after = replace(model, term=term, vote=vote, commit_least=model.commit)
        state = after.hard_state()
        self._do(after, lambda: self.storage.publish(self.storage.store_hard_state(state)))

    def compact(self, index: int) -> None:
        """Move the manifest to a committed ``index`` and trim, as the node does."""
        model = self.before
        new = replace(model.manifest, index=index, term=model.entry_term(index))
        after = replace(
            model,
            manifest=new,
            entries=model.above(index),
            commit_least=max(model.commit_least, index),
        )

        def action() -> None:
            manifest.store(self.disk, DIRECTORY, new)
            self.storage.publish_compact(self.storage.compact(new))

        self._do(after, action)

    def install(self, index: int, term: int) -> None:
        """Replace everything by a received snapshot at ``index``, as the node does."""
        model = self.before
        generation = model.manifest.generation + 1
        new = Manifest(generation, index, term, ConfState((1, 2)), b"catalogue")
        after = replace(model, manifest=new, entries=(), commit=index, commit_least=index)

        def action() -> None:
            manifest.store(self.disk, DIRECTORY, new)
            self.storage.publish_install(self.storage.install(new))

        self._do(after, action)

    def prepare(self) -> None:
        self._do(self.before, lambda: self.storage.prepare() and None)

    def close_and_reopen(self) -> None:
        """Stop cleanly and start again; nothing may be missing, the commit index included."""
        after = replace(self.before, commit_least=self.before.commit)
        self._do(after, self.storage.close)
        self.reopen()

    def reopen(self) -> None:
        """Start after a stop or a crash and compare; the model becomes what was found."""
        found = manifest.load(self.disk, DIRECTORY)
        assert found is not None
        self.storage = RaftStorage.open(self.disk, LOG, found, SMALL, create=False)
        entries = read_all(self.storage)
        hard_state, conf_state = self.storage.initial_state()
        for model in (self.before, self.after):
            if found == model.manifest and entries == model.entries:
                break
        else:
            raise AssertionError(
                f"found {_shape(found, entries)}, not {_shape_of(self.before)} "
                f"or {_shape_of(self.after)}"
            )
        votes = {(m.term, m.vote) for m in (self.before, self.after)}
        assert (hard_state.term, hard_state.vote) in votes
        assert model.commit_least <= hard_state.commit <= self.after.commit
        assert conf_state == model.manifest.conf_state
        self.before = self.after = replace(
            model,
            term=hard_state.term,
            vote=hard_state.vote,
            commit=hard_state.commit,
            commit_least=hard_state.commit,
        )


def _shape(start: Manifest, entries: tuple[Entry, ...]) -> str:
    return f"{start.index}/{start.term} " + " ".join(f"{e.index}/{e.term}" for e in entries)


def _shape_of(model: Expected) -> str:
    return _shape(model.manifest, model.entries)


def read_all(storage: RaftStorage) -> tuple[Entry, ...]:
    """Return every entry the log holds, and check ``term`` against them."""
    first, last = storage.first_index(), storage.last_index()
    entries = tuple(storage.entries(first, last + 1, NO_LIMIT)) if last >= first else ()
    assert [entry.index for entry in entries] == list(range(first, last + 1))
    assert all(storage.term(entry.index) == entry.term for entry in entries)
    return entries


def payload(random: Random) -> bytes:
    """Return data of a length that matters: empty, small, long runs of zeros, beyond a segment."""
    length = random.choice((0, 1, 7, 8, 100, 300, 700, 1500, 5000))
    kind = random.randrange(3)
    if kind == 0:
        return bytes(length)
    if kind == 1:
        return bytes([random.randrange(256)]) * length
    return random.randbytes(length)


def random_step(log: DrivenLog, random: Random) -> None:
    """Do one random operation that a correct node could do."""
    model = log.before
    choice = random.randrange(12)
    if choice < 5:
        term = max(model.term, 1)
        payloads = [payload(random) for _ in range(random.randrange(1, 4))]
        log.append(model.last + 1, term, payloads)
    elif choice == 5 and model.last > model.commit:
        index = random.randrange(model.commit + 1, model.last + 1)
        log.append(index, model.term + 1, [payload(random)], vote=random.randrange(0, 4))
    elif choice == 6 and model.last > model.commit:
        log.commit(random.randrange(model.commit + 1, model.last + 1))
    elif choice == 7:
        log.vote(model.term + 1, random.randrange(0, 4))
    elif choice == 8 and model.commit > model.manifest.index:
        log.compact(random.randrange(model.manifest.index + 1, model.commit + 1))
    elif choice == 9 and random.random() < 0.3:
        index, term = model.commit + random.randrange(1, 30), max(model.term, 1)
        if index > model.last or model.entry_term(index) != term:  # else Raft keeps its log
            log.install(index, term)
    elif choice == 10:
        log.prepare()
    elif random.random() < 0.2:
        log.close_and_reopen()
    else:
        log.store_commit()
