"""Breakages of what is kept on disk."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="log-not-synced",
        file="storage/log_writer.py",
        old="file.pwrite(data, self._end)\n            segment.file.fdatasync()\n",
        new="file.pwrite(data, self._end)\n",
        slip="pwrite returned, so the data seem to be there",
        breaks="what was acknowledged survives a power cut",
        chosen_from="design",
        likely=(
            "storage/test_storage_crash.py::test_a_power_cut_at_every_operation_keeps_what_was_acknowledged",
        ),
    ),
    Mutant(
        name="new-segment-not-synced",
        file="storage/log_writer.py",
        old="            spare.file.fdatasync()\n            self._disk.rename(spare.path, path)\n",
        new="            self._disk.rename(spare.path, path)\n",
        slip="the directory's sync is taken to cover the file",
        breaks="a named segment is never without a valid first batch",
        chosen_from="design",
        likely=(
            "storage/test_storage_crash.py::test_a_power_cut_at_every_operation_keeps_what_was_acknowledged",
        ),
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
        likely=(
            "storage/test_storage_crash.py::test_a_power_cut_at_every_operation_keeps_what_was_acknowledged",
        ),
    ),
    Mutant(
        name="hard-state-waits-for-entries",
        file="storage/log_writer.py",
        old="        if not entries and not any(batch.must_sync for batch in batches):\n",
        new="        if not entries:\n",
        slip="a hard state alone seems not worth a write",
        breaks="term and vote are durable before they are answered",
        chosen_from="design",
        likely=(
            "storage/test_storage_crash.py::test_a_power_cut_at_every_operation_keeps_what_was_acknowledged",
        ),
    ),
    Mutant(
        name="vote-lost-when-a-snapshot-restarts-the-log",
        file="storage/log_writer.py",
        old="HardState(current.term, current.vote, max(current.commit, index))",
        new="HardState(current.term, 0, max(current.commit, index))",
        slip="a fresh log starts with a fresh hard state",
        breaks="one vote a term, across an installed snapshot too",
        chosen_from="design",
        likely=(
            "storage/test_storage_crash.py::test_a_power_cut_at_every_operation_keeps_what_was_acknowledged",
        ),
    ),
    Mutant(
        name="segment-dropped-one-entry-early",
        file="storage/log_writer.py",
        old="self._segments[0].max_index <= index:",
        new="self._segments[0].max_index <= index + 1:",
        slip="off by one at the log's start",
        breaks="only what the manifest covers is removed",
        chosen_from="design",
        likely=(
            "storage/test_storage_crash.py::test_random_operations_with_random_power_cuts_match_the_model",
        ),
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
        likely=(
            "storage/test_storage_log.py::test_after_a_failed_sync_nothing_is_written_any_more",
        ),
    ),
    Mutant(
        name="every-damaged-tail-is-a-torn-one",
        file="storage/recovery.py",
        old="            judge_tail(path, data, seed_of(header.sequence), at, used)\n",
        new="",
        slip="what does not validate at the end of the log is cut off",
        breaks="rule 12: damage to what was durable refuses to start",
        chosen_from="design",
        likely=(
            "storage/test_storage_damage.py::test_any_flipped_byte_of_the_log_is_refused_or_harmless",
        ),
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
        likely=(
            "storage/test_storage_crash.py::test_what_a_torn_batch_left_never_mixes_with_the_next_one",
        ),
    ),
    Mutant(
        name="shorter-log-than-commit-accepted",
        file="storage/raft_storage.py",
        old="    if commit > index.last:\n",
        new="    if commit > index.last and index.last == index.start:\n",
        slip="a log that has entries looks whole",
        breaks="rule 12: nothing committed goes missing silently",
        chosen_from="design",
        likely=(
            "storage/test_storage_damage.py::test_a_log_that_ends_before_its_commit_index_is_refused",
        ),
    ),
    Mutant(
        name="stored-entries-count-as-committed",
        file="storage/raft_storage.py",
        old="HardState(found.term, found.vote, max(found.commit, manifest.index))",
        new="HardState(found.term, found.vote, max(self._index.last, manifest.index))",
        slip="what is on disk was acknowledged, so it looks committed",
        breaks="rule 2: replay goes up to the durable commit index, no further",
        chosen_from="design",
        likely=(
            "storage/test_os_disk.py::test_a_process_killed_without_close_loses_nothing_written",
        ),
    ),
    Mutant(
        name="replaced-file-not-synced",
        file="seams.py",
        old="        file.pwrite(data, 0)\n        file.fdatasync()\n",
        new="        file.pwrite(data, 0)\n",
        slip="rename is atomic, so the content seems safe",
        breaks="manifest, base index and identity hold the old or the new content after a crash",
        chosen_from="design",
        likely=(
            "storage/test_storage_crash.py::test_a_power_cut_at_every_operation_keeps_what_was_acknowledged",
        ),
    ),
    Mutant(
        name="replaced-file-name-not-synced",
        file="seams.py",
        old='    disk.rename(temporary, path)\n    disk.sync_dir(path.rpartition("/")[0] or ".")\n',
        new="    disk.rename(temporary, path)\n",
        slip="the file is synced; that its name is not is easily forgotten",
        breaks="manifest, base index and identity are durable before the log is trimmed",
        chosen_from="design",
        likely=(
            "storage/test_storage_crash.py::test_a_power_cut_at_every_operation_keeps_what_was_acknowledged",
        ),
    ),
    Mutant(
        name="newer-format-read-anyway",
        file="storage/sealed.py",
        old="    if found > version:\n",
        new="    if found > version + 1:\n",
        slip="the next version will surely be compatible",
        breaks="rule 12: a newer format is refused, unchanged",
        chosen_from="design",
        likely=(
            "storage/test_storage_datadir.py::test_a_sealed_file_of_the_very_next_version_is_refused",
        ),
    ),
    Mutant(
        name="second-vote-in-a-term-stored",
        file="storage/log_writer.py",
        old="    if new.term == current.term and current.vote not in (0, new.vote):\n",
        new="    if new.term == current.term and current.vote > new.vote:\n",
        slip="the storage leaves it to the core",
        breaks="one vote a term: the log refuses to contradict itself",
        chosen_from="code",
        likely=("storage/test_storage_log.py::test_term_vote_and_commit_never_go_back",),
    ),
    Mutant(
        name="entry-at-the-commit-index-replaced",
        file="storage/log_writer.py",
        old="            if not commit < entry.index <= last + 1:\n",
        new="            if not commit <= entry.index <= last + 1:\n",
        slip="off by one",
        breaks="nothing at or below the commit index is ever replaced",
        chosen_from="code",
        likely=("storage/test_storage_log.py::test_entries_that_would_break_the_log_are_refused",),
    ),
    Mutant(
        name="log-of-another-term-kept-behind-a-snapshot",
        file="storage/raft_storage.py",
        old="if manifest.index <= index.last and index.term(manifest.index) == manifest.term:\n",
        new="if manifest.index <= index.last:\n",
        slip="a log that reaches far enough looks right",
        breaks="rule 6: a log that contradicts the installed snapshot is begun anew",
        chosen_from="code",
        likely=(
            "storage/test_storage_crash.py::test_random_operations_with_random_power_cuts_match_the_model",
        ),
    ),
    Mutant(
        name="directory-not-synced-after-compaction",
        file="storage/log_writer.py",
        old="                self._disk.unlink(oldest.path)\n"
        "                self._disk.sync_dir(self._directory)\n",
        new="                self._disk.unlink(oldest.path)\n",
        slip="what is deleted need not be durable",
        breaks="segments go oldest first, so that a crash leaves no hole",
        chosen_from="code",
        likely=(
            "storage/test_storage_crash.py::test_random_operations_with_random_power_cuts_match_the_model",
        ),
    ),
)
