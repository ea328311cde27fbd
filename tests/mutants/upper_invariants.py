"""The invariants of ``vfs``, ``db`` and ``node``; see ``invariants``."""

from __future__ import annotations

from typing import Final

from tests.mutants.invariants import Invariant, rows_of

VFS: Final = rows_of(
    "vfs",
    (
        "Injection and rollback hold WAL_WRITE_LOCK, never a SQL transaction",
        (
            "wal::a_local_write_transaction_excludes_injection_and_rollback"
            " leftovers::the_write_lock_is_released_after_a_refusal"
        ),
        "injection-without-the-write-lock",
    ),
    (
        "No index header ever comes again (page caches live on equal headers)",
        "db/rollback::no_header_ever_comes_again",
        "header-comes-again",
    ),
    (
        "Frame writes are not append-only; only the index says what is committed",
        "wal::frames_may_be_overwritten leftovers::leftovers_of_an_aborted_spill_never_count",
        "frames-counted-by-the-list size-flag-of-an-overwritten-frame-stays",
    ),
    (
        "A captured batch is exactly one commit, each page once, the last image",
        "wal::a_capture_is_exactly_one_commit db/replication::random_workload_gives_equal_bytes",
        "first-image-of-a-page-is-shipped",
    ),
    (
        "Entries never published are cleaned away",
        (
            "leftovers::index_entries_never_published_are_replaced"
            " leftovers::frames_never_published_are_dropped_by_an_injection"
        ),
        "leftover-index-entries-stay",
    ),
    (
        "Rollback forgets what was backfilled",
        "leftovers::a_pinned_checkpoint_of_speculation_is_survived",
        "rollback-keeps-the-backfill-count",
    ),
    (
        "The WAL restarts only when wholly copied and free of readers",
        "db/restart db/checkpoint::a_reader_on_frames_delays_the_restart_only",
        "wal-restarts-before-it-is-copied wal-restarts-under-a-reader",
    ),
    (
        "Index in the heap; no -wal, -shm or journal beside the file",
        "wal::the_index_lives_in_the_heap db/checkpoint::what_another_program_left_is_refused",
        "",
    ),
    (
        "The file is never opened but through SQLite",
        "leftovers::no_source_does_what_would_undermine_the_locks",
        "",
    ),
    (
        "Header and entries are the ones SQLite would write, past one region too",
        (
            "wal::our_header_is_the_one_that_sqlite_would_write"
            " wal::our_index_entries_are_the_ones_that_sqlite_would_make"
            " db/replication::the_wal_index_grows_past_two_regions"
        ),
        "first-region-one-frame-shorter",
    ),
    (
        "Recovery from the frames is right, and never happens",
        "wal::sqlite_can_rebuild_the_index_from_the_frames",
        "",
    ),
    (
        "All members start from equal bytes",
        "frames::genesis_never_changes",
        "",
    ),
)

DB: Final = rows_of(
    "db",
    (
        "No SQL before the replay is done",
        "batches::no_sql_runs_before_the_replay_is_done",
        "sql-before-replay-is-done",
    ),
    (
        "After replay no page is missing from file and WAL; signature and page size are right",
        "damage",
        "",
    ),
    (
        "Injection only without speculation",
        "rollback::pages_are_injected_only_without_speculation",
        "injection-on-top-of-speculation",
    ),
    (
        "After a rollback every connection is new; nobody looks meanwhile",
        (
            "lost_schema"
            " rollback::a_rollback_interrupts_readers_and_waits_for_them"
            " rollback::a_reader_that_can_not_be_interrupted_blocks_the_rollback"
        ),
        "connections-survive-a-rollback rollback-does-not-wait-for-readers",
    ),
    (
        "Only committed frames are checkpointed",
        "checkpoint::speculation_is_never_checkpointed",
        "checkpoint-of-speculation",
    ),
    (
        "Nothing reaches the file before `on_limit_fixed` returned; complete means synced",
        (
            "checkpoint::the_limit_is_fixed_before_the_first_page_is_written"
            " checkpoint::the_file_is_synced_even_if_frames_arrive_meanwhile"
            " checkpoint::an_error_when_the_limit_is_fixed_leaves_the_file_alone"
        ),
        (
            "pages-written-before-the-commit-index file-not-synced-after-a-racing-checkpoint"
            " files-never-synced pinned-checkpoint-counts-as-complete"
        ),
    ),
    (
        "`on_limit_fixed` is called once, whatever happens",
        "checkpoint::the_limit_callback_comes_even_if_nothing_can_be_copied",
        "",
    ),
    ("A torn checkpoint is healed by replay from the base", "chaos", ""),
    (
        "A batch without effect has no pages; a rerun starts from the same counters",
        (
            "batches::a_batch_without_changes_has_no_pages batches::a_refused_job_is_undone_alone"
            " batches::a_job_that_ends_the_transaction_costs_only_itself"
        ),
        (
            "counters-stay-when-a-request-is-undone counters-stay-when-a-batch-is-rerun"
            " ended-transaction-continued"
        ),
    ),
    (
        "Settings of every connection",
        "connections::every_connection_is_configured",
        "checkpoint-on-close",
    ),
    (
        "Members are byte-equal after any history",
        "replication::random_workload_gives_equal_bytes chaos",
        "",
    ),
)

NODE: Final = rows_of(
    "node",
    (
        "1. A batch executes only on a base that contains every earlier frame entry",
        (
            "rules_leading::a_leader_executes_nothing_before_its_own_no_op_is_applied"
            " rules_leading::what_an_isolated_leader_executed_is_rolled_back"
            " rules_leading::an_old_leaders_own_entry_is_injected_after_its_rollback"
        ),
        (
            "executes-before-own-no-op-is-applied speculation-not-rolled-back"
            " refused-proposal-left-in-the-wal"
        ),
    ),
    (
        "2. Each frame entry names its term and the previous frame entry of its database",
        (
            "rules_leading::members_stop_rather_than_apply_frames_of_another_prefix"
            " rules_leading::a_proposal_stands_in_the_term_it_was_made_for"
            " mutants::only_the_entry_of_this_very_term_and_index_needs_no_injection"
        ),
        "frames-applied-on-any-prefix proposed-in-whatever-term speculation-known-by-index-alone",
    ),
    (
        "3. An answer leaves when the entry it rests on is committed and applied.",
        (
            "rules_leading::what_an_isolated_leader_executed_is_rolled_back"
            " rules_answers::an_unchanged_write_waits_for_a_round_begun_after_it_arrived"
            " rules_answers::an_unchanged_write_waits_for_the_uncommitted_batch_it_was_executed_on"
            " mutants::a_read_round_alone_does_not_answer_what_rests_on_an_uncommitted_batch"
            " rules_answers::a_gated_read_never_returns_what_is_rolled_back_later"
            " mutants::a_read_waits_for_a_round_begun_after_it_came_and_until_that_is_applied"
        ),
        (
            "answers-before-commit unchanged-request-answered-at-once"
            " unchanged-request-answered-on-speculation gated-read-does-not-wait"
            " rolled-back-read-is-answered batch-numbered-after-its-commit"
            " late-reader-joins-a-round-under-way read-does-not-wait-until-applied"
        ),
    ),
    (
        "4. `NotLeader` is answered only for what was never proposed",
        (
            "rules_leading::what_an_isolated_leader_executed_is_rolled_back"
            " rules_leading::a_write_not_yet_proposed_is_executed_by_the_next_leader_once"
            " rules_members::whether_a_change_happens_is_unknown_when_leadership_is_lost"
        ),
        "lost-proposal-answered-as-refused",
    ),
    (
        "5. Before a checkpoint's first page write: no speculation, and a commit index covering",
        (
            "rules_disk::a_commit_index_covering_its_frames_is_durable_before_a_checkpoint_writes"
            " rules_disk::file_base_and_manifest_are_durable_in_this_order_before_a_segment_goes"
            " rules_disk::the_base_is_that_of_the_checkpoints_beginning"
            " mutants::a_checkpoint_that_is_not_complete_moves_neither_base_nor_log"
        ),
        (
            "checkpoint-before-commit-is-durable base-sampled-after-the-checkpoint"
            " trims-after-an-incomplete-checkpoint segments-dropped-before-the-manifest"
            " checkpoint-without-closing-the-gate starts-with-a-base-beyond-its-log"
        ),
    ),
    (
        "6. SQL runs only when everything up to the durable commit index has been replayed",
        "rules_disk::replay_ends_at_the_durable_commit_index_and_sql_waits_for_it",
        "sql-before-replay-is-done stored-entries-count-as-committed",
    ),
    (
        "7. A snapshot is acknowledged after its manifest is durable",
        (
            "rules_snapshots::a_snapshot_is_acknowledged_only_when_it_is_installed"
            " mutants::a_slow_installation_is_not_acknowledged_ahead"
            " rules_snapshots::a_power_cut_while_installing_leaves_the_old_or_the_new_state"
        ),
        (
            "snapshot-acknowledged-before-the-manifest log-restarted-before-the-manifest"
            " failed-snapshot-acknowledged received-file-not-synced"
            " snapshot-says-newer-frames-than-its-image"
        ),
    ),
    (
        "8. Whatever fails in a way that is not a request's fault ends `Replica.run`",
        (
            "rules_damage::a_failing_disk_stops_the_member_and_the_others_go_on"
            " rules_damage::a_member_refuses_damaged_files_with_one_line_that_names_them"
        ),
        "failed-snapshot-acknowledged",
    ),
    (
        "9. A membership change takes effect once it is durably known to be committed",
        (
            "simulation/findings::of_two_members_the_leader_can_be_removed"
            " simulation/findings::a_removal_that_took_effect_is_known_after_a_crash"
            " simulation/findings::who_is_removed_hears_when_the_leader_has_it_durably"
            " simulation/findings::a_removal_that_was_replaced_holds_nothing_back"
        ),
        (
            "removal-told-before-it-is-durable removal-never-told-again"
            " removals-forgotten-at-a-start replaced-removal-held-back-for-ever"
        ),
    ),
    (
        "10. A batch never keeps a snapshot waiting that its own commitment waits for",
        (
            "rules_snapshots::a_snapshot_is_made_although_a_write_waits_for_its_receiver"
            " rules_snapshots::a_slow_write_is_not_taken_back_while_no_snapshot_is_wanted"
        ),
        "snapshot-waits-for-a-batch-that-waits-for-it slow-batch-taken-back-for-nobody",
    ),
)

UPPER: Final[tuple[Invariant, ...]] = (*VFS, *DB, *NODE)
