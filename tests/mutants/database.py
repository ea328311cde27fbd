"""Breakages of the virtual WAL and of one database on top of it."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="injection-without-the-write-lock",
        file="vfs/inject.py",
        old="from dqlite_py.vfs.wal_index import WRITE_LOCK, WalIndex\n",
        new="from dqlite_py.vfs.wal_index import WalIndex\n\nWRITE_LOCK = 2\n",
        slip="the number of another lock is taken (recovery's)",
        breaks="injection holds WAL_WRITE_LOCK",
        chosen_from="design",
        likely=(
            "vfs/test_vfs_wal.py::test_a_local_write_transaction_excludes_injection_and_rollback",
        ),
    ),
    Mutant(
        name="connections-survive-a-rollback",
        file="db/database.py",
        old="        was_open = self._opened is not None\n"
        "        if self._opened is not None:\n"
        "            self._opened.close()\n"
        "            self._opened = None\n"
        "        rollback(",
        new="        was_open = False\n        rollback(",
        slip="SQLite notices a changed database by itself",
        breaks="a schema cookie comes again with another schema",
        chosen_from="design",
        likely=(
            "db/test_db_lost_schema.py::test_a_column_that_was_taken_back_is_not_found_under_the_same_schema_cookie",
        ),
    ),
    Mutant(
        name="header-comes-again",
        file="vfs/wal_index.py",
        old="        change = (words[_CHANGE] + 1) & _MASK\n",
        new="        change = (max_frame + 1) & _MASK\n",
        slip="the number of frames already says which state it is",
        breaks="iChange never repeats in a node's life",
        chosen_from="design",
        likely=("db/test_db_rollback.py::test_no_header_ever_comes_again",),
    ),
    Mutant(
        name="rollback-keeps-the-backfill-count",
        file="vfs/wal_index.py",
        old="            words[_BACKFILL] = 0\n            words[_BACKFILL_ATTEMPTED] = 0\n"
        "            if max_frame:\n",
        new="            if max_frame:\n",
        slip="what was copied stays copied",
        breaks="a pinned checkpoint skips pages whose newest frame is then taken back",
        chosen_from="design",
        likely=("vfs/test_vfs_leftovers.py::test_a_pinned_checkpoint_of_speculation_is_survived",),
    ),
    Mutant(
        name="checkpoint-on-close",
        file="db/connections.py",
        old="    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)\n",
        new="",
        slip="one of eight settings is left out",
        breaks="closing never writes frames into the file",
        chosen_from="design",
        likely=("db/test_db_connections.py::test_every_connection_is_configured",),
    ),
    Mutant(
        name="frames-counted-by-the-list",
        file="db/database.py",
        old="        end = self._index.max_frame\n        if end == first:\n",
        new="        end = len(self._wal.images)\n        if end == first:\n",
        slip="the list of frames is the log, so its length seems to be the end",
        breaks="frame writes are not append-only; mxFrame says what is committed",
        chosen_from="design",
        likely=("db/test_db_chaos.py::test_members_stay_equal_through_chaos",),
    ),
    Mutant(
        name="wal-restarts-before-it-is-copied",
        file="vfs/wal_index.py",
        old="        if frames == 0 or words[_BACKFILL] != frames:\n",
        new="        if frames == 0 or not words[_BACKFILL]:\n",
        slip="a checkpoint has run, so the WAL seems free",
        breaks="the WAL restarts only when every frame is in the file",
        chosen_from="design",
        likely=("db/test_db_restart.py::test_a_wal_of_which_only_a_part_is_in_the_file_goes_on",),
    ),
    Mutant(
        name="wal-restarts-under-a-reader",
        file="vfs/wal_index.py",
        old="        if not self.try_lock(FIRST_READ_LOCK, READ_LOCKS):\n            return False\n"
        "        try:\n            words[_SALT]",
        new="        if not self.try_lock(FIRST_READ_LOCK, 1):\n            return False\n"
        "        self.unlock(FIRST_READ_LOCK, 1)\n"
        "        self.try_lock(FIRST_READ_LOCK, READ_LOCKS)\n"
        "        try:\n            words[_SALT]",
        slip="only the first read mark is asked",
        breaks="frames are not taken away under a reader",
        chosen_from="design",
        likely=("db/test_db_restart.py::test_a_reader_that_began_late_holds_the_wal_as_well",),
    ),
    Mutant(
        name="checkpoint-of-speculation",
        file="db/database.py",
        old="        if self.speculative:\n"
        '            raise InvariantBroken(detail="checkpoint with',
        new='        if False:\n            raise InvariantBroken(detail="checkpoint with',
        slip="the caller is trusted to have waited",
        breaks="only committed frames reach the file",
        chosen_from="design",
        likely=("db/test_db_checkpoint.py::test_speculation_is_never_checkpointed",),
    ),
    Mutant(
        name="pinned-checkpoint-counts-as-complete",
        file="db/checkpoint.py",
        old="            complete = frames == limit == copied\n",
        new="            complete = frames == limit\n",
        slip="SQLite reported no error",
        breaks="the log is trimmed only after busy == 0 and log == ckpt",
        chosen_from="design",
        likely=(
            "db/test_db_checkpoint.py::test_the_limit_callback_comes_even_if_nothing_can_be_copied",
        ),
    ),
    Mutant(
        name="file-not-synced-after-a-racing-checkpoint",
        file="db/checkpoint.py",
        old="                self._file.xSync(apsw.SQLITE_SYNC_NORMAL)\n",
        new="                pass\n",
        slip="SQLite syncs the file by itself",
        breaks="rule 3: database fsync before the base file",
        chosen_from="design",
        likely=(
            "db/test_db_checkpoint.py::test_the_file_is_synced_even_if_frames_arrive_meanwhile",
        ),
    ),
    Mutant(
        name="files-never-synced",
        file="db/connections.py",
        old='("synchronous", 1),',
        new='("synchronous", 0),',
        slip="the Raft log is durable, so SQLite need not sync",
        breaks="rule 3: database fsync before the base file; rule 7: the limit's signal",
        chosen_from="design",
        likely=(
            "db/test_db_checkpoint.py::test_the_limit_is_fixed_before_the_first_page_is_written",
        ),
    ),
    Mutant(
        name="pages-written-before-the-commit-index",
        file="db/checkpoint.py",
        old="            self._wal.on_sync = limit_fixed\n",
        new="            self._wal.on_sync = None\n",
        slip="told at the end, it is told all the same",
        breaks="rules 2 and 7: the limit is announced before the first page write",
        chosen_from="design",
        likely=(
            "db/test_db_checkpoint.py::test_the_limit_is_fixed_before_the_first_page_is_written",
        ),
    ),
    Mutant(
        name="snapshot-number-sampled-too-early",
        file="db/readers.py",
        old='                connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()\n'
        "                first_step()\n",
        new="                first_step()\n"
        '                connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()\n',
        slip="BEGIN is taken to fix the snapshot",
        breaks="rule 4: a gated read samples after its first step",
        chosen_from="design",
        likely=("db/test_db_readers.py::test_a_snapshot_is_fixed_before_the_first_step",),
    ),
    Mutant(
        name="injection-on-top-of-speculation",
        file="db/database.py",
        old='        if self.speculative:\n            raise InvariantBroken(detail="pages arrive',
        new='        if False:\n            raise InvariantBroken(detail="pages arrive',
        slip="the caller is trusted to have rolled back",
        breaks="rule 1: a page image is valid only on its exact log prefix",
        chosen_from="design",
        likely=("db/test_db_rollback.py::test_pages_are_injected_only_without_speculation",),
    ),
    Mutant(
        name="counters-stay-when-a-request-is-undone",
        file="db/batch.py",
        old='                execute("ROLLBACK TO request")\n                restore(before)\n',
        new='                execute("ROLLBACK TO request")\n',
        slip="SQLite's state is back, so all seems back",
        breaks="rule 8: revision counters restore with ROLLBACK TO",
        chosen_from="design",
        likely=("db/test_db_batches.py::test_a_refused_job_is_undone_alone",),
    ),
    Mutant(
        name="counters-stay-when-a-batch-is-rerun",
        file="db/batch.py",
        old="                    self._undo(before)\n                    restore(start)\n",
        new="                    self._undo(before)\n",
        slip="the rerun sets them anyway",
        breaks="rule 8: a batch that is run again starts from the same counters",
        chosen_from="design",
        likely=("db/test_db_batches.py::test_a_job_that_ends_the_transaction_costs_only_itself",),
    ),
    Mutant(
        name="ended-transaction-continued",
        file="db/batch.py",
        old="            raise _TransactionEnded(number, result)\n",
        new='            connection.execute("BEGIN")\n'
        '            connection.execute("SAVEPOINT request")\n            return result\n',
        slip="a new transaction is begun for those that follow",
        breaks="rule 8: what ended the transaction took the earlier requests' effects along",
        chosen_from="design",
        likely=("db/test_db_batches.py::test_a_job_that_ends_the_transaction_costs_only_itself",),
    ),
    Mutant(
        name="entry-limit-not-enforced",
        file="db/batch.py",
        old="        while True:\n"
        "            self._wal.frame_limit = self._index.max_frame + max_frames\n",
        new="        while True:\n            self._wal.frame_limit = NO_LIMIT\n",
        slip="the request's size was checked already",
        breaks="rule 8: a transaction beyond the entry limit is refused before COMMIT",
        chosen_from="design",
        likely=(
            "db/test_db_batches.py::test_a_request_above_the_entry_limit_is_refused_before_commit",
        ),
    ),
    Mutant(
        name="leftover-index-entries-stay",
        file="vfs/wal_index.py",
        old="            elif pages[position]:\n                self._cleanup(region, position)\n",
        new="",
        slip="entries behind the end seem harmless",
        breaks="entries of aborted commits never count",
        chosen_from="code",
        likely=("vfs/test_vfs_leftovers.py::test_index_entries_never_published_are_replaced",),
    ),
    Mutant(
        name="first-region-one-frame-shorter",
        file="vfs/wal_index.py",
        old="    if frame <= FIRST_REGION_FRAMES:\n",
        new="    if frame < FIRST_REGION_FRAMES:\n",
        slip="off by one at the first region's end",
        breaks="the wal-index is the one SQLite would write, past one region too",
        chosen_from="code",
        likely=("vfs/test_vfs_bounds.py::test_frames_at_the_ends_of_regions_are_found",),
    ),
    Mutant(
        name="first-image-of-a-page-is-shipped",
        file="vfs/capture.py",
        old="strict=True))\n",
        new="strict=True))\n"
        "    pages = {**pages, **dict(reversed([*zip(wal.numbers[first:max_frame],"
        " wal.images[first:max_frame], strict=True)]))}\n",
        slip="a page is taken once, and the first time it is met",
        breaks="of a page that was spilled and written again the last image counts",
        chosen_from="code",
        likely=("db/test_db_replication.py::test_random_workload_gives_equal_bytes",),
    ),
    Mutant(
        name="size-flag-of-an-overwritten-frame-stays",
        file="vfs/wal.py",
        old="                self.commit_sizes[frame] = commit_size\n",
        new="                self.commit_sizes[frame] = commit_size or self.commit_sizes[frame]\n",
        slip="a commit is taken to stay one",
        breaks="frames are overwritten, and with them whether they commit",
        chosen_from="code",
        likely=("vfs/test_vfs_bounds.py::test_an_overwritten_frame_does_not_stay_a_commit",),
    ),
    Mutant(
        name="frames-of-a-restarted-wal-sought-at-the-old-place",
        file="db/database.py",
        old="                first = 0\n                self._committed = Position(",
        new="                self._committed = Position(",
        slip="the position before the batch is still at hand",
        breaks="SQLite restarts the WAL by itself, and capture begins at 0 then",
        chosen_from="code",
        likely=("db/test_db_checkpoint.py::test_a_reader_on_frames_delays_the_restart_only",),
    ),
    Mutant(
        name="deferred-keys-wait-for-the-commit",
        file="db/batch.py",
        old="if connection.status(_DEFERRED_KEYS)[0] and not isinstance(result, DqliteError):\n",
        new="if connection.status(_DEFERRED_KEYS)[0] < 0:\n",
        slip="SQLite checks them anyway",
        breaks="rule 8: a failure at COMMIT has no culprit, so keys are due with each request",
        chosen_from="code",
        likely=(
            "db/test_db_batches.py::test_deferred_foreign_keys_are_due_at_the_end_of_each_job",
        ),
    ),
    Mutant(
        name="rollback-does-not-wait-for-readers",
        file="db/readers.py",
        old="        if len(taken) != len(self._all) or self._interrupting:\n",
        new="        if self._interrupting:\n",
        slip="they were interrupted, so they are gone",
        breaks="rollback waits until nobody reads",
        chosen_from="code",
        likely=("db/test_db_rollback.py::test_a_rollback_interrupts_readers_and_waits_for_them",),
    ),
)
