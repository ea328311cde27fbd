"""Reports of writes that may have been overtaken."""

from __future__ import annotations

from dqlite_py.raft import Entry
from dqlite_py.raft.unstable import UnstableLog


def test_a_report_counts_only_for_the_entry_it_names() -> None:
    unstable = UnstableLog(5, None)
    unstable.truncate_and_append([Entry(2, 5), Entry(2, 6)])
    unstable.accept_in_progress()
    unstable.truncate_and_append([Entry(3, 5)])
    unstable.accept_in_progress()
    unstable.stable_to(6, 2)
    unstable.stable_to(5, 2)
    assert unstable.entries == [Entry(3, 5)]
    unstable.stable_to(5, 3)
    assert unstable.entries == []
    assert unstable.offset == 6
