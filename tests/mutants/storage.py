"""Breakages of what is kept on disk."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="log-not-synced",
        file="storage/log_writer.py",
        old="            segment.file.pwrite(data, self._end)\n            segment.file.fdatasync()\n",
        new="            segment.file.pwrite(data, self._end)\n",
        slip="pwrite returned, so the data seem to be there",
        breaks="what was acknowledged survives a power cut",
        chosen_from="design",
    ),
    Mutant(
        name="new-segment-not-synced",
        file="storage/log_writer.py",
        old="            spare.file.fdatasync()\n            self._disk.rename(spare.path, path)\n",
        new="            self._disk.rename(spare.path, path)\n",
        slip="the directory's sync is taken to cover the file",
        breaks="a named segment is never without a valid first batch",
        chosen_from="design",
    ),
    Mutant(
        name="segment-name-not-synced",
        file="storage/log_writer.py",
        old="            self._disk.rename(spare.path, path)\n"
        "            self._disk.sync_dir(self._directory)\n",
        new="            self._disk.rename(spare.path, path)\n",
        slip="the file is synced; that its name is not is easily forgotten",
        breaks="what was acknowledged survives a power cut (directory fsync)",
        chosen_from="design",
    ),
    Mutant(
        name="hard-state-waits-for-entries",
        file="storage/log_writer.py",
        old="        if not entries and not any(batch.must_sync for batch in batches):\n",
        new="        if not entries:\n",
        slip="a hard state alone seems not worth a write",
        breaks="term and vote are durable before they are answered",
        chosen_from="design",
    ),
    Mutant(
        name="vote-lost-when-a-snapshot-restarts-the-log",
        file="storage/log_writer.py",
        old="        hard_state = HardState(current.term, current.vote, max(current.commit, index))\n",
        new="        hard_state = HardState(current.term, 0, max(current.commit, index))\n",
        slip="a fresh log starts with a fresh hard state",
        breaks="one vote a term, across an installed snapshot too",
        chosen_from="design",
    ),
    Mutant(
        name="segment-dropped-one-entry-early",
        file="storage/log_writer.py",
        old="self._segments[0].max_index <= index:",
        new="self._segments[0].max_index <= index + 1:",
        slip="off by one at the log's start",
        breaks="only what the manifest covers is removed",
        chosen_from="design",
    ),
    Mutant(
        name="write-after-a-failed-sync",
        file="storage/log_writer.py",
        old="            self._failed = DiskFailed(path=path, detail=str(error))\n"
        "            raise self._failed from error\n",
        new="            raise DiskFailed(path=path, detail=str(error)) from error\n",
        slip="the caller may try again",
        breaks="a disk error stops the node: a second sync that succeeds proves nothing",
        chosen_from="design",
    ),
    Mutant(
        name="every-damaged-tail-is-a-torn-one",
        file="storage/recovery.py",
        old="            judge_tail(path, data, seed_of(header.sequence), at, used)\n",
        new="",
        slip="what does not validate at the end of the log is cut off",
        breaks="rule 12: damage to what was durable refuses to start",
        chosen_from="design",
    ),
    Mutant(
        name="torn-tail-erased-without-sync",
        file="storage/recovery.py",
        old="            segment.file.pwrite(bytes(used - at), at)\n"
        "            segment.file.fdatasync()\n",
        new="            segment.file.pwrite(bytes(used - at), at)\n",
        slip="the next batch's sync will do",
        breaks="rule 12: a torn tail never mixes with the batch after it",
        chosen_from="design",
    ),
    Mutant(
        name="shorter-log-than-commit-accepted",
        file="storage/raft_storage.py",
        old="    if commit > index.last:\n",
        new="    if commit > index.last and index.last == index.start:\n",
        slip="a log that has entries looks whole",
        breaks="rule 12: nothing committed goes missing silently",
        chosen_from="design",
    ),
    Mutant(
        name="stored-entries-count-as-committed",
        file="storage/raft_storage.py",
        old="HardState(found.term, found.vote, max(found.commit, manifest.index))",
        new="HardState(found.term, found.vote, max(self._index.last, manifest.index))",
        slip="what is on disk was acknowledged, so it looks committed",
        breaks="rule 2: replay goes up to the durable commit index, no further",
        chosen_from="design",
    ),
    Mutant(
        name="replaced-file-not-synced",
        file="seams.py",
        old="        file.pwrite(data, 0)\n        file.fdatasync()\n",
        new="        file.pwrite(data, 0)\n",
        slip="rename is atomic, so the content seems safe",
        breaks="manifest, base index and identity hold the old or the new content after a crash",
        chosen_from="design",
    ),
    Mutant(
        name="replaced-file-name-not-synced",
        file="seams.py",
        old='    disk.rename(temporary, path)\n    disk.sync_dir(path.rpartition("/")[0] or ".")\n',
        new="    disk.rename(temporary, path)\n",
        slip="the file is synced; that its name is not is easily forgotten",
        breaks="manifest, base index and identity are durable before the log is trimmed",
        chosen_from="design",
    ),
    Mutant(
        name="newer-format-read-anyway",
        file="storage/sealed.py",
        old="    if found > version:\n",
        new="    if found > version + 1:\n",
        slip="the next version will surely be compatible",
        breaks="rule 12: a newer format is refused, unchanged",
        chosen_from="design",
    ),
)
