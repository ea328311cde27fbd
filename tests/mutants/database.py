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
        breaks="trap T1, invariant 1: injection holds WAL_WRITE_LOCK",
        chosen_from="design",
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
        breaks="trap T2, invariant 3: a schema cookie comes again with another schema",
        chosen_from="design",
    ),
    Mutant(
        name="header-comes-again",
        file="vfs/wal_index.py",
        old="        change = (words[_CHANGE] + 1) & _MASK\n",
        new="        change = (max_frame + 1) & _MASK\n",
        slip="the number of frames already says which state it is",
        breaks="trap T3, invariant 2: iChange never repeats in a node's life",
        chosen_from="design",
    ),
    Mutant(
        name="rollback-keeps-the-backfill-count",
        file="vfs/wal_index.py",
        old="            words[_BACKFILL] = 0\n            words[_BACKFILL_ATTEMPTED] = 0\n"
        "            if max_frame:\n",
        new="            if max_frame:\n",
        slip="what was copied stays copied",
        breaks="trap T6: a pinned checkpoint skips pages whose newest frame is then taken back",
        chosen_from="design",
    ),
    Mutant(
        name="checkpoint-on-close",
        file="db/connections.py",
        old="    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)\n",
        new="",
        slip="one of eight settings is left out",
        breaks="trap T7, invariant 8: closing never writes frames into the file",
        chosen_from="design",
    ),
    Mutant(
        name="frames-counted-by-the-list",
        file="db/database.py",
        old="        end = self._index.max_frame\n        if end == first:\n",
        new="        end = len(self._wal.images)\n        if end == first:\n",
        slip="the list of frames is the log, so its length seems to be the end",
        breaks="invariant 6: frame writes are not append-only; mxFrame says what is committed",
        chosen_from="design",
    ),
    Mutant(
        name="wal-restarts-before-it-is-copied",
        file="vfs/wal_index.py",
        old="        if frames == 0 or words[_BACKFILL] != frames:\n",
        new="        if frames == 0 or not words[_BACKFILL]:\n",
        slip="a checkpoint has run, so the WAL seems free",
        breaks="the WAL restarts only when every frame is in the file",
        chosen_from="design",
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
        breaks="trap T8: frames are not taken away under a reader",
        chosen_from="design",
    ),
    Mutant(
        name="checkpoint-of-speculation",
        file="db/database.py",
        old="        if self.speculative:\n"
        '            raise InvariantBroken(detail="checkpoint with',
        new='        if False:\n            raise InvariantBroken(detail="checkpoint with',
        slip="the caller is trusted to have waited",
        breaks="invariant 4: only committed frames reach the file",
        chosen_from="design",
    ),
    Mutant(
        name="pinned-checkpoint-counts-as-complete",
        file="db/checkpoint.py",
        old="            complete = frames == limit == copied\n",
        new="            complete = frames == limit\n",
        slip="SQLite reported no error",
        breaks="invariant 4: the log is trimmed only after busy == 0 and log == ckpt",
        chosen_from="design",
    ),
    Mutant(
        name="file-not-synced-after-a-racing-checkpoint",
        file="db/checkpoint.py",
        old="                self._file.xSync(apsw.SQLITE_SYNC_NORMAL)\n",
        new="                pass\n",
        slip="SQLite syncs the file by itself",
        breaks="rule 3: database fsync before the base file",
        chosen_from="design",
    ),
    Mutant(
        name="files-never-synced",
        file="db/connections.py",
        old='("synchronous", 1),',
        new='("synchronous", 0),',
        slip="the Raft log is durable, so SQLite need not sync",
        breaks="rule 3: database fsync before the base file; rule 7: the limit's signal",
        chosen_from="design",
    ),
    Mutant(
        name="pages-written-before-the-commit-index",
        file="db/checkpoint.py",
        old="            self._wal.on_sync = limit_fixed\n",
        new="            self._wal.on_sync = None\n",
        slip="told at the end, it is told all the same",
        breaks="rules 2 and 7: the limit is announced before the first page write",
        chosen_from="design",
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
    ),
    Mutant(
        name="injection-on-top-of-speculation",
        file="db/database.py",
        old='        if self.speculative:\n            raise InvariantBroken(detail="pages arrive',
        new='        if False:\n            raise InvariantBroken(detail="pages arrive',
        slip="the caller is trusted to have rolled back",
        breaks="rule 1: a page image is valid only on its exact log prefix",
        chosen_from="design",
    ),
    Mutant(
        name="counters-stay-when-a-request-is-undone",
        file="db/batch.py",
        old='                execute("ROLLBACK TO request")\n                restore(before)\n',
        new='                execute("ROLLBACK TO request")\n',
        slip="SQLite's state is back, so all seems back",
        breaks="rule 8: revision counters restore with ROLLBACK TO",
        chosen_from="design",
    ),
    Mutant(
        name="counters-stay-when-a-batch-is-rerun",
        file="db/batch.py",
        old="                    self._undo(before)\n                    restore(start)\n",
        new="                    self._undo(before)\n",
        slip="the rerun sets them anyway",
        breaks="rule 8: a batch that is run again starts from the same counters",
        chosen_from="design",
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
    ),
)
