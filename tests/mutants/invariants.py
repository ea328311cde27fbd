"""Which tests hold which invariant, and which breakages try them: the source of a table in docs/.

``text`` is copied from the DESIGN.md of the package; ``tests`` are functions in the package's test
folder, as ``module::function`` or ``module`` for all of it, without ``test_`` and the package's
name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Invariant:
    """A promise of one package's DESIGN.md."""

    package: str
    text: str
    tests: tuple[str, ...]
    mutants: tuple[str, ...] = ()


def rows_of(package: str, *rows: tuple[str, str, str]) -> tuple[Invariant, ...]:
    return tuple(
        Invariant(package, text, tuple(tests.split()), tuple(mutants.split()))
        for text, tests, mutants in rows
    )


RAFT: Final = rows_of(
    "raft",
    (
        "at most one leader a term; one durable vote a term (D 3.4)",
        (
            "leadership::member_votes_once_a_term_even_across_a_crash"
            " leadership::answer_counts_once_for_each_voter"
            " commit::follower_acknowledges_and_votes_only_when_durable simulation"
        ),
        "vote-forgotten vote-sent-before-it-is-durable",
    ),
    (
        "a candidate's log has everything its voters have (D 3.6.1)",
        "leadership::vote_is_refused_to_a_shorter_or_older_log simulation",
        "vote-without-log-check",
    ),
    (
        "only own-term entries are committed by counting (D 3.6.2)",
        "commit::entry_of_earlier_term_is_not_committed_by_counting",
        "commit-entries-of-earlier-terms",
    ),
    (
        "nothing at or below commit is replaced; only a conflict truncates (D 3.5)",
        (
            "commit::append_of_known_entries_removes_nothing"
            " commit::append_at_or_below_the_commit_index_changes_nothing"
            " commit::replacing_a_committed_entry_is_an_invariant_violation simulation"
        ),
        "append-truncates-always",
    ),
    (
        "an acknowledgement counts only in its own term and only when durable",
        (
            "commit::acknowledgement_of_earlier_term_is_ignored"
            " commit::leader_counts_its_own_copy_only_when_durable"
            " commit::follower_acknowledges_and_votes_only_when_durable"
        ),
        "acknowledgement-of-another-term-counts append-acknowledged-before-it-is-durable",
    ),
    (
        "commit moves only to what was matched: append, heartbeat, snapshot",
        (
            "commit::commit_index_of_an_append_is_limited_to_what_it_matched"
            " commit::heartbeat_never_commits_beyond_the_acknowledged_index"
            " snapshots::commit_index_does_not_move_with_an_unusable_snapshot"
        ),
        (
            "commit-beyond-what-matched heartbeat-carries-the-whole-commit-index"
            " stale-snapshot-acknowledged-with-own-end"
        ),
    ),
    (
        "a write report counts only if index and term still agree (ABA)",
        (
            "flow::entries_replaced_while_being_written_are_written_again"
            " unstable::a_report_counts_only_for_the_entry_it_names transcripts"
        ),
        "write-report-of-a-replaced-entry-counts write-report-of-an-earlier-term-counts",
    ),
    (
        "a snapshot is acknowledged after installation, and never shortens a matching log",
        (
            "snapshots::snapshot_is_acknowledged_only_after_it_is_installed"
            " snapshots::snapshot_inside_a_matching_log_keeps_its_tail"
        ),
        "matching-log-replaced-by-a-snapshot",
    ),
    (
        "a read waits for the first own-term commit and for a quorum round begun after it (D 6.4)",
        (
            "reads::read_waits_for_a_quorum_that_answers_after_it"
            " reads::read_waits_for_the_first_commit_of_the_term"
            " reads::echo_confirms_only_the_reads_before_it simulation"
        ),
        (
            "read-index-after-one-answer read-before-first-commit-of-term"
            " heartbeat-confirms-later-reads"
        ),
    ),
    (
        "learners neither vote nor count; a removed leader does not count itself (D 4.2)",
        (
            "leadership::learner_neither_campaigns_nor_counts"
            " leadership::vote_of_a_learner_does_not_count"
            " leadership::removed_leader_neither_counts_nor_proposes"
        ),
        "learner-campaigns removed-leader-leads-on",
    ),
    (
        "one membership change at a time; joint changes need both majorities (D 4.1, 4.3)",
        (
            "leadership::one_membership_change_at_a_time"
            " leadership::joint_change_needs_both_majorities_and_ends_by_itself transcripts"
        ),
        "two-membership-changes-at-once joint-majority-off-by-one",
    ),
    (
        "a change that cannot be applied is never appended",
        "leadership::change_that_could_not_be_applied_is_not_appended",
        "",
    ),
    (
        "a transferring leader takes no proposals; a failed transfer ends (D 3.10)",
        (
            "leadership::transfer_brings_a_lagging_member_up_to_date_first"
            " leadership::transfer_to_a_dead_member_is_given_up handover"
        ),
        "proposals-during-a-transfer leadership-handed-to-a-lagging-member",
    ),
    (
        "windows, messages, application, uncommitted entries and waiting reads are bounded",
        (
            "flow::window_is_limited_by_count flow::window_is_limited_by_bytes"
            " flow::long_log_is_sent_in_limited_messages"
            " flow::committed_entries_are_handed_out_within_the_limit"
            " proposals::uncommitted_limit_is_freed_by_applying"
            " reads::reads_beyond_the_limit_are_dropped"
        ),
        "",
    ),
)

STORAGE: Final = rows_of(
    "storage",
    (
        "What `write` returned for is there after any crash.",
        (
            "crash::a_power_cut_at_every_operation_keeps_what_was_acknowledged"
            " crash::random_operations_with_random_power_cuts_match_the_model"
        ),
        "log-not-synced hard-state-waits-for-entries segment-name-not-synced",
    ),
    (
        "What is damaged in a way that no crash explains is refused with one line naming the file",
        (
            "damage::any_flipped_byte_of_the_log_is_refused_or_harmless"
            " every_byte::a_flipped_byte_is_refused_or_was_never_written"
            " every_byte::a_file_of_any_shorter_length_is_refused"
        ),
        "every-damaged-tail-is-a-torn-one shorter-log-than-commit-accepted",
    ),
    (
        "**Every batch is synced before the next is written**",
        (
            "crash::what_a_torn_batch_left_never_mixes_with_the_next_one"
            " log::all_batches_of_one_call_cost_one_write_and_one_sync"
        ),
        "torn-tail-erased-without-sync log-not-synced",
    ),
    (
        "An entry replaces all that is recorded at its index and beyond.",
        (
            "log::an_entry_replaces_everything_from_its_index_on"
            " log::a_replaced_tail_stays_replaced_when_the_segment_before_it_is_gone"
        ),
        "entry-at-the-commit-index-replaced",
    ),
    (
        "term, vote and commit never go back",
        "log::term_vote_and_commit_never_go_back log::a_stored_commit_index_is_durable",
        "second-vote-in-a-term-stored",
    ),
    (
        "A named segment is never without a valid first batch.",
        "crash::a_power_cut_at_every_operation_keeps_what_was_acknowledged",
        "new-segment-not-synced",
    ),
    (
        "leading segments without an entry above the manifest, oldest first, a directory fsync",
        "log::compaction_removes_whole_segments_oldest_first",
        "segment-dropped-one-entry-early directory-not-synced-after-compaction",
    ),
    (
        "Term and vote go into its first batch.",
        "log::an_installed_snapshot_restarts_the_log_and_keeps_the_vote",
        "vote-lost-when-a-snapshot-restarts-the-log",
    ),
    (
        "After the first `OSError` the writer is dead",
        (
            "log::after_a_failed_sync_nothing_is_written_any_more"
            " log::every_failing_operation_stops_the_log"
        ),
        "write-after-a-failed-sync",
    ),
    (
        "old or new, whole.",
        "datadir::a_power_cut_while_replacing_the_manifest_leaves_the_old_or_the_new",
        "replaced-file-not-synced replaced-file-name-not-synced",
    ),
    (
        "larger version than this program's is `NewerFormat`",
        (
            "datadir::a_newer_format_is_refused"
            " datadir::a_sealed_file_of_the_very_next_version_is_refused"
            " damage::newer_segments_are_refused"
        ),
        "newer-format-read-anyway",
    ),
    (
        "**No written sector is all zeros.**",
        (
            "damage::a_batch_that_lost_any_of_its_sectors_is_torn"
            " damage::no_single_damaged_byte_makes_a_whole_batch_look_torn"
        ),
        "",
    ),
    (
        "begun anew behind the manifest",
        (
            "log::a_log_that_disagrees_with_the_manifest_is_begun_anew"
            " damage::a_log_that_contradicts_the_manifest_in_what_was_committed_is_refused"
        ),
        "log-of-another-term-kept-behind-a-snapshot",
    ),
)
