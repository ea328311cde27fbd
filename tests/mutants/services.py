"""Breakages of what rests on the replica: keys, leases, watches."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="compaction-deletes-the-newest-kept-row",
        file="kv/compaction.py",
        old="    rows = list(session.execute(query, (cursor, schema.bound(target), STEP_ROWS)))\n",
        new="    rows = list(session.execute(query, (cursor, schema.bound(target + 1),"
        " STEP_ROWS)))\n",
        slip="off by one",
        breaks="rule 4: rows are deleted only below the committed compact revision",
        chosen_from="design",
        likely=(
            "kv/test_kv_compaction.py::test_each_keys_newest_row_is_kept_and_a_tombstone_only_at_the_revision_itself",
        ),
    ),
    Mutant(
        name="compaction-runs-on-speculation",
        file="kv/machine.py",
        old="        if request.revision > self.compact_revision:  # the committed one,"
        " not the writer's\n",
        new="        if request.revision > self._compact_revision:\n",
        slip="the writer looks at its own counter",
        breaks="rule 4: rows are deleted only below a committed compact revision",
        chosen_from="design",
        likely=(
            "kv/test_kv_visibility.py::test_rows_are_not_deleted_under_a_speculative_compact_revision",
        ),
    ),
    Mutant(
        name="reads-see-speculation",
        file="kv/committed.py",
        old="        return query(View(session, schema.bound(revision), revision,"
        " compact_revision))\n",
        new="        return query(View(session, schema.EVERYTHING, revision, compact_revision))\n",
        slip="the snapshot is taken to be the state",
        breaks="rule 4: reads select at the last committed revision",
        chosen_from="design",
        likely=("kv/test_kv_visibility.py::test_speculation_is_invisible_until_applied",),
    ),
    Mutant(
        name="new-leader-grants-no-grace",
        file="lease/lessor.py",
        old="            deadline_s = now_s + ttl_s + self._grace_s\n",
        new="            deadline_s = now_s + ttl_s\n",
        slip="full TTL seems generous enough",
        breaks="rule 9: a new leader grants full TTL plus an election timeout",
        chosen_from="design",
        likely=("lease/test_lessor.py::test_promotion_gives_full_ttl_and_grace",),
    ),
    Mutant(
        name="expired-lease-renewed-while-revoked",
        file="lease/lessor.py",
        old="        if found.queued or now_s >= found.deadline_s:\n",
        new="        if now_s >= found.deadline_s + self._grace_s:\n",
        slip="a little late is not late",
        breaks="rule 9: once a revoke is queued, keepalives answer 0",
        chosen_from="design",
        likely=(
            "lease/test_lease_service.py::test_once_expired_a_keepalive_waits_for_the_revoke_and_gets_zero",
        ),
    ),
    Mutant(
        name="slow-watcher-skips-a-revision",
        file="watch/hub.py",
        old="            self._leave_behind(watcher, revision)\n            return\n"
        "        self.events_total",
        new="            return\n        self.events_total",
        slip="a full queue drops what does not fit",
        breaks="decision 6: a slow watcher catches up from the database and misses nothing",
        chosen_from="design",
        likely=("watch/test_watch_random.py::test_every_watcher_receives_what_the_model_says",),
    ),
)
